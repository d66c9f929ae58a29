//! What the tracker has to tell the job tracker, gathered into as few ordered commands as possible.
//!
//! Votes and accusations are told at once. Acknowledgements, and progress that nobody waits for yet, go along with them; a
//! busy tracker hardly ever orders a command for these alone.

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
    /// Whether the progress must not wait for something else to tell.
    progress_is_urgent: bool,
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

    /// An attempt goes on. Told with the next report; at once when it is `urgent`, or when what was said of the attempt
    /// before was not told yet.
    pub(crate) fn progress(&self, attempt: AttemptId, units: u64, urgent: bool) {
        let mut pending = self.pending();
        let waits_already = pending.progress.insert(attempt, units).is_some();
        if urgent || waits_already {
            pending.progress_is_urgent = true;
            drop(pending);
            self.wake.notify_one();
        }
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

    /// Directives below this number were taken over. Told with the next report.
    pub(crate) fn acknowledge(&self, below: u64) {
        self.pending().acknowledged = below;
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

    /// The next report, if there is anything to tell; what only goes along with other news counts when it is `overdue`.
    pub(crate) fn take(&self, incarnation: u64, overdue: bool) -> Option<Report> {
        let mut pending = self.pending();
        let is_news = !pending.attempts.is_empty() || !pending.accusations.is_empty() || pending.progress_is_urgent;
        let goes_along = pending.acknowledged != pending.acknowledged_before || !pending.progress.is_empty();
        let is_due = is_news || (overdue && goes_along);
        if !is_due {
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
        pending.progress_is_urgent &= !pending.progress.is_empty();
        let more = !pending.attempts.is_empty() || !pending.accusations.is_empty() || pending.progress_is_urgent;
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
        AttemptReport::Declined { attempt: attempt(index), reason: "x".repeat(bytes) }
    }

    fn attempt(index: u32) -> AttemptId {
        AttemptId { task: TaskId { job: JobId::new(1), stage: Stage::Map, index }, attempt: 0 }
    }

    #[test]
    fn acknowledgements_go_along_with_news_or_alone_when_they_are_overdue() {
        let outbox = Outbox::default();
        assert_eq!(outbox.take(1, true), None, "nothing to tell");
        outbox.acknowledge(3);
        assert_eq!(outbox.take(1, false), None);
        assert_eq!(outbox.take(1, true).map(|report| report.acknowledged), Some(3));
        assert_eq!(outbox.take(1, true), None);
        outbox.acknowledge(4);
        outbox.ended(declined(0, 1));
        assert_eq!(outbox.take(1, false).map(|report| report.acknowledged), Some(4));
    }

    #[test]
    fn progress_goes_along_with_news_until_it_is_urgent() {
        let outbox = Outbox::default();
        let told = |outbox: &Outbox| outbox.take(1, false).map(|report| report.attempts);
        let progress = |index, units| AttemptReport::Progress { attempt: attempt(index), units };
        outbox.progress(attempt(0), 5, false);
        assert_eq!(told(&outbox), None);
        outbox.ended(declined(1, 1));
        assert_eq!(told(&outbox), Some(vec![declined(1, 1), progress(0, 5)]));
        outbox.progress(attempt(0), 6, false);
        outbox.progress(attempt(2), 1, false);
        assert_eq!(told(&outbox), None);
        outbox.progress(attempt(0), 7, false);
        assert_eq!(told(&outbox), Some(vec![progress(0, 7), progress(2, 1)]), "it waited long enough");
        assert_eq!(told(&outbox), None);
        outbox.progress(attempt(2), 2, true);
        assert_eq!(told(&outbox), Some(vec![progress(2, 2)]));
    }

    #[test]
    fn a_report_that_was_not_taken_is_told_again_first() {
        let outbox = Outbox::default();
        outbox.ended(declined(0, 1));
        let report = outbox.take(1, false).expect("news");
        outbox.ended(declined(1, 1));
        outbox.put_back(report);
        let again = outbox.take(1, false).expect("news");
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
        while let Some(report) = outbox.take(1, false) {
            assert!(canonical::encode(&report).len() < limits::COMMAND_BYTES_MAX);
            assert!(report.attempts.len() <= limits::REPORT_ENTRIES_MAX / 2);
            seen += report.attempts.len();
        }
        assert_eq!(seen, count);
    }
}
