//! The device's side of the trusted log.

use crate::chain::{Certificate, EpochRecord, Head};
use quorate_protocol::digest::Digest;

/// A head with its certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attestation {
    /// What is attested.
    pub head: Head,
    /// The proof.
    pub certificate: Certificate,
}

/// Why a device does not do its work.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It cannot be reached, or has gone.
    #[error("the trusted log cannot be reached")]
    Unreachable(#[source] std::io::Error),
    /// It answers, and not as a trusted log does.
    #[error("the trusted log does not answer as it should: {0}")]
    Malfunction(String),
}

/// A trusted log, in one of its epochs. Calls take as long as the device takes: see [`crate::Desk`] for a caller that
/// must not wait.
pub trait TrustedLog: Send {
    /// The epoch it is in.
    fn record(&self) -> &EpochRecord;

    /// Appends digests, in order, and attests the head after the last one: one attestation however many there are. With
    /// no digest it attests the head as it is.
    ///
    /// # Errors
    /// [`DeviceError`]. It is then unknown whether the digests were appended.
    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError>;

    /// Gives the epoch up and begins the one of this number, with an empty chain. What was attested stays attested.
    ///
    /// # Errors
    /// [`DeviceError`], also when the number is not above the present one.
    fn renew(&mut self, epoch: crate::chain::Epoch) -> Result<(), DeviceError>;
}
