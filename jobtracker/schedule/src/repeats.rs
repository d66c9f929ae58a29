//! Attempts that are run again by the trackers that ran them, to tell a lie from a program that gives another output each
//! time.
//!
//! * **B-4** A job fails as nondeterministic when trackers of more than f domains differ from themselves, or when no
//!   quorum can be had for a task and a tracker that voted differs from itself. Of f + 1 domains one is honest, and so is
//!   one that did not help to a quorum. A tracker that differs from itself alone may be a liar that thought better of
//!   it: else any of them could end any job.
//! * **B-5** An attempt is repeated once, by its own tracker, as an attempt of its own: two votes of one tracker on two
//!   attempts contradict nothing. The repetition decides nothing, and holds nothing up but a job that could not go on.
//!
//! Who was outvoted for the first time in a job runs its attempt again in a slot that nobody wants. If it gives the same again, the program is not to
//! blame. If it does not, those who agreed run theirs again as well. So do those who disagree while nobody is there to decide. When no quorum can be had, all run theirs again before
//! the job ends. What nondeterminism made look like a lie is taken back for everybody: see [`Record::absolve`].
//!
//! [`Record::absolve`]: crate::tracker::Record::absolve

use crate::{
    bounds::REPEATS_WAITING_MAX,
    job::{Ending, Job},
    task::{Attempt, Purpose, Task},
    workforce::{DomainIndex, Workforce},
};
use quorate_protocol::{
    digest::Digest,
    ids::{AttemptId, OrderedTime, TaskId, TrackerId},
    query::JobFailure,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a job has repeated.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Repeats {
    /// Attempts that wait to be run again.
    waiting: BTreeSet<AttemptId>,
    /// The trackers of those that ever waited.
    asked: BTreeSet<TrackerId>,
    /// Domains of trackers that differ from themselves.
    differing: BTreeSet<DomainIndex>,
    /// A task for which no quorum can be had, and since when.
    undecidable: Option<(TaskId, OrderedTime)>,
}

impl Job {
    /// Whether no quorum can be had for a task, so that the job only looks for the reason.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.repeats.undecidable.is_some()
    }

    /// Has a tracker run an attempt again, if it was not asked to do so in this job before.
    fn doubt(&mut self, original: AttemptId) {
        let Some(tracker) = self.attempt(original).map(|attempt| attempt.tracker) else { return };
        let Repeats { waiting, asked, .. } = &mut self.repeats;
        if waiting.len() < REPEATS_WAITING_MAX && asked.insert(tracker) {
            waiting.insert(original);
        }
    }

    /// Has a tracker that was outvoted run its attempt again.
    pub(crate) fn doubt_voter(&mut self, id: TaskId, voter: TrackerId) {
        let voted = self.voted(id);
        let own = voted.into_iter().find(|name| self.attempt(*name).is_some_and(|attempt| attempt.tracker == voter));
        own.into_iter().for_each(|original| self.doubt(original));
    }

    /// Nobody is there who could decide a task: has those who disagree on it run their attempts again.
    pub(crate) fn doubt_if_disputed(&mut self, id: TaskId) {
        if self.task(id).is_some_and(|task| task.agreed.is_none() && task.tally().differs) {
            self.voted(id).into_iter().for_each(|original| self.doubt(original));
        }
    }

    /// No quorum can be had for a task: has everybody who voted vote again, unless one differs from itself already.
    pub(crate) fn doubt_all(&mut self, workforce: &Workforce, id: TaskId) {
        if self.is_in_doubt() {
            return;
        }
        if let Some(tracker) = self.task(id).and_then(Task::differs_from_itself) {
            return self.end(Ending::Failed(JobFailure::Nondeterministic { task: id, tracker }));
        }
        self.repeats.undecidable = Some((id, workforce.now));
        let voted = self.voted(id);
        let is_repeated = |original: &AttemptId| {
            let mut attempts = self.task(id).into_iter().flat_map(|task| &task.attempts);
            attempts.any(|attempt| attempt.purpose == Purpose::Repeats(original.attempt))
        };
        self.repeats.waiting = voted.into_iter().filter(|original| !is_repeated(original)).collect();
    }

    /// The attempts of a task that decide and voted.
    fn voted(&self, id: TaskId) -> Vec<AttemptId> {
        let attempts = self.task(id).into_iter().flat_map(|task| (0u16..).zip(&task.attempts));
        let voted = attempts.filter(|(_, attempt)| attempt.decides() && attempt.vote().is_some());
        voted.map(|(attempt, _)| AttemptId { task: id, attempt }).collect()
    }

    /// Gives attempts that are to be run again to their trackers, where these have a slot free.
    pub(crate) fn place_repeats(&mut self, workforce: &mut Workforce) {
        if self.ending.is_some() || self.repeats.waiting.is_empty() {
            return;
        }
        for original in self.repeats.waiting.iter().copied().collect::<Vec<_>>() {
            let Some(tracker) = self.attempt(original).map(|attempt| attempt.tracker) else { continue };
            if !self.may_repeat(workforce, original, tracker) {
                self.repeats.waiting.remove(&original);
                continue;
            }
            if workforce.tracker(tracker).is_some_and(|tracker| tracker.load(original.task.stage).is_some()) {
                self.repeats.waiting.remove(&original);
                self.start_for(workforce, original.task, tracker, Purpose::Repeats(original.attempt));
            }
        }
    }

    fn may_repeat(&self, workforce: &Workforce, original: AttemptId, tracker: TrackerId) -> bool {
        workforce.tracker(tracker).is_some_and(|tracker| {
            let runs_it = self.target.is_empty() || tracker.target() == self.target;
            tracker.is_fit() && runs_it && tracker.slots(original.task.stage) > 0
        })
    }

    /// Looks whether anything more can be learned of a task for which no quorum can be had; ends the job if not. A tracker
    /// that has no slot for it within the progress timeout is not waited for.
    pub(crate) fn examine_undecidable(&mut self, workforce: &mut Workforce) {
        let Some((task, since)) = self.repeats.undecidable else { return };
        self.place_repeats(workforce);
        if workforce.now >= since.after(self.specification.progress_timeout_ms) {
            self.repeats.waiting.clear();
        }
        let repeats = |attempt: &Attempt| matches!(attempt.purpose, Purpose::Repeats(_)) && attempt.is_active();
        let is_running = self.task(task).is_some_and(|task| task.attempts.iter().any(repeats));
        if self.repeats.waiting.is_empty() && !is_running {
            self.end(Ending::Failed(JobFailure::Undecidable { task }));
        }
    }

    /// Holds a repeated attempt's ballot against the one that its tracker gave first.
    pub(crate) fn repeated(&mut self, workforce: &Workforce, id: AttemptId, of: u16, ballot: Digest) {
        let original = AttemptId { task: id.task, attempt: of };
        let Some(first) = self.attempt(original) else { return };
        let tracker = first.tracker;
        if first.vote().is_none_or(|vote| vote.ballot == ballot) {
            return;
        }
        self.dispute(id.task);
        self.repeats.differing.insert(workforce.domain(tracker));
        let is_undecidable = self.repeats.undecidable.is_some_and(|(task, _)| task == id.task);
        if is_undecidable || self.repeats.differing.len() as u64 > u64::from(self.f()) {
            return self.end(Ending::Failed(JobFailure::Nondeterministic { task: id.task, tracker }));
        }
        self.voted(id.task).into_iter().for_each(|other| self.doubt(other));
    }
}
