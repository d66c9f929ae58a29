//! Scenarios with trusted logs as slow as chips are.

use crate::{
    fault::{DiskFate, Fault},
    scenario::{Plan, Scenario},
};

/// What takes less is as good as nothing beside what else is drawn.
const SLOW_MS: u64 = 10;

impl Scenario {
    /// The scenario of a seed with trusted logs the slowest of which needs `latency` milliseconds for an attestation.
    /// Whatever else takes time, but for the network and disks, takes as many times longer as the logs do: the same
    /// things go wrong at the same moments of the protocol.
    #[must_use]
    pub fn with_slow_logs(plan: Plan, seed: u64, latency: u64) -> Self {
        let mut scenario = Self::new(plan, seed);
        let slowest = scenario.log_latency.iter().max().copied().unwrap_or_default();
        if slowest < SLOW_MS {
            scenario.log_latency.fill(latency);
        } else {
            scenario.log_latency.iter_mut().for_each(|log| *log = *log * latency / slowest);
        }
        let factor = (latency / slowest.max(SLOW_MS)).max(1);
        for time in [
            &mut scenario.limits.view_timeout,
            &mut scenario.limits.clock_ahead_max,
            &mut scenario.limits.status_interval,
            &mut scenario.workload.retry,
            &mut scenario.workload.pause_max,
            &mut scenario.heals,
        ] {
            *time *= factor;
        }
        scenario.skew.iter_mut().for_each(|skew| *skew *= factor);
        scenario.faults.iter_mut().for_each(|fault| fault.stretch(factor));
        scenario
    }
}

impl Fault {
    fn stretch(&mut self, factor: u64) {
        match self {
            Fault::Crash { from, until, disk, .. } => {
                if let DiskFate::Old(then) = disk {
                    *then *= factor;
                }
                (*from, *until) = (*from * factor, *until * factor);
            }
            Fault::SlowLog { latency, from, until, .. } => {
                (*latency, *from, *until) = (*latency * factor, *from * factor, *until * factor);
            }
            Fault::Cut { from, until, .. } | Fault::Storm { from, until, .. } => {
                (*from, *until) = (*from * factor, *until * factor);
            }
            Fault::Liar { from, .. } => *from *= factor,
        }
    }
}
