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
//! * [`Software`]: the default. It keeps its key in memory or in a helper process. It covers crashes, bugs and a
//!   hostile network. It does **not** cover a compromised host.

mod chain;
mod device;

pub use chain::{
    CERTIFICATE_BYTES_MAX, Certificate, Epoch, EpochRecord, Head, LogKey, Position, Rejection, genesis_chain,
};
pub use device::{Attestation, DeviceError, TrustedLog};
