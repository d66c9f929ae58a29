//! Quarantine, and the way back out of it.
//!
//! * **B-3** A tracker in quarantine does no work: what it ran is lost, its next work is another's. Proof puts it there at
//!   once, and so may an operator. Its votes that made a verdict stay, for f + 1 equal votes hold with it or without; what
//!   it stored can be read, for readers check it, unless it is convicted.
//! * **B-6** A tracker on probation runs only tasks whose answers are known: map tasks of running jobs that f + 1 others
//!   agreed on. [`PROBES`] right answers bring it back, one wrong one puts it in quarantine again.
//!
//! An operator readmits a tracker, nothing else does. What was held against it stays on its record and counts no more; a
//! proof that was not seen before counts.

use crate::{
    Scheduler,
    bounds::{PROBES, SCAN_MAX, cut},
    job::{Charge, Job},
    task::Purpose,
    workforce::Workforce,
};
use quorate_protocol::{
    command::Refusal,
    digest::Digest,
    ids::{AttemptId, JobId, Stage, TrackerId},
    query::{Answer, Duty},
};
use std::collections::BTreeMap;

impl Scheduler {
    /// An operator puts a tracker in quarantine.
    pub(crate) fn order_quarantine(&mut self, id: TrackerId, reason: &str) -> Result<Answer, Refusal> {
        self.workforce.tracker(id).ok_or_else(|| Refusal::NotFound(id.to_string()))?;
        self.quarantine(id, &cut(reason), "its tracker was put in quarantine");
        Ok(Answer::Done)
    }

    /// Takes all work from a tracker, unless it is in quarantine already.
    pub(crate) fn quarantine(&mut self, id: TrackerId, reason: &str, why_lost: &str) {
        if self.workforce.tracker(id).is_none_or(|tracker| tracker.is_quarantined()) {
            return;
        }
        self.workforce.change(id, |tracker| tracker.duty = Duty::Quarantined(reason.to_owned()));
        self.lose_work(id, why_lost, true);
        self.check_served_by(id);
    }

    /// An operator puts a tracker on probation.
    pub(crate) fn readmit(&mut self, id: TrackerId) -> Result<Answer, Refusal> {
        let tracker = self.workforce.tracker(id).ok_or_else(|| Refusal::NotFound(id.to_string()))?;
        if !tracker.is_quarantined() {
            return Err(Refusal::Invalid(format!("{id} is not in quarantine")));
        }
        self.workforce.change(id, |tracker| {
            tracker.record.settle();
            tracker.duty = Duty::Probation { passed: 0, needed: PROBES };
        });
        self.check_served_by(id);
        Ok(Answer::Done)
    }
}

/// Gives each tracker that is on probation and has nothing to do a task whose answer is known, if there is one.
pub(crate) fn probe(jobs: &mut BTreeMap<JobId, Job>, workforce: &mut Workforce) {
    for id in workforce.on_probation() {
        let is_idle = workforce.tracker(id).is_some_and(|tracker| tracker.can_be_probed());
        if is_idle && let Some(job) = jobs.values_mut().find(|job| job.may_probe(workforce, id)) {
            job.probe(workforce, id);
        }
    }
}

impl Job {
    fn may_probe(&self, workforce: &Workforce, id: TrackerId) -> bool {
        let runs_it = |target: &str| self.target.is_empty() || target == self.target;
        let is_live = self.ending.is_none() && !self.is_in_doubt();
        is_live && self.f() > 0 && workforce.tracker(id).is_some_and(|tracker| runs_it(tracker.target()))
    }

    /// Starts a map task with a known answer on a tracker that never ran it. A bounded number of them is looked at, and
    /// the next look goes on behind these.
    fn probe(&mut self, workforce: &mut Workforce, id: TrackerId) {
        let count = self.maps.all.len() as u32;
        let Some(from) = workforce.tracker(id).map(|tracker| tracker.probed).filter(|_| count > 0) else { return };
        let mut looked = (0..count.min(SCAN_MAX as u32)).map(|ahead| from.wrapping_add(ahead) % count);
        let suits = |index: &u32| {
            self.task(self.task_id(Stage::Map, *index)).is_some_and(|task| {
                let is_new = task.attempts.iter().all(|attempt| attempt.tracker != id);
                task.agreed.is_some() && !task.is_disputed && is_new
            })
        };
        let found = looked.find(suits);
        let next = found.map_or(from.wrapping_add(SCAN_MAX as u32), |index| index + 1);
        workforce.change(id, |tracker| tracker.probed = next % count);
        if let Some(index) = found {
            self.start_for(workforce, self.task_id(Stage::Map, index), id, Purpose::Probes);
        }
    }

    /// Holds the answer of a tracker on probation against the one that is known.
    pub(crate) fn probed(
        &mut self,
        workforce: &mut Workforce,
        id: AttemptId,
        voter: TrackerId,
        ballot: Digest,
        charges: &mut Vec<Charge>,
    ) {
        let is_right = self.task(id.task).is_some_and(|task| task.agreed == Some(ballot));
        workforce.change(voter, |tracker| {
            let Duty::Probation { passed, needed } = &mut tracker.duty else { return };
            *passed += 1;
            if !is_right {
                tracker.duty = Duty::Quarantined(format!("on probation, it gave a wrong answer as {id}"));
            } else if passed >= needed {
                tracker.duty = Duty::Full;
            }
        });
        if !is_right {
            self.dispute(id.task);
            charges.extend(self.outvoted(workforce, id.task, voter));
        }
    }
}
