//! Every backend, by the one suite.

use quorate_counter::{
    Answer, Council, DeviceError, Durability, Epoch, EpochRecord, Gather, LogKey, Place, Request, Simulated, Software,
    TrustedLog, Witness, WitnessKey, Witnessed,
    conformance::{Backend, check},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId, sign::SecretKey};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex},
};

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

/// Four replicas, who witness each other, and of whom one is asked in vain.
struct Bench {
    me: ReplicaId,
    witnesses: Vec<Witness>,
    answers: VecDeque<(ReplicaId, Answer)>,
    place: Arc<Mutex<Option<Place>>>,
}

fn replicas(cluster: Digest) -> Vec<SecretKey> {
    (0..4).map(|number| key(cluster, ReplicaId::new(number))).collect()
}

fn first_epochs(cluster: Digest) -> Vec<EpochRecord> {
    let keys: Vec<_> = replicas(cluster).iter().map(SecretKey::public).collect();
    let record = |number| EpochRecord {
        cluster,
        replica: ReplicaId::new(number),
        epoch: Epoch(0),
        key: LogKey::Witnessed(keys.clone()),
    };
    (0..4).map(record).collect()
}

impl Council for Bench {
    fn ask(&mut self, witnesses: &[ReplicaId], request: &Request) -> Result<(), DeviceError> {
        for by in witnesses.iter().filter(|by| by.number() != 0) {
            let witness = &mut self.witnesses[by.number() as usize];
            let considered = witness.consider(self.me, request).expect("an honest replica asks");
            self.answers.push_back((*by, considered.answer));
        }
        Ok(())
    }
    fn answer(&mut self) -> Result<Option<(ReplicaId, Answer)>, DeviceError> {
        Ok(self.answers.pop_front())
    }
    fn keep(&mut self, place: &Place) -> Result<(), DeviceError> {
        *self.place.lock().expect("no thread stops while it keeps") = Some(place.clone());
        Ok(())
    }
}

/// Witnessed; all processes are restarted with what they kept.
#[derive(Default)]
struct Assembly {
    place: Arc<Mutex<Option<Place>>>,
}

impl Assembly {
    fn open(&self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        let genesis = first_epochs(cluster);
        let witness = |key: &SecretKey| Witness::new(WitnessKey::Ed25519(key.clone()), genesis.clone(), Vec::new());
        let witnesses = replicas(cluster).iter().map(witness).collect();
        let own = WitnessKey::Ed25519(key(cluster, replica));
        let place = self.place.lock().expect("no thread stopped").clone();
        let gather = Gather::new(genesis[replica.number() as usize].clone(), own, place);
        let bench = Bench { me: replica, witnesses, answers: VecDeque::new(), place: Arc::clone(&self.place) };
        Box::new(Witnessed::new(gather, bench))
    }
}

impl Backend for Assembly {
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        self.place = Arc::default();
        self.open(cluster, replica)
    }
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
        self.open(device.record().cluster, device.record().replica)
    }
}

#[test]
fn witnessed_conforms() {
    check(&mut Assembly::default());
}

/// A suite that cannot fail checks nothing.
mod broken {
    use super::*;
    use quorate_counter::Attestation;

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
