//! Gives tasks to trackers.
//!
//! Urgent tasks of all jobs come first, then each job in the order of submission: tasks whose input a free tracker
//! holds, tasks of which some attempts run, the rest. Every search names the task and finds a tracker, in O(f log n); a
//! search that fails says whether others are only busy. For each job, stage and urgency an event looks at a bounded
//! number of tasks that cannot be placed, and the next event goes on behind them.

use crate::{
    bounds::SCAN_MAX,
    job::Job,
    pool::Found,
    task::{Attempt, AttemptState},
    wants::Urgency,
    workforce::{Need, Workforce},
};
use quorate_protocol::{
    ids::{AttemptId, JobId, Stage, TaskId, TrackerId},
    job::Work,
};
use std::collections::BTreeMap;

/// Gives what free slots there are to the tasks that want them.
pub(crate) fn assign(jobs: &mut BTreeMap<JobId, Job>, workforce: &mut Workforce) {
    for job in jobs.values_mut() {
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
}

impl Job {
    fn need(&self, workforce: &Workforce, id: TaskId) -> Option<Need<'_>> {
        let task = self.task(id).filter(|task| task.wanted(self.f()) > 0)?;
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

    fn place(&mut self, workforce: &mut Workforce, stage: Stage, urgency: Urgency) {
        loop {
            // Without a free slot one look tells whether the first task waits for slots or for trackers.
            let max = if self.free_count(workforce, stage) == 0 { 1 } else { SCAN_MAX };
            let batch = self.tasks(stage).wants.next(urgency, max);
            let Some(last) = batch.last().copied() else { return };
            let mut misses = 0;
            for index in &batch {
                misses += usize::from(!self.place_task(workforce, self.task_id(stage, *index)));
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
                    self.stuck.get_or_insert(id);
                    return false;
                }
            }
        }
        true
    }

    fn place_local(&mut self, workforce: &mut Workforce) {
        let Some(pool) = workforce.pool(Stage::Map, &self.target) else { return };
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
        let runs_it = workforce
            .tracker(tracker)
            .and_then(|t| t.registration.as_ref())
            .is_some_and(|registration| self.target.is_empty() || registration.target == self.target);
        while runs_it && is_good(workforce) {
            let Some(index) = self.maps.wants.pop_local(tracker) else { return };
            let id = self.task_id(Stage::Map, index);
            let wants_any = matches!(self.maps.wants.urgency(index), Some(Urgency::Partial | Urgency::Untouched));
            let domain = workforce.domain(tracker);
            if wants_any && self.need(workforce, id).is_some_and(|need| !need.occupied.contains(&domain)) {
                self.start(workforce, id, tracker);
            }
        }
    }

    fn start(&mut self, workforce: &mut Workforce, id: TaskId, tracker: TrackerId) {
        let now = workforce.now;
        let alarm = now.after(self.specification.progress_timeout_ms);
        let work = match id.stage {
            Stage::Map => self.splits.get(id.index as usize).copied().map(Work::Map),
            Stage::Reduce => Some(Work::Reduce),
        };
        let (Some(work), Some(task)) = (work, self.task_mut(id)) else { return };
        let number = u16::try_from(task.attempts.len()).expect("attempts of a task are bounded far below 2^16");
        let is_rerun = task.agreed.is_some();
        task.attempts.push(Attempt {
            tracker,
            started: now,
            progressed: now,
            units: 0,
            limit: None,
            alarm,
            is_rerun,
            is_complained: false,
            state: AttemptState::Running,
        });
        self.attempts += 1;
        self.participants.insert(tracker);
        workforce.start(tracker, AttemptId { task: id, attempt: number }, work, alarm);
        self.refresh(id);
    }
}
