//! A client's connection to a cluster, and the folder that says where the cluster is.
//!
//! `quorate cluster up` writes the folder, and every client on the machine reads it: `cluster.toml` is the cluster's
//! configuration, `client.key` the secret key that may submit jobs and change files.

use crate::exit::{Exit, Failure};
use quorate_dfs::{ChunkClient, GetError, PutError, Servers, UploadError};
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
    /// [`Exit::Cluster`] when there is none, or its files make no sense. Whether the cluster answers shows with the first
    /// question.
    pub fn open(folder: Option<&Path>) -> Result<Self, Failure> {
        let folder = folder.map_or_else(default_folder, Path::to_owned);
        let text = read(&folder, CLUSTER_FILE)?;
        let cluster: Cluster = toml::from_str(&text).map_err(|e| malformed(&folder, CLUSTER_FILE, &e.to_string()))?;
        cluster.check().map_err(|what| malformed(&folder, CLUSTER_FILE, &what))?;
        let key = SecretKey::from_hex(&read(&folder, KEY_FILE)?)
            .ok_or_else(|| malformed(&folder, KEY_FILE, "a key is 64 hexadecimal digits"))?;
        Ok(Self::new(Arc::new(cluster), key))
    }

    /// Asks where the chunk servers are now, before files are read or written.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn refresh(&self) -> Result<(), ClientError> {
        let trackers = patiently(self.client.trackers(), |text| eprintln!("{text}")).await?;
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
            Failure::new(Exit::Cluster, format!("no cluster is described in {}", folder.display()))
                .hint("start one with `quorate cluster up`, or run without `submit` for an embedded cluster")
        }
        _ => Failure::new(Exit::Cluster, format!("cannot read {}: {error}", path.display())),
    })
}

fn malformed(folder: &Path, name: &str, what: &str) -> Failure {
    let path = folder.join(name);
    Failure::new(Exit::Cluster, format!("{} makes no sense: {}", path.display(), what.trim()))
        .hint("`quorate cluster up` writes it; start the cluster again")
}

/// Reads a path of the cluster's file system from the command line.
///
/// # Errors
/// A usage failure when it is none.
pub fn cluster_path(text: &str) -> Result<ClusterPath, Failure> {
    ClusterPath::parse(text).map_err(Failure::usage)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Unreachable { .. } => Failure::new(Exit::Cluster, message)
                .hint("start a cluster with `quorate cluster up`; if it runs already, name its folder with --cluster"),
            ClientError::Fork { proof, .. } => {
                Failure::new(Exit::Cluster, message).hint(format!("this is the proof, to keep: {}", proof.to_hex()))
            }
            ClientError::Rejected { .. }
            | ClientError::Untrustworthy { .. }
            | ClientError::Disagreement
            | ClientError::WrongKind { .. }
            | ClientError::TooLong { .. } => Failure::new(Exit::Cluster, message),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let failure = |exit| Failure::new(exit, message.clone());
        match refusal {
            Refusal::NotFound(what) if what.starts_with('/') => {
                failure(Exit::Path).hint("`quorate fs ls` shows what is there")
            }
            Refusal::NotFound(_) => failure(Exit::Path).hint("`quorate job list` shows the jobs"),
            Refusal::Exists(path) => failure(Exit::Path).hint(format!(
                "choose another path, or remove it with `quorate fs rm -r {path}`; nothing is overwritten"
            )),
            Refusal::IsFolder(_) => failure(Exit::Path),
            Refusal::TooFewDomains { .. } => failure(Exit::Cluster).hint("use a smaller --f, or start more trackers"),
            Refusal::WrongTarget { .. } => failure(Exit::Cluster).hint("build the program for the trackers' machines"),
            Refusal::Invalid(_) => failure(Exit::Usage),
            Refusal::Full(_) | Refusal::NotAllowed(_) | Refusal::Stale | Refusal::Fork { .. } => failure(Exit::Cluster),
        }
    }
}

impl From<GetError> for Failure {
    fn from(error: GetError) -> Self {
        Failure::new(Exit::Cluster, error.to_string()).hint("`quorate cluster status` shows which trackers are there")
    }
}

impl From<PutError> for Failure {
    fn from(error: PutError) -> Self {
        Failure::new(Exit::Cluster, error.to_string())
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        let exit = match &error {
            UploadError::Read(_) | UploadError::TooLong { .. } => Exit::Path,
            UploadError::TooFewDomains { .. } => Exit::Cluster,
            UploadError::Stopped => Exit::Interrupted,
        };
        let message = match &error {
            UploadError::Read(cause) => format!("{error}: {cause}"),
            UploadError::TooLong { .. } | UploadError::TooFewDomains { .. } | UploadError::Stopped => error.to_string(),
        };
        Failure::new(exit, message)
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
        let hint = |refusal: Refusal| Failure::from(refusal).hint.unwrap_or_default();
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
        assert_eq!(failure.exit, Exit::Cluster);
        assert!(failure.to_string().contains("quorate cluster up"), "{failure}");
        fs::write(folder.path().join(CLUSTER_FILE), "name = 3").expect("written");
        let failure = Connection::open(Some(folder.path())).err().expect("damaged");
        assert!(failure.message.contains("makes no sense"), "{failure}");
    }
}
