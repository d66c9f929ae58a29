//! Three replicas of the job tracker in processes of their own, and clients of it in this one: what the agreement costs with
//! sockets, disks and signatures.
//!
//! Each client has a key, a session and connections of its own, and removes a file that does not exist, again and again: the
//! refusal is agreed on, executed and signed as every other answer is, and no state grows.

use crate::{
    cluster::{Replicas, TrustedLogs, own_cpu_time},
    figures::Figures,
};
use quorate_bench::figures::markdown;
use quorate_jobtracker::client::{Client, ClientError};
use quorate_protocol::{
    command::{Command, Refusal},
    file::Path,
    limits::PATH_BYTES_MAX,
};
use std::{io, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

/// Of the duration of a measurement: what is done before it starts.
const WARM_UP: u32 = 4;

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ProcessesOptions {
    /// Bytes of the path that an operation names: 1024 at most; 0 and 1 are the shortest one, which has 2
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "0,1024")]
    payload: Vec<usize>,
    /// Clients, each of which waits for f + 1 equal replies to one operation before it sends the next
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,20,100,300")]
    clients: Vec<usize>,
    /// Where the replicas' trusted logs are
    #[arg(long, value_name = "LOGS", value_enum, default_value = "software")]
    trusted_log: TrustedLogs,
    /// Seconds of each measurement
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = crate::parse_seconds)]
    seconds: Duration,
}

const AFTER_HELP: &str = "\
All combinations are measured, one after the other, each with a new cluster on loopback ports that is gone afterwards. An
operation is a command that is refused: to remove a file that does not exist, whose path is as long as the payload. The
answer has the path in it, too.

The replicas keep their state in the folder for temporary files, and wait for its disk: TMPDIR=/dev/shm leaves the disk out.
CPU time is that of the three replicas, and that of this process for the clients, in microseconds per operation.";

/// What is measured.
#[derive(Clone, Debug)]
struct Setup {
    payload: usize,
    clients: usize,
    trusted_log: TrustedLogs,
}

/// Why there is nothing to be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("no path is as long as the payload: {0}")]
    Payload(String),
    #[error("a client failed")]
    Client(#[from] ClientError),
    #[error("removing a file that does not exist worked")]
    Removed,
    #[error("no replica tells how it stands")]
    Silent,
    #[error("a client's task failed")]
    Task(#[from] JoinError),
    #[error("interrupted")]
    Interrupted,
}

/// CPU time, so far or meanwhile.
#[derive(Clone, Copy)]
struct CpuTime {
    replicas: Duration,
    clients: Duration,
}

/// From when to when operations count.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

/// Measures all that is asked for, and gives the table. A signal to stop ends it early, and cleanly.
#[tokio::main]
pub(crate) async fn run(options: &ProcessesOptions) -> Result<String, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        table = table(options) => table,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        _ = terminate.recv() => Err(Failure::Interrupted),
    }
}

async fn table(options: &ProcessesOptions) -> Result<String, Failure> {
    let heads =
        ["payload B", "clients", "op/s", "batches/s", "p50 µs", "p99 µs", "CPU µs/op", "of replicas", "of clients"];
    let mut rows = vec![heads.map(str::to_owned)];
    for &payload in &options.payload {
        for &clients in &options.clients {
            let setup = Setup { payload, clients, trusted_log: options.trusted_log };
            let (figures, cpu, batches) = measure(&setup, options.seconds).await?;
            eprintln!("{setup:?}: {:.0} op/s", figures.throughput());
            let batches = batches as f64 / options.seconds.as_secs_f64();
            rows.push(row(&setup, &figures, cpu, batches));
        }
    }
    Ok(markdown(&rows))
}

async fn measure(setup: &Setup, duration: Duration) -> Result<(Figures, CpuTime, u64), Failure> {
    let path = path(setup.payload)?;
    let replicas = Replicas::start(setup.clients, setup.trusted_log)?;
    let clients = replicas.clients();
    meet(&clients, &path).await?;
    let observer = clients.first().cloned().ok_or(Failure::Silent)?;
    let begin = Instant::now() + duration / WARM_UP;
    let window = Window { begin, end: begin + duration };
    let mut tasks: JoinSet<_> = clients.into_iter().map(|client| issue(client, path.clone(), window)).collect();
    sleep_until(window.begin).await;
    let (before, ordered) = (CpuTime::so_far(&replicas)?, ordered(&observer).await?);
    sleep_until(window.end).await;
    let cpu = CpuTime::so_far(&replicas)?.since(before);
    let batches = self::ordered(&observer).await?.saturating_sub(ordered);
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Ok((Figures::new(latencies, duration, cpu.replicas + cpu.clients), cpu, batches))
}

/// How many batches the replica that is ahead has executed.
async fn ordered(client: &Client) -> Result<u64, Failure> {
    let views = client.replicas().await;
    let executed = views.into_iter().filter_map(|(_, view)| view.ok()).map(|view| view.executed.ordered);
    executed.max().ok_or(Failure::Silent)
}

impl CpuTime {
    fn so_far(replicas: &Replicas) -> io::Result<Self> {
        Ok(Self { replicas: replicas.cpu_time()?, clients: own_cpu_time()? })
    }
    fn since(self, before: Self) -> Self {
        Self {
            replicas: self.replicas.saturating_sub(before.replicas),
            clients: self.clients.saturating_sub(before.clients),
        }
    }
}

/// One operation of each client, so that all are connected.
async fn meet(clients: &[Client], path: &Path) -> Result<(), Failure> {
    let mut tasks: JoinSet<_> = clients.iter().cloned().map(|client| operate(client, path.clone())).collect();
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// One operation after the other, until the window's end; gives how long each took that ended in the window.
async fn issue(client: Client, path: Path, window: Window) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    loop {
        let sent = Instant::now();
        operate(client.clone(), path.clone()).await?;
        let now = Instant::now();
        if now >= window.end {
            return Ok(latencies);
        }
        if now >= window.begin {
            latencies.push(now - sent);
        }
    }
}

async fn operate(client: Client, path: Path) -> Result<(), Failure> {
    match client.submit(Command::Remove { path, recursive: false }).await {
        Err(ClientError::Refused(Refusal::NotFound(_))) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Failure::Removed),
    }
}

/// A path of so many bytes, or the shortest below the root.
fn path(bytes: usize) -> Result<Path, Failure> {
    // A longer one is refused all the same, and needs no memory.
    let name = "x".repeat(bytes.saturating_sub(1).clamp(1, PATH_BYTES_MAX));
    Path::parse(&format!("/{name}")).map_err(Failure::Payload)
}

fn row(setup: &Setup, figures: &Figures, cpu: CpuTime, batches: f64) -> [String; 9] {
    let per_operation = |cpu: Duration| format!("{:.0}", cpu.as_secs_f64() * 1e6 / figures.operations() as f64);
    [
        setup.payload.to_string(),
        setup.clients.to_string(),
        format!("{:.0}", figures.throughput()),
        format!("{batches:.0}"),
        figures.micros(0.5),
        figures.micros(0.99),
        per_operation(cpu.replicas + cpu.clients),
        per_operation(cpu.replicas),
        per_operation(cpu.clients),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_as_long_as_the_payload() {
        let length = |bytes| path(bytes).map(|path| path.as_str().len()).ok();
        assert_eq!([0, 2, 3, PATH_BYTES_MAX].map(length), [Some(2), Some(2), Some(3), Some(PATH_BYTES_MAX)]);
        assert_eq!([PATH_BYTES_MAX + 1, usize::MAX].map(length), [None, None]);
    }
}
