//! What a run tells.

use std::{fmt, time::Duration};

/// What happened in a run, so that one which shows nothing is noticed. The same for the same seed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// Simulated time from the job's submission to its end, in milliseconds.
    pub elapsed_ms: u64,
    /// Attempts started.
    pub attempts: u64,
    /// Verdicts, those of tasks that were run again included.
    pub verdicts: u64,
    /// Commands ordered while the job lived, its own included.
    pub commands: u64,
    /// Their envelopes' encodings, in bytes.
    pub command_bytes: u64,
    /// Tasks that did not go smoothly.
    pub disputed: u64,
    /// Votes that were outvoted.
    pub outvoted: u64,
    /// Attempts that were overdue.
    pub overdue: u64,
    /// Trackers that crashed, each time.
    pub crashes: u64,
    /// Attempts that were declined.
    pub declined: u64,
    /// Trackers that are suspected at the end.
    pub suspected: u64,
    /// Trackers that are convicted at the end.
    pub convicted: u64,
    /// The scheduler's state as replicas keep it, when all maps were agreed, in bytes.
    pub snapshot_bytes: u64,
}

/// What a run cost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Tasks of the job.
    pub tasks: u32,
    /// What happened.
    pub reached: Reached,
    /// The scheduler's own time, from the job's submission to its end.
    pub core: Duration,
    /// Of this, taking the job in.
    pub submit: Duration,
    /// Of this, the batch with which the job ended.
    pub end: Duration,
    /// Of this, the longest of the other batches.
    pub longest: Duration,
    /// Writing the state as a snapshot. Not in [`Figures::core`].
    pub snapshot: Duration,
    /// How many bytes the process grew by, from before the job to when all maps were agreed.
    pub resident_bytes: u64,
}

impl Figures {
    /// Something divided by the number of tasks.
    pub fn per_task(&self, amount: u64) -> f64 {
        amount as f64 / f64::from(self.tasks)
    }
    /// Microseconds of the scheduler's time for each task.
    pub fn micros_per_task(&self) -> f64 {
        self.core.as_secs_f64() * 1e6 / f64::from(self.tasks)
    }
    /// Attempts given to trackers and verdicts given, in a second of the scheduler's time. 0 where no time was taken.
    pub fn decisions_per_second(&self) -> f64 {
        let decisions = (self.reached.attempts + self.reached.verdicts) as f64;
        if self.core.is_zero() { 0.0 } else { decisions / self.core.as_secs_f64() }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} s simulated; {} disputed tasks, {} outvoted votes, {} overdue attempts, {} declined, {} crashes; {} \
             trackers suspected, {} convicted",
            self.elapsed_ms as f64 / 1e3,
            self.disputed,
            self.outvoted,
            self.overdue,
            self.declined,
            self.crashes,
            self.suspected,
            self.convicted
        )
    }
}
