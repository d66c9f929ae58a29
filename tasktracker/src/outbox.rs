//! What the tracker has to tell the job tracker, gathered into as few ordered commands as possible.

use quorate_protocol::{
    canonical,
    command::{Accusation, AttemptReport, Report},
    ids::AttemptId,
    limits,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// News in one report, in bytes, well below a command's limit. A single vote may be larger than the rest.
const REPORT_BYTES_AIM: usize = limits::COMMAND_BYTES_MAX / 4;
/// Accusations that wait; further ones are dropped, since the same lie is found again.
const ACCUSATIONS_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Pending {
    attempts: Vec<AttemptReport>,
    progress: BTreeMap<AttemptId, u64>,
    accusations: Vec<Accusation>,
    acknowledged: u64,
    acknowledged_before: u64,
}

/// News that waits for the next report.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: Mutex<Pending>,
    wake: Notify,
}

impl Outbox {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt has ended.
    pub(crate) fn ended(&self, report: AttemptReport) {
        self.pending().attempts.push(report);
        self.wake.notify_one();
    }

    /// An attempt goes on. Told with the next report.
    pub(crate) fn progress(&self, attempt: AttemptId, units: u64) {
        self.pending().progress.insert(attempt, units);
        self.wake.notify_one();
    }

    /// Somebody did wrong.
    pub(crate) fn accuse(&self, accusation: Accusation) {
        let mut pending = self.pending();
        if pending.accusations.len() < ACCUSATIONS_MAX && !pending.accusations.contains(&accusation) {
            pending.accusations.push(accusation);
            drop(pending);
            self.wake.notify_one();
        }
    }

    /// Directives below this number were taken over. `urgent` ones are told at once, others with the next report.
    pub(crate) fn acknowledge(&self, below: u64, urgent: bool) {
        self.pending().acknowledged = below;
        if urgent {
            self.wake.notify_one();
        }
    }

    /// Waits until there is something to tell.
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// A report was not taken: its news waits again, before what came since.
    pub(crate) fn put_back(&self, report: Report) {
        let mut pending = self.pending();
        let ended = |news: &AttemptReport| !matches!(news, AttemptReport::Progress { .. });
        let attempts = report.attempts.into_iter().filter(ended).collect();
        let later = std::mem::replace(&mut pending.attempts, attempts);
        pending.attempts.extend(later);
        pending.accusations.extend(report.accusations);
        pending.accusations.truncate(ACCUSATIONS_MAX);
    }

    /// The next report, if there is anything to tell.
    pub(crate) fn take(&self, incarnation: u64) -> Option<Report> {
        let mut pending = self.pending();
        let told = pending.acknowledged == pending.acknowledged_before;
        if told && pending.attempts.is_empty() && pending.progress.is_empty() && pending.accusations.is_empty() {
            return None;
        }
        pending.acknowledged_before = pending.acknowledged;
        let mut report = Report { incarnation, acknowledged: pending.acknowledged, ..Report::default() };
        let mut bytes = 0;
        while report.attempts.len() < limits::REPORT_ENTRIES_MAX / 2 && bytes < REPORT_BYTES_AIM {
            let Some(next) = pending.attempts.first().map(|next| canonical::encode(next).len()) else { break };
            if bytes > 0 && bytes + next > REPORT_BYTES_AIM {
                break;
            }
            bytes += next;
            report.attempts.push(pending.attempts.remove(0));
        }
        while report.attempts.len() < limits::REPORT_ENTRIES_MAX / 2 {
            let Some((attempt, units)) = pending.progress.pop_first() else { break };
            report.attempts.push(AttemptReport::Progress { attempt, units });
        }
        while report.accusations.len() < limits::REPORT_ENTRIES_MAX / 2 && bytes < REPORT_BYTES_AIM {
            let Some(next) = pending.accusations.first().map(|next| canonical::encode(next).len()) else { break };
            if bytes > 0 && bytes + next > REPORT_BYTES_AIM {
                break;
            }
            bytes += next;
            report.accusations.push(pending.accusations.remove(0));
        }
        let more = !pending.attempts.is_empty() || !pending.progress.is_empty() || !pending.accusations.is_empty();
        drop(pending);
        if more {
            self.wake.notify_one();
        }
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::{JobId, Stage, TaskId};

    fn declined(index: u32, bytes: usize) -> AttemptReport {
        let task = TaskId { job: JobId::new(1), stage: Stage::Map, index };
        AttemptReport::Declined { attempt: AttemptId { task, attempt: 0 }, reason: "x".repeat(bytes) }
    }

    #[test]
    fn nothing_to_tell_makes_no_report_and_acknowledgements_alone_do() {
        let outbox = Outbox::default();
        assert_eq!(outbox.take(1), None);
        outbox.acknowledge(3, false);
        assert_eq!(outbox.take(1).map(|report| report.acknowledged), Some(3));
        assert_eq!(outbox.take(1), None);
    }

    #[test]
    fn a_report_that_was_not_taken_is_told_again_first() {
        let outbox = Outbox::default();
        outbox.ended(declined(0, 1));
        let report = outbox.take(1).expect("news");
        outbox.ended(declined(1, 1));
        outbox.put_back(report);
        let again = outbox.take(1).expect("news");
        assert_eq!(again.attempts, [declined(0, 1), declined(1, 1)]);
    }

    #[test]
    fn reports_keep_their_bounds_and_lose_nothing() {
        let outbox = Outbox::default();
        let count = limits::REPORT_ENTRIES_MAX;
        for index in 0..count as u32 {
            outbox.ended(declined(index, 2000));
        }
        let mut seen = 0;
        while let Some(report) = outbox.take(1) {
            assert!(canonical::encode(&report).len() < limits::COMMAND_BYTES_MAX);
            assert!(report.attempts.len() <= limits::REPORT_ENTRIES_MAX / 2);
            seen += report.attempts.len();
        }
        assert_eq!(seen, count);
    }
}
