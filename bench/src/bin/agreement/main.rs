//! How fast the agreement is: three cores in one thread, with messages passed as values.
//!
//! ```text
//! cargo run --release -p quorate-bench --bin agreement
//! cargo run --release -p quorate-bench --bin agreement -- core --log none --payload 0 --batch 400 --clients 2000
//! ```
//!
//! Nothing but the cores is measured: no sockets, no disk, a state machine that does nothing, requests that nobody signed. What
//! a replica does to a message before its core gets it (digests of batches, signatures of claims) is done and counted.

mod clients;
mod world;

use clap::{Parser, Subcommand, ValueEnum};
use quorate_bench::figures::markdown;
use std::{process::ExitCode, time::Duration};
use world::{Failure, Figures, Setup, World};

/// Measures the agreement of replicas: operations per second, bytes on the wire, and latency.
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
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
}

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
    let options = match Options::parse().part {
        Some(Part::Core(options)) => options,
        None => CoreOptions::default(),
    };
    match core(&options) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("agreement: {failure}");
            ExitCode::FAILURE
        }
    }
}

impl Default for CoreOptions {
    fn default() -> Self {
        match Options::parse_from(["agreement", "core"]).part {
            Some(Part::Core(options)) => options,
            None => unreachable!("a command was given"),
        }
    }
}

fn core(options: &CoreOptions) -> Result<String, Failure> {
    let heads = ["log", "payload B", "batch", "clients", "op/s", "op/CPU s", "wire B/op", "p50 µs", "p99 µs"];
    let mut rows = vec![heads.map(str::to_owned)];
    let duration = Duration::try_from_secs_f64(options.seconds).map_err(|_| Failure::Seconds(options.seconds))?;
    for setup in setups(options) {
        let figures = World::new(&setup)?.measure(duration)?;
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
    let micros = |share: f64| format!("{:.0}", figures.latency(share).as_secs_f64() * 1e6);
    [
        format!("{:?}", setup.log).to_lowercase(),
        setup.payload.to_string(),
        setup.batch.to_string(),
        setup.clients.to_string(),
        format!("{:.0}", figures.throughput()),
        format!("{:.0}", figures.cpu_throughput()),
        format!("{wire:.0}"),
        micros(0.5),
        micros(0.99),
    ]
}
