//! Gives tasks to trackers.
//!
//! Urgent tasks of all jobs come first, then each job in the order of submission: tasks whose input a free tracker
//! holds, tasks of which some attempts run, the rest. Every search names the task and finds a tracker, in O(f log n); a
//! search that fails says whether others are only busy. For each job, stage and urgency an event looks at a bounded
//! number of tasks that cannot be placed, and the next event goes on behind them.
//!
//! Slots that nobody wants then go to attempts that are only about their trackers: `repeats`, `probation`.
//!
//! Reducers are placed before their maps are done, and wait in their slots. A job whose reducers could finish does not
//! wait for such slots: they are taken back from the jobs that only wait in them, stuck ones and the newest first. A job
//! gets them again when its own reducers can finish, so that nothing goes back and forth.

use crate::{
    bounds::{ATTEMPTS_MAX, SCAN_MAX},
    events::Happening,
    job::{Ending, Job},
    pool::{Found, Pool},
    probation::probe,
    task::{Attempt, AttemptState, Purpose},
    wants::Urgency,
    workforce::{Need, Workforce},
};
use quorate_protocol::{
    ids::{AttemptId, JobId, Stage, TaskId, TrackerId},
    job::Work,
    query::JobFailure,
};
use std::collections::BTreeMap;

/// The worst first.
const URGENCIES: [Urgency; 3] = [Urgency::Urgent, Urgency::Partial, Urgency::Untouched];

/// Gives what free slots there are to the tasks that want them.
pub(crate) fn assign(jobs: &mut BTreeMap<JobId, Job>, workforce: &mut Workforce) {
    for job in jobs.values_mut() {
        job.examine_undecidable(workforce);
        job.check_stuck(workforce);
        for stage in [Stage::Map, Stage::Reduce] {
            job.place(workforce, stage, Urgency::Urgent);
        }
    }
    for job in jobs.values_mut() {
        job.place_local(workforce);
        for stage in [Stage::Map, Stage::Reduce] {
            job.place(workforce, stage, Urgency::Partial);
            job.place(workforce, stage, Urgency::Untouched);
        }
    }
    take_back(jobs, workforce);
    for job in jobs.values_mut() {
        job.place_repeats(workforce);
    }
    probe(jobs, workforce);
}

/// Has jobs that only wait in their reduce slots give them up while a job that could use them finds none.
fn take_back(jobs: &mut BTreeMap<JobId, Job>, workforce: &mut Workforce) {
    while let Some(waiting) = waiting_in_slots(jobs) {
        let lacks = |job: &&Job| job.settled.is_some() && job.lacks_reduce_slots(workforce);
        let Some(able) = jobs.values().find(lacks).map(|job| job.id) else { return };
        if let Some(job) = jobs.get_mut(&waiting) {
            job.withdraw_reduces(workforce);
        }
        if let Some(job) = jobs.get_mut(&able) {
            URGENCIES.into_iter().for_each(|urgency| job.place(workforce, Stage::Reduce, urgency));
        }
    }
}

/// The job whose reduce slots are taken back first.
fn waiting_in_slots(jobs: &BTreeMap<JobId, Job>) -> Option<JobId> {
    let waits = |job: &&Job| job.settled.is_none() && !job.is_held;
    jobs.values().filter(waits).max_by_key(|job| (job.stuck.is_some(), job.id)).map(|job| job.id)
}

impl Job {
    fn need(&self, workforce: &Workforce, id: TaskId) -> Option<Need<'_>> {
        let task = self.task(id).filter(|task| self.ending.is_none() && task.wanted(self.f()) > 0)?;
        Some(Need {
            stage: id.stage,
            target: &self.target,
            occupied: self.occupied(workforce, task),
            spoiled: task.spoiled(),
            preferred: self.holders(id),
        })
    }

    /// Whether the task that nobody could run has found somebody.
    fn check_stuck(&mut self, workforce: &Workforce) {
        let Some(id) = self.stuck else { return };
        if self.need(workforce, id).is_none_or(|need| workforce.find(&need) != Found::Nobody) {
            self.stuck = None;
        }
    }

    fn free_count(&self, workforce: &Workforce, stage: Stage) -> usize {
        workforce.pool(stage, &self.target).map_or(0, |pool| pool.free_count())
    }

    /// Whether all trackers are busy, and in more domains than the attempts of a task ever are: so that no search finds
    /// one, nor that nobody is there.
    fn is_full(&self, workforce: &Workforce, stage: Stage) -> bool {
        let is_full = |pool: &Pool| pool.free_count() == 0 && pool.live_domains() > 4 * (self.f() as usize + 1);
        workforce.pool(stage, &self.target).is_some_and(is_full)
    }

    /// Whether a reduce attempt that could finish waits for a slot.
    fn lacks_reduce_slots(&self, workforce: &Workforce) -> bool {
        let wants = &self.reduces.wants;
        let mut next = URGENCIES.into_iter().flat_map(|urgency| wants.next(urgency, SCAN_MAX));
        next.any(|index| {
            let need = self.need(workforce, self.task_id(Stage::Reduce, index));
            need.is_some_and(|need| workforce.find(&need) == Found::Busy)
        })
    }

    /// Gives up all reduce slots until the reducers have all that they need.
    fn withdraw_reduces(&mut self, workforce: &mut Workforce) {
        self.is_held = true;
        for index in 0..self.reduces.all.len() as u32 {
            let task = self.task_id(Stage::Reduce, index);
            self.withdraw(workforce, task);
        }
    }

    fn place(&mut self, workforce: &mut Workforce, stage: Stage, urgency: Urgency) {
        let is_held = stage == Stage::Reduce && self.is_held;
        while self.ending.is_none() && !is_held && !self.is_in_doubt() && !self.is_full(workforce, stage) {
            // Without a free slot one look tells whether the first task waits for slots or for trackers.
            let max = if self.free_count(workforce, stage) == 0 { 1 } else { SCAN_MAX };
            let batch = self.tasks(stage).wants.next(urgency, max);
            let Some(last) = batch.last().copied() else { return };
            let mut misses = 0;
            for index in &batch {
                misses += usize::from(!self.place_task(workforce, self.task_id(stage, *index)));
                // The others were not looked at, and are not passed over.
                if misses > 0 && self.is_full(workforce, stage) {
                    return;
                }
            }
            if misses > 0 {
                if max == SCAN_MAX {
                    self.tasks_mut(stage).wants.pass(urgency, last);
                }
                return;
            }
        }
    }

    /// Starts as many attempts as a task wants; whether all found a tracker.
    fn place_task(&mut self, workforce: &mut Workforce, id: TaskId) -> bool {
        while let Some(need) = self.need(workforce, id) {
            match workforce.find(&need) {
                Found::Tracker(tracker) => self.start(workforce, id, tracker),
                Found::Busy => return false,
                Found::Nobody => {
                    if self.stuck.is_none() {
                        self.stuck = Some(id);
                        self.doubt_if_disputed(id);
                    }
                    return false;
                }
            }
        }
        true
    }

    fn place_local(&mut self, workforce: &mut Workforce) {
        let Some(pool) = workforce.pool(Stage::Map, &self.target).filter(|pool| pool.free_count() > 0) else { return };
        for tracker in self.maps.wants.with_local(pool.free(), pool.free_count()) {
            self.place_local_on(workforce, tracker);
        }
    }

    /// Fills a tracker with untouched or partial tasks whose input it holds. A task that may not run there is passed
    /// over for good: when it wants an attempt again, it finds its holders by itself.
    fn place_local_on(&mut self, workforce: &mut Workforce, tracker: TrackerId) {
        let is_good = |workforce: &Workforce| {
            let load = workforce.tracker(tracker).and_then(|t| t.load(Stage::Map));
            load.is_some_and(|load| load.rank == 0)
        };
        let runs_it = workforce.tracker(tracker).is_some_and(|t| self.target.is_empty() || t.target() == self.target);
        while runs_it && is_good(workforce) && !self.is_in_doubt() {
            let Some(index) = self.maps.wants.pop_local(tracker) else { return };
            let id = self.task_id(Stage::Map, index);
            let wants_any = match self.task(id).and_then(|task| task.urgency) {
                Some(Urgency::Partial | Urgency::Untouched) => true,
                Some(Urgency::Urgent) | None => false,
            };
            let domain = workforce.domain(tracker);
            if wants_any && self.need(workforce, id).is_some_and(|need| !need.occupied.contains(&domain)) {
                self.start(workforce, id, tracker);
            }
        }
    }

    /// Starts an attempt that the task wants.
    fn start(&mut self, workforce: &mut Workforce, id: TaskId, tracker: TrackerId) {
        let Some(task) = self.task(id) else { return };
        let purpose = if task.agreed.is_some() { Purpose::BringsBack } else { Purpose::Decides };
        if !self.start_for(workforce, id, tracker, purpose) {
            let reason = format!("it was attempted {ATTEMPTS_MAX} times");
            self.end(Ending::Failed(JobFailure::NotRunnable { task: id, reason }));
        }
    }

    /// Starts an attempt, unless the task had too many; whether it did.
    pub(crate) fn start_for(
        &mut self,
        workforce: &mut Workforce,
        id: TaskId,
        tracker: TrackerId,
        purpose: Purpose,
    ) -> bool {
        let (now, quorum) = (workforce.now, self.specification.quorum());
        let clock_runs = id.stage == Stage::Map || self.settled.is_some();
        let alarm = clock_runs.then(|| now.after(self.specification.progress_timeout_ms));
        let work = match id.stage {
            Stage::Map => self.splits.get(id.index as usize).copied().map(Work::Map),
            Stage::Reduce => Some(Work::Reduce),
        };
        let (Some(work), Some(task)) = (work, self.task_mut(id)) else { return false };
        let number = u16::try_from(task.attempts.len()).ok().filter(|number| *number < ATTEMPTS_MAX);
        let Some(number) = number else { return false };
        let attempt = Attempt {
            tracker,
            started: now,
            progressed: now,
            units: 0,
            limit: None,
            purpose,
            was_overdue: false,
            is_complained: false,
            state: AttemptState::Running,
        };
        task.add_attempt(attempt, quorum);
        match purpose {
            Purpose::Decides | Purpose::BringsBack => self.attempts += 1,
            Purpose::Repeats(_) | Purpose::Probes => self.tests += 1,
        }
        if let Some(member) = self.crew.get_mut(tracker) {
            member.takes_part = true;
        }
        let attempt = AttemptId { task: id, attempt: number };
        workforce.start(tracker, attempt, work, alarm);
        workforce.tell(self.id, || Happening::Placed { attempt, tracker, purpose });
        self.refresh(id);
        true
    }
}
