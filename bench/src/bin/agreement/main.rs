//! How fast the agreement is: by itself, and as users meet it.
//!
//! ```text
//! cargo run --release -p quorate-bench --bin agreement
//! cargo run --release -p quorate-bench --bin agreement -- core --log none --payload 0 --batch 400 --clients 2000
//! cargo run --release -p quorate-bench --bin agreement -- processes --payload 0 --clients 100
//! ```
//!
//! `core` has three cores in one thread, with messages passed as values. Nothing but the cores is measured: no sockets, no disk, a state machine that does nothing, requests that nobody signed. What
//! a replica does to a message before its core gets it (digests of batches, signatures of claims) is done and counted.
//!
//! `processes` has three replicas of the job tracker in processes of their own, with all that belongs to them.

mod clients;
mod cluster;
mod figures;
mod processes;
mod replica;
#[cfg(feature = "tpm")]
mod tpms;
mod world;

use clap::{Parser, Subcommand, ValueEnum};
use figures::Figures;
use processes::ProcessesOptions;
use quorate_bench::figures::markdown;
use replica::ReplicaOptions;
use std::{error::Error, process::ExitCode, time::Duration};
use world::{Failure, Setup, World};

/// Measures the agreement of replicas: operations per second, latency, and what an operation costs.
#[derive(Parser)]
#[command(name = "agreement", version = quorate::VERSION)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Three cores in one thread of one process (what is run when nothing is asked for)
    Core(CoreOptions),
    /// Three replicas of the job tracker in processes of their own, and clients that speak to them
    Processes(ProcessesOptions),
    /// One of these replicas
    #[command(hide = true)]
    Replica(ReplicaOptions),
}

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
struct CoreOptions {
    /// Trusted logs
    #[arg(long, value_name = "LOGS", value_enum, value_delimiter = ',', default_value = "none,ed25519")]
    log: Vec<Log>,
    /// Bytes of an operation, beside a header of 16 bytes
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "0,1024")]
    payload: Vec<usize>,
    /// Operations of a batch, at most
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,100,400")]
    batch: Vec<usize>,
    /// Clients, each of which waits for f + 1 replies to one operation before it sends the next
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,100,300,4000")]
    clients: Vec<usize>,
    /// Seconds of each measurement
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    seconds: Duration,
}

/// A longer measurement is a mistake.
const SECONDS_MAX: Duration = Duration::from_secs(3600);

const AFTER_HELP: &str = "\
All combinations are measured, one after the other. Bytes on the wire are those between replicas, taken in a run of their own;
clients send to the primary alone. Latency is from sending an operation to the reply of the second replica, in a process
where everything waits for one thread.";

/// Which trusted log the replicas have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Log {
    /// Certificates that cost one hash
    None,
    /// The software log, in memory
    Ed25519,
}

fn main() -> ExitCode {
    match run(Options::parse().part) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("agreement: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// Gives what is to be printed.
fn run(part: Option<Part>) -> Result<String, Box<dyn Error>> {
    match part {
        Some(Part::Core(options)) => Ok(core(&options)?),
        None => Ok(core(&CoreOptions::default())?),
        Some(Part::Processes(options)) => Ok(processes::run(&options)?),
        Some(Part::Replica(options)) => replica::run(options).map(|()| String::new()).map_err(Into::into),
    }
}

/// A failure with its causes.
fn chain(failure: &dyn Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if !duration.is_zero() && duration <= SECONDS_MAX => Ok(duration),
        _ => Err(format!("a number above 0 and up to {}", SECONDS_MAX.as_secs())),
    }
}

impl Default for CoreOptions {
    fn default() -> Self {
        match Options::parse_from(["agreement", "core"]).part {
            Some(Part::Core(options)) => options,
            Some(Part::Processes(_) | Part::Replica(_)) | None => unreachable!("another command was given"),
        }
    }
}

fn core(options: &CoreOptions) -> Result<String, Failure> {
    let heads = ["log", "payload B", "batch", "clients", "op/s", "op/CPU s", "wire B/op", "p50 µs", "p99 µs"];
    let mut rows = vec![heads.map(str::to_owned)];
    for setup in setups(options) {
        let figures = World::new(&setup)?.measure(options.seconds)?;
        let wire = World::new(&setup)?.count()?;
        eprintln!("{setup:?}: {:.0} op/s", figures.throughput());
        rows.push(row(&setup, &figures, wire));
    }
    Ok(markdown(&rows))
}

fn setups(options: &CoreOptions) -> Vec<Setup> {
    let mut setups = Vec::new();
    for &log in &options.log {
        for &payload in &options.payload {
            for &batch in &options.batch {
                setups.extend(options.clients.iter().map(|&clients| Setup { log, payload, batch, clients }));
            }
        }
    }
    setups
}

fn row(setup: &Setup, figures: &Figures, wire: f64) -> [String; 9] {
    [
        format!("{:?}", setup.log).to_lowercase(),
        setup.payload.to_string(),
        setup.batch.to_string(),
        setup.clients.to_string(),
        format!("{:.0}", figures.throughput()),
        format!("{:.0}", figures.cpu_throughput()),
        format!("{wire:.0}"),
        figures.micros(0.5),
        figures.micros(0.99),
    ]
}
