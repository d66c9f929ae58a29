//! A witnessed log as a device: [`Gather`] with whoever carries its requests to the witnesses.

use crate::{
    chain::{Epoch, EpochRecord},
    device::{Attestation, DeviceError, TrustedLog},
    gather::{Gather, Heard, Place},
    witness::{Answer, Request},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};

/// The way to the witnesses, the replica's own one among them.
pub trait Council: Send {
    /// Sends a request to these witnesses. It may get lost.
    ///
    /// # Errors
    /// [`DeviceError`] when there is no way any more.
    fn ask(&mut self, witnesses: &[ReplicaId], request: &Request) -> Result<(), DeviceError>;

    /// Waits for the next answer. `None` when it is time to ask again.
    ///
    /// # Errors
    /// [`DeviceError`] when none will come any more.
    fn answer(&mut self) -> Result<Option<(ReplicaId, Answer)>, DeviceError>;

    /// Keeps the log's place where a restart finds it.
    ///
    /// # Errors
    /// [`DeviceError::Storage`].
    fn keep(&mut self, place: &Place) -> Result<(), DeviceError>;
}

/// A witnessed log.
#[derive(Debug)]
pub struct Witnessed<C> {
    gather: Gather,
    council: C,
}

impl<C: Council> Witnessed<C> {
    /// A log that asks its witnesses by a council.
    pub fn new(gather: Gather, council: C) -> Self {
        Self { gather, council }
    }
}

impl<C: Council> TrustedLog for Witnessed<C> {
    fn record(&self) -> &EpochRecord {
        self.gather.record()
    }

    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError> {
        if let Some(known) = self.gather.ask(digests)? {
            return Ok(known);
        }
        loop {
            if let Some(request) = self.gather.request() {
                self.council.ask(&self.gather.missing(), request)?;
            }
            while let Some((from, answer)) = self.council.answer()? {
                match self.gather.hear(from, &answer) {
                    Heard::Nothing => {}
                    Heard::Attested(attestation) => {
                        self.council.keep(&self.gather.place())?;
                        return Ok(attestation);
                    }
                    Heard::Lost => return Err(DeviceError::Lost { epoch: self.gather.record().epoch }),
                }
            }
        }
    }

    fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
        self.gather.renew(epoch)
    }
}
