//! What the scheduler costs at scale: jobs of several sizes on one large simulated cluster, one row for each.

use clap::Parser;
use quorate_sim::{Figures, Gauges, Scale, scale};
use rustix::{param::page_size, time::ClockId};
use std::{process::ExitCode, time::Duration};

/// Jobs of many tasks, with f = 1, on a simulated cluster of many trackers, of which some lie and fail.
#[derive(Parser)]
struct Arguments {
    /// Tasks of the jobs, one run for each.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000,1000000")]
    tasks: Vec<u32>,
    /// Trackers of the cluster. One in a thousand lies.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(30..))]
    trackers: u32,
    /// Where all randomness comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A tracker crashes twice a day.
const CRASH_MS: u64 = 12 * 3_600_000;

fn main() -> ExitCode {
    let Arguments { tasks, trackers, seed } = Arguments::parse();
    println!(
        "| tasks | attempts/task | µs/task | decisions/s | commands/task | bytes/task ordered | bytes/task state | \
         bytes/task memory | submit ms | end ms | longest batch ms | snapshot ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut notes = Vec::new();
    for tasks in tasks {
        let liars = (trackers / 1000).max(1);
        let plan = Scale { tasks, trackers, liars, crash_ms: CRASH_MS, seed };
        match scale(&plan, &Gauges { cpu: &cpu, resident: &resident }) {
            Ok(figures) => {
                println!("{}", row(&figures));
                notes.push(format!("{tasks} tasks: {}", figures.reached));
            }
            Err(violation) => {
                eprintln!("{tasks} tasks: {violation}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("\n{}", notes.join("\n"));
    ExitCode::SUCCESS
}

fn row(figures: &Figures) -> String {
    let reached = &figures.reached;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    format!(
        "| {} | {:.3} | {:.2} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} |",
        figures.tasks,
        figures.per_task(reached.attempts),
        figures.micros_per_task(),
        figures.decisions_per_second(),
        figures.per_task(reached.commands),
        figures.per_task(reached.command_bytes),
        figures.per_task(reached.snapshot_bytes),
        figures.per_task(figures.resident_bytes),
        millis(figures.submit),
        millis(figures.end),
        millis(figures.longest),
        millis(figures.snapshot),
    )
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes of memory that this process has; 0 where the system does not say.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * page_size() as u64
}
