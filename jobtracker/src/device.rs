//! The replica's trusted log: in this process by default, or in a helper process under another user.

use crate::keys::genesis;
use quorate_counter::{
    Attestation, Completion, Desk, DeviceError, Durability, Epoch, EpochRecord, Head, OpenError, Software,
    TrustedLog, helper::Remote,
};
use quorate_protocol::{cluster::Cluster, digest::Digest, ids::ReplicaId, sign::SecretKey};
use quorate_smr::Input;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The software log's file in the replica's directory.
const FILE_NAME: &str = "trusted-log";
/// How long a helper process may take to attest.
const HELPER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no trusted log to work with.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Its file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not do its work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It is of another replica, cluster or key than the configuration says.
    #[error("this is not the trusted log that the cluster's configuration has for {replica}")]
    Foreign {
        /// The replica.
        replica: ReplicaId,
    },
    /// There is no thread for it.
    #[error("the operating system gives the trusted log no thread")]
    Thread(#[source] std::io::Error),
}

/// A trusted log that was opened.
pub(crate) struct Device {
    log: Box<dyn TrustedLog>,
    /// What people call it.
    pub(crate) kind: &'static str,
    /// Where it stood when it was opened.
    pub(crate) place: (EpochRecord, Head),
    /// Whether it takes so long that nobody should wait for it.
    slow: bool,
}

impl Device {
    /// Opens the log in the replica's directory, or that of a helper behind a socket.
    pub(crate) fn open(
        cluster: &Cluster,
        replica: ReplicaId,
        key: &SecretKey,
        directory: &Path,
        helper: Option<&PathBuf>,
    ) -> Result<Self, LogError> {
        let log: Box<dyn TrustedLog> = match helper {
            Some(socket) => Box::new(Remote::connect(socket, HELPER_TIMEOUT)?),
            None => {
                let path = directory.join(FILE_NAME);
                // The store syncs what is attested before it is, so a machine's crash costs an epoch and no safety.
                let durability = Durability::Process;
                Box::new(Software::open_with(&path, key.clone(), cluster.id(), replica, durability)?)
            }
        };
        Self::check(log, cluster, replica, helper.is_some())
    }

    fn check(
        mut log: Box<dyn TrustedLog>,
        cluster: &Cluster,
        replica: ReplicaId,
        slow: bool,
    ) -> Result<Self, LogError> {
        let record = log.record().clone();
        let expected = genesis(cluster).into_iter().find(|expected| expected.replica == replica);
        if expected.is_none_or(|expected| EpochRecord { epoch: record.epoch, ..expected } != record) {
            return Err(LogError::Foreign { replica });
        }
        let kind = if slow { "software, in a helper process" } else { "software" };
        let head = log.append(&[])?.head;
        Ok(Self { log, kind, place: (record, head), slow })
    }

    /// Makes it ready for work. `tell` hears of what takes long, on another thread.
    pub(crate) fn start(self, tell: Box<dyn FnMut(Completion) + Send>) -> Result<Clerk, LogError> {
        if self.slow {
            return Ok(Clerk::Desk(Desk::start(self.log, tell).map_err(LogError::Thread)?));
        }
        Ok(Clerk::Here(self.log))
    }
}

/// Whoever does the log's work: the caller itself, when that is quicker than telling somebody.
pub(crate) enum Clerk {
    Here(Box<dyn TrustedLog>),
    Desk(Desk),
}

impl Clerk {
    /// Has digests attested. The result comes back at once, or later as a [`Completion`].
    pub(crate) fn attest(&mut self, digests: Vec<Digest>) -> Result<Option<Input>, LogError> {
        match self {
            Clerk::Here(log) => Ok(Some(Input::Attested(log.append(&digests)?))),
            Clerk::Desk(desk) => desk.submit(digests).map(|()| None).map_err(refused),
        }
    }

    /// Begins an epoch.
    pub(crate) fn renew(&mut self, epoch: Epoch) -> Result<Option<Input>, LogError> {
        match self {
            Clerk::Here(log) => {
                log.renew(epoch)?;
                let Attestation { certificate, .. } = log.append(&[])?;
                Ok(Some(Input::Renewed(log.record().clone(), certificate)))
            }
            Clerk::Desk(desk) => desk.renew(epoch).map(|()| None).map_err(refused),
        }
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
        Completion::Failed(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{REPLICA, cluster_of, replica_key};
    use tempfile::TempDir;

    fn cluster() -> Cluster {
        cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned))
    }
    fn open(cluster: &Cluster, directory: &TempDir) -> Result<Device, LogError> {
        Device::open(cluster, REPLICA, &replica_key(0), directory.path(), None)
    }

    #[test]
    fn the_log_goes_on_where_it_was() {
        let directory = TempDir::new().expect("a directory");
        let device = open(&cluster(), &directory).expect("new");
        let (record, head) = device.place.clone();
        let mut clerk = device.start(Box::new(|_| ())).expect("started");
        let digest = Digest::of(b"statement");
        let Ok(Some(Input::Attested(attestation))) = clerk.attest(vec![digest]) else { panic!("at once") };
        assert_eq!(attestation.head, record.extend(head, [digest]));
        assert!(record.verify(attestation.head, &attestation.certificate).is_ok());
        drop(clerk);
        let device = open(&cluster(), &directory).expect("opens");
        assert_eq!(device.place, (record.clone(), attestation.head));
        let Ok(Some(Input::Renewed(renewed, _))) = device.start(Box::new(|_| ())).expect("started").renew(Epoch(4))
        else {
            panic!("at once")
        };
        assert_eq!(renewed, EpochRecord { epoch: Epoch(4), ..record });
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
        let error = Device::open(&cluster(), REPLICA, &replica_key(0), directory.path(), Some(&socket)).err();
        assert!(matches!(error, Some(LogError::Device(DeviceError::Unreachable(_)))), "{error:?}");
    }
}
