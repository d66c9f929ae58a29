//! A simulator that finds nothing may be blind. Here something must be found: known bugs that are brought back, and
//! trusted logs that are broken.

use quorate_protocol::cluster::Agreement;
use quorate_sim::{Plan, Scenario, Violation, run};
use quorate_smr::Mutant;

/// The first of so many seeds that violates something, when the same run without the bug violates nothing.
fn found(mode: Agreement, plan: Plan, seeds: u64) -> Option<(u64, Violation)> {
    (0..seeds).find_map(|seed| {
        let scenario = Scenario::in_mode(mode, plan, seed);
        let violation = run(&scenario, false).violation?;
        let without_bug = Scenario { mutant: None, ..scenario.clone() };
        let sound = scenario.mutant.is_none() || run(&without_bug, false).violation.is_none();
        sound.then_some((seed, violation))
    })
}

fn finds(mutant: Mutant, seeds: u64) {
    finds_in(Agreement::Minbft, mutant, seeds);
}

fn finds_in(mode: Agreement, mutant: Mutant, seeds: u64) {
    let plan = Plan::Mutant(mutant);
    let Some((seed, violation)) = found(mode, plan, seeds) else { panic!("{plan} was not found within {seeds} seeds") };
    println!("{mode} {plan}: seed {seed}: {violation}");
}

#[test]
fn smr_2_a_vote_after_view_change_is_found() {
    finds(Mutant::VoteAfterViewChange, 20);
}

#[test]
fn smr_9_a_stale_certificate_is_found() {
    finds(Mutant::StaleCertificate, 20);
}

#[test]
fn smr_9_mixed_counters_are_found() {
    finds(Mutant::MixedCounters, 20);
}

#[test]
fn smr_3_skipped_commits_are_found() {
    finds(Mutant::SkippedCommits, 20);
}

#[test]
fn smr_7_the_current_view_in_a_request_is_found() {
    finds(Mutant::CurrentViewInRequest, 40);
}

#[test]
fn smr_7_a_lone_view_change_is_found() {
    finds(Mutant::LoneViewChange, 20);
}

#[test]
fn smr_13_a_counter_from_disk_is_found() {
    finds(Mutant::CounterFromDisk, 20);
}

/// The trusted log is what safety rests on: without it, agreement must be seen to break.
#[test]
fn a_cloned_trusted_log_breaks_agreement() {
    let (seed, violation) = found(Agreement::Minbft, Plan::ClonedLog, 10).expect("clones do harm within 10 seeds");
    assert_eq!(violation.name, "AGREEMENT", "seed {seed}: {violation}");
}

#[test]
fn a_trusted_log_that_is_rolled_back_breaks_agreement() {
    let (seed, violation) =
        found(Agreement::Minbft, Plan::RolledBackLog, 10).expect("rollbacks do harm within 10 seeds");
    assert_eq!(violation.name, "AGREEMENT", "seed {seed}: {violation}");
}

/// The bugs that matter as much where replicas witness each other.
///
/// The other two cannot do harm there. Two quorums of 2f + 1 share an honest replica, whose vote is before its VIEW-CHANGE
/// whatever it lets others do, so a liar's vote after leaving is never the one that counts. And no counter is on a disk
/// alone: the witnesses show what came after it, and the epoch is lost.
#[test]
fn the_same_bugs_are_found_among_witnesses() {
    for mutant in [
        Mutant::StaleCertificate,
        Mutant::MixedCounters,
        Mutant::SkippedCommits,
        Mutant::CurrentViewInRequest,
        Mutant::LoneViewChange,
    ] {
        finds_in(Agreement::Pbft, mutant, 20);
    }
}

/// Witnesses are what safety rests on: with f + 1 of them a liar leads each half with a log of its own, and honest replicas
/// that follow it prove each other to be faulty.
#[test]
fn too_few_witnesses_break_agreement() {
    let (seed, violation) = found(Agreement::Pbft, Plan::FewWitnesses, 20).expect("they do harm within 20 seeds");
    assert!(["AGREEMENT", "BLAME"].contains(&violation.name), "seed {seed}: {violation}");
}
