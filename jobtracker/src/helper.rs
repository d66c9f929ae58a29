//! A replica's trusted log in a process of its own: what `quorate trusted-log` runs. [`LogPlace::Helper`] is the other end.
//!
//! Its state is on the disk before anything is attested, so it may be killed at any moment. It has no more to do with
//! the replica's agreement than its key, and belongs under another user: a replica that is broken into can then neither
//! read the key nor put an older state back.
//!
//! [`LogPlace::Helper`]: crate::LogPlace::Helper

use crate::{device::FILE_NAME, keys::genesis};
use quorate_counter::{LogKey, OpenError, Software, TrustedLog, helper};
use quorate_protocol::{cluster::Cluster, ids::ReplicaId, sign::SecretKey};
use std::{
    fs, io,
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::PathBuf,
    sync::Arc,
    thread,
};
use tokio::sync::oneshot;

/// What the helper needs to start.
#[derive(Clone, Debug)]
pub struct HelperOptions {
    /// The cluster's configuration.
    pub cluster: Arc<Cluster>,
    /// Whose trusted log it is.
    pub replica: ReplicaId,
    /// The trusted log's key: the replica's own one when the configuration names no other.
    pub key: SecretKey,
    /// Where the log's state is kept. It is made when it does not exist, and nobody else may read it then.
    pub directory: PathBuf,
    /// Where the replica finds it.
    pub socket: PathBuf,
    /// The number of the user that the replica runs as. Everybody else is turned away.
    pub user: u32,
}

/// Why the helper does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The configuration makes no sense.
    #[error("the cluster's configuration makes no sense: {0}")]
    Cluster(String),
    /// The configuration has no such replica.
    #[error("the cluster's configuration has no {0}")]
    NotAMember(ReplicaId),
    /// The key is not the one of the configuration.
    #[error("this is not the key that the cluster's configuration has for the trusted log of {0}")]
    WrongKey(ReplicaId),
    /// The configuration has a TPM for it.
    #[error("the cluster's configuration has a TPM as the trusted log of {0}, and no process")]
    Tpm(ReplicaId),
    /// The directory cannot be made.
    #[error("the directory {} cannot be used", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] OpenError),
    /// There is no socket, or it fails.
    #[error("the socket {} cannot be used", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no thread for it.
    #[error("the operating system gives the trusted log no thread")]
    Thread(#[source] io::Error),
}

/// A helper that serves its replica.
#[derive(Debug)]
pub struct Helper {
    socket: PathBuf,
    failed: oneshot::Receiver<io::Error>,
}

impl Helper {
    /// Opens the log's state, and serves it.
    ///
    /// # Errors
    /// [`HelperError`]. Nothing is left running.
    pub fn start(options: HelperOptions) -> Result<Self, HelperError> {
        check(&options)?;
        let HelperOptions { cluster, replica, key, directory, socket, user } = options;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|source| HelperError::Directory { path: directory.clone(), source })?;
        let log = Software::open(&directory.join(FILE_NAME), key, cluster.id(), replica)?;
        let listener =
            helper::listen(&socket, user).map_err(|source| HelperError::Socket { path: socket.clone(), source })?;
        let failed = serve(listener, Box::new(log), user).map_err(HelperError::Thread)?;
        Ok(Self { socket, failed })
    }

    /// Waits until it cannot serve any more.
    pub async fn failed(&mut self) -> HelperError {
        let gone = |_| io::Error::other("the thread that served it is gone");
        let source = (&mut self.failed).await.unwrap_or_else(gone);
        HelperError::Socket { path: self.socket.clone(), source }
    }

    /// Takes the socket away. The thread that serves ends with the process, wherever it is: see the module's text.
    ///
    /// # Errors
    /// When the socket cannot be removed.
    pub fn stop(self) -> Result<(), HelperError> {
        match fs::remove_file(&self.socket) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HelperError::Socket { path: self.socket, source })
            }
            _ => Ok(()),
        }
    }
}

fn check(options: &HelperOptions) -> Result<(), HelperError> {
    options.cluster.check().map_err(HelperError::Cluster)?;
    let replica = options.replica;
    if options.cluster.replica(replica).is_some_and(|member| member.tpm.is_some()) {
        return Err(HelperError::Tpm(replica));
    }
    let expected = genesis(&options.cluster, None).into_iter().find(|record| record.replica == replica);
    let expected = expected.ok_or(HelperError::NotAMember(replica))?;
    if expected.key == LogKey::Software(options.key.public()) { Ok(()) } else { Err(HelperError::WrongKey(replica)) }
}

/// Serves on a thread of its own, since both ends of the socket block. Gives the error that ended it.
fn serve(listener: UnixListener, log: Box<dyn TrustedLog>, user: u32) -> io::Result<oneshot::Receiver<io::Error>> {
    let (send, failed) = oneshot::channel();
    let run = move || {
        let Err(error) = helper::serve(&listener, log, user);
        // Nobody may be waiting.
        let _ = send.send(error);
    };
    thread::Builder::new().name("trusted-log".to_owned()).spawn(run)?;
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{REPLICA, cluster_of, replica_key};
    use quorate_counter::helper::own_user;
    use std::{io::ErrorKind, path::Path};
    use tempfile::TempDir;

    fn options(folder: &Path) -> HelperOptions {
        HelperOptions {
            cluster: Arc::new(cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned))),
            replica: REPLICA,
            key: replica_key(0),
            directory: folder.join("state"),
            socket: folder.join("socket"),
            user: own_user(),
        }
    }

    #[test]
    fn it_serves_the_log_of_the_configuration_and_takes_its_socket_away() {
        let folder = TempDir::new().expect("a folder");
        let helper = Helper::start(options(folder.path())).expect("starts");
        let socket = folder.path().join("socket");
        let remote = helper::Remote::connect(&socket, std::time::Duration::from_secs(30)).expect("connects");
        assert_eq!(Some(remote.record()), genesis(&options(folder.path()).cluster, None).first());
        helper.stop().expect("stops");
        assert!(!socket.exists());
    }

    #[test]
    fn one_state_and_one_socket_are_one_helpers() {
        let folder = TempDir::new().expect("a folder");
        let _helper = Helper::start(options(folder.path())).expect("starts");
        let same = Helper::start(options(folder.path())).expect_err("a cloned log");
        assert!(matches!(same, HelperError::State(OpenError::InUse(_))), "{same:?}");
        let elsewhere = HelperOptions { directory: folder.path().join("other"), ..options(folder.path()) };
        let HelperError::Socket { source, .. } = Helper::start(elsewhere).expect_err("a taken socket") else {
            panic!("not the socket")
        };
        assert_eq!(source.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn it_starts_only_as_the_log_of_a_member() {
        let folder = TempDir::new().expect("a folder");
        let start = |change: &dyn Fn(&mut HelperOptions)| {
            let mut options = options(folder.path());
            change(&mut options);
            Helper::start(options).expect_err("refused")
        };
        let stranger = start(&|options| options.replica = ReplicaId::new(7));
        assert!(matches!(stranger, HelperError::NotAMember(_)), "{stranger:?}");
        let wrong = start(&|options| options.key = replica_key(1));
        assert!(matches!(wrong, HelperError::WrongKey(REPLICA)), "{wrong:?}");
        let own = start(&|options| {
            let mut cluster = (*options.cluster).clone();
            cluster.replicas[0].log = Some(replica_key(9).public());
            options.cluster = Arc::new(cluster);
        });
        assert!(matches!(own, HelperError::WrongKey(REPLICA)), "the log has a key of its own: {own:?}");
        assert!(!folder.path().join("state").exists(), "nothing was made");
    }
}
