//! The benchmarks of whole jobs: what `quorate bench` runs.
//!
//! ```text
//! cargo run --release -p quorate-bench -- overhead --size 256MiB
//! ```

mod child;
mod faults;
mod jobs;
mod memory;
mod overhead;
mod small;
mod spare;

use clap::{Parser, Subcommand};
use quorate::exit::{Code, Failure, report};
use std::process::ExitCode;

/// Measures Quorate on this machine.
///
/// Let the machine be quiet, and quote ratios from one run: absolute times drift. Temporary files go to $TMPDIR.
#[derive(Parser)]
#[command(name = "quorate bench", bin_name = "quorate bench", version = quorate::VERSION, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What tolerating liars costs: word count and terasort with f = 0, 1 and 2, with and without lies
    Overhead(overhead::Options),
    /// Whether memory grows with the slots, or with the input
    Memory(memory::Options),
    #[command(hide = true)]
    Child(child::Options),
}

fn main() -> ExitCode {
    report(run(Cli::parse().command))
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Overhead(options) => overhead::run(&options),
        Command::Memory(options) => memory::run(&options),
        Command::Child(options) => child::run(&options),
    }
}

/// This machine cannot do something.
fn machine(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::System, format!("cannot {what}")).cause(error.to_string())
}
