//! Trusted logs that need as long as chips do: 20, 70 and 190 milliseconds for an attestation. The protocol must hold as it
//! does with fast ones, its known bugs must still be found, and batches must make up for the waiting.

use quorate_sim::{Network, Plan, Scenario, Workload, run};
use quorate_smr::{Limits, Mutant};

const CHIPS_MS: [u64; 3] = [20, 70, 190];
/// Random runs of each.
const SEEDS: u64 = 120;
/// Within so many seeds each known bug is found.
const SEEDS_PER_MUTANT: u64 = 20;

#[test]
fn random_faults_break_nothing_with_the_logs_of_chips() {
    for latency in CHIPS_MS {
        let mut answered = 0;
        for seed in 0..SEEDS {
            let report = run(&Scenario::with_slow_logs(Plan::Random, seed, latency), false);
            assert_eq!(report.violation.as_ref().map(ToString::to_string), None, "seed {seed}, {latency} ms");
            answered += report.coverage.get("requests answered");
        }
        assert!(answered > SEEDS, "{answered} requests answered in {SEEDS} runs");
    }
}

#[test]
fn known_bugs_are_found_with_the_logs_of_chips() {
    for (latency, mutant) in CHIPS_MS.into_iter().flat_map(|ms| Mutant::ALL.map(|mutant| (ms, mutant))) {
        let found = (0..SEEDS_PER_MUTANT).find(|seed| {
            let scenario = Scenario::with_slow_logs(Plan::Mutant(mutant), *seed, latency);
            let sound = Scenario { mutant: None, ..scenario.clone() };
            run(&scenario, false).violation.is_some() && run(&sound, false).violation.is_none()
        });
        assert!(found.is_some(), "{mutant:?} was not found within {SEEDS_PER_MUTANT} seeds at {latency} ms");
        println!("{mutant:?} at {latency} ms: seed {}", found.unwrap_or_default());
    }
}

/// The commands that clients get answered in a second when an attestation takes 40 ms and a batch has 100 at most.
#[test]
fn batches_of_100_make_up_for_40_ms_of_attestation() {
    const CLIENTS: u64 = 400;
    const SECONDS: u64 = 5;
    let mut scenario = Scenario::new(Plan::Random, 0);
    scenario.replicas = 3;
    scenario.limits = Limits { batch_requests_max: 100, view_timeout: 1_000, ..Limits::default() };
    scenario.network = Network { delay_min: 0, delay_max: 1, slow: 0, loss: 0, double: 0 };
    (scenario.log_latency, scenario.disk_latency, scenario.skew) = (vec![40; 3], 1, vec![0; 3]);
    scenario.workload = Workload {
        clients: CLIENTS as usize,
        shared_identity: false,
        requests: u64::MAX,
        pause_max: 0,
        retry: 1_000,
        everywhere: 1_000,
        give_up: 0,
        alarms: 0,
        ballast: 0,
        bytes_max: 0,
    };
    scenario.faults.clear();
    scenario.heals = 1_000 * SECONDS;
    let report = run(&scenario, false);
    assert_eq!(report.violation.as_ref().map(ToString::to_string), None);
    // Each client has one more in flight when the time is up, and asks for one thing more.
    let answered = report.coverage.get("requests answered") - 2 * CLIENTS;
    println!("{} commands a second", answered / SECONDS);
    assert!(answered / SECONDS > 1_000, "{answered} in {SECONDS} s");
}
