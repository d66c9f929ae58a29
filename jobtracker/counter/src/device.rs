//! The device's side of the trusted log.

use crate::chain::{Certificate, Epoch, EpochRecord, Head};
use quorate_protocol::digest::Digest;

/// Digests of one [`TrustedLog::append`].
pub const APPEND_DIGESTS_MAX: usize = 4096;

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
    /// It cannot keep its head where a restart finds it. It attests nothing more until it is opened again.
    #[error("the trusted log cannot keep its head")]
    Storage(#[source] std::io::Error),
    /// It asked its witnesses for something else before, and they show it: only a later epoch can go on.
    #[error("epoch {} of the trusted log is lost: it was put back, or there are two of it", epoch.0)]
    Lost {
        /// The epoch.
        epoch: Epoch,
    },
    /// Epochs only grow.
    #[error("the trusted log is in epoch {}, and epoch {} is not above it", have.0, asked.0)]
    NotAbove {
        /// The epoch that was asked for.
        asked: Epoch,
        /// The present one.
        have: Epoch,
    },
    /// More digests at once than [`APPEND_DIGESTS_MAX`].
    #[error("{got} digests for one attestation, and at most {APPEND_DIGESTS_MAX} are allowed")]
    TooMany {
        /// How many.
        got: usize,
    },
}

/// Refuses more digests than any device takes at once.
pub(crate) fn bounded(digests: &[Digest]) -> Result<(), DeviceError> {
    if digests.len() <= APPEND_DIGESTS_MAX { Ok(()) } else { Err(DeviceError::TooMany { got: digests.len() }) }
}

/// Refuses an epoch that is not above the present one.
pub(crate) fn above(asked: Epoch, have: Epoch) -> Result<(), DeviceError> {
    if asked > have { Ok(()) } else { Err(DeviceError::NotAbove { asked, have }) }
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
    /// [`DeviceError`]. It is then unknown whether the digests were appended, unless it is [`DeviceError::TooMany`].
    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError>;

    /// Gives the epoch up and begins the one of this number, with an empty chain. What was attested stays attested.
    ///
    /// # Errors
    /// [`DeviceError`], also [`DeviceError::NotAbove`].
    fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError>;
}
