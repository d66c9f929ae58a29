//! The trusted log: a device that binds every digest given to it to the next position of one chain, and attests the head.
//!
//! A replica that must show such an attestation with each of its votes cannot tell two peers two different things: both
//! would stand at the same position of one chain. That is what lets 2f + 1 replicas agree although f of them lie.
//! MinBFT (Veronese et al., IEEE TC 62(1), 2013) calls it USIG and certifies messages one by one; here one certificate
//! of the head covers every position before it, so that a slow device costs one attestation for all that waits.
//!
//! * [`EpochRecord`], [`Head`], [`Certificate`]: what verifiers need; pure.
//! * [`TrustedLog`]: the device's side.
//! * [`Desk`]: the thread that owns a device, so that submitting never waits for it.
//! * [`Software`]: the default, with its key in memory and its head in memory or in a file. It covers crashes, bugs and a
//!   hostile network. It does **not** cover a compromised host.
//! * [`TpmKey`]: an epoch of a TPM 2.0. Its certificates are checked here (feature `tpm`); the chip itself is talked to elsewhere.
//! * [`Witnessed`]: no device at all. 3f + 1 replicas witness each other's logs ([`Witness`], [`Gather`]); it covers f hosts
//!   that do whatever they like.
//! * [`helper`]: the software log in a process of its own, which may belong to another user.
//! * `Simulated` (feature `simulated`): for tests, with cheap certificates and ways to break it.
//! * [`conformance`]: what every one of them must do, as functions for tests.
//!
//! What a device must do is little: give each position one digest, for ever. What it may lose is its place: a log that comes
//! back behind what it attested, or empty, is noticed when it is compared with the replica's disk and with what
//! the other replicas read, and its epoch is given up.

mod chain;
pub mod conformance;
mod desk;
mod device;
mod gather;
pub mod helper;
#[cfg(feature = "tpm")]
pub mod quote;
mod share;
#[cfg(feature = "simulated")]
mod simulated;
mod software;
mod state;
mod tpm;
mod witness;
mod witnessed;

pub use chain::{
    CERTIFICATE_BYTES_MAX, Certificate, Epoch, EpochRecord, Head, LogKey, Position, Rejection, genesis_chain,
};
pub use desk::{Completion, DESK_QUEUE_MAX, Desk, DeskError};
pub use device::{APPEND_DIGESTS_MAX, Attestation, DeviceError, TrustedLog};
pub use gather::{Gather, Heard, Place};
pub use share::{Share, WitnessKey};
#[cfg(feature = "simulated")]
pub use simulated::Simulated;
pub use software::Software;
pub use state::{Durability, OpenError};
pub use tpm::{Approval, STATIC_PCRS, TpmDevice, TpmFault, TpmKey, TpmPoint, key_template};
pub use witness::{Answer, Considered, Request, RequestError, Seen, Witness};
pub use witnessed::{Council, Witnessed};
