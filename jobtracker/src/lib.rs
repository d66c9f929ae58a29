//! The job tracker's shell: what surrounds the pure state machines with sockets, a disk and a clock.
//!
//! * [`client`]: how every process speaks to the replicas. It believes what f + 1 of them say, and nothing else.
//! * [`Replica`]: one running replica of 2f + 1, or of 3f + 1 that trust no device. A request passes the door (is the sender of this cluster, and did it
//!   sign this?), is agreed on and ordered by `quorate-smr`, and is then executed by the state machine that all replicas
//!   share: the scheduler of `quorate-schedule`. Only then is it answered.
//!
//! | module | what it holds |
//! |---|---|
//! | `reception`, `links` | one port for clients and replicas; authenticated links between replicas |
//! | `door`, `service` | who may come in; the gRPC service, where every answer is signed |
//! | `order`, `node` | the interface to the order, and the thread that owns the agreement behind it |
//! | `store`, `device` | what is kept on the disk, and the trusted log |
//! | `helper` | the trusted log in a process of its own |
//! | `witness`, `slots` | what is in its place where no device is trusted, and where that remembers |
//! | `tpm`, `founding` | the trusted log in a TPM (feature `tpm`), and how a cluster with TPMs begins |
//! | [`certificate`] | a job's certificate: what a replica's trusted log shows in it, and the check of all of it |
//! | `application`, `histories` | the executed state, and the histories that led to it |
//! | `housekeeper`, `liveness` | what the replica itself has to say: which trackers are absent |
//! | `record` | event logs: what happened to each job |
//! | `web`, `standings` | the page for people with its HTTP API; who was suspected when |
//! | `liars` | replicas that lie, for tests and demonstrations |

pub mod certificate;
pub mod client;

mod application;
mod device;
mod door;
mod founding;
mod helper;
mod histories;
mod housekeeper;
mod keys;
mod liars;
mod links;
mod liveness;
mod node;
mod order;
mod reception;
mod record;
mod replica;
mod report;
mod service;
mod slots;
mod standings;
mod store;
mod topic;
#[cfg(feature = "tpm")]
mod tpm;
mod web;
mod witness;

#[cfg(test)]
mod testing;

pub use device::{LogError, LogPlace};
pub use founding::{FOUNDING_BYTES_MAX, Founding, FoundingError};
pub use helper::{Helper, HelperError, HelperOptions};
pub use liars::{ReplicaLiar, UnknownReplicaLiar};
pub use node::BeginError;
pub use order::{OrderError, Stopped};
pub use quorate_counter::{DeviceError, OpenError, helper::own_user};
pub use replica::{LEASE_DEFAULT, Options, Replica, StartError};
pub use store::{Place, StoreError};
#[cfg(feature = "tpm")]
pub use tpm::{FoundError, TpmPlace, found};
pub use web::{Compare, Compared, ComparedSide, History, HistoryPage, PastJob};
