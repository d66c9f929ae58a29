//! Runs one seed, or a campaign of many.

use clap::Parser;
use quorate_protocol::cluster::Agreement;
use quorate_sim::{Plan, Scenario, Summary, campaign, command, minimise, run};
use std::{collections::BTreeSet, process::ExitCode, time::Instant};

/// Deterministic simulation of clusters of agreement cores.
#[derive(Parser)]
struct Arguments {
    /// Run this seed, and print the log of its events with --trace.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run so many seeds, and print what they reached.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed of a campaign.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads of a campaign.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// What the runs are to show: random, lie:…, mutant:…, broken:….
    #[arg(long, default_value = "random")]
    plan: Plan,
    /// What keeps replicas from saying two things: minbft (trusted logs) or pbft (3f + 1 of them).
    #[arg(long, default_value = "minbft")]
    mode: Agreement,
    /// Leave these faults of the seed out.
    #[arg(long, value_delimiter = ',')]
    without: Vec<usize>,
    /// Print each event.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => one(&arguments, seed),
        (None, seeds) => many(&arguments, seeds.unwrap_or(1000)),
    }
}

fn one(arguments: &Arguments, seed: u64) -> ExitCode {
    let without: BTreeSet<_> = arguments.without.iter().copied().collect();
    let full = Scenario::in_mode(arguments.mode, arguments.plan, seed);
    for (index, fault) in full.faults.iter().enumerate() {
        println!("fault {index}{}: {fault}", if without.contains(&index) { " (left out)" } else { "" });
    }
    let scenario = full.without(&without);
    if arguments.trace {
        println!("{scenario:#?}");
    }
    let report = run(&scenario, arguments.trace);
    print!("{}", report.coverage);
    println!("{} events, digest {}", report.events, report.digest);
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("VIOLATION of {violation}");
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments, seeds: u64) -> ExitCode {
    let begun = Instant::now();
    let summary =
        campaign(arguments.mode, arguments.plan, arguments.from, seeds, arguments.jobs, &|seed, violation| {
            println!("seed {seed}: VIOLATION of {violation}");
        });
    let Summary { runs, events, coverage, failures } = &summary;
    print!("{coverage}");
    println!("{runs} runs, {events} events, {:.1} s, {} failures", begun.elapsed().as_secs_f64(), failures.len());
    let Some((seed, violation)) = failures.first() else { return ExitCode::SUCCESS };
    println!("the smallest set of faults with which seed {seed} still fails:");
    let without = minimise(arguments.mode, arguments.plan, *seed);
    for (index, fault) in Scenario::in_mode(arguments.mode, arguments.plan, *seed).faults.iter().enumerate() {
        if !without.contains(&index) {
            println!("  fault {index}: {fault}");
        }
    }
    println!(
        "VIOLATION of {}; repeat it with\n  {}",
        violation.name,
        command(arguments.mode, arguments.plan, *seed, &without)
    );
    ExitCode::FAILURE
}
