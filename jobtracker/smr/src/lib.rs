//! Byzantine-fault-tolerant state machine replication with 2f + 1 replicas: a pure core.
//!
//! The message pattern is that of MinBFT (Veronese, Correia, Bessani, Lung, Veríssimo, *Efficient Byzantine
//! Fault-Tolerance*, IEEE TC 62(1), 2013): PREPARE and COMMIT, because a trusted log stops a replica from saying two
//! things. Rules with names SMR-1 to SMR-17 close what the paper's text leaves open.

pub mod action;
pub mod config;
pub mod core;
pub mod invariants;
pub mod machine;
pub mod message;
pub mod types;
pub mod verify;

mod ledger;
mod pending;
mod stream;
mod table;

pub use action::{Action, Compaction, Fault, FaultKind, Input, Outcome, Record};
pub use config::{Config, Identify, Keys, Limits, Mutant, PAGE_BYTES};
pub use core::{Core, PeerReport, Report, RestoreError};
pub use machine::{StateMachine, Unreadable};
pub use types::{ClientId, History, Payload, RequestId, Seq, View};
pub use verify::{Rejection, Verified, Verifier};
