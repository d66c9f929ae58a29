//! Throughput per core of each stage of a job, one by one: reading, mapping, sorting, spilling, merging, digests, transport
//! and chunks, on words of a Zipf text and on records of 100 bytes.
//!
//! ```text
//! cargo run --release -p quorate-bench --bin stages
//! cargo run --release -p quorate-bench --bin stages -- sort merge/records --size 256MiB
//! ```
//!
//! Each stage runs the code that jobs run, through its public interface, again and again until it has had its seconds;
//! medians are told. What a run works on is made before, and not measured. Rayon has one thread, the measured one, so
//! that a figure is one core's; the servers of the rows with transport are in this process, and their CPU time is in the
//! figure.
//!
//! `bench/instructions` counts the instructions of the stages that do nothing but compute, with `--runs 1` and `--runs 0`:
//! the difference is the stage itself.

use clap::Parser;
use quorate::{
    Result,
    amounts::{parse_bytes, show_bytes},
    exit::{Code, Failure, report},
};
use quorate_bench::kept;
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode, sync::Arc};

mod chunks;
mod combine;
mod decode;
mod digest;
mod emit;
mod material;
mod merge;
mod meter;
mod outputs;
mod remote;
mod segment;
mod sort;
mod spill;
mod stage;
mod tasks;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../../../../examples/src/bin/terasort/main.rs"]
mod terasort;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../../../../examples/src/bin/wordcount.rs"]
mod wordcount;

use material::{Kind, Material};
use meter::{Passed, measure, run_untimed, table};
use stage::{Row, Stage, chosen};

/// Bytes of input: room for at least one record, and few enough for positions of 32 bits.
const SIZES: std::ops::RangeInclusive<u64> = 10_000..=1 << 30;
const COMMAND: &str = "cargo run --release -p quorate-bench --bin stages --";

/// Tells the throughput per core of each stage of a job.
#[derive(Parser)]
#[command(name = "stages", version = quorate::VERSION, after_help = AFTER_HELP)]
struct Options {
    /// Stages to run, such as sort or sort/words; all unless some are named
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Input of each stage, such as 64MiB
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_bytes)]
    size: u64,
    /// CPU seconds that each stage runs for at least
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Makes each stage ready and runs it so often, and tells what went through it, not how long it took
    #[arg(long, value_name = "N", conflicts_with_all = ["seconds", "keep"])]
    runs: Option<u32>,
    /// Writes all figures to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keeps the table, with machine, date and command, in bench/results
    #[arg(long)]
    keep: bool,
}

const AFTER_HELP: &str = "\
MB are millions of the bytes that go into a stage: the input's on the map side, the segments' in the shuffle and after it.
Temporary files ($TMPDIR) take about 3 times the size. Let the machine be quiet, and compare figures of one run.";

fn main() -> ExitCode {
    let options = Options::parse();
    report(run(&options))
}

fn run(options: &Options) -> Result<(), Failure> {
    let rows = chosen(&options.stages).map_err(Failure::usage)?;
    if !SIZES.contains(&options.size) {
        return Err(Failure::usage("--size must lie between 10kB and 1GiB"));
    }
    let machine = |error: quorate::Error| Failure::new(Code::ClientCode, error.chain());
    let _pool = this_thread_alone().map_err(machine)?;
    if let Some(runs) = options.runs {
        let passed = each_row(options, &rows, |row, stage| run_untimed(row, stage, runs)).map_err(machine)?;
        let passed: Vec<Passed> = passed.into_iter().flatten().collect();
        passed.iter().for_each(|one| println!("{}/{}: {} bytes", one.stage, one.input, one.bytes));
        return write_json(options, &passed);
    }
    let mut measured = each_row(options, &rows, |row, stage| {
        let one = measure(row, stage, options.seconds)?;
        eprintln!("{}: {:.0} MB/s per core, {} runs", row.name(), one.megabytes_per_cpu_s(), one.runs);
        Ok(one)
    })
    .map_err(machine)?;
    // Rows of one stage stand together.
    measured.sort_by_key(|one| stage::position(one.passed.stage));
    let told = table(&measured);
    print!("{told}");
    write_json(options, &measured)?;
    if options.keep {
        let body = format!("Input of {} for each stage, medians.\n\n{told}", show_bytes(options.size));
        kept::keep("stages", "Throughput of the stages", &body, COMMAND)?;
    }
    Ok(())
}

fn write_json(options: &Options, stages: &impl Serialize) -> Result<(), Failure> {
    let Some(path) = &options.json else { return Ok(()) };
    let all = serde_json::json!({ "size": options.size, "stages": stages });
    std::fs::write(path, format!("{all:#}\n")).map_err(|e| Failure::io("cannot write", path, &e))
}

/// A pool of this thread and no other, for whatever this thread does in parallel from now on.
fn this_thread_alone() -> Result<rayon::ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build()?)
}

/// Makes the stages one after the other, and does something with each.
fn each_row<T>(options: &Options, rows: &[&Row], act: impl Fn(&Row, &mut dyn Stage) -> Result<T>) -> Result<Vec<T>> {
    let folder = tempfile::Builder::new().prefix("quorate-stages-").tempdir()?;
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let mut of_kind = rows.iter().filter(|row| row.kind == kind).peekable();
        if of_kind.peek().is_none() {
            continue;
        }
        let material = Arc::new(Material::make(kind, options.size)?);
        for row in of_kind {
            let folder = tempfile::tempdir_in(folder.path())?;
            let mut stage = (row.make)(&material, folder.path())?;
            all.push(act(row, &mut *stage)?);
        }
    }
    Ok(all)
}
