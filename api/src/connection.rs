//! A client's connection to a cluster, and the folder that says where the cluster is.
//!
//! `quorate cluster up` writes the folder, and every client on the machine reads it: `cluster.toml` is the cluster's
//! configuration, `client.key` the secret key that may submit jobs and change files.

use crate::{
    configuration,
    exit::{Code, Failure},
    terminal,
};
use quorate_dfs::{ChunkClient, GetError, Servers, UploadError};
use quorate_jobtracker::client::{Client, ClientError};
use quorate_protocol::{
    cluster::Cluster,
    command::{Refusal, Sender},
    file::Path as ClusterPath,
    sign::SecretKey,
};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

/// The configuration's file in a cluster's folder.
pub const CLUSTER_FILE: &str = "cluster.toml";
/// The client's secret key in a cluster's folder.
pub const KEY_FILE: &str = "client.key";

/// An answer that takes longer is late.
const SILENCE: Duration = Duration::from_secs(2);

/// A client's way to a cluster: its job tracker, and its chunk servers.
#[derive(Clone)]
pub struct Connection {
    /// The configuration.
    pub cluster: Arc<Cluster>,
    /// Orders commands and asks questions.
    pub client: Client,
    /// Reads and writes files' bytes.
    pub chunks: ChunkClient,
}

/// The folder that is used when none is named: `$XDG_RUNTIME_DIR/quorate`, or `quorate-UID` among the temporary files.
pub fn default_folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if !runtime.is_empty() => PathBuf::from(runtime).join("quorate"),
        Some(_) | None => std::env::temp_dir().join(format!("quorate-{}", rustix::process::getuid().as_raw())),
    }
}

/// Writes a cluster's folder, for clients to find it.
///
/// # Errors
/// When the folder or a file in it cannot be written.
pub fn save(folder: &Path, cluster: &Cluster, key: &SecretKey) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let text = toml::to_string(cluster).map_err(io::Error::other)?;
    write_private(&folder.join(KEY_FILE), key.to_hex().as_bytes())?;
    write_private(&folder.join(CLUSTER_FILE), text.as_bytes())
}

/// Removes what [`save`] wrote, and the folder when nothing else is in it.
///
/// # Errors
/// When a file is there and cannot be removed.
pub fn forget(folder: &Path) -> io::Result<()> {
    for name in [CLUSTER_FILE, KEY_FILE] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::DirectoryNotEmpty => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a file that only its owner may read: all of it or, when the process is stopped half-way, the old one.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(partial, path)
}

impl Connection {
    /// A connection with a known configuration and key. Nothing is sent yet.
    pub fn new(cluster: Arc<Cluster>, key: SecretKey) -> Self {
        let client = Client::new(Arc::clone(&cluster), Sender::Client(key.public()), key.clone());
        let chunks = ChunkClient::new(Arc::clone(&cluster), key);
        Self { cluster, client, chunks }
    }

    /// Opens the connection that a cluster's folder describes; without one, the default folder's.
    ///
    /// # Errors
    /// [`Code::NoCluster`] when there is none, [`Code::BadClusterFolder`] when its files make no sense. Whether the cluster
    /// answers shows with the first question.
    pub fn open(folder: Option<&Path>) -> Result<Self, Failure> {
        let folder = folder.map_or_else(default_folder, Path::to_owned);
        let text = read(&folder, CLUSTER_FILE)?;
        let cluster = configuration::parse(&folder.join(CLUSTER_FILE), &text, Code::BadClusterFolder)?;
        let key = SecretKey::from_hex(&read(&folder, KEY_FILE)?).ok_or_else(|| {
            Failure::new(Code::BadClusterFolder, format!("{} holds no key", folder.join(KEY_FILE).display()))
        })?;
        Ok(Self::new(Arc::new(cluster), key))
    }

    /// Asks where the chunk servers are now, before files are read or written.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn refresh(&self) -> Result<(), ClientError> {
        let trackers = patiently(self.client.trackers(), terminal::note).await?;
        self.chunks.set_servers(Servers::of(&trackers));
        Ok(())
    }
}

/// Waits for an answer of the job tracker. The client tries again by itself; when that takes long, `say` is told so.
pub async fn patiently<T>(answer: impl Future<Output = T>, say: impl FnOnce(&str)) -> T {
    patiently_after(SILENCE, answer, say).await
}

async fn patiently_after<T>(silence: Duration, answer: impl Future<Output = T>, say: impl FnOnce(&str)) -> T {
    let mut answer = pin!(answer);
    match tokio::time::timeout(silence, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            say("the job tracker does not answer; trying again");
            answer.await
        }
    }
}

fn read(folder: &Path, name: &str) -> Result<String, Failure> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Code::NoCluster, format!("no cluster is described in {}", folder.display()))
                .cause(format!("there is no {}", path.display()))
        }
        _ => Failure::new(Code::BadClusterFolder, format!("cannot read {}", path.display())).caused_by(&error),
    })
}

/// Reads a path of the cluster's file system from the command line.
///
/// # Errors
/// [`Code::BadClusterPath`] when it is none.
pub fn cluster_path(text: &str) -> Result<ClusterPath, Failure> {
    ClusterPath::parse(text).map_err(|why| Failure::new(Code::BadClusterPath, why))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error {
            ClientError::Refused(refusal) => return refusal.into(),
            ClientError::Fork { ref proof, .. } => {
                let proof = format!("this is the proof, to keep: {}", proof.to_hex());
                return Failure::of(Code::Forked, &error).hint(proof);
            }
            ClientError::Unreachable { ref source, .. } => {
                let cause = root(&**source).unwrap_or_else(|| source.message().to_owned());
                return Failure::new(Code::Unreachable, error.to_string()).cause(cause);
            }
            // Its message has all that the replica said.
            ClientError::Rejected { .. } => return Failure::new(Code::Rejected, error.to_string()),
            ClientError::Untrustworthy { .. } => Code::Untrustworthy,
            ClientError::Disagreement => Code::Disagreement,
            ClientError::WrongKind { .. } => Code::OtherVersion,
            ClientError::TooLong { .. } => Code::TooLong,
        };
        Failure::of(code, &error)
    }
}

/// What lies behind everything else: what the layers in between say is of no use to people.
fn root(error: &dyn std::error::Error) -> Option<String> {
    let mut root = error.source()?;
    while let Some(deeper) = root.source() {
        root = deeper;
    }
    Some(root.to_string())
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NotFound(what) if what.starts_with('/') => Failure::new(Code::NotInCluster, message),
            Refusal::NotFound(what) if what.starts_with("tracker-") => Failure::new(Code::NoSuchTracker, message),
            Refusal::NotFound(_) => Failure::new(Code::NoSuchJob, message),
            Refusal::Exists(path) => Failure::new(Code::Exists, format!("{message} in the cluster")).hint(format!(
                "choose another path, or remove it with `quorate fs rm -r {path}`; nothing is overwritten"
            )),
            Refusal::IsFolder(_) => Failure::new(Code::IsFolder, message),
            Refusal::TooFewDomains { .. } => Failure::new(Code::TooFewDomains, message),
            Refusal::WrongTarget { .. } => Failure::new(Code::WrongTarget, message),
            Refusal::Invalid(_) => Failure::new(Code::InvalidRequest, message),
            Refusal::Full(_) => Failure::new(Code::Full, message),
            Refusal::NotAllowed(_) => Failure::new(Code::NotAllowed, message),
            Refusal::Stale => Failure::new(Code::Stale, message),
            Refusal::Fork { .. } => Failure::new(Code::Forked, message),
        }
    }
}

impl From<GetError> for Failure {
    fn from(error: GetError) -> Self {
        Failure::of(Code::Unreadable, &error)
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        let code = match &error {
            UploadError::Read(_) => Code::PathTrouble,
            UploadError::TooLong { .. } => Code::FileTooLong,
            UploadError::TooFewDomains { .. } => Code::TooFewDomains,
            UploadError::Stopped => Code::Interrupted,
        };
        Failure::of(code, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{
        cluster::{ReplicaMember, TrackerMember},
        ids::{Domain, ReplicaId, TrackerId},
    };
    use std::os::unix::fs::PermissionsExt;

    fn a_cluster(client: &SecretKey) -> Cluster {
        let key = |seed| SecretKey::from_seed([seed; 32]).public();
        Cluster {
            name: "test".to_owned(),
            f: 0,
            agreement: Default::default(),
            allow_liars: true,
            clients: vec![client.public()],
            authority: None,
            replicas: vec![ReplicaMember {
                id: ReplicaId::new(0),
                address: "127.0.0.1:1".to_owned(),
                key: key(1),
                log: None,
                tpm: None,
                page: None,
            }],
            trackers: vec![TrackerMember { id: TrackerId::new(0), domain: Domain("d0".to_owned()), key: key(2) }],
        }
    }

    #[test]
    fn a_saved_folder_opens_and_is_private() {
        let parent = tempfile::tempdir().expect("a folder");
        let (folder, key) = (parent.path().join("cluster"), SecretKey::from_seed([9; 32]));
        save(&folder, &a_cluster(&key), &key).expect("saved");
        let mode = fs::metadata(folder.join(KEY_FILE)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _guard = runtime.enter();
        let connection = Connection::open(Some(&folder)).expect("opens");
        assert_eq!(*connection.cluster, a_cluster(&key));
        assert_eq!(connection.client.key().public(), key.public());
        forget(&folder).expect("forgotten");
        assert!(!folder.exists());
        forget(&folder).expect("nothing left to forget");
    }

    #[test]
    fn hints_fit_what_was_refused() {
        let hint = |refusal: Refusal| Failure::from(refusal).to_string();
        assert!(hint(Refusal::NotFound("/a".to_owned())).contains("quorate fs ls"));
        assert!(hint(Refusal::NotFound("job-99".to_owned())).contains("quorate job list"));
        let exists = hint(Refusal::Exists("/a".to_owned()));
        assert!(exists.contains("quorate fs rm -r /a") && !exists.contains("--output"), "{exists}");
    }

    #[tokio::test]
    async fn a_late_answer_is_waited_for_and_said() {
        let at_once = patiently_after(Duration::from_secs(60), async { 1 }, |text| panic!("{text}"));
        assert_eq!(at_once.await, 1);
        // This answer comes only after it was said to be late.
        let (tell, told) = tokio::sync::oneshot::channel();
        let late = patiently_after(Duration::ZERO, told, |text| tell.send(text.to_owned()).expect("waited for"));
        assert!(late.await.expect("said").contains("does not answer"));
    }

    #[test]
    fn a_missing_or_damaged_folder_is_explained() {
        let folder = tempfile::tempdir().expect("a folder");
        let failure = Connection::open(Some(folder.path())).err().expect("nothing there");
        assert_eq!(failure.code, Code::NoCluster);
        assert!(failure.to_string().contains("quorate cluster up"), "{failure}");
        fs::write(folder.path().join(CLUSTER_FILE), "name = 3").expect("written");
        let failure = Connection::open(Some(folder.path())).err().expect("damaged");
        assert_eq!(failure.code, Code::BadClusterFolder);
        assert!(failure.message.contains("cluster.toml:1:8: invalid type"), "{failure}");
    }
}
