//! `quorate cluster up`: a cluster of real processes on this machine. `quorate cluster status`: how one is.

use crate::{
    members::{Members, Place},
    role::Interruption,
    status, verify,
};
use clap::{Args, Subcommand};
use quorate::{
    amounts::count,
    configuration,
    connection::{self, Connection},
    exit::{Code, Failure},
    json::Format,
    liar_kinds,
    local::{jobtrackers_default, replicas_f},
    parse_liars,
    terminal::{note, print, warn},
};
use quorate_jobtracker::{ReplicaLiar, UnknownReplicaLiar};
use quorate_liars::Kind;
use quorate_protocol::{
    cluster::{Agreement, Cluster, ReplicaMember, TrackerMember},
    ids::{Domain, ReplicaId, TrackerId},
    sign::SecretKey,
};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How long members may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Starts a job tracker and task trackers on this machine, and stops them with Ctrl-C.
    ///
    /// Without --dir everything is kept in a temporary folder that goes away with the cluster.
    Up(Up),
    /// Shows the job tracker's replicas and the trackers: who is there, how they stand, and what is held against them.
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Prints the cluster's public keys: all that `quorate verify` needs to know of the cluster.
    ///
    /// Whoever checks a certificate believes these keys, so they must come to him on a way that he trusts.
    Keys,
}

#[derive(Args)]
pub(crate) struct Up {
    /// How the job-tracker replicas agree: minbft, with a trusted log in each, or pbft, where nothing is trusted.
    #[arg(long, value_name = "HOW", default_value_t, env = "QUORATE_UP_AGREEMENT")]
    agreement: Agreement,
    /// Job-tracker replicas, of which f may fail or lie: 2f+1 with minbft, 3f+1 with pbft [default: 3 or 4]
    #[arg(long, value_name = "N", env = "QUORATE_UP_JOBTRACKERS")]
    jobtrackers: Option<u32>,
    /// Task trackers, each in a failure domain of its own.
    #[arg(long, value_name = "N", default_value_t = 5, env = "QUORATE_UP_TRACKERS")]
    trackers: u32,
    /// Lying trackers that jobs shall be able to outvote: there must be 2f+1 trackers.
    #[arg(long, value_name = "F", default_value_t = 1, env = "QUORATE_UP_F")]
    f: u32,
    /// Let a tracker or replica lie, for a test: 2=corrupt-map, jt1=equivocate. `quorate cluster up --help` lists the kinds.
    #[arg(long, value_name = "WHO=KIND", long_help = liar_help())]
    liar: Vec<String>,
    /// Keep the cluster's state in this folder, and go on with what is there.
    #[arg(long, value_name = "FOLDER", env = "QUORATE_UP_DIR")]
    dir: Option<PathBuf>,
    /// Map and reduce attempts at once on each tracker [default: the machine's cores shared among the trackers]
    #[arg(long, value_name = "N", env = "QUORATE_UP_SLOTS")]
    slots: Option<u16>,
}

impl Up {
    /// Three replicas and five trackers, one of which lies.
    pub(crate) fn with_a_liar(liar: &str) -> Self {
        let agreement = Agreement::default();
        Self { agreement, jobtrackers: None, trackers: 5, f: 1, liar: vec![liar.to_owned()], dir: None, slots: None }
    }

    fn jobtrackers(&self) -> u32 {
        self.jobtrackers.unwrap_or(jobtrackers_default(self.agreement))
    }
}

fn liar_help() -> String {
    let line = |liar: ReplicaLiar| format!("  {:<20} {}", liar.name(), liar.summary());
    format!(
        "Let a tracker lie, for a test, as in --liar 2=corrupt-map, or a job-tracker replica, as in --liar jt1=equivocate. \
         May be repeated. The kinds of lying trackers:\n{}\nThe kinds of lying replicas:\n{}",
        liar_kinds(),
        ReplicaLiar::ALL.map(line).join("\n")
    )
}

pub(crate) async fn run(command: Command, folder: Option<&Path>) -> Result<(), Failure> {
    match command {
        Command::Up(options) => up(options, folder).await,
        Command::Status { format } => crate::client(status::show(folder, format)).await,
        Command::Keys => print(&verify::keys(&Connection::open(folder)?.cluster)?),
    }
}

/// Who lies in this cluster, and how.
#[derive(Default)]
struct Liars {
    trackers: Vec<(TrackerId, Kind)>,
    replicas: Vec<(ReplicaId, ReplicaLiar)>,
}

impl Liars {
    fn parse(options: &Up) -> Result<Self, Failure> {
        let (replicas, trackers): (Vec<_>, Vec<_>) = options.liar.iter().partition(|text| text.starts_with("jt"));
        let trackers: Vec<String> = trackers.into_iter().cloned().collect();
        let mut liars = Self { trackers: parse_liars(&trackers, options.trackers)?, replicas: Vec::new() };
        for text in replicas {
            let (replica, kind) = parse_replica_liar(text, options.jobtrackers())?;
            if liars.replicas.iter().any(|(other, _)| *other == replica) {
                let message = format!("--liar names {replica} twice, and a replica tells one lie");
                return Err(Failure::new(Code::NoSuchLiar, message));
            }
            liars.replicas.push((replica, kind));
        }
        Ok(liars)
    }
    fn is_empty(&self) -> bool {
        self.trackers.is_empty() && self.replicas.is_empty()
    }

    /// Says it where more lie than the cluster can bear: what comes of that is worth seeing, and nothing to rely on.
    fn warn(&self, options: &Up, replicas_f: u32) {
        let told = |what: &str, liars: usize, bound: u32| {
            if liars as u64 > u64::from(bound) {
                warn(&format!("{liars} {what} lie, and {bound} may: answers can be wrong, or never come"));
            }
        };
        told("replicas", self.replicas.len(), replicas_f);
        told("trackers", self.trackers.len(), options.f);
    }
}

/// Reads `jt1=equivocate`.
fn parse_replica_liar(text: &str, replicas: u32) -> Result<(ReplicaId, ReplicaLiar), Failure> {
    let (who, kind) = text.split_once('=').unwrap_or((text, ""));
    let replica = who.strip_prefix("jt").and_then(|number| number.parse().ok()).map(ReplicaId::new);
    let replica = replica.filter(|id| id.number() < replicas).ok_or_else(|| {
        Failure::new(Code::NoSuchLiar, format!("--liar {text} names no replica of this cluster"))
            .hint(format!("the replicas are jt0 to jt{}", replicas.saturating_sub(1)))
    })?;
    let kind = kind.parse().map_err(|_: UnknownReplicaLiar| {
        Failure::new(Code::NoSuchLiar, format!("{kind:?} is no kind of lying replica"))
            .hint(format!("there are {}", ReplicaLiar::ALL.map(ReplicaLiar::name).join(", ")))
    })?;
    Ok((replica, kind))
}

async fn up(options: Up, folder: Option<&Path>) -> Result<(), Failure> {
    if u64::from(options.trackers) < 2 * u64::from(options.f) + 1 {
        let needed = 2 * u64::from(options.f) + 1;
        let (f, trackers) = (options.f, options.trackers);
        let message = format!("f = {f} needs {needed} trackers in distinct domains, and there are {trackers}");
        return Err(Failure::new(Code::TooFewTrackers, message));
    }
    let replicas_f = replicas_f(options.agreement, options.jobtrackers())?;
    let liars = Liars::parse(&options)?;
    liars.warn(&options, replicas_f);
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
        note("stopped");
    }
    outcome
}

/// Starts a cluster at a place of its own, and waits until all of it is there.
pub(crate) async fn start(place: &Place, options: &Up, members: &mut Members) -> Result<Connection, Failure> {
    let liars = Liars::parse(options)?;
    let (cluster, client) = configure(place, options, !liars.is_empty())?;
    start_all(place, &cluster, options, &liars, members).await?;
    let connection = Connection::new(Arc::new(cluster), client);
    all_there(&connection, &connection.cluster).await?;
    Ok(connection)
}

/// Two clusters must not share a folder. What a killed cluster left there is replaced.
async fn refuse_second(folder: &Path) -> Result<(), Failure> {
    let Ok(existing) = Connection::open(Some(folder)) else { return Ok(()) };
    let client = existing.client.with_patience(Duration::from_secs(2));
    match client.trackers().await {
        Ok(_) => Err(Failure::new(
            Code::AlreadyRunning,
            format!("a cluster runs already; its folder is {}", folder.display()),
        )),
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
    let earlier = fs::read_to_string(place.config()).ok();
    let (mut cluster, client) = match earlier {
        Some(text) => {
            let cluster = configuration::parse(&place.config(), &text, Code::OtherCluster).map_err(|failure| {
                failure.hint("an earlier `cluster up` made it; with another --dir, a new cluster begins")
            })?;
            if cluster.trackers.len() != options.trackers as usize
                || cluster.replicas.len() != options.jobtrackers() as usize
                || cluster.agreement != options.agreement
            {
                let (trackers, replicas) = (cluster.trackers.len(), cluster.replicas.len());
                let there = format!("{trackers} trackers and {replicas} replicas that agree by {}", cluster.agreement);
                let message = format!("{}: the cluster there has {there}", place.config().display());
                return Err(Failure::new(Code::OtherCluster, message)
                    .hint("give the same --trackers, --jobtrackers and --agreement, or another --dir"));
            }
            (cluster, read_key(&place.key("client"))?)
        }
        None => new_cluster(place, options)?,
    };
    cluster.allow_liars = liars;
    // Two for each replica: its service and its page.
    let ports = free_ports(options.jobtrackers().saturating_mul(2))?;
    for (replica, ports) in cluster.replicas.iter_mut().zip(ports.chunks_exact(2)) {
        replica.address = format!("127.0.0.1:{}", ports[0]);
        replica.page = Some(format!("127.0.0.1:{}", ports[1]));
    }
    let text = toml::to_string(&cluster).map_err(|error| Failure::of(Code::System, &error))?;
    fs::write(place.config(), text).map_err(|error| Failure::io("cannot write", place.config(), &error))?;
    Ok((cluster, client))
}

fn new_cluster(place: &Place, options: &Up) -> Result<(Cluster, SecretKey), Failure> {
    let client = new_key(&place.key("client"))?;
    let mut replicas = Vec::new();
    for id in (0..options.jobtrackers()).map(ReplicaId::new) {
        let key = new_key(&place.key(&id.to_string()))?.public();
        replicas.push(ReplicaMember { id, address: String::new(), key, log: None, tpm: None, page: None });
    }
    let mut trackers = Vec::new();
    for id in (0..options.trackers).map(TrackerId::new) {
        let key = new_key(&place.key(&id.to_string()))?.public();
        trackers.push(TrackerMember { id, domain: Domain(format!("domain-{}", id.number())), key });
    }
    let cluster = Cluster {
        name: "local".to_owned(),
        f: replicas_f(options.agreement, options.jobtrackers())?,
        agreement: options.agreement,
        allow_liars: false,
        clients: vec![client.public()],
        authority: None,
        replicas,
        trackers,
    };
    Ok((cluster, client))
}

fn new_key(path: &Path) -> Result<SecretKey, Failure> {
    let key = SecretKey::generate().map_err(|error| Failure::new(Code::System, "no randomness").caused_by(&error))?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, key.to_hex().as_bytes()))
        .map_err(|error| Failure::io("cannot write", path, &error))?;
    Ok(key)
}

fn read_key(path: &Path) -> Result<SecretKey, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::io("cannot read", path, &error))?;
    SecretKey::from_hex(&text).ok_or_else(|| Failure::new(Code::BadKeyFile, format!("{} holds no key", path.display())))
}

/// Ports that are free now. They are looked for together, so that they differ.
fn free_ports(ports: u32) -> Result<Vec<u16>, Failure> {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0");
    let sockets: Result<Vec<_>, _> = (0..ports).map(bind).collect();
    let ports =
        sockets.and_then(|sockets| sockets.iter().map(|s| s.local_addr().map(|address| address.port())).collect());
    ports.map_err(|error| Failure::new(Code::System, "no free port").caused_by(&error))
}

async fn start_all(
    place: &Place,
    cluster: &Cluster,
    options: &Up,
    liars: &Liars,
    members: &mut Members,
) -> Result<(), Failure> {
    for replica in &cluster.replicas {
        let mut arguments = vec!["jobtracker".to_owned(), "--id".to_owned(), replica.id.number().to_string()];
        for (_, liar) in liars.replicas.iter().filter(|(liar, _)| *liar == replica.id) {
            arguments.extend(["--liar".to_owned(), liar.to_string()]);
        }
        members.start(place, &replica.id.to_string(), &arguments)?;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = u16::try_from(cores.div_ceil(cluster.trackers.len().max(1))).unwrap_or(1).max(1);
    let slots = options.slots.unwrap_or(share).to_string();
    for tracker in &cluster.trackers {
        let number = tracker.id.number().to_string();
        let mut arguments: Vec<String> =
            ["tasktracker", "--id", &number, "--map-slots", &slots, "--reduce-slots", &slots].map(str::to_owned).into();
        for (_, kind) in liars.trackers.iter().filter(|(liar, _)| *liar == tracker.id) {
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
    let mut interruption = Interruption::listen()?;
    tokio::select! {
        there = all_there(&connection, cluster) => there?,
        () = interruption.came() => return Ok(()),
        name = members.ended() => {
            let log = place.log(&name);
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Failure::new(Code::MemberEnded, format!("{name} ended at once")).cause(said.trim()));
        }
    }
    print(&format!(
        "The cluster is up: {} of the job tracker, {} may fail; {} in {} domains.\n\
         {}\n\
         {}\
         In another terminal: quorate fs put FILE /input, then JOB-BINARY submit --input /input --output /output.\n\
         Ctrl-C stops everything.\n",
        count(cluster.replicas.len() as u64, "replica"),
        cluster.f,
        count(cluster.trackers.len() as u64, "tracker"),
        cluster.domains(),
        how_to_find(&place.connection),
        pages(cluster),
    ))?;
    loop {
        tokio::select! {
            () = interruption.came() => return Ok(()),
            name = members.ended() => warn(&format!("{name} has ended; its log is {}", place.log(&name).display())),
        }
    }
}

/// Where each replica shows its page: a line for each.
pub(crate) fn pages(cluster: &Cluster) -> String {
    let page = |replica: &ReplicaMember| Some(format!("page: http://{}/ ({})\n", replica.page.as_ref()?, replica.id));
    cluster.replicas.iter().filter_map(page).collect()
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
            return Err(Failure::new(Code::MemberEnded, message));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
