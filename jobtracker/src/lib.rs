//! The job tracker's shell: what surrounds the pure state machines with sockets, a disk and a clock.
//!
//! * [`client`]: how every process speaks to the replicas. It believes what f + 1 of them say, and nothing else.
//! * [`Replica`]: one running replica. A command passes the door (is the sender of this cluster, and did it sign
//!   this?), is ordered and made durable, and is then executed by the state machine that all replicas share: the
//!   scheduler of `quorate-schedule` behind a table of sessions, which has each command executed once. Only then is it
//!   answered.
//!
//! One replica orders alone today. What agrees on the order is behind the interface of the module `order`, and nothing
//! else depends on it.

pub mod client;

mod application;
mod door;
mod housekeeper;
mod liveness;
mod log;
mod order;
mod replica;
mod service;
mod sessions;
mod topic;

#[cfg(test)]
mod testing;

pub use log::{LogError, Place};
pub use order::{OrderError, Stopped};
pub use replica::{LEASE_DEFAULT, Options, Replica, StartError};
