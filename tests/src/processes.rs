//! A cluster of real processes whose members can be killed and started again one by one.

use futures::TryStreamExt;
use quorate::connection::{self, Connection};
use quorate_dfs::Upload;
use quorate_jobtracker::client::Client;
use quorate_liars::Kind;
use quorate_protocol::{
    cluster::{Cluster, ReplicaMember, TrackerMember},
    file::Path as ClusterPath,
    ids::{Domain, JobId, ReplicaId, TrackerId},
    query::JobView,
    sign::SecretKey,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

/// How long anything in a test may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The `quorate` command.
    pub quorate: PathBuf,
    /// The word-count job.
    pub wordcount: PathBuf,
    /// The sort job with its generator and validator.
    pub terasort: PathBuf,
}

/// A cluster of one job-tracker process and several tracker processes.
pub struct Processes {
    programs: Programs,
    folder: tempfile::TempDir,
    members: BTreeMap<String, Child>,
    liars: BTreeMap<TrackerId, Kind>,
    connection: Connection,
}

impl Processes {
    /// Starts a cluster and waits until all its trackers are there.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(programs: Programs, trackers: u32, liars: &[(TrackerId, Kind)]) -> Self {
        let folder = tempfile::Builder::new().prefix("quorate-test-").tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port").port();
        let key = |name: &str| {
            let key = SecretKey::generate().expect("randomness");
            fs::write(folder.path().join(format!("{name}.key")), key.to_hex()).expect("a key file");
            key
        };
        let client = key("client");
        let replica = ReplicaMember {
            id: ReplicaId::new(0),
            address: format!("127.0.0.1:{port}"),
            key: key("replica-0").public(),
        };
        let member = |id: TrackerId| TrackerMember {
            id,
            domain: Domain(format!("domain-{}", id.number())),
            key: key(&id.to_string()).public(),
        };
        let cluster = Cluster {
            name: "test".to_owned(),
            f: 0,
            allow_liars: !liars.is_empty(),
            clients: vec![client.public()],
            replicas: vec![replica],
            trackers: (0..trackers).map(TrackerId::new).map(member).collect(),
        };
        fs::write(folder.path().join("config.toml"), toml::to_string(&cluster).expect("TOML")).expect("a file");
        connection::save(&folder.path().join("connection"), &cluster, &client).expect("a connection");
        let connection = Connection::open(Some(&folder.path().join("connection"))).expect("a connection");
        let liars = liars.iter().copied().collect();
        let mut this = Self { programs, folder, members: BTreeMap::new(), liars, connection };
        this.start_member("replica-0");
        for id in 0..trackers {
            this.start_member(&TrackerId::new(id).to_string());
        }
        this.all_live().await;
        this
    }

    /// The client of its job tracker.
    pub fn client(&self) -> &Client {
        &self.connection.client
    }

    /// A client's connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Starts a member's process: at first, or again after [`Processes::kill`].
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn start_member(&mut self, name: &str) {
        let folder = self.folder.path();
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("{name}.log")));
        let mut command = Command::new(&self.programs.quorate);
        match name.parse::<TrackerId>() {
            Ok(id) if name.starts_with("tracker") => {
                command.args([
                    "tasktracker",
                    "--map-slots",
                    "1",
                    "--reduce-slots",
                    "1",
                    "--id",
                    &id.number().to_string(),
                ]);
                if let Some(kind) = self.liars.get(&id) {
                    command.args(["--liar", kind.name()]);
                }
            }
            _ => {
                command.args(["jobtracker", "--lease", "1500"]);
            }
        }
        let child = command
            .arg("--config")
            .arg(folder.join("config.toml"))
            .arg("--key")
            .arg(folder.join(format!("{name}.key")))
            .arg("--dir")
            .arg(folder.join(name))
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the quorate command starts");
        self.members.insert(name.to_owned(), child);
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When there is no such member.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.members.remove(name).expect("a member");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    /// Waits until as many trackers are there as are configured.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn all_live(&self) {
        let all = self.connection.cluster.trackers.len();
        self.until("all trackers are there", async || {
            self.client().trackers().await.is_ok_and(|seen| seen.iter().filter(|tracker| tracker.live).count() == all)
        })
        .await;
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`], with all members' logs.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < deadline, "waited in vain until {what}; {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What all members wrote.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for name in self.members.keys() {
            let log = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
            logs.push_str(&format!("== {name}\n{log}"));
        }
        logs
    }

    /// Makes a file.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn put(&self, bytes: &[u8], path: &str) {
        self.connection.refresh().await.expect("the job tracker answers");
        let upload = Upload::copies(3).length(bytes.len() as u64);
        let file = self.connection.chunks.upload(bytes, upload).await.expect("uploaded");
        let path = ClusterPath::parse(path).expect("a path");
        self.client().create_files(vec![(path, file)]).await.expect("created");
    }

    /// The bytes of all files in a folder, in order.
    ///
    /// # Panics
    /// When they cannot be read.
    pub async fn read_all(&self, folder: &str) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        self.connection.refresh().await.expect("the job tracker answers");
        for (_, file) in self.client().files(&ClusterPath::parse(folder).expect("a path")).await.expect("files") {
            let blocks: Vec<bytes::Bytes> = self.connection.chunks.read(&file).try_collect().await.expect("readable");
            parts.push(blocks.concat());
        }
        parts
    }

    /// A `quorate` command on this cluster, not yet started.
    pub fn quorate(&self, arguments: &[&str]) -> Command {
        self.command(&self.programs.quorate, arguments)
    }

    /// The word-count program on this cluster, not yet started.
    pub fn wordcount(&self, arguments: &[&str]) -> Command {
        self.command(&self.programs.wordcount, arguments)
    }

    /// The terasort program on this cluster, not yet started.
    pub fn terasort(&self, arguments: &[&str]) -> Command {
        self.command(&self.programs.terasort, arguments)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("QUORATE_CLUSTER", self.folder.path().join("connection")).stdin(Stdio::null());
        command
    }

    /// Submits a word count with the real binary, without waiting for it.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn submit_wordcount(&self, arguments: &[&str]) -> JobId {
        let before: Vec<JobId> = self.client().jobs().await.expect("jobs").iter().map(|job| job.job).collect();
        let mut all = vec!["submit", "--detach", "--input", "/in", "--output", "/out"];
        all.extend(arguments);
        let output = run(self.wordcount(&all)).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let after = self.client().jobs().await.expect("jobs");
        let new = after.iter().map(|job| job.job).find(|job| !before.contains(job));
        new.expect("a submitted job is listed")
    }

    /// Waits for a job's end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&self, job: JobId) -> JobView {
        let mut last = None;
        self.until("the job ends", async || {
            last = self.client().job(job).await.ok();
            last.as_ref().is_some_and(|view| view.summary.state.is_ended())
        })
        .await;
        last.expect("it ended")
    }

    /// Where members keep their state and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops all members in order and asserts that each ended by itself.
    ///
    /// # Panics
    /// When one has to be killed.
    pub async fn stop(mut self) {
        let mut members = std::mem::take(&mut self.members);
        for child in members.values_mut() {
            // Closing its standard input is the signal to stop.
            drop(child.stdin.take());
        }
        for (name, child) in &mut members {
            wait(name, child).await;
        }
    }
}

async fn wait(name: &str, child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{name} did not stop");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.members.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end without blocking the runtime.
///
/// # Panics
/// When it cannot be started, or hangs.
pub async fn run(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = tokio::task::spawn_blocking(move || command.output().expect("the command starts"));
    tokio::time::timeout(PATIENCE, running).await.expect("the command ends").expect("no panic")
}
