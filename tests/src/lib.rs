//! What the end-to-end tests share: real inputs, independent references, and a cluster of real processes.
//!
//! Every test states three oracles: the output equals a reference that shares no code with the engine, byte for byte; the
//! job ended; and exactly the guilty were blamed, with evidence that [`Evidence::check`] accepts from a third party.
//!
//! [`Evidence::check`]: quorate_protocol::evidence::Evidence::check

#[cfg(feature = "browser")]
pub mod browser;
pub mod helpers;
pub mod http;
pub mod oracle;
pub mod peer;
pub mod processes;
pub mod proxy;
pub mod reference;
pub mod replicas;
#[cfg(feature = "tpm")]
pub mod tpms;

pub use processes::Processes;
