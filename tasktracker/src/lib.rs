//! A task tracker: runs attempts, votes on their output, and serves segments and chunks.
//!
//! The parts and what each decides:
//!
//! * [`tentative`] is pure: which copy of a segment a reduce uses, when it runs, what it redoes, when it may vote;
//! * [`segments`] fetches bytes and believes them only when they are what their server voted;
//! * [`Outputs`] keeps map outputs with their votes, over restarts;
//! * [`Inquiry`] finds where two outputs differ, by their digest trees, for whoever asks;
//! * [`Tracker`] is the shell: sockets, tasks, the job tracker's directives and the reports to it.
//!
//! A tracker trusts no other tracker, and believes the job tracker only what f + 1 replicas say alike.

mod cores;
mod dataplane;
mod difference;
mod feed;
mod fork;
mod logs;
mod map;
mod neighbours;
mod outbox;
mod outputs;
mod peers;
mod programs;
mod reduce;
pub mod segments;
mod service;
mod staged;
pub mod tentative;
mod tracker;
mod worker;

pub use difference::{
    Comparer, Difference, DifferenceError, Finding, Inquiry, Shown, Side, Voted, Vouched, first_difference, votes,
};
pub use logs::{LogError, read_log};
pub use neighbours::Neighbours;
pub use outputs::{Output, Outputs};
pub use peers::{PeerError, Peers};
pub use programs::Programs;
pub use quorate_sandbox::{Launch, launch};
pub use tracker::{Options, StartError, Tracker};
