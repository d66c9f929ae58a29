//! Every backend, by the one suite.

use quorate_counter::{
    Durability, Epoch, LogKey, Simulated, Software, TrustedLog,
    conformance::{Backend, check},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId, sign::SecretKey};
use std::path::PathBuf;

fn key(cluster: Digest, replica: ReplicaId) -> SecretKey {
    SecretKey::from_seed(
        *Digest::of(&[cluster.as_bytes().as_slice(), &replica.number().to_le_bytes()].concat()).as_bytes(),
    )
}

/// In memory: a restart begins the next epoch, as its owner must.
struct Memory;

impl Backend for Memory {
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        Box::new(Software::new(key(cluster, replica), cluster, replica, Epoch(0)))
    }
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
        let record = device.record();
        let key = key(record.cluster, record.replica);
        Box::new(Software::new(key, record.cluster, record.replica, Epoch(record.epoch.0 + 1)))
    }
}

/// On a file.
struct OnFile {
    folder: tempfile::TempDir,
    made: usize,
    durability: Durability,
}

impl OnFile {
    fn new(durability: Durability) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), made: 0, durability }
    }
    fn open(&self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        let path: PathBuf = self.folder.path().join(self.made.to_string());
        let log = Software::open_with(&path, key(cluster, replica), cluster, replica, self.durability);
        Box::new(log.expect("opens"))
    }
}

impl Backend for OnFile {
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        self.made += 1;
        self.open(cluster, replica)
    }
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
        let (cluster, replica) = (device.record().cluster, device.record().replica);
        drop(device);
        self.open(cluster, replica)
    }
}

/// The simulator's, restarted as a process around a device that is left alone.
struct Kept;

impl Backend for Kept {
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        let device = Simulated::new(*Digest::of(&replica.number().to_le_bytes()).as_bytes(), cluster, replica);
        Box::new(device)
    }
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
        device
    }
}

/// The simulator's, reset.
struct Reset;

impl Backend for Reset {
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        Kept.fresh(cluster, replica)
    }
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
        let record = device.record();
        let LogKey::Simulated(key) = record.key else { panic!("a simulated log has a simulated key") };
        let mut again = Simulated::new(key, record.cluster, record.replica);
        again.rollback(record.epoch, record.genesis());
        again.restart();
        Box::new(again)
    }
}

#[test]
fn software_in_memory_conforms() {
    check(&mut Memory);
}

#[test]
fn software_on_file_conforms() {
    check(&mut OnFile::new(Durability::Machine));
    check(&mut OnFile::new(Durability::Process));
}

#[test]
fn simulated_conforms() {
    check(&mut Kept);
    check(&mut Reset);
}

/// A suite that cannot fail checks nothing.
mod broken {
    use super::*;
    use quorate_counter::{Attestation, DeviceError, EpochRecord};

    enum Defect {
        /// A restart brings an older head back.
        Forgets,
        /// A group takes one position too few.
        DropsOne,
        /// Epochs go down.
        RenewsDownward,
    }

    struct Broken(Defect, Box<dyn TrustedLog>);

    impl TrustedLog for Broken {
        fn record(&self) -> &EpochRecord {
            self.1.record()
        }
        fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError> {
            let taken = if matches!(self.0, Defect::DropsOne) && digests.len() > 1 { &digests[1..] } else { digests };
            self.1.append(taken)
        }
        fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
            let lowest = matches!(self.0, Defect::RenewsDownward) && epoch < self.1.record().epoch;
            if lowest { Ok(()) } else { self.1.renew(epoch) }
        }
    }

    struct Factory(fn() -> Defect);

    impl Backend for Factory {
        fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
            Box::new(Broken((self.0)(), Memory.fresh(cluster, replica)))
        }
        fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
            let again = match (self.0)() {
                Defect::Forgets => Memory.fresh(device.record().cluster, device.record().replica),
                Defect::DropsOne | Defect::RenewsDownward => Memory.restart(device),
            };
            Box::new(Broken((self.0)(), again))
        }
    }

    #[test]
    #[should_panic(expected = "it goes on where it was")]
    fn a_log_that_forgets_is_found() {
        check(&mut Factory(|| Defect::Forgets));
    }

    #[test]
    #[should_panic(expected = "positions have no gap")]
    fn a_log_that_drops_a_digest_is_found() {
        check(&mut Factory(|| Defect::DropsOne));
    }

    #[test]
    #[should_panic(expected = "NotAbove")]
    fn a_log_whose_epochs_go_down_is_found() {
        check(&mut Factory(|| Defect::RenewsDownward));
    }
}
