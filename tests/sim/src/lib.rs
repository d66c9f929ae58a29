//! Deterministic simulation of whole clusters of real agreement cores.
//!
//! One seed gives a [`Scenario`]: how many replicas, their bounds, network, disks, trusted logs, clients, and a list of
//! faults. [`run`] plays it on one queue of events and gives what was reached ([`Coverage`]), a digest of everything that
//! happened, and the first thing that must not have happened ([`Violation`]). The same seed gives the same digest.
//!
//! Faults are bounded as the protocol is promised them: at most f replicas lie or lose what they wrote. Plans beyond that
//! ([`Plan::ClonedLog`], [`Plan::RolledBackLog`], and known bugs brought back in [`Plan::Mutant`]) check the checker: there
//! a violation *must* be found.
//!
//! The same scenarios run in both modes of the agreement ([`Scenario::in_mode`]). Where there are no trusted logs, 3f + 1
//! replicas ask each other's real witnesses over the same network, and what a witness remembers is on the same disks.

mod actors;
mod campaign;
mod client;
mod coverage;
mod directed;
mod disk;
mod fault;
mod journal;
mod keys;
mod machine;
mod oracle;
mod panics;
mod rng;
mod scale;
mod scenario;
mod slow_logs;
mod world;

pub use actors::Lie;
pub use campaign::{Summary, campaign, command, minimise};
pub use coverage::Coverage;
pub use fault::{CLIENTS, DiskFate, Fault, LogFate, Side};
pub use oracle::Violation;
pub use rng::Rng;
pub use scale::{Figures, Gauges, Reached, Scale, scale};
pub use scenario::{Network, Plan, Scenario, Workload};
pub use world::RunReport;

/// Runs a scenario. With `trace`, prints what happens.
pub fn run(scenario: &Scenario, trace: bool) -> RunReport {
    panics::remembered(|| world::run(scenario, trace))
}
