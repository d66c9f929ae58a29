//! When an attempt is overdue, and what follows.
//!
//! Time is ordered time only. Each running attempt has one alarm, never later than its deadline; when it rings, the
//! deadline is computed afresh, so that progress itself costs nothing. A reducer that waits for maps has none: it gets one
//! when its clock starts, for thousands wait through most of a large job. An overdue attempt is no evidence of a lie: its
//! vote still counts, and one more attempt is started beside it.
//!
//! Replicas order that time passes when deadlines are due. After an outage of theirs the first command comes long after
//! a deadline, and trackers that were in time have not been heard yet: every attempt's clock starts anew.

use crate::{
    bounds::{GRACE_TIMEOUTS, STRAGGLER_FACTOR},
    events::Happening,
    job::Job,
    task::{Attempt, AttemptState},
    workforce::Workforce,
};
use quorate_protocol::{
    ids::{AttemptId, OrderedTime, Stage, TaskId},
    job::Directive,
};

impl Job {
    /// From when on an attempt's time counts: a reducer's only while it has all that it needs.
    pub(crate) fn clock(&self, stage: Stage, attempt: &Attempt) -> Option<OrderedTime> {
        match stage {
            Stage::Map => Some(attempt.started),
            Stage::Reduce => self.settled.map(|settled| settled.max(attempt.started)),
        }
    }

    /// When an attempt will be overdue, if its clock runs.
    fn deadline(&self, stage: Stage, attempt: &Attempt) -> Option<OrderedTime> {
        let from = self.clock(stage, attempt)?.max(attempt.progressed);
        let due = from.after(self.specification.progress_timeout_ms);
        Some(attempt.limit.map_or(due, |limit| due.min(limit)))
    }

    /// When an overdue attempt may be given up: only if it does not go on.
    fn patience_end(&self, since: OrderedTime, attempt: &Attempt) -> OrderedTime {
        since.max(attempt.progressed).after(GRACE_TIMEOUTS * self.specification.progress_timeout_ms)
    }

    /// Notes an attempt's progress. Units that do not grow are none.
    pub(crate) fn progress(&mut self, now: OrderedTime, id: AttemptId, units: u64) {
        if let Some(attempt) = self.attempt_mut(id).filter(|attempt| attempt.is_active() && units > attempt.units) {
            attempt.units = units;
            attempt.progressed = now;
        }
    }

    /// Looks at an attempt whose alarm rang.
    pub(crate) fn alarm(&mut self, workforce: &mut Workforce, id: AttemptId) {
        let now = workforce.now;
        let timeout = self.specification.progress_timeout_ms;
        let Some(attempt) = self.attempt(id) else { return };
        match &attempt.state {
            AttemptState::Running => match self.deadline(id.task.stage, attempt) {
                Some(due) if due <= now => self.overdue(workforce, id),
                due => self.set_alarm(workforce, id, due),
            },
            AttemptState::Overdue { .. } if self.is_blocked(now, id.task) => self.give_up(workforce, id.task),
            AttemptState::Overdue { since } => {
                let next = self.patience_end(*since, attempt).max(now.after(timeout));
                self.set_alarm(workforce, id, Some(next));
            }
            AttemptState::Voted(_)
            | AttemptState::Lost(_)
            | AttemptState::Declined(_)
            | AttemptState::Withdrawn
            | AttemptState::Cancelled => unreachable!("an attempt that ended has no alarm"),
        }
    }

    /// Starts a running attempt's clock anew, after an outage of `outage_ms`.
    pub(crate) fn restart_clock(&mut self, workforce: &mut Workforce, id: AttemptId, outage_ms: u64) {
        let now = workforce.now;
        let due = now.after(self.specification.progress_timeout_ms);
        let Some(attempt) = self.attempt_mut(id) else { return };
        attempt.progressed = now;
        attempt.limit = attempt.limit.map(|limit| limit.after(outage_ms));
        let alarm = attempt.limit.map_or(due, |limit| due.min(limit));
        self.set_alarm(workforce, id, Some(alarm));
    }

    /// Gives alarms to the reducers whose clocks have started.
    pub(crate) fn start_clocks(&mut self, workforce: &mut Workforce) {
        if !std::mem::take(&mut self.clocks_start) || self.settled.is_none() {
            return;
        }
        for index in 0..self.reduces.all.len() as u32 {
            let task = self.task_id(Stage::Reduce, index);
            let attempts = self.task(task).into_iter().flat_map(|task| (0u16..).zip(&task.attempts));
            let silent = attempts.filter(|(number, attempt)| {
                let name = AttemptId { task, attempt: *number };
                attempt.is_active() && workforce.alarm_of(attempt.tracker, name).is_none()
            });
            let due: Vec<_> = silent.map(|(number, attempt)| (number, self.deadline(Stage::Reduce, attempt))).collect();
            for (number, due) in due {
                self.set_alarm(workforce, AttemptId { task, attempt: number }, due);
            }
        }
    }

    fn set_alarm(&self, workforce: &mut Workforce, id: AttemptId, to: Option<OrderedTime>) {
        if let Some(attempt) = self.attempt(id) {
            workforce.set_alarm(attempt.tracker, id, to);
        }
    }

    /// Marks an attempt as overdue. Where there is room for no other beside it, it is lost at once.
    fn overdue(&mut self, workforce: &mut Workforce, id: AttemptId) {
        let timeout = self.specification.progress_timeout_ms;
        let f = self.f();
        let Some(attempt) = self.attempt_mut(id) else { return };
        let (tracker, is_alone) = (attempt.tracker, f == 0 || !attempt.decides());
        workforce.change(tracker, |tracker| {
            tracker.overdue += 1;
            tracker.is_tardy = true;
        });
        self.dispute(id.task);
        workforce.tell(self.id, || Happening::Overdue { attempt: id });
        if is_alone {
            return self.lose_silent(workforce, id);
        }
        let now = workforce.now;
        if let Some(attempt) = self.attempt_mut(id) {
            attempt.state = AttemptState::Overdue { since: now };
            attempt.was_overdue = true;
        }
        self.set_alarm(workforce, id, Some(now.after(GRACE_TIMEOUTS * timeout)));
        self.refresh(id.task);
    }

    /// Whether all 2f + 1 places of an undecided task are taken, and no attempt is left that may still be waited for.
    fn is_blocked(&self, now: OrderedTime, id: TaskId) -> bool {
        let Some(task) = self.task(id).filter(|task| task.agreed.is_none()) else { return false };
        let tally = task.tally();
        let is_patient = task.attempts.iter().any(|attempt| match attempt.state {
            AttemptState::Overdue { since } => self.patience_end(since, attempt) > now,
            AttemptState::Running
            | AttemptState::Voted(_)
            | AttemptState::Lost(_)
            | AttemptState::Declined(_)
            | AttemptState::Withdrawn
            | AttemptState::Cancelled => false,
        });
        let clock_runs = id.stage == Stage::Map || self.settled.is_some();
        clock_runs && tally.running == 0 && tally.voted + tally.overdue > 2 * self.f() && !is_patient
    }

    fn give_up(&mut self, workforce: &mut Workforce, id: TaskId) {
        let Some(task) = self.task(id) else { return };
        let numbered = (0u16..).zip(&task.attempts).filter(|(_, attempt)| attempt.is_active());
        let silent: Vec<_> = numbered.map(|(number, _)| AttemptId { task: id, attempt: number }).collect();
        silent.into_iter().for_each(|attempt| self.lose_silent(workforce, attempt));
    }

    fn lose_silent(&mut self, workforce: &mut Workforce, id: AttemptId) {
        let Some(attempt) = self.attempt(id) else { return };
        workforce.direct(attempt.tracker, Directive::Cancel { attempt: id });
        self.lose(workforce, id, AttemptState::Lost("no answer".to_owned()));
    }

    /// Once a copy voted, bounds the time of the others: claimed progress must not hold a task up for ever. A copy whose
    /// time is over already is late from now on: a deadline in the past would look like an outage.
    pub(crate) fn limit_stragglers(&mut self, workforce: &mut Workforce, voted: AttemptId) {
        let now = workforce.now;
        let stage = voted.task.stage;
        let Some(task) = self.task(voted.task) else { return };
        let Some(start) = self.attempt(voted).and_then(|attempt| self.clock(stage, attempt)) else { return };
        let allowed = now.since(start).saturating_mul(STRAGGLER_FACTOR).max(self.specification.progress_timeout_ms);
        let running = (0u16..).zip(&task.attempts).filter(|(_, attempt)| attempt.state == AttemptState::Running);
        let limits: Vec<_> = running
            .filter_map(|(number, attempt)| Some((number, self.clock(stage, attempt)?.after(allowed).max(now))))
            .collect();
        for (number, limit) in limits {
            let id = AttemptId { task: voted.task, attempt: number };
            let Some(attempt) = self.attempt_mut(id) else { continue };
            attempt.limit = Some(attempt.limit.map_or(limit, |old| old.min(limit)));
            if workforce.alarm_of(attempt.tracker, id).is_none_or(|alarm| limit < alarm) {
                self.set_alarm(workforce, id, Some(limit));
            }
        }
    }
}
