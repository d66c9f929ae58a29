//! `quorate cluster up`: a cluster of real processes on this machine. `quorate cluster status`: how one is.

use crate::{print, role::interrupted};
use clap::{Args, Subcommand};
use quorate::{
    amounts::count,
    connection::{self, Connection},
    exit::{Exit, Failure},
    liar_kinds, parse_liars, report,
};
use quorate_liars::Kind;
use quorate_protocol::{
    cluster::{Cluster, ReplicaMember, TrackerMember},
    ids::{Domain, ReplicaId, TrackerId},
    sign::SecretKey,
};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command as Process},
    task::JoinSet,
    time::{Instant, timeout},
};

/// How long members may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long members may take to stop before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Starts a job tracker and task trackers on this machine, and stops them with Ctrl-C.
    ///
    /// Without --dir everything is kept in a temporary folder that goes away with the cluster.
    Up(Up),
    /// Shows the trackers: who is there, what they run, and what is held against them.
    Status,
}

#[derive(Args)]
pub(crate) struct Up {
    /// Task trackers, each in a failure domain of its own.
    #[arg(long, value_name = "N", default_value_t = 5)]
    trackers: u32,
    /// Lying trackers that jobs shall be able to outvote: there must be 2f+1 trackers.
    #[arg(long, value_name = "F", default_value_t = 1)]
    f: u32,
    /// Let a tracker lie, for a test: 2=corrupt-map. `quorate cluster up --help` lists the kinds.
    #[arg(long, value_name = "TRACKER=KIND", long_help = liar_help())]
    liar: Vec<String>,
    /// Keep the cluster's state in this folder, and go on with what is there.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Map and reduce attempts at once on each tracker [default: the machine's cores shared among the trackers]
    #[arg(long, value_name = "N")]
    slots: Option<u16>,
}

fn liar_help() -> String {
    format!("Let a tracker lie, for a test, as in --liar 2=corrupt-map. May be repeated. The kinds:\n{}", liar_kinds())
}

pub(crate) async fn run(command: Command, folder: Option<&Path>) -> Result<(), Failure> {
    match command {
        Command::Up(options) => up(options, folder).await,
        Command::Status => {
            let connection = Connection::open(folder)?;
            let trackers = connection.client.trackers().await?;
            print(&report::trackers(&trackers))?;
            for tracker in trackers.iter().filter(|tracker| tracker.evidence > 0) {
                for evidence in connection.client.evidence(tracker.id).await? {
                    print(&format!("{}: {}\n", tracker.id, report::evidence(&evidence)))?;
                }
            }
            Ok(())
        }
    }
}

/// Where a cluster's files are.
struct Place {
    /// Keys, logs and the members' state.
    state: PathBuf,
    /// Where clients look.
    connection: PathBuf,
    /// Removed at the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn choose(dir: Option<&Path>, connection: Option<&Path>) -> Result<Self, Failure> {
        match dir {
            Some(dir) => {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
                made.map_err(|error| Failure::io("cannot make", dir, &error))?;
                let state = dir.canonicalize().map_err(|error| Failure::io("cannot open", dir, &error))?;
                Ok(Self {
                    connection: connection.map_or_else(|| state.clone(), Path::to_owned),
                    state,
                    _temporary: None,
                })
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("quorate-cluster-").tempdir();
                let temporary =
                    temporary.map_err(|error| Failure::io("cannot make a folder in", std::env::temp_dir(), &error))?;
                let connection = connection.map_or_else(connection::default_folder, Path::to_owned);
                Ok(Self { state: temporary.path().to_owned(), connection, _temporary: Some(temporary) })
            }
        }
    }

    fn config(&self) -> PathBuf {
        self.state.join("config.toml")
    }
    fn key(&self, member: &str) -> PathBuf {
        self.state.join("keys").join(member)
    }
    fn log(&self, member: &str) -> PathBuf {
        self.state.join("logs").join(format!("{member}.log"))
    }
}

async fn up(options: Up, folder: Option<&Path>) -> Result<(), Failure> {
    if u64::from(options.trackers) < 2 * u64::from(options.f) + 1 {
        return Err(Failure::usage(format!(
            "f = {} needs {} trackers in distinct domains, and there are {}",
            options.f,
            2 * u64::from(options.f) + 1,
            options.trackers
        ))
        .hint("use more --trackers or a smaller --f"));
    }
    let liars = parse_liars(&options.liar, options.trackers)?;
    let place = Place::choose(options.dir.as_deref(), folder)?;
    refuse_second(&place.connection).await?;
    let (cluster, client) = configure(&place, &options, !liars.is_empty())?;
    let mut members = Members::default();
    let started = start_all(&place, &cluster, &options, &liars, &mut members).await;
    let outcome = match started {
        Ok(()) => serve(&place, &cluster, &client, &mut members).await,
        Err(failure) => Err(failure),
    };
    members.stop().await;
    connection::forget(&place.connection).map_err(|error| Failure::io("cannot clear", &place.connection, &error))?;
    if outcome.is_ok() {
        eprintln!("stopped");
    }
    outcome
}

/// Two clusters must not share a folder. What a killed cluster left there is replaced.
async fn refuse_second(folder: &Path) -> Result<(), Failure> {
    let Ok(existing) = Connection::open(Some(folder)) else { return Ok(()) };
    let client = existing.client.with_patience(Duration::from_secs(2));
    match client.trackers().await {
        Ok(_) => {
            Err(Failure::new(Exit::Cluster, format!("a cluster runs already; its folder is {}", folder.display()))
                .hint("stop it with Ctrl-C where it runs, or give this one a folder of its own with --cluster"))
        }
        Err(_) => Ok(()),
    }
}

/// Makes the configuration and keys, or takes those of an earlier start in the same folder.
fn configure(place: &Place, options: &Up, liars: bool) -> Result<(Cluster, SecretKey), Failure> {
    for folder in ["keys", "logs"] {
        let folder = place.state.join(folder);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| Failure::io("cannot make", &folder, &error))?;
    }
    let address = format!("127.0.0.1:{}", free_port()?);
    let earlier = fs::read_to_string(place.config()).ok();
    let (mut cluster, client) = match earlier {
        Some(text) => {
            let malformed = |what: String| Failure::new(Exit::Path, format!("{}: {what}", place.config().display()));
            let cluster: Cluster = toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
            if cluster.trackers.len() != options.trackers as usize {
                return Err(malformed(format!("the cluster there has {} trackers", cluster.trackers.len()))
                    .hint("give the same --trackers, or another --dir"));
            }
            (cluster, read_key(&place.key("client"))?)
        }
        None => new_cluster(place, options)?,
    };
    cluster.allow_liars = liars;
    for replica in &mut cluster.replicas {
        replica.address.clone_from(&address);
    }
    let text = toml::to_string(&cluster).map_err(|error| Failure::new(Exit::Machine, error.to_string()))?;
    fs::write(place.config(), text).map_err(|error| Failure::io("cannot write", place.config(), &error))?;
    Ok((cluster, client))
}

fn new_cluster(place: &Place, options: &Up) -> Result<(Cluster, SecretKey), Failure> {
    let client = new_key(&place.key("client"))?;
    let replica = ReplicaId::new(0);
    let key = new_key(&place.key(&replica.to_string()))?.public();
    let mut trackers = Vec::new();
    for id in (0..options.trackers).map(TrackerId::new) {
        let key = new_key(&place.key(&id.to_string()))?.public();
        trackers.push(TrackerMember { id, domain: Domain(format!("domain-{}", id.number())), key });
    }
    let cluster = Cluster {
        name: "local".to_owned(),
        f: 0,
        allow_liars: false,
        clients: vec![client.public()],
        replicas: vec![ReplicaMember { id: replica, address: String::new(), key }],
        trackers,
    };
    Ok((cluster, client))
}

fn new_key(path: &Path) -> Result<SecretKey, Failure> {
    let key = SecretKey::generate().map_err(|error| Failure::new(Exit::Machine, format!("no randomness: {error}")))?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, key.to_hex().as_bytes()))
        .map_err(|error| Failure::io("cannot write", path, &error))?;
    Ok(key)
}

fn read_key(path: &Path) -> Result<SecretKey, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::io("cannot read", path, &error))?;
    SecretKey::from_hex(&text).ok_or_else(|| Failure::new(Exit::Path, format!("{} holds no key", path.display())))
}

fn free_port() -> Result<u16, Failure> {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    bound.map(|address| address.port()).map_err(|error| Failure::new(Exit::Machine, format!("no free port: {error}")))
}

async fn start_all(
    place: &Place,
    cluster: &Cluster,
    options: &Up,
    liars: &[(TrackerId, Kind)],
    members: &mut Members,
) -> Result<(), Failure> {
    for replica in &cluster.replicas {
        let arguments = ["jobtracker".to_owned(), "--id".to_owned(), replica.id.number().to_string()];
        members.start(place, &replica.id.to_string(), &arguments)?;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = u16::try_from(cores.div_ceil(cluster.trackers.len().max(1))).unwrap_or(1).max(1);
    let slots = options.slots.unwrap_or(share).to_string();
    for tracker in &cluster.trackers {
        let number = tracker.id.number().to_string();
        let mut arguments: Vec<String> =
            ["tasktracker", "--id", &number, "--map-slots", &slots, "--reduce-slots", &slots].map(str::to_owned).into();
        for (_, kind) in liars.iter().filter(|(liar, _)| *liar == tracker.id) {
            arguments.extend(["--liar".to_owned(), kind.to_string()]);
        }
        members.start(place, &tracker.id.to_string(), &arguments)?;
    }
    Ok(())
}

/// Waits until all members are there, says how to go on, and waits for the end.
async fn serve(place: &Place, cluster: &Cluster, client: &SecretKey, members: &mut Members) -> Result<(), Failure> {
    let saved = connection::save(&place.connection, cluster, client);
    saved.map_err(|error| Failure::io("cannot write", &place.connection, &error))?;
    let connection = Connection::open(Some(&place.connection))?;
    tokio::select! {
        there = all_there(&connection, cluster) => there?,
        stopped = interrupted() => return stopped,
        name = members.ended() => {
            let log = place.log(&name);
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Failure::new(Exit::Machine, format!("{name} ended at once: {}", said.trim())));
        }
    }
    print(&format!(
        "The cluster is up: 1 job tracker, {} in {} domains.\n\
         {}\n\
         In another terminal: quorate fs put FILE /input, then JOB-BINARY submit --input /input --output /output.\n\
         Ctrl-C stops everything.\n",
        count(cluster.trackers.len() as u64, "tracker"),
        cluster.domains(),
        how_to_find(&place.connection),
    ))?;
    loop {
        tokio::select! {
            stopped = interrupted() => return stopped,
            name = members.ended() => eprintln!("{name} has ended; its log is {}", place.log(&name).display()),
        }
    }
}

/// What clients need to know of the cluster's folder.
fn how_to_find(folder: &Path) -> String {
    let shown = folder.display();
    if folder == connection::default_folder() {
        format!("Its folder is {shown}, where clients of this user look first.")
    } else {
        format!("Its folder is {shown}: give clients --cluster {shown}, or set QUORATE_CLUSTER={shown} for them.")
    }
}

async fn all_there(connection: &Connection, cluster: &Cluster) -> Result<(), Failure> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let trackers = connection.client.trackers().await?;
        let live = trackers.iter().filter(|tracker| tracker.live).count();
        if live == cluster.trackers.len() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let message = format!("only {live} of {} trackers came up", cluster.trackers.len());
            return Err(Failure::new(Exit::Machine, message));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The processes of a cluster.
#[derive(Default)]
struct Members {
    pids: Vec<u32>,
    ends: JoinSet<String>,
}

impl Members {
    fn start(&mut self, place: &Place, name: &str, arguments: &[String]) -> Result<(), Failure> {
        let log_path = place.log(name);
        let log = fs::OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|error| Failure::io("cannot write", &log_path, &error))?;
        let own = std::env::current_exe().map_err(|error| Failure::new(Exit::Machine, error.to_string()))?;
        let mut process = Process::new(&own);
        process
            .args(arguments)
            .arg("--config")
            .arg(place.config())
            .arg("--key")
            .arg(place.key(name))
            .arg("--dir")
            .arg(place.state.join(name))
            .arg("--until-stdin-ends")
            .env_remove("QUORATE_CLUSTER")
            // Ctrl-C goes to this process alone, which then stops the members in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let child = process.spawn().map_err(|error| Failure::io("cannot start", &own, &error))?;
        self.pids.extend(child.id());
        let name = name.to_owned();
        self.ends.spawn(async move { end_of(child, name).await });
        Ok(())
    }

    /// The next member that ended by itself.
    async fn ended(&mut self) -> String {
        loop {
            match self.ends.join_next().await {
                Some(Ok(name)) => return name,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    async fn stop(mut self) {
        for pid in self.pids.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid as i32)) {
            // One that has ended already has been reaped by its own task; the number is not reused so soon.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let all = async { while self.ends.join_next().await.is_some() {} };
        if timeout(STOP_PATIENCE, all).await.is_err() {
            eprintln!("some members did not stop in {} s and are killed", STOP_PATIENCE.as_secs());
            self.ends.shutdown().await;
        }
    }
}

/// Holds a member's standard input open, which ends with this process, and waits for its end.
async fn end_of(mut child: Child, name: String) -> String {
    let _held = child.stdin.take();
    let _ = child.wait().await;
    name
}
