//! What a measurement tells.

use std::time::Duration;

/// What was measured.
pub(crate) struct Figures {
    /// In order.
    latencies: Vec<Duration>,
    wall: Duration,
    cpu: Duration,
}

impl Figures {
    /// From how long each operation took, and how long all of them together.
    pub(crate) fn new(mut latencies: Vec<Duration>, wall: Duration, cpu: Duration) -> Self {
        latencies.sort_unstable();
        Self { latencies, wall, cpu }
    }
    /// How many operations.
    pub(crate) fn operations(&self) -> usize {
        self.latencies.len()
    }
    /// Operations per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.operations() as f64 / self.wall.as_secs_f64()
    }
    /// Operations per second of CPU time: what remains the same when the machine has other things to do.
    pub(crate) fn cpu_throughput(&self) -> f64 {
        self.operations() as f64 / self.cpu.as_secs_f64()
    }
    /// The latency that this share of the operations did not exceed, in microseconds.
    pub(crate) fn micros(&self, share: f64) -> String {
        let index = (self.operations() as f64 * share) as usize;
        let latency = self.latencies.get(index).or(self.latencies.last()).copied().unwrap_or_default();
        format!("{:.0}", latency.as_secs_f64() * 1e6)
    }
}
