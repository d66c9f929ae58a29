//! The same clusters without any trusted log: 3f + 1 replicas that witness each other's logs.

use quorate_protocol::cluster::Agreement;
use quorate_sim::{Coverage, Lie, Plan, Scenario, campaign, command, minimise, run};
use quorate_smr::Mutant;

/// Threads of a campaign in a test.
const JOBS: usize = 2;

/// Runs seeds that must all pass, and gives what they reached.
fn passes(plan: Plan, from: u64, seeds: u64) -> Coverage {
    let mode = Agreement::Pbft;
    let summary = campaign(mode, plan, from, seeds, JOBS, &|_, _| {});
    if let Some((seed, violation)) = summary.failures.first() {
        let without = minimise(mode, plan, *seed);
        panic!("seed {seed}: {violation}\n{}", command(mode, plan, *seed, &without));
    }
    assert_eq!(summary.runs, seeds);
    summary.coverage
}

fn reaches(coverage: &Coverage, what: &[&str]) {
    for reached in what {
        assert!(coverage.get(reached) > 0, "not reached: {reached}\n{coverage}");
    }
}

#[test]
fn random_faults_break_nothing_and_reach_what_they_are_for() {
    let coverage = passes(Plan::Random, 0, 1000);
    println!("{coverage}");
    let expected = [
        "admissions proposed",
        "epochs certified by witnesses",
        "epochs given up",
        "epochs lost by proof",
        "heads certified by witnesses",
        "lie: a witness is silent",
        "lie: a witness signs anything",
        "lie: a witness signs with noise",
        "lie: a witness slanders",
        "logs resumed at a later head",
        "signatures refused",
        "starts with an empty disk",
        "starts with an old disk",
        "states restored",
        "trusted logs reset",
        "views begun with a suffix",
        "witnesses asked again",
    ];
    reaches(&coverage, &expected);
}

#[test]
fn every_lie_is_told_and_borne() {
    for lie in Lie::ALL {
        let coverage = passes(Plan::Lie(lie), 1000, 40);
        assert!(coverage.get(lie.counter()) > 0, "nobody saw the {lie}");
    }
}

/// What breaks agreement where logs are trusted: a liar with two logs, and a replica that is put back with all it has.
#[test]
fn logs_that_are_cloned_or_put_back_do_no_harm() {
    let cloned = passes(Plan::ClonedLog, 0, 60);
    reaches(&cloned, &[Lie::ClonedTwins.counter(), "liars' words that witnesses did not sign"]);
    let put_back = passes(Plan::RolledBackLog, 0, 60);
    reaches(&put_back, &["trusted logs rolled back"]);
    // A replica that does not look whether its disk is the last one is told by the witnesses.
    let careless = passes(Plan::Mutant(Mutant::CounterFromDisk), 0, 60);
    reaches(&careless, &["epochs lost by proof"]);
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in 0..20 {
        let scenario = Scenario::in_mode(Agreement::Pbft, Plan::Random, seed);
        assert_eq!(run(&scenario, false), run(&scenario, false), "seed {seed}");
    }
}
