//! The software log: Ed25519 over (cluster, replica, epoch, position, chain), with the replica's own key or another.
//!
//! It covers crashes, bugs and a hostile network. It does **not** cover a compromised host: whoever reads the key, or puts an
//! older state file back while the process is down, can attest two histories.

use crate::{
    chain::{Certificate, Epoch, EpochRecord, Head, LogKey},
    device::{Attestation, DeviceError, TrustedLog, above, bounded},
    state::{Durability, OpenError, StateFile},
};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::ReplicaId,
    sign::{SecretKey, Signed},
};
use std::path::Path;

/// A trusted log in software.
#[derive(Debug)]
pub struct Software {
    key: SecretKey,
    record: EpochRecord,
    head: Head,
    state: Option<StateFile>,
}

impl Software {
    /// A log in memory, at the beginning of an epoch. It ends with its process: a replica that comes back with a new one must
    /// begin a later epoch.
    pub fn new(key: SecretKey, cluster: Digest, replica: ReplicaId, epoch: Epoch) -> Self {
        let record = EpochRecord { cluster, replica, epoch, key: LogKey::Software(key.public()) };
        let head = record.genesis();
        Self { key, record, head, state: None }
    }

    /// A log whose head is kept in a file before it is attested, so that it goes on after its process was killed or its
    /// machine crashed. A file that is not there is made, and the log begins in epoch 0.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, key: SecretKey, cluster: Digest, replica: ReplicaId) -> Result<Self, OpenError> {
        Self::open_with(path, key, cluster, replica, Durability::default())
    }

    /// [`Software::open`], with a choice of what the head outlives.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(
        path: &Path,
        key: SecretKey,
        cluster: Digest,
        replica: ReplicaId,
        durability: Durability,
    ) -> Result<Self, OpenError> {
        let owner = canonical::digest(&("quorate trusted log of", cluster, replica, key.public()));
        let mut log = Self::new(key, cluster, replica, Epoch(0));
        let state = StateFile::open(path, owner, (log.record.epoch, log.head), durability)?;
        (log.record.epoch, log.head) = state.place();
        log.state = Some(state);
        Ok(log)
    }

    /// Moves to a place, after it was kept.
    fn enter(&mut self, epoch: Epoch, head: Head) -> Result<(), DeviceError> {
        if let Some(state) = &mut self.state {
            state.keep(epoch, head).map_err(DeviceError::Storage)?;
        }
        (self.record.epoch, self.head) = (epoch, head);
        Ok(())
    }
}

impl TrustedLog for Software {
    fn record(&self) -> &EpochRecord {
        &self.record
    }

    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError> {
        bounded(digests)?;
        if !digests.is_empty() {
            let head = self.record.extend(self.head, digests.iter().copied());
            self.enter(self.record.epoch, head)?;
        }
        let signed = Signed::seal(&self.record.attested(self.head), &self.key);
        Ok(Attestation { head: self.head, certificate: Certificate(signed.signature().to_vec()) })
    }

    fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
        above(epoch, self.record.epoch)?;
        let genesis = EpochRecord { epoch, ..self.record.clone() }.genesis();
        self.enter(epoch, genesis)
    }
}
