//! A cluster of real processes whose members can be killed and started again one by one.

use crate::proxy::Proxy;
use futures::TryStreamExt;
use quorate::connection::{self, Connection};
use quorate_dfs::Upload;
use quorate_jobtracker::{ReplicaLiar, client::Client};
use quorate_liars::Kind;
use quorate_protocol::{
    cluster::{Agreement, Cluster, ReplicaMember, TrackerMember},
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

/// What cluster is started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The programs under test.
    pub programs: Programs,
    /// How the job tracker's replicas agree.
    pub agreement: Agreement,
    /// Job-tracker replicas: 2f + 1, or 3f + 1 without trusted logs.
    pub replicas: u32,
    /// Task trackers.
    pub trackers: u32,
    /// Lying trackers.
    pub liars: Vec<(TrackerId, Kind)>,
    /// Lying replicas.
    pub lying_replicas: Vec<(ReplicaId, ReplicaLiar)>,
    /// Whether the replicas speak with each other through [`Proxy`]s.
    pub proxied: bool,
    /// Whose trusted logs are in processes of their own, with keys of their own.
    pub helpers: Vec<ReplicaId>,
    /// The user that those run as, when it is another one.
    pub helpers_user: Option<u32>,
    /// Whether the replicas' trusted logs are in TPMs, one in software for each.
    #[cfg(feature = "tpm")]
    pub tpms: bool,
}

impl Setup {
    /// Honest trackers and three honest replicas.
    pub fn new(programs: Programs, trackers: u32) -> Self {
        Self {
            programs,
            agreement: Agreement::Minbft,
            replicas: 3,
            trackers,
            liars: Vec::new(),
            lying_replicas: Vec::new(),
            proxied: false,
            helpers: Vec::new(),
            helpers_user: None,
            #[cfg(feature = "tpm")]
            tpms: false,
        }
    }

    /// Honest trackers and four honest replicas without trusted logs.
    pub fn without_trusted_logs(programs: Programs, trackers: u32) -> Self {
        Self { agreement: Agreement::Pbft, replicas: 4, ..Self::new(programs, trackers) }
    }
}

/// A cluster of job-tracker processes and tracker processes.
pub struct Processes {
    setup: Setup,
    folder: tempfile::TempDir,
    members: BTreeMap<String, Child>,
    connection: Connection,
    /// From whom to whom.
    proxies: BTreeMap<(ReplicaId, ReplicaId), Proxy>,
    #[cfg(feature = "tpm")]
    pub(crate) tpms: crate::tpms::Tpms,
}

impl Processes {
    /// Starts a cluster with three honest replicas and waits until all its trackers are there.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(programs: Programs, trackers: u32, liars: &[(TrackerId, Kind)]) -> Self {
        Self::set_up(Setup { liars: liars.to_vec(), ..Setup::new(programs, trackers) }).await
    }

    /// Starts a cluster and waits until all its trackers are there.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn set_up(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("quorate-test-").tempdir().expect("a folder");
        #[cfg_attr(not(feature = "tpm"), expect(unused_mut, reason = "nothing is added to it"))]
        let (mut cluster, client) = configure(&setup, folder.path());
        #[cfg(feature = "tpm")]
        let tpms = crate::tpms::Tpms::start(&setup, &mut cluster, folder.path()).await;
        connection::save(&folder.path().join("connection"), &cluster, &client).expect("a connection");
        let connection = Connection::open(Some(&folder.path().join("connection"))).expect("a connection");
        let proxies = if setup.proxied { proxies(&cluster).await } else { BTreeMap::new() };
        write_configurations(folder.path(), &cluster, &proxies);
        let mut this = Self {
            setup,
            folder,
            members: BTreeMap::new(),
            connection,
            proxies,
            #[cfg(feature = "tpm")]
            tpms,
        };
        #[cfg(feature = "tpm")]
        this.found().await;
        for replica in this.setup.helpers.clone() {
            this.start_helper(replica).await;
        }
        for replica in &cluster.replicas {
            this.start_member(&replica.id.to_string());
        }
        for tracker in &cluster.trackers {
            this.start_member(&tracker.id.to_string());
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
        let mut command = Command::new(&self.setup.programs.quorate);
        let configuration = match name.parse::<TrackerId>() {
            Ok(id) if name.starts_with("tracker") => {
                command.args(["tasktracker", "--map-slots", "1", "--reduce-slots", "1"]);
                command.args(["--id", &id.number().to_string()]);
                if let Some((_, kind)) = self.setup.liars.iter().find(|(liar, _)| *liar == id) {
                    command.args(["--liar", kind.name()]);
                }
                CONFIGURATION.to_owned()
            }
            _ => {
                let id: ReplicaId = name.parse().expect("a member");
                command.args(["jobtracker", "--lease", "1500", "--id", &id.number().to_string()]);
                if let Some((_, kind)) = self.setup.lying_replicas.iter().find(|(liar, _)| *liar == id) {
                    command.args(["--liar", kind.name()]);
                }
                if self.setup.helpers.contains(&id) {
                    command.arg("--trusted-log").arg(self.helper_socket(id));
                }
                #[cfg(feature = "tpm")]
                self.tpms.tell(id, self.folder.path(), &mut command);
                format!("{name}.toml")
            }
        };
        self.spawn(name, &configuration, command);
    }

    /// Starts what every member's process is started with.
    pub(crate) fn spawn(&mut self, name: &str, configuration: &str, mut command: Command) {
        let folder = self.folder.path();
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("{name}.log")));
        let child = command
            .arg("--config")
            .arg(folder.join(configuration))
            .arg("--key")
            .arg(folder.join(format!("{name}.key")))
            .arg("--dir")
            .arg(folder.join(name))
            .arg("--until-stdin-ends")
            // Whoever runs the tests may have settings.
            .env("QUORATE_CONFIG", "")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the quorate command starts");
        self.members.insert(name.to_owned(), child);
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }
    pub(crate) fn member(&self, name: &str) -> &Child {
        self.members.get(name).expect("a member that runs")
    }
    pub(crate) fn proxies(&self) -> &BTreeMap<(ReplicaId, ReplicaId), Proxy> {
        &self.proxies
    }

    /// Waits until a member's process has ended by itself, and gives its status.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ends_by_itself(&mut self, name: &str) -> ExitStatus {
        let mut child = self.members.remove(name).expect("a member");
        wait(name, &mut child).await
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

    /// Where a replica's page is.
    ///
    /// # Panics
    /// When there is no such replica.
    pub fn page(&self, replica: u32) -> &str {
        let member = self.connection.cluster.replica(ReplicaId::new(replica)).expect("a replica");
        member.page.as_deref().expect("a page")
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
        self.command(&self.setup.programs.quorate, arguments)
    }

    /// The word-count program on this cluster, not yet started.
    pub fn wordcount(&self, arguments: &[&str]) -> Command {
        self.command(&self.setup.programs.wordcount, arguments)
    }

    /// The terasort program on this cluster, not yet started.
    pub fn terasort(&self, arguments: &[&str]) -> Command {
        self.command(&self.setup.programs.terasort, arguments)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("QUORATE_CLUSTER", self.folder.path().join("connection")).stdin(Stdio::null());
        // Whoever runs the tests may have settings.
        command.env("QUORATE_CONFIG", "");
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
        // Those that others need to end well come last.
        let (last, first): (Vec<_>, Vec<_>) = members.iter_mut().partition(|(name, _)| crate::helpers::is_one(name));
        for mut part in [first, last] {
            for (_, child) in &mut part {
                // Closing its standard input is the signal to stop.
                drop(child.stdin.take());
            }
            for (name, child) in part {
                wait(name, child).await;
            }
        }
    }
}

/// The configuration of all but the replicas.
pub(crate) const CONFIGURATION: &str = "config.toml";

/// Makes a cluster's keys and configuration.
fn configure(setup: &Setup, folder: &Path) -> (Cluster, SecretKey) {
    let key = |name: &str| {
        let key = SecretKey::generate().expect("randomness");
        fs::write(folder.join(format!("{name}.key")), key.to_hex()).expect("a key file");
        key
    };
    let client = key("client");
    // Taken together, so that they differ: each replica's service and its page.
    let sockets = (0..2 * setup.replicas).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let sockets: Vec<_> = sockets.collect();
    let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().expect("an address").to_string()).collect();
    let replica = |(id, addresses): (ReplicaId, &[String])| ReplicaMember {
        id,
        address: addresses[0].clone(),
        key: key(&id.to_string()).public(),
        log: setup.helpers.contains(&id).then(|| key(&crate::helpers::name(id)).public()),
        tpm: None,
        page: Some(addresses[1].clone()),
    };
    let tracker = |id: TrackerId| TrackerMember {
        id,
        domain: Domain(format!("domain-{}", id.number())),
        key: key(&id.to_string()).public(),
    };
    let cluster = Cluster {
        name: "test".to_owned(),
        f: setup.agreement.faults(setup.replicas as usize) as u32,
        agreement: setup.agreement,
        allow_liars: !setup.liars.is_empty() || !setup.lying_replicas.is_empty(),
        clients: vec![client.public()],
        authority: None,
        replicas: (0..).map(ReplicaId::new).zip(addresses.chunks_exact(2)).map(replica).collect(),
        trackers: (0..setup.trackers).map(TrackerId::new).map(tracker).collect(),
    };
    (cluster, client)
}

/// A proxy for each way from one replica to another.
async fn proxies(cluster: &Cluster) -> BTreeMap<(ReplicaId, ReplicaId), Proxy> {
    let mut proxies = BTreeMap::new();
    for from in &cluster.replicas {
        for to in cluster.replicas.iter().filter(|to| to.id != from.id) {
            proxies.insert((from.id, to.id), Proxy::start(to.address.clone()).await);
        }
    }
    proxies
}

/// Each replica has a configuration of its own, where the others have the addresses of its proxies to them: addresses are
/// no part of a cluster's identity.
fn write_configurations(folder: &Path, cluster: &Cluster, proxies: &BTreeMap<(ReplicaId, ReplicaId), Proxy>) {
    let write = |name: &str, cluster: &Cluster| {
        fs::write(folder.join(name), toml::to_string(cluster).expect("TOML")).expect("a file");
    };
    write(CONFIGURATION, cluster);
    for from in &cluster.replicas {
        let mut seen = cluster.clone();
        for to in &mut seen.replicas {
            if let Some(proxy) = proxies.get(&(from.id, to.id)) {
                proxy.address().clone_into(&mut to.address);
            }
        }
        write(&format!("{}.toml", from.id), &seen);
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
