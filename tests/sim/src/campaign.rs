//! Many seeds, and what to do with the one that fails.

use crate::{Coverage, Plan, RunReport, Scenario, Violation, run};
use quorate_protocol::cluster::Agreement;
use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Failures after which a campaign stops.
const FAILURES_MAX: usize = 20;

/// What a campaign came to.
#[derive(Default)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// Events of all of them.
    pub events: u64,
    /// What was reached.
    pub coverage: Coverage,
    /// What must not be, by seed, in the order of seeds.
    pub failures: Vec<(u64, Violation)>,
}

impl Summary {
    fn add(&mut self, seed: u64, report: RunReport) {
        self.runs += 1;
        self.events += report.events;
        self.coverage.merge(&report.coverage);
        if let Some(violation) = report.violation {
            self.failures.push((seed, violation));
        }
    }
}

/// Runs the seeds from `from` on, on so many threads. `progress` hears of each failure.
pub fn campaign(
    mode: Agreement,
    plan: Plan,
    from: u64,
    seeds: u64,
    jobs: usize,
    progress: &(dyn Fn(u64, &Violation) + Sync),
) -> Summary {
    let next = AtomicU64::new(from);
    let enough = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        break;
                    }
                    let report = run(&Scenario::in_mode(mode, plan, seed), false);
                    if let Some(violation) = &report.violation {
                        progress(seed, violation);
                    }
                    let mut summary = summary.lock().expect("no thread stops while it adds");
                    summary.add(seed, report);
                    if summary.failures.len() >= FAILURES_MAX {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().expect("no thread stopped while it added");
    summary.failures.sort_by_key(|(seed, _)| *seed);
    summary
}

/// Leaves faults out, one by one, as long as the run still fails in the same way. Gives those that can be left out.
pub fn minimise(mode: Agreement, plan: Plan, seed: u64) -> BTreeSet<usize> {
    let scenario = Scenario::in_mode(mode, plan, seed);
    let Some(violation) = run(&scenario, false).violation else { return BTreeSet::new() };
    let mut without = BTreeSet::new();
    // Again from the start after a pass that helped: a fault may be needed only as long as another one is there.
    loop {
        let before = without.len();
        for fault in 0..scenario.faults.len() {
            if without.contains(&fault) {
                continue;
            }
            without.insert(fault);
            let still = run(&scenario.without(&without), false).violation;
            if still.is_none_or(|still| still.name != violation.name) {
                without.remove(&fault);
            }
        }
        if without.len() == before {
            return without;
        }
    }
}

/// The one command that repeats a run.
pub fn command(mode: Agreement, plan: Plan, seed: u64, without: &BTreeSet<usize>) -> String {
    let mut command = format!("cargo run --release -p quorate-sim -- --plan {plan} --seed {seed} --trace");
    if mode != Agreement::Minbft {
        command += &format!(" --mode {mode}");
    }
    if !without.is_empty() {
        let list: Vec<_> = without.iter().map(ToString::to_string).collect();
        command += &format!(" --without {}", list.join(","));
    }
    command
}
