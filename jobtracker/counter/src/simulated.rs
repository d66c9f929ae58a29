//! The simulator's trusted log: certificates cost one hash, nothing sleeps, and it can be broken on purpose.
//!
//! Latency belongs to the simulator's clock. [`Simulated::rollback`] and [`Simulated::clone_device`] are what no real
//! device can do: with them safety must be seen to fail, which checks the checker.

use crate::{
    chain::{Certificate, Epoch, EpochRecord, Head, LogKey},
    device::{Attestation, DeviceError, TrustedLog, above, bounded},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};

/// A trusted log for tests.
#[derive(Debug)]
pub struct Simulated {
    key: [u8; 32],
    record: EpochRecord,
    head: Head,
}

impl Simulated {
    /// A new device in epoch 0.
    pub fn new(key: [u8; 32], cluster: Digest, replica: ReplicaId) -> Self {
        let record = EpochRecord { cluster, replica, epoch: Epoch(0), key: LogKey::Simulated(key) };
        let head = record.genesis();
        Self { key, record, head }
    }

    /// One that has what its witnesses would sign without asking them: what the core inside a liar is made to believe in.
    pub fn unwitnessed(record: EpochRecord) -> Self {
        let head = record.genesis();
        Self { key: [0; 32], record, head }
    }

    /// Where it stands, without an attestation.
    pub fn head(&self) -> Head {
        self.head
    }

    /// A reset, as of a chip: the chain is lost, and the device counts resets, so that it is in its next epoch.
    pub fn restart(&mut self) {
        self.enter(Epoch(self.record.epoch.0.saturating_add(1)));
    }

    /// Broken on purpose: the device stands again where it stood before, in an epoch that it may have left since.
    pub fn rollback(&mut self, epoch: Epoch, head: Head) {
        self.record.epoch = epoch;
        self.head = head;
    }

    /// Broken on purpose: a second device that attests for the same epoch.
    #[must_use]
    pub fn clone_device(&self) -> Self {
        Self { key: self.key, record: self.record.clone(), head: self.head }
    }

    fn enter(&mut self, epoch: Epoch) {
        self.record.epoch = epoch;
        self.head = self.record.genesis();
    }
}

impl TrustedLog for Simulated {
    fn record(&self) -> &EpochRecord {
        &self.record
    }

    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError> {
        bounded(digests)?;
        self.head = self.record.extend(self.head, digests.iter().copied());
        let simulated = || Certificate(self.record.simulated(self.head, &self.key));
        let certificate = self.record.forged(self.head).unwrap_or_else(simulated);
        Ok(Attestation { head: self.head, certificate })
    }

    fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
        above(epoch, self.record.epoch)?;
        self.enter(epoch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Simulated {
        Simulated::new([1; 32], Digest::of(b"cluster"), ReplicaId::new(2))
    }

    #[test]
    fn a_device_broken_on_purpose_attests_two_heads_at_one_position() {
        let mut one = device();
        let before = one.head();
        let mut other = one.clone_device();
        let a = one.append(&[Digest::of(b"a")]).expect("it never fails");
        let b = other.append(&[Digest::of(b"b")]).expect("it never fails");
        one.rollback(Epoch(0), before);
        let c = one.append(&[Digest::of(b"c")]).expect("it never fails");
        for (x, y) in [(&a, &b), (&a, &c)] {
            assert_eq!(x.head.position, y.head.position);
            assert_ne!(x.head.chain, y.head.chain);
        }
        for attestation in [a, b, c] {
            assert_eq!(one.record().verify(attestation.head, &attestation.certificate), Ok(()));
        }
    }

    #[test]
    fn a_restart_loses_the_chain_and_the_epoch() {
        let mut log = device();
        let old = log.record().clone();
        let attested = log.append(&[Digest::of(b"a")]).expect("it never fails");
        log.restart();
        assert_eq!((log.record().epoch, log.head()), (Epoch(1), log.record().genesis()));
        assert_eq!(old.verify(attested.head, &attested.certificate), Ok(()), "what was attested stays attested");
    }
}
