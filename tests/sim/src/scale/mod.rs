//! The scheduler at its design point: the real [`Scheduler`](quorate_schedule::Scheduler), with a simulated cluster of
//! thousands of trackers and one job of up to a million tasks around it.
//!
//! Real are the scheduler with its namespace, the commands, their encoding and the signatures of votes. Simulated are the
//! trackers: they take attempts, work for as long as a seed says, and report as real ones do, one report under way at a
//! time, which everything that came up meanwhile shares. Some are slow, fall silent, decline, crash, stay away, and come back
//! as a new process. Liars are all in one failure domain, since the job's f is 1: they vote for wrong digests, vote
//! twice, or never.
//!
//! A run ends in one of two ways: the job succeeded and everything that `checks` names holds, or there is a [`Violation`].
//! Everything but the [`Gauges`] is the same for the same seed.

mod checks;
mod figures;
mod site;
mod tracker;
mod world;

use crate::Violation;
pub use figures::{Figures, Reached};
use std::{fmt, time::Duration};

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Tasks of the job. One in a hundred is a reduce task.
    pub tasks: u32,
    /// Trackers of the cluster, at least 30.
    pub trackers: u32,
    /// How many of them lie, at most one in ten.
    pub liars: u32,
    /// Mean time between two crashes of one tracker, in milliseconds.
    pub crash_ms: u64,
    /// Where all randomness comes from.
    pub seed: u64,
}

/// What the simulator does not know: how long the scheduler took, and what it holds.
pub struct Gauges<'a> {
    /// CPU time of this thread.
    pub cpu: &'a dyn Fn() -> Duration,
    /// Bytes of memory that this process has.
    pub resident: &'a dyn Fn() -> u64,
}

impl fmt::Debug for Gauges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

/// Runs one job to its end.
///
/// # Errors
/// The first thing that must not have happened.
///
/// # Panics
/// When a bound of [`Scale`] is broken.
pub fn scale(scale: &Scale, gauges: &Gauges<'_>) -> Result<Figures, Violation> {
    assert!(scale.trackers >= 30 && scale.liars <= scale.trackers / 10, "too few trackers: {scale:?}");
    assert!(scale.tasks >= 2, "a job has a map and a reduce task: {scale:?}");
    world::World::new(scale, gauges).run()
}
