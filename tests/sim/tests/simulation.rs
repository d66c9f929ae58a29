//! What continuous integration runs of the simulator: some hundred seeds of every plan, and the checks of the checker.

use quorate_protocol::cluster::Agreement;
use quorate_sim::{Coverage, Lie, Plan, Scenario, campaign, command, minimise, run};
use std::{collections::BTreeSet, path::Path};

/// Threads of a campaign in a test.
const JOBS: usize = 2;

/// Runs seeds that must all pass, and gives what they reached.
fn passes(mode: Agreement, plan: Plan, from: u64, seeds: u64) -> Coverage {
    let summary = campaign(mode, plan, from, seeds, JOBS, &|_, _| {});
    if let Some((seed, violation)) = summary.failures.first() {
        let without = minimise(mode, plan, *seed);
        panic!("seed {seed}: {violation}\n{}", command(mode, plan, *seed, &without));
    }
    assert_eq!(summary.runs, seeds);
    summary.coverage
}

#[test]
fn random_faults_break_nothing_and_reach_what_they_are_for() {
    let coverage = passes(Agreement::Minbft, Plan::Random, 0, 600);
    println!("{coverage}");
    for reached in [
        "admissions proposed",
        "answers: busy",
        "batches asked for",
        "batches learned from others",
        "checkpoints",
        "crashes",
        "epochs given up",
        "honest replicas done without",
        "logs asked for",
        "logs resumed at a later head",
        "looks that found statements waiting",
        "pages asked for",
        "proposals ahead of execution",
        "proofs: breach",
        "requests forwarded",
        "requests played back",
        "requests sent again",
        "sessions begun",
        "starts with an empty disk",
        "starts with an old disk",
        "states restored",
        "trusted logs reset",
        "views begun",
        "views begun with a suffix",
    ] {
        assert!(coverage.get(reached) > 0, "600 seeds did not reach: {reached}");
    }
}

#[test]
fn every_lie_is_told_and_borne() {
    for lie in Lie::ALL {
        let coverage = passes(Agreement::Minbft, Plan::Lie(lie), 1000, 40);
        assert!(coverage.get(lie.counter()) > 0, "nobody saw the {lie}");
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in 0..30 {
        let scenario = Scenario::new(Plan::Random, seed);
        let (one, other) = (run(&scenario, false), run(&scenario, false));
        assert_eq!(one, other, "seed {seed}");
    }
    let digest = |seed| run(&Scenario::new(Plan::Random, seed), false).digest;
    assert_ne!(digest(1), digest(2), "the digest says nothing of what happened");
}

/// Seeds that failed once: `[mode] plan seed [fault,fault…]`, the faults being those that were left out.
#[test]
fn what_failed_once_does_not_fail_again() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions.txt");
    let text = std::fs::read_to_string(file).expect("regressions.txt is kept beside the tests");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let first = words.next().expect("a mode or a plan");
        let mode: Option<Agreement> = first.parse().ok();
        let plan = if mode.is_some() { words.next().expect("a plan") } else { first };
        let plan: Plan = plan.parse().expect("a known plan");
        let mode = mode.unwrap_or(Agreement::Minbft);
        let seed = words.next().expect("a seed").parse().expect("a number");
        let left_out = words.next().unwrap_or_default().split(',').filter(|fault| !fault.is_empty());
        let without: BTreeSet<usize> = left_out.map(|fault| fault.parse().expect("a fault's index")).collect();
        let report = run(&Scenario::in_mode(mode, plan, seed).without(&without), false);
        if let Some(violation) = report.violation {
            panic!("{line}: {violation}\n{}", command(mode, plan, seed, &without));
        }
    }
}
