//! The roles that are processes of their own: `quorate jobtracker` and `quorate tasktracker`.

use clap::{Args, Parser};
use quorate::{
    configuration,
    exit::{Code, Failure},
    terminal::note,
};
use quorate_jobtracker::{
    DeviceError, Founding, LogError, LogPlace, OrderError, Replica, ReplicaLiar, StartError, own_user,
};
use quorate_liars::Kind;
use quorate_protocol::{
    cluster::Cluster,
    ids::{ReplicaId, TrackerId},
    sign::SecretKey,
};
use quorate_tasktracker::{Comparer, Launch, Neighbours, Programs, Tracker, launch};
use std::{
    fs,
    io::{ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

/// What every role needs.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// The cluster's configuration, the same file for every process of it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The file with this member's secret key, 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The folder for this member's state. Each member needs its own.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// Stop when standard input ends, so that nothing outlives whoever started this.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// The first argument of a process that is a [`TaskLauncher`]. It is no subcommand: people have no use for it.
pub(crate) const LAUNCHER: &str = "task-launcher";

/// Shuts itself in and becomes a job's program. Trackers start it; nobody else needs it.
#[derive(Parser, Debug)]
#[command(name = LAUNCHER)]
struct TaskLauncher {
    #[arg(long)]
    memory: u64,
    #[arg(long)]
    writable: PathBuf,
    #[arg(long)]
    readable: Vec<PathBuf>,
    program: PathBuf,
}

/// The command line that [`TaskLauncher`] reads. The running program starts itself, whatever its file is called by now.
fn launcher(launch: &Launch) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(LAUNCHER).arg("--memory").arg(launch.memory.to_string()).arg("--writable").arg(&launch.writable);
    for readable in &launch.readable {
        command.arg("--readable").arg(readable);
    }
    command.arg("--").arg(&launch.program);
    command
}

pub(crate) fn run_launcher() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let TaskLauncher { memory, writable, readable, program } = match TaskLauncher::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => return quorate::exit::report_usage(&error),
    };
    let shown = program.display().to_string();
    let error = Launch { program, memory, writable, readable }.run();
    eprintln!("cannot start {shown}: {error}");
    ExitCode::from(launch::NOT_STARTED)
}

/// Runs one replica of the job tracker until it is interrupted.
#[derive(Args, Debug)]
pub(crate) struct JobTracker {
    #[command(flatten)]
    common: Common,
    /// Which replica of the configuration this is.
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    id: ReplicaId,
    /// How long a silent tracker counts as there, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 3000, env = "QUORATE_JOBTRACKER_LEASE")]
    lease: u64,
    /// The socket of the `quorate trusted-log` process that holds this replica's trusted log [default: the replica itself
    /// holds it]
    #[arg(long, value_name = "SOCKET")]
    trusted_log: Option<PathBuf>,
    #[cfg(feature = "tpm")]
    #[command(flatten)]
    tpm: crate::tpm::ReplicaOptions,
    /// Where to show the page for people, with the API under it [default: the replica's `page` in the configuration, or
    /// nowhere]
    #[arg(long, value_name = "HOST:PORT", env = "QUORATE_JOBTRACKER_UI")]
    ui: Option<String>,
    /// Lie in this way, for a test. The configuration must allow liars.
    #[arg(long, value_name = "KIND")]
    liar: Option<ReplicaLiar>,
}

/// Runs one task tracker with its chunk server until it is interrupted.
#[derive(Args, Debug)]
pub(crate) struct TaskTracker {
    #[command(flatten)]
    common: Common,
    /// Which tracker of the configuration this is.
    #[arg(long, value_name = "NUMBER")]
    id: TrackerId,
    /// Where to serve; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", env = "QUORATE_TASKTRACKER_LISTEN")]
    listen: String,
    /// Map attempts at once.
    #[arg(long, value_name = "N", default_value_t = 2, env = "QUORATE_TASKTRACKER_MAP_SLOTS")]
    map_slots: u16,
    /// Reduce attempts at once.
    #[arg(long, value_name = "N", default_value_t = 2, env = "QUORATE_TASKTRACKER_REDUCE_SLOTS")]
    reduce_slots: u16,
    /// Lie in this way, for a test. The configuration must allow liars.
    #[arg(long, value_name = "KIND")]
    liar: Option<Kind>,
}

impl Common {
    pub(crate) fn load(&self) -> Result<(Arc<Cluster>, SecretKey), Failure> {
        let cluster = configuration::read(&self.config, Code::ClusterConfiguration)?;
        let key = fs::read_to_string(&self.key).map_err(|error| Failure::io("cannot read", &self.key, &error))?;
        let key = SecretKey::from_hex(&key).ok_or_else(|| {
            Failure::new(Code::BadKeyFile, format!("{} holds no key of 64 hexadecimal digits", self.key.display()))
        })?;
        Ok((Arc::new(cluster), key))
    }

    pub(crate) async fn until_stopped(&self) -> Result<(), Failure> {
        let mut interruption = Interruption::listen()?;
        tokio::select! {
            () = interruption.came() => {}
            () = stdin_ends(), if self.until_stdin_ends => {}
        }
        Ok(())
    }
}

/// Ctrl-C and termination signals, from when this was made. One that comes while nobody waits for it is not lost.
pub(crate) struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let machine = |error: std::io::Error| Failure::new(Code::System, "cannot listen for signals").caused_by(&error);
        let interrupt = signal(SignalKind::interrupt()).map_err(machine)?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate()).map_err(machine)? })
    }

    /// Waits for one.
    pub(crate) async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for the end of standard input, on a thread of its own: the runtime would wait for a read that it had begun.
async fn stdin_ends() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// Messages go to standard error; `RUST_LOG` says how many (`info`, `debug`, `quorate_tasktracker=debug`).
pub(crate) fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let ansi = std::io::stderr().is_terminal();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).try_init();
}

async fn listen(address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::new(Code::CannotListen, format!("cannot listen on {address}")).caused_by(&error))
}

impl JobTracker {
    fn log_place(&self) -> Result<LogPlace, Failure> {
        if let Some(socket) = &self.trusted_log {
            return Ok(LogPlace::Helper(socket.clone()));
        }
        #[cfg(feature = "tpm")]
        if let Some(place) = self.tpm.log_place()? {
            return Ok(place);
        }
        Ok(LogPlace::Here)
    }

    #[cfg(feature = "tpm")]
    fn founding(&self, cluster: &Cluster) -> Result<Option<Founding>, Failure> {
        self.tpm.founding(cluster)
    }

    /// A cluster with TPMs is refused by this build, whatever founding it has.
    #[cfg(not(feature = "tpm"))]
    fn founding(&self, _: &Cluster) -> Result<Option<Founding>, Failure> {
        Ok(None)
    }
}

pub(crate) async fn run_jobtracker(options: JobTracker) -> Result<(), Failure> {
    start_log();
    let (cluster, key) = options.common.load()?;
    let member = cluster.replica(options.id).ok_or_else(|| not_a_member(options.id, &options.common))?;
    let listener = listen(&member.address).await?;
    let page = match options.ui.as_ref().or(member.page.as_ref()) {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let compare = Arc::new(Comparer::new(Arc::clone(&cluster), key.clone()));
    let mut replica = Replica::start(
        quorate_jobtracker::Options {
            cluster: Arc::clone(&cluster),
            replica: options.id,
            key,
            directory: options.common.dir.clone(),
            trusted_log: options.log_place()?,
            founding: options.founding(&cluster)?,
            lease: Duration::from_millis(options.lease),
            record: true,
            liar: options.liar,
        },
        listener,
    )
    .await
    .map_err(|error| replica_failure(error, options.id))?;
    note(&format!("{} serves on {}", options.id, replica.address()));
    if let Some(listener) = page {
        replica.show_page(listener, Some(compare)).map_err(|error| Failure::of(Code::CannotListen, &error))?;
    }
    if let Some(address) = replica.page() {
        note(&format!("page: http://{address}/ ({})", options.id));
    }
    let ended = tokio::select! {
        stopped = options.common.until_stopped() => stopped.map(|()| Ok(()))?,
        ended = replica.ended() => ended,
    };
    replica.stop().await;
    ended.map_err(|error| ended_failure(error, options.trusted_log.as_deref()))
}

fn not_a_member(id: impl std::fmt::Display, common: &Common) -> Failure {
    Failure::new(Code::NotAMember, format!("{id} is not in {}", common.config.display()))
}

/// Why a replica does not start, with what can be done about it.
fn replica_failure(error: StartError, id: ReplicaId) -> Failure {
    let (code, hint) = match &error {
        StartError::Cluster(_) => (Code::ClusterConfiguration, None),
        StartError::NotAMember(_) | StartError::WrongKey(_) => (Code::NotAMember, None),
        StartError::NoLiars => (Code::LiarsNotAllowed, None),
        StartError::TpmNotBuilt => (Code::NotBuilt, None),
        StartError::NotFounded => (
            Code::TrustedLogChoice,
            Some(
                "run `quorate tpm found` on each host, gather the files in one, and give it with --founding".to_owned(),
            ),
        ),
        StartError::Founding => (Code::TpmDocument, None),
        StartError::TrustedLog(error) => log_trouble(error, id),
        StartError::System(_) => (Code::System, None),
        StartError::Store(_) | StartError::Begin(_) | StartError::NotExecutable => (Code::ReplicaTrouble, None),
    };
    hinted(Failure::of(code, &error), hint)
}

/// What a trusted log that cannot be opened is, and what can be done about it.
fn log_trouble(error: &LogError, id: ReplicaId) -> (Code, Option<String>) {
    let choice = |hint: &str| (Code::TrustedLogChoice, Some(hint.to_owned()));
    match error {
        LogError::Helper { source, .. } => (Code::TrustedLogLost, Some(helper_hint(source, id))),
        LogError::Foreign { .. } => {
            choice("does the socket belong to another replica's trusted log, or its process to another cluster?")
        }
        LogError::NotThere => choice("start it without --trusted-log or --tpm"),
        LogError::Kind { tpm: true, .. } => choice("say where it is: --tpm device:/dev/tpmrm0 --founding FILE"),
        LogError::Kind { tpm: false, .. } => choice("leave --tpm away"),
        LogError::NotApproved { .. } => choice("the owner of the authority's key signs it: `quorate tpm approve`"),
        LogError::Tpm(cause) => (Code::TpmTrouble, tpm_hint(&**cause)),
        LogError::Open(_) | LogError::Device(_) | LogError::Memory { .. } => (Code::ReplicaTrouble, None),
        LogError::Thread(_) => (Code::System, None),
    }
}

pub(crate) fn hinted(failure: Failure, hint: Option<String>) -> Failure {
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Why a tracker does not start.
fn tracker_failure(error: quorate_tasktracker::StartError) -> Failure {
    use quorate_tasktracker::StartError as Error;
    let code = match &error {
        Error::Unknown(_) | Error::Key(_) => Code::NotAMember,
        Error::LiarsNotAllowed(..) => Code::LiarsNotAllowed,
        Error::Directory(..) | Error::Store(_) => Code::TrackerTrouble,
        Error::Listen(_) => Code::CannotListen,
        Error::Randomness(_) => Code::System,
    };
    Failure::of(code, &error)
}

#[cfg(feature = "tpm")]
fn tpm_hint(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<String> {
    error.downcast_ref().and_then(crate::tpm::hint)
}

#[cfg(not(feature = "tpm"))]
fn tpm_hint(_: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<String> {
    None
}

fn helper_hint(error: &DeviceError, id: ReplicaId) -> String {
    let user = own_user();
    match error {
        DeviceError::Unreachable(cause)
            if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            format!("start `quorate trusted-log --id {} --socket …` first", id.number())
        }
        DeviceError::Unreachable(_) => {
            format!("does it serve this user? start it with --allow-user {user}")
        }
        DeviceError::Malfunction(_)
        | DeviceError::Storage(_)
        | DeviceError::Lost { .. }
        | DeviceError::NotAbove { .. }
        | DeviceError::TooMany { .. } => "what the process behind the socket printed tells more".to_owned(),
    }
}

/// What ended a replica, with what can be done about it.
fn ended_failure(error: OrderError, helper: Option<&Path>) -> Failure {
    let lost = matches!(error, OrderError::TrustedLog(LogError::Device(DeviceError::Unreachable(_))));
    match helper {
        Some(socket) if lost => {
            let socket = socket.display();
            Failure::of(Code::TrustedLogLost, &error)
                .hint(format!("start `quorate trusted-log --socket {socket} …` again, and then this replica"))
        }
        Some(_) | None => Failure::of(Code::ReplicaTrouble, &error),
    }
}

pub(crate) async fn run_tasktracker(options: TaskTracker) -> Result<(), Failure> {
    start_log();
    let (cluster, key) = options.common.load()?;
    let listener = listen(&options.listen).await?;
    let tracker = Tracker::start(
        quorate_tasktracker::Options {
            cluster,
            id: options.id,
            key,
            directory: options.common.dir.clone(),
            map_slots: options.map_slots,
            reduce_slots: options.reduce_slots,
            liar: options.liar,
            programs: Programs::Children(launcher),
            neighbours: Neighbours::default(),
        },
        listener,
    )
    .await
    .map_err(tracker_failure)?;
    note(&format!("{} serves on {}", options.id, tracker.address()));
    let crashed = tokio::select! {
        stopped = options.common.until_stopped() => stopped.map(|()| false)?,
        () = tracker.gone() => true,
    };
    tracker.stop().await;
    if crashed { Err(Failure::new(Code::TrackerTrouble, format!("{} went down", options.id))) } else { Ok(()) }
}
