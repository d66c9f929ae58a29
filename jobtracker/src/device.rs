//! The replica's trusted log: in this process by default, in a helper process under another user, or in a TPM; or no such
//! log, where the replicas witness each other's (`witness`).

use crate::{
    founding::Founding,
    keys::genesis,
    links::Words,
    witness::{Assembly, Bench, Inlet},
};
use quorate_counter::{
    Attestation, Certificate, Completion, Desk, DeviceError, Durability, Epoch, EpochRecord, Head, LogKey, OpenError,
    Software, TrustedLog, helper::Remote,
};
use quorate_protocol::{
    cluster::{Agreement, Cluster},
    digest::Digest,
    ids::ReplicaId,
    sign::SecretKey,
};
use quorate_smr::{
    Input, Record,
    message::{Flush, Statement},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// The software log's file in the directory of the replica, or of its helper.
pub(crate) const FILE_NAME: &str = "trusted-log";
/// How long a helper process may take to attest.
const HELPER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a replica's trusted log is.
#[derive(Clone, Debug, Default)]
pub enum LogPlace {
    /// In the replica's process, with its state in the replica's directory.
    #[default]
    Here,
    /// In a process of its own, behind this socket.
    Helper(PathBuf),
    /// In a TPM. The cluster's configuration must have it.
    #[cfg(feature = "tpm")]
    Tpm(Box<crate::TpmPlace>),
}

impl LogPlace {
    fn is_tpm(&self) -> bool {
        match self {
            Self::Here | Self::Helper(_) => false,
            #[cfg(feature = "tpm")]
            Self::Tpm(_) => true,
        }
    }
}

/// Why there is no trusted log to work with.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Its file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The helper process that holds it does not answer.
    #[error("the trusted log's helper behind {} does not answer", .socket.display())]
    Helper {
        /// The helper's socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: DeviceError,
    },
    /// It does not do its work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It is of another replica, cluster or key than the configuration says.
    #[error("this is not the trusted log that the cluster's configuration has for {replica}")]
    Foreign {
        /// The replica.
        replica: ReplicaId,
    },
    /// What it must remember of what it and others said cannot be used.
    #[error("what the replica remembers as a witness in {} cannot be used", .directory.display())]
    Memory {
        /// The replica's directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A helper process or a TPM is named, and there is no trusted log for it to hold.
    #[error("with agreement = \"pbft\" there is no trusted log, in no helper process and no TPM")]
    NotThere,
    /// The configuration has another kind of trusted log for the replica.
    #[error(
        "the cluster's configuration has {} as the trusted log of {replica}",
        if *.tpm { "a TPM" } else { "a log in software" }
    )]
    Kind {
        /// The replica.
        replica: ReplicaId,
        /// Whether it has a TPM.
        tpm: bool,
    },
    /// The TPM is another one than the configuration has, and nobody who may approved it.
    #[error(
        "the enrolment is of another TPM than the cluster's configuration has for {replica}, and the cluster's authority \
         has not approved it for {replica}"
    )]
    NotApproved {
        /// The replica.
        replica: ReplicaId,
    },
    /// The TPM does not do.
    #[error("the TPM cannot be this replica's trusted log")]
    Tpm(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no thread for it.
    #[error("the operating system gives the trusted log no thread")]
    Thread(#[source] std::io::Error),
}

/// What makes the replica's log.
enum Kind {
    /// A trusted log.
    Trusted {
        log: Box<dyn TrustedLog>,
        /// The file that it keeps its place in, when it is in this process: it does not take long then.
        file: Option<PathBuf>,
    },
    /// All replicas.
    Witnessed(Box<Assembly>),
}

/// A log that was opened.
pub(crate) struct Device {
    log: Kind,
    /// What people call it.
    pub(crate) kind: &'static str,
    /// Where it stood when it was opened.
    pub(crate) place: (EpochRecord, Head),
    /// Its certificate of that head, if it has one.
    pub(crate) certificate: Option<Certificate>,
}

/// Whether an epoch is one of the log that the configuration has. A TPM's key says more than which chip it is, and another chip may
/// come in its place.
pub(crate) fn is_of(record: &EpochRecord, expected: &EpochRecord) -> bool {
    let same_device = match &record.key {
        LogKey::Tpm(_) => record.may_follow(expected),
        software => software.same_device(&expected.key),
    };
    same_device && (record.cluster, record.replica) == (expected.cluster, expected.replica)
}

fn own_flush<'a>(kept: &'a Record, record: &EpochRecord) -> Option<&'a Flush> {
    match kept {
        Record::Flush(flush) if (flush.replica, flush.epoch) == (record.replica, record.epoch) => Some(flush),
        Record::Flush(_)
        | Record::Own(_)
        | Record::Body(_)
        | Record::Learned(_)
        | Record::Linked(..)
        | Record::Certified(_)
        | Record::Resumed(_)
        | Record::Renewed(..) => None,
    }
}

impl Device {
    /// Opens the log, wherever it is.
    pub(crate) fn open(
        cluster: &Cluster,
        founding: Option<&Founding>,
        replica: ReplicaId,
        key: &SecretKey,
        directory: &Path,
        place: &LogPlace,
    ) -> Result<Self, LogError> {
        if cluster.agreement == Agreement::Pbft {
            return Self::witnessed(cluster, replica, key, directory, place);
        }
        let tpm = cluster.replica(replica).is_some_and(|member| member.tpm.is_some());
        if tpm != place.is_tpm() {
            return Err(LogError::Kind { replica, tpm });
        }
        let path = directory.join(FILE_NAME);
        let (log, kind, file): (Box<dyn TrustedLog>, _, _) = match place {
            LogPlace::Here => {
                // The store syncs what is attested before it is: after a crash of the machine the log catches up.
                let durability = Durability::Process;
                let log = Software::open_with(&path, key.clone(), cluster.id(), replica, durability)?;
                (Box::new(log), "software", Some(path))
            }
            LogPlace::Helper(socket) => {
                let connected = Remote::connect(socket, HELPER_TIMEOUT);
                let log = connected.map_err(|source| LogError::Helper { socket: socket.clone(), source })?;
                (Box::new(log), "software, in a helper process", None)
            }
            #[cfg(feature = "tpm")]
            LogPlace::Tpm(tpm) => {
                let log = tpm.open(cluster, replica, directory)?;
                let kind = if log.is_virtual() { "tpm, virtual" } else { "tpm" };
                (Box::new(log), kind, None)
            }
        };
        let expected = genesis(cluster, founding).into_iter().find(|expected| expected.replica == replica);
        if !expected.is_some_and(|expected| is_of(log.record(), &expected)) {
            return Err(LogError::Foreign { replica });
        }
        Self::at_its_place(log, kind, file)
    }

    fn at_its_place(mut log: Box<dyn TrustedLog>, kind: &'static str, file: Option<PathBuf>) -> Result<Self, LogError> {
        let Attestation { head, certificate } = log.append(&[])?;
        let place = (log.record().clone(), head);
        Ok(Self { log: Kind::Trusted { log, file }, kind, place, certificate: Some(certificate) })
    }

    fn witnessed(
        cluster: &Cluster,
        replica: ReplicaId,
        key: &SecretKey,
        directory: &Path,
        place: &LogPlace,
    ) -> Result<Self, LogError> {
        if !matches!(place, LogPlace::Here) {
            return Err(LogError::NotThere);
        }
        let memory = |source| LogError::Memory { directory: directory.to_owned(), source };
        let assembly = Assembly::open(cluster, replica, key, directory).map_err(memory)?;
        let (place, certificate) = assembly.stands();
        Ok(Self { log: Kind::Witnessed(Box::new(assembly)), kind: "none (witnessed)", place, certificate })
    }

    /// Gives a log that a crash of the machine put back what it had attested before, as the replica's own records have
    /// it. Its certificates decide what that is, so nothing can come of it that was not there; what does not fit is
    /// left to the agreement, which gives the epoch up.
    ///
    /// Without this, a power cut at all replicas at once would leave none of them an epoch that counts.
    pub(crate) fn catch_up(&mut self, records: &[Record]) -> Result<(), LogError> {
        let record = self.place.0.clone();
        let flushes = records.iter().filter_map(|kept| own_flush(kept, &record));
        let log = match &mut self.log {
            Kind::Trusted { log, .. } => log,
            Kind::Witnessed(assembly) => {
                flushes.for_each(|flush| assembly.catch_up(flush));
                (self.place, self.certificate) = assembly.stands();
                return Ok(());
            }
        };
        for flush in flushes {
            let head = self.place.1;
            let Some(there) = head.position.0.checked_sub(flush.after.0) else { break };
            let missing = flush.statements.iter().skip(usize::try_from(there).unwrap_or(usize::MAX));
            let missing: Vec<Digest> = missing.map(Statement::digest).collect();
            if missing.is_empty() {
                continue;
            }
            let caught_up = record.extend(head, missing.iter().copied());
            if record.verify(caught_up, &flush.certificate).is_err() {
                break;
            }
            let Attestation { head, certificate } = log.append(&missing)?;
            (self.place.1, self.certificate) = (head, Some(certificate));
        }
        Ok(())
    }

    /// Where other replicas' words as witnesses go, where they have any.
    pub(crate) fn inlet(&self) -> Option<Inlet> {
        match &self.log {
            Kind::Trusted { .. } => None,
            Kind::Witnessed(assembly) => Some(assembly.inlet()),
        }
    }

    /// Makes it ready for work. `tell` hears of what takes long, on another thread.
    pub(crate) fn start(self, words: Words, tell: Box<dyn FnMut(Completion) + Send>) -> Result<Clerk, LogError> {
        Ok(match self.log {
            Kind::Trusted { log, file: Some(file) } => Clerk::Here { log, file },
            Kind::Trusted { log, file: None } => {
                let epoch = self.place.0.epoch;
                Clerk::Desk { desk: Desk::start(log, tell).map_err(LogError::Thread)?, epoch }
            }
            Kind::Witnessed(assembly) => Clerk::Bench(assembly.start(words, tell).map_err(LogError::Thread)?),
        })
    }
}

/// Whoever does the log's work: the caller itself, when that is quicker than telling somebody.
pub(crate) enum Clerk {
    Here {
        log: Box<dyn TrustedLog>,
        file: PathBuf,
    },
    Desk {
        desk: Desk,
        /// The epoch that the log is in, or was told to begin.
        epoch: Epoch,
    },
    Bench(Bench),
}

impl Clerk {
    /// Has digests attested. The result comes back at once, or later as a [`Completion`].
    pub(crate) fn attest(&mut self, digests: Vec<Digest>) -> Result<Option<Input>, LogError> {
        match self {
            Clerk::Here { log, .. } => Ok(Some(Input::Attested(log.append(&digests)?))),
            Clerk::Desk { desk, .. } => desk.submit(digests).map(|()| None).map_err(refused),
            Clerk::Bench(bench) => bench.desk().submit(digests).map(|()| None).map_err(refused),
        }
    }

    /// Begins an epoch: this one, or the next one of a log that has gone further by itself, as a TPM's does with each boot.
    pub(crate) fn renew(&mut self, epoch: Epoch) -> Result<Option<Input>, LogError> {
        let above = |have: Epoch| epoch.max(Epoch(have.0.saturating_add(1)));
        match self {
            Clerk::Here { log, .. } => {
                log.renew(above(log.record().epoch))?;
                let Attestation { certificate, .. } = log.append(&[])?;
                Ok(Some(Input::Renewed(log.record().clone(), certificate)))
            }
            Clerk::Desk { desk, epoch } => {
                *epoch = above(*epoch);
                desk.renew(*epoch).map(|()| None).map_err(refused)
            }
            Clerk::Bench(bench) => bench.desk().renew(epoch).map(|()| None).map_err(refused),
        }
    }

    /// Brings the log's place onto the disk, before the records go by which it could catch up.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let file = match self {
            Clerk::Here { file, .. } => file.as_path(),
            Clerk::Bench(bench) => bench.file(),
            // A helper sees to it itself. A TPM's place ends with the machine's boot.
            Clerk::Desk { .. } => return Ok(()),
        };
        let synced = File::open(file).and_then(|file| file.sync_data());
        synced.map_err(|error| LogError::Device(DeviceError::Storage(error)))
    }
}

fn refused(error: quorate_counter::DeskError) -> LogError {
    LogError::Device(DeviceError::Malfunction(error.to_string()))
}

/// What a core is told of what took long.
pub(crate) fn completed(completion: Completion) -> Result<Input, LogError> {
    match completion {
        Completion::Attested(attestation) => Ok(Input::Attested(attestation)),
        Completion::Renewed(record, certificate) => Ok(Input::Renewed(record, certificate)),
        Completion::Lost => Ok(Input::Lost),
        Completion::Failed(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{REPLICA, cluster_of, replica_key};
    use quorate_smr::{History, Seq, View};
    use tempfile::TempDir;

    fn cluster() -> Cluster {
        cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned))
    }
    fn open(cluster: &Cluster, directory: &TempDir) -> Result<Device, LogError> {
        Device::open(cluster, None, REPLICA, &replica_key(0), directory.path(), &LogPlace::Here)
    }

    #[test]
    fn the_log_goes_on_where_it_was() {
        let directory = TempDir::new().expect("a directory");
        let device = open(&cluster(), &directory).expect("new");
        let (record, head) = device.place.clone();
        let mut clerk = device.start(Words::default(), Box::new(|_| ())).expect("started");
        let digest = Digest::of(b"statement");
        let Ok(Some(Input::Attested(attestation))) = clerk.attest(vec![digest]) else { panic!("at once") };
        assert_eq!(attestation.head, record.extend(head, [digest]));
        assert!(record.verify(attestation.head, &attestation.certificate).is_ok());
        drop(clerk);
        let device = open(&cluster(), &directory).expect("opens");
        assert_eq!(device.place, (record.clone(), attestation.head));
        let mut clerk = device.start(Words::default(), Box::new(|_| ())).expect("started");
        for (asked, begun) in [(4, 4), (2, 5)] {
            let Ok(Some(Input::Renewed(renewed, _))) = clerk.renew(Epoch(asked)) else { panic!("at once") };
            assert_eq!(renewed, EpochRecord { epoch: Epoch(begun), ..record.clone() });
        }
    }

    #[test]
    fn a_log_that_was_put_back_catches_up_with_what_it_attested_and_with_nothing_else() {
        let directory = TempDir::new().expect("a directory");
        let device = open(&cluster(), &directory).expect("new");
        let (record, genesis) = device.place.clone();
        let old = std::fs::read(directory.path().join(FILE_NAME)).expect("read");
        let mut clerk = device.start(Words::default(), Box::new(|_| ())).expect("started");
        let mut flushes = Vec::new();
        for number in 0..4u64 {
            let history = History { seq: Seq(number), digest: Digest::of(b"history") };
            let statements = vec![Statement::Commit { view: View(0), upto: history }; 2];
            let digests = statements.iter().map(Statement::digest).collect();
            let Ok(Some(Input::Attested(attestation))) = clerk.attest(digests) else { panic!("at once") };
            let after = quorate_counter::Position(2 * number);
            let (replica, epoch, certificate) = (REPLICA, record.epoch, attestation.certificate);
            flushes.push(Flush { replica, epoch, after, statements, certificate });
        }
        drop(clerk);
        let put_back = |flushes: &[Flush]| {
            std::fs::write(directory.path().join(FILE_NAME), &old).expect("written");
            let mut device = open(&cluster(), &directory).expect("opens");
            assert_eq!(device.place.1, genesis);
            let records: Vec<_> = flushes.iter().cloned().map(|flush| Record::Flush(flush.into())).collect();
            device.catch_up(&records).expect("caught up");
            device.place.1.position.0
        };
        assert_eq!(put_back(&flushes), 8);
        assert_eq!(put_back(&flushes[1..]), 0, "there is a gap");
        let forged = Flush { certificate: flushes[0].certificate.clone(), ..flushes[2].clone() };
        assert_eq!(put_back(&[flushes[0].clone(), flushes[1].clone(), forged]), 4);
        let foreign = Flush { replica: ReplicaId::new(1), ..flushes[0].clone() };
        assert_eq!(put_back(&[foreign]), 0);
    }

    #[test]
    fn a_log_of_another_key_or_cluster_is_refused() {
        let directory = TempDir::new().expect("a directory");
        drop(open(&cluster(), &directory).expect("new"));
        let mut other = cluster();
        other.replicas[0].log = Some(replica_key(9).public());
        let empty = TempDir::new().expect("a directory");
        assert!(matches!(open(&other, &empty).err(), Some(LogError::Foreign { replica: REPLICA })));
        assert!(matches!(open(&other, &directory).err(), Some(LogError::Open(OpenError::Foreign(_)))));
    }

    #[test]
    fn a_helper_that_is_not_there_is_said() {
        let directory = TempDir::new().expect("a directory");
        let socket = directory.path().join("nobody");
        let place = LogPlace::Helper(socket.clone());
        let error = Device::open(&cluster(), None, REPLICA, &replica_key(0), directory.path(), &place).err();
        assert!(
            matches!(&error, Some(LogError::Helper { socket: named, source: DeviceError::Unreachable(_) }) if *named == socket),
            "{error:?}"
        );
    }
}
