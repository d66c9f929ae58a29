//! Scenarios made for what they are to find: known bugs brought back, and trusted logs that are broken.

use crate::{
    actors::Lie,
    fault::{DiskFate, Fault, LogFate, Side},
    rng::Rng,
    scenario::{Network, Scenario},
};
use quorate_smr::Mutant;

/// A quiet network with a busy cluster of three, so that what the faults do is what happens.
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

/// Cuts both ways.
fn part(scenario: &mut Scenario, one: Side, other: Side, from: u64, until: u64) {
    for (senders, receivers) in [(one, other), (other, one)] {
        scenario.faults.push(Fault::Cut { senders, receivers, from, until });
    }
}

/// Replica 0 has a twin with a trusted log of its own, and the others do not hear each other.
pub(crate) fn cloned_log(scenario: &mut Scenario, rng: &mut Rng) {
    quiet(scenario, rng);
    scenario.faults.push(Fault::Liar { node: 0, lie: Lie::ClonedTwins, from: 0 });
    part(scenario, 0b010, 0b100, 0, 700 + rng.below(500));
}

/// Replica 1 votes with replica 0, is set back to before it did, and votes with replica 2.
pub(crate) fn rolled_back_log(scenario: &mut Scenario, rng: &mut Rng) {
    quiet(scenario, rng);
    let then = rng.below(40);
    let turn = 300 + rng.below(200);
    part(scenario, 0b100, 0b011, 0, turn);
    let (disk, log) = (DiskFate::Old(then), LogFate::RolledBack);
    scenario.faults.push(Fault::Crash { node: 1, from: turn - 20, until: turn, disk, log });
    part(scenario, 0b001, 0b110, turn - 20, 1400);
}

/// What provokes a known bug.
pub(crate) fn mutant(scenario: &mut Scenario, mutant: Mutant, rng: &mut Rng) {
    scenario.mutant = Some(mutant);
    scenario.add_faults(rng);
}
