//! Whether the peak of memory grows with the slots, or with the input: terasort of inputs that grow fourfold, on a cluster
//! with few slots.

use crate::{
    child::Run,
    jobs::{Input, Kind},
    machine,
};
use clap::Args;
use quorate::{amounts::parse_bytes, exit::Failure};
use quorate_bench::{
    figures::{markdown, mib},
    kept,
};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// The largest input, such as 8GiB
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_bytes)]
    size: u64,
    /// Memory of an attempt
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    memory_per_slot: u64,
    /// Trackers, with a map slot and a reduce slot each
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    trackers: u32,
    /// Liars tolerated for each task
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=2))]
    f: u32,
    /// Keeps the table, with machine, date and command, in bench/results
    #[arg(long)]
    keep: bool,
}

const AFTER_HELP: &str = "\
The peak is that of the whole process, from submitting the job until it has ended: all trackers with their slots, the job
tracker's three replicas, and pages of files that are mapped. Temporary files ($TMPDIR) take about 6 times the size for f = 0.";

/// Reduce tasks: so many that a partition of the largest input is far larger than a slot's memory, and no part is too long.
const PARTITIONS: u32 = 4;

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("quorate-memory-").tempdir();
    let folder = folder.map_err(|e| machine("make a temporary folder", e))?;
    let slots = u64::from(options.trackers) * 2;
    let heads = ["MiB sorted", "slots", "MiB per slot", "peak MiB", "of the slots' memory", "wall s"];
    let mut rows = vec![heads.map(str::to_owned)];
    for size in [options.size / 16, options.size / 4, options.size] {
        let input = Input::make(Kind::Terasort, size, folder.path())?;
        let run = Run {
            trackers: options.trackers,
            slots: (1, 1),
            partitions: PARTITIONS,
            memory: options.memory_per_slot,
            ..Run::new(&input, options.f)
        };
        let one = run.measure()?;
        let removed = std::fs::remove_file(&input.path);
        removed.map_err(|e| Failure::io("cannot remove", &input.path, &e))?;
        rows.push([
            mib(input.bytes),
            slots.to_string(),
            mib(options.memory_per_slot),
            mib(one.peak),
            format!("{:.2}", one.peak as f64 / (slots * options.memory_per_slot).max(1) as f64),
            format!("{:.1}", one.wall_s),
        ]);
        eprintln!("{} MiB: {} MiB at the peak", mib(input.bytes), mib(one.peak));
    }
    let table = markdown(&rows);
    print!("{table}");
    if options.keep {
        let body = format!("Terasort with f = {}, {} trackers in one process.\n\n{table}", options.f, options.trackers);
        kept::keep("memory", "Memory of sorting", &body, "cargo run --release -p quorate-bench --")?;
    }
    Ok(())
}
