//! The page for people, and the HTTP API under it: what a replica shows of itself, the cluster and its jobs.
//!
//! It has a listener, connections and bounds of its own, and changes nothing. What must hold:
//!
//! * **WEB-1** Readers cannot hurt the agreement: whatever they ask for, and however many they are, the thread that owns the
//!   agreement is asked a few times a second, the state is read at most by [`server::WORK_MAX`] at once, each time for a
//!   bounded answer, and trackers are asked for bytes by one inquiry at a time.
//! * **WEB-2** A reader costs bounded memory and time: connections, streams, requests and answers are bounded, and whoever
//!   does not read is cut off.
//! * **WEB-3** What is said about liars is said of a place of the history, so that what several replicas say can be compared:
//!   a replica alone is not to be believed.

mod answers;
mod assets;
mod difference;
mod evidence;
mod guard;
mod live;
mod metrics;
mod openapi;
mod past;
mod patient;
mod pulse;
mod routes;
mod server;
mod source;
mod stream;
mod told;

pub use difference::{Compare, Compared, ComparedSide};
pub(crate) use guard::Pages;
pub(crate) use live::Live;
pub use past::{History, HistoryPage, PastJob};
pub(crate) use server::Server;
pub(crate) use source::Source;
