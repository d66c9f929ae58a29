//! Scenarios made for what they are to find: known bugs brought back, and trusted logs that are broken.

use crate::{
    actors::Lie,
    fault::{DiskFate, Fault, LogFate, Side},
    rng::Rng,
    scenario::{Network, Scenario},
};
use quorate_protocol::cluster::Agreement;
use quorate_smr::Mutant;

/// A quiet network with a busy cluster for one liar, so that what the faults do is what happens.
fn quiet(scenario: &mut Scenario, rng: &mut Rng) {
    scenario.network = Network { delay_min: 1, delay_max: 3, slow: 0, loss: 0, double: 0 };
    scenario.log_latency = vec![rng.below(2); scenario.replicas];
    scenario.disk_latency = 0;
    scenario.skew = vec![0; scenario.replicas];
    scenario.limits.view_timeout = rng.between(60, 120);
    scenario.limits.status_interval = rng.between(10, 40);
    scenario.workload.retry = 60;
    scenario.workload.requests = 40;
    scenario.workload.clients = 3;
    scenario.workload.shared_identity = false;
    scenario.workload.everywhere = 1000;
    scenario.workload.give_up = 0;
    scenario.workload.pause_max = 20;
    scenario.limits.pending_max = 12;
    scenario.heals = 1500;
}

/// All replicas but these.
fn others(scenario: &Scenario, of: Side) -> Side {
    ((1 << scenario.replicas) - 1) & !of
}

/// Cuts both ways.
fn part(scenario: &mut Scenario, one: Side, other: Side, from: u64, until: u64) {
    for (senders, receivers) in [(one, other), (other, one)] {
        scenario.faults.push(Fault::Cut { senders, receivers, from, until });
    }
}

/// Replica 0 has a twin with a trusted log of its own, and the halves of the others do not hear each other.
pub(crate) fn cloned_log(scenario: &mut Scenario, rng: &mut Rng) {
    quiet(scenario, rng);
    scenario.faults.push(Fault::Liar { node: 0, lie: Lie::ClonedTwins, from: 0 });
    let (one, other) = match scenario.mode {
        Agreement::Minbft => (0b010, 0b100),
        Agreement::Pbft => (0b0110, 0b1000),
    };
    part(scenario, one, other, 0, 700 + rng.below(500));
}

/// The same, and f + 1 witnesses are enough for each half.
pub(crate) fn few_witnesses(scenario: &mut Scenario, rng: &mut Rng) {
    cloned_log(scenario, rng);
    scenario.witness_quorum = scenario.bound() + 1;
}

/// Replica 1 votes with replica 0, is set back to before it did, and votes with replica 2.
pub(crate) fn rolled_back_log(scenario: &mut Scenario, rng: &mut Rng) {
    quiet(scenario, rng);
    let then = rng.below(40);
    let turn = 300 + rng.below(200);
    part(scenario, 0b100, others(scenario, 0b100), 0, turn);
    let (disk, log) = (DiskFate::Old(then), LogFate::RolledBack);
    scenario.faults.push(Fault::Crash { node: 1, from: turn - 20, until: turn, disk, log });
    part(scenario, 0b001, others(scenario, 0b001), turn - 20, 1400);
}

/// What provokes a known bug.
pub(crate) fn mutant(scenario: &mut Scenario, mutant: Mutant, rng: &mut Rng) {
    quiet(scenario, rng);
    scenario.mutant = Some(mutant);
    match mutant {
        Mutant::VoteAfterViewChange => vote_after_view_change(scenario, rng),
        Mutant::StaleCertificate => stale_certificate(scenario, rng),
        Mutant::MixedCounters => mixed_counters(scenario, rng),
        Mutant::SkippedCommits => skipped_commits(scenario, rng),
        Mutant::CurrentViewInRequest => out_of_step(scenario, rng),
        Mutant::LoneViewChange => left_alone(scenario, rng),
        Mutant::CounterFromDisk => old_disk(scenario, rng),
    }
}

/// Gives a scenario what it is to show.
type Stage = fn(&mut Scenario, &mut Rng);

/// What lets a lie do its worst, where that needs more than luck. Says whether there is anything of that kind.
pub(crate) fn stage(scenario: &mut Scenario, lie: Lie, rng: &mut Rng) -> bool {
    let stages: [(Lie, Stage); 4] = [
        (Lie::LeaveAndVote, vote_after_view_change),
        (Lie::StaleCertificate, stale_certificate),
        (Lie::OldProposals, mixed_counters),
        (Lie::Mute, left_alone),
    ];
    let Some((_, stage)) = stages.into_iter().find(|(of, _)| *of == lie && scenario.bound() == 1) else {
        return false;
    };
    quiet(scenario, rng);
    stage(scenario, rng);
    true
}

fn liar(scenario: &mut Scenario, node: usize, lie: Lie) {
    scenario.faults.push(Fault::Liar { node, lie, from: 0 });
}

/// Replicas 0 and 1 do not hear each other; replica 2 leaves for the view of 1 and still votes in that of 0.
fn vote_after_view_change(scenario: &mut Scenario, rng: &mut Rng) {
    liar(scenario, 2, Lie::LeaveAndVote);
    part(scenario, 0b001, 0b010, 0, 600 + rng.below(600));
}

/// View 1 begins without replica 0; then replica 1 is cut off. Of three replicas the liar is 0, whose view 3 is; of four it
/// is 2, whose view 2 is: it takes no part in view 1, for which replica 0 is needed then.
fn stale_certificate(scenario: &mut Scenario, rng: &mut Rng) {
    liar(scenario, if scenario.mode == Agreement::Minbft { 0 } else { 2 }, Lie::StaleCertificate);
    part(scenario, 0b001, others(scenario, 0b001), 50, 350);
    let turn = 500 + rng.below(200);
    part(scenario, 0b010, others(scenario, 0b010), turn, 1400);
}

/// Replica 0 proposes much that nobody can vote for; view 1 commits little; replica 1 is cut off. Replica 2 knows better
/// than to begin view 2 with what replica 0 proposed, but a later view is replica 0's.
fn mixed_counters(scenario: &mut Scenario, rng: &mut Rng) {
    liar(scenario, 0, Lie::OldProposals);
    scenario.log_latency = vec![20; scenario.replicas];
    scenario.log_latency[0] = 10;
    scenario.workload.clients = 12;
    scenario.workload.requests = 12;
    scenario.limits.batch_requests_max = 1;
    scenario.limits.flush_statements_max = 6;
    scenario.limits.pipeline_max = 12;
    scenario.limits.checkpoint_interval = 16;
    scenario.limits.waiting_max = 64;
    scenario.limits.pending_max = 12;
    let turn = scenario.limits.view_timeout + 90 + rng.below(60);
    part(scenario, 0b010, others(scenario, 0b010), turn, 4000);
    scenario.heals = 4100;
}

/// The primary proposes what nobody may vote for, and sound batches after that.
fn skipped_commits(scenario: &mut Scenario, rng: &mut Rng) {
    let lie = *rng.pick(&[Lie::GarbageBodies, Lie::HurryTime]);
    liar(scenario, 0, lie);
    scenario.limits.batch_requests_max = 1;
    scenario.limits.pipeline_max = 8;
    scenario.limits.checkpoint_interval = 16;
    scenario.log_latency = vec![10; scenario.replicas];
}

/// One replica lies still, and the others are cut from each other at times, so that they stand in different views.
fn out_of_step(scenario: &mut Scenario, rng: &mut Rng) {
    let lie = *rng.pick(&[Lie::Mute, Lie::Impatient, Lie::Withhold]);
    liar(scenario, rng.index(scenario.replicas), lie);
    for _ in 0..rng.between(1, 4) {
        let from = rng.below(1200);
        let one = 1 << rng.index(scenario.replicas);
        let until = from + rng.between(50, 300);
        let receivers = others(scenario, one);
        if rng.chance(500) {
            part(scenario, one, receivers, from, until);
        } else {
            scenario.faults.push(Fault::Cut { senders: one, receivers, from, until });
        }
    }
}

/// One replica is cut off for so long that, if it may leave views alone, the others will never catch up with it. Then one of
/// them falls silent, and they need it.
fn left_alone(scenario: &mut Scenario, rng: &mut Rng) {
    scenario.limits.view_timeout = 30;
    scenario.workload.retry = 200;
    let turn = 9_000 + rng.below(3_000);
    let alone = rng.index(scenario.replicas);
    let silent = (alone + 1 + rng.index(scenario.replicas - 1)) % scenario.replicas;
    scenario.faults.push(Fault::Liar { node: silent, lie: Lie::Mute, from: turn });
    part(scenario, 1 << alone, others(scenario, 1 << alone), 40, turn);
    scenario.heals = turn + 100;
}

/// A replica is started with a backup of its disk.
fn old_disk(scenario: &mut Scenario, rng: &mut Rng) {
    let from = rng.between(200, 900);
    let disk = DiskFate::Old(rng.below(from));
    let node = rng.index(scenario.replicas);
    scenario.faults.push(Fault::Crash { node, from, until: from + rng.between(10, 200), disk, log: LogFate::Kept });
}
