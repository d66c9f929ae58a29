//! One live job: its tasks, what they want, what they agreed on, and how it will end.

use crate::{
    blame::Complaints,
    bounds::{COMPLAINT_RERUNS_MAX, RERUNS_MAX},
    events::Happening,
    log::Log,
    repeats::Repeats,
    table::Table,
    task::{Attempt, AttemptState, Task},
    wants::{Urgency, Wants},
    workforce::{DomainIndex, Workforce},
};
use quorate_protocol::{
    command::Cost,
    digest::Digest,
    evidence::Evidence,
    file::{File, Path},
    ids::{AttemptId, JobId, OrderedTime, Stage, TaskId, TrackerId},
    job::{Directive, MapVerdict, Specification, Split},
    limits,
    query::{Blame, JobFailure},
    vote::{Ballot, Counters},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The tasks of one stage.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tasks {
    /// All of them, by their index.
    pub(crate) all: Vec<Task>,
    /// How many have a verdict.
    pub(crate) agreed: u32,
    /// Which want attempts.
    pub(crate) wants: Wants,
}

impl Tasks {
    /// Whether all have a verdict.
    pub(crate) fn are_agreed(&self) -> bool {
        self.agreed as usize == self.all.len()
    }
}

/// What one tracker did for a job.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Whether it was given an attempt.
    pub(crate) takes_part: bool,
    /// The map tasks that it voted for as agreed.
    pub(crate) served: Vec<u32>,
}

/// How a job ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Ending {
    /// All parts are agreed.
    Succeeded,
    /// It cannot be finished.
    Failed(JobFailure),
    /// A client ended it.
    Killed,
}

/// Something found against a tracker while a job was worked on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Charge {
    pub(crate) about: TrackerId,
    pub(crate) evidence: Evidence,
    pub(crate) blame: Blame,
}

/// A live job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// The cluster, as votes name it.
    pub(crate) cluster: Digest,
    pub(crate) specification: Specification,
    /// What votes name the job by.
    pub(crate) digest: Digest,
    /// The input.
    pub(crate) files: Vec<(Path, File)>,
    pub(crate) submitted: OrderedTime,
    pub(crate) splits: Vec<Split>,
    /// For each map task, which placement of its file holds its first byte.
    pub(crate) homes: Vec<u32>,
    /// The program's target, empty for one that runs anywhere.
    pub(crate) target: String,
    pub(crate) maps: Tasks,
    pub(crate) reduces: Tasks,
    /// The log that reducers follow.
    pub(crate) verdicts: Log,
    /// What each tracker of the cluster did for it.
    pub(crate) crew: Table<Member>,
    /// Agreed map tasks whose bytes nobody can serve.
    pub(crate) lacking: BTreeSet<u32>,
    /// Since when reducers have all that they need: their progress clocks run from then on.
    pub(crate) settled: Option<OrderedTime>,
    /// Whether reducers' clocks have just started, so that they need alarms.
    pub(crate) clocks_start: bool,
    pub(crate) complaints: Complaints,
    pub(crate) repeats: Repeats,
    /// Attempts that its tasks wanted.
    pub(crate) attempts: u64,
    /// Attempts that were about their trackers.
    pub(crate) tests: u64,
    pub(crate) cost: Cost,
    pub(crate) counters: Counters,
    /// The first disputed tasks.
    pub(crate) disputes: Vec<TaskId>,
    pub(crate) disputed: u64,
    /// Whether it gets no reduce slots until its reducers have all that they need: its attempts were taken back once.
    pub(crate) is_held: bool,
    /// A task that nobody who is there may run.
    pub(crate) stuck: Option<TaskId>,
    /// Set once it is to end.
    pub(crate) ending: Option<Ending>,
}

impl Job {
    /// The job's f.
    pub(crate) fn f(&self) -> u32 {
        self.specification.f
    }
    /// Every tracker that was given an attempt.
    pub(crate) fn participants(&self) -> impl Iterator<Item = TrackerId> {
        self.crew.iter().filter(|(_, member)| member.takes_part).map(|(id, _)| id)
    }
    /// A stage's tasks.
    pub(crate) fn tasks(&self, stage: Stage) -> &Tasks {
        match stage {
            Stage::Map => &self.maps,
            Stage::Reduce => &self.reduces,
        }
    }
    /// As [`Job::tasks`].
    pub(crate) fn tasks_mut(&mut self, stage: Stage) -> &mut Tasks {
        match stage {
            Stage::Map => &mut self.maps,
            Stage::Reduce => &mut self.reduces,
        }
    }
    /// A task's name.
    pub(crate) fn task_id(&self, stage: Stage, index: u32) -> TaskId {
        TaskId { job: self.id, stage, index }
    }
    /// A task, by a name that a peer may have made up.
    pub(crate) fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks(id.stage).all.get(id.index as usize).filter(|_| id.job == self.id)
    }
    /// As [`Job::task`].
    pub(crate) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let job = self.id;
        self.tasks_mut(id.stage).all.get_mut(id.index as usize).filter(|_| id.job == job)
    }
    /// An attempt, by a name that a peer may have made up.
    pub(crate) fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.task(id.task)?.attempts.get(usize::from(id.attempt))
    }
    /// As [`Job::attempt`].
    pub(crate) fn attempt_mut(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        self.task_mut(id.task)?.attempts.get_mut(usize::from(id.attempt))
    }
    /// The trackers that hold the middle of a task's input.
    pub(crate) fn holders(&self, id: TaskId) -> &[TrackerId] {
        let placement = || {
            let split = self.splits.get(id.index as usize)?;
            let (_, file) = self.files.get(split.file as usize)?;
            file.placements.get(*self.homes.get(id.index as usize)? as usize)
        };
        match id.stage {
            Stage::Map => placement().map_or(&[], |run| run.servers.as_slice()),
            Stage::Reduce => &[],
        }
    }
    /// The domains that may not run a task: those of attempts that count (T-1). One that only brings bytes back may run
    /// anywhere, except where such a one runs, and where the verdict was contradicted (T-4).
    pub(crate) fn occupied(&self, workforce: &Workforce, task: &Task) -> Vec<DomainIndex> {
        let counts = |attempt: &&Attempt| match task.agreed {
            None => attempt.keeps_domain(),
            Some(_) => attempt.is_active(),
        };
        let counting = task.attempts.iter().filter(counts).map(|attempt| attempt.tracker);
        counting.chain(task.outvoted()).map(|tracker| workforce.domain(tracker)).collect()
    }

    /// Puts a task where its wants belong.
    pub(crate) fn refresh(&mut self, id: TaskId) {
        let f = self.f();
        let Some(task) = self.task(id) else { return };
        let urgency = match task.wanted(f) {
            0 => None,
            _ if task.is_urgent(f) => Some(Urgency::Urgent),
            _ if task.attempts.is_empty() => Some(Urgency::Untouched),
            _ => Some(Urgency::Partial),
        };
        let tasks = self.tasks_mut(id.stage);
        let Some(task) = tasks.all.get_mut(id.index as usize) else { return };
        let before = std::mem::replace(&mut task.urgency, urgency);
        tasks.wants.put(id.index, before, urgency);
    }

    /// Ends an attempt that will not vote: `why` is [`AttemptState::Lost`] or [`AttemptState::Declined`].
    pub(crate) fn lose(&mut self, workforce: &mut Workforce, id: AttemptId, why: AttemptState) {
        let Some(attempt) = self.attempt_mut(id).filter(|attempt| attempt.is_active()) else { return };
        let tracker = attempt.tracker;
        workforce.tell(id.task.job, || Happening::Ended { attempt: id, why: why.end() });
        attempt.state = why;
        workforce.release(tracker, id);
        let f = self.f();
        if let Some(reason) = self.task(id.task).and_then(|task| task.hopeless(f)) {
            self.end(Ending::Failed(JobFailure::NotRunnable { task: id.task, reason }));
        }
        self.refresh(id.task);
    }

    /// Ends the attempts of a task that still run: it is decided.
    pub(crate) fn cancel_rest(&mut self, workforce: &mut Workforce, id: TaskId) {
        self.stop_rest(workforce, id, &AttemptState::Cancelled);
    }

    fn stop_rest(&mut self, workforce: &mut Workforce, id: TaskId, state: &AttemptState) {
        let Some(task) = self.task_mut(id) else { return };
        for (number, attempt) in task.attempts.iter_mut().enumerate().filter(|(_, attempt)| attempt.is_active()) {
            let name = AttemptId { task: id, attempt: number as u16 };
            attempt.state = state.clone();
            workforce.tell(id.job, || Happening::Ended { attempt: name, why: state.end() });
            workforce.release(attempt.tracker, name);
            workforce.direct(attempt.tracker, Directive::Cancel { attempt: name });
        }
    }

    /// Takes the attempts of a task back: their slots are of more use elsewhere.
    pub(crate) fn withdraw(&mut self, workforce: &mut Workforce, id: TaskId) {
        self.stop_rest(workforce, id, &AttemptState::Withdrawn);
        self.refresh(id);
    }

    /// Notes that a task did not go smoothly.
    pub(crate) fn dispute(&mut self, id: TaskId) {
        let Some(task) = self.task_mut(id).filter(|task| !task.is_disputed) else { return };
        task.is_disputed = true;
        self.disputed += 1;
        if self.disputes.len() < limits::DISPUTES_PER_JOB_MAX {
            self.disputes.push(id);
        }
    }

    /// Decides how the job ends. The first reason counts.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    /// Adds an agreed ballot's counters; names beyond the bound are dropped.
    pub(crate) fn add_counters(&mut self, ballot: &Ballot) {
        let counters = match ballot {
            Ballot::Map { counters, .. } | Ballot::Reduce { counters, .. } => counters,
            Ballot::Failed { .. } => return,
        };
        for (name, value) in counters {
            let has_room = self.counters.len() < limits::COUNTERS_MAX;
            match self.counters.get_mut(name) {
                Some(sum) => *sum = sum.saturating_add(*value),
                None if has_room => {
                    self.counters.insert(name.clone(), *value);
                }
                None => {}
            }
        }
    }

    /// Writes a map task's verdict into the log.
    pub(crate) fn log_verdict(&mut self, index: u32) {
        let Some(task) = self.task(self.task_id(Stage::Map, index)) else { return };
        let Some(ballot) = task.agreed else { return };
        let agrees = |attempt: &&Attempt| attempt.has_for_readers(ballot);
        let numbered = (0u16..).zip(&task.attempts).filter(|(_, attempt)| agrees(attempt));
        let voters: Vec<u16> = numbered.map(|(number, _)| number).collect();
        self.verdicts.push(index, &voters);
    }

    /// The verdict at a position of the log.
    pub(crate) fn verdict(&self, at: usize) -> Option<MapVerdict> {
        let (map, voters) = self.verdicts.get(at)?;
        let id = self.task_id(Stage::Map, map);
        let task = self.task(id)?;
        let ballot = task.agreed?;
        let Some(Ballot::Map { segments, .. }) = task.ballot(ballot) else { return None };
        let voter = |number: &u16| {
            let name = AttemptId { task: id, attempt: *number };
            Some((self.attempt(name)?.tracker, name))
        };
        Some(MapVerdict { map, segments, ballot, voters: voters.iter().filter_map(voter).collect() })
    }

    /// Brings the reducers' clocks up to date with whether all map output can be had.
    pub(crate) fn settle(&mut self, now: OrderedTime) {
        let is_settled = self.maps.are_agreed() && self.lacking.is_empty();
        self.clocks_start |= is_settled && self.settled.is_none();
        self.settled = is_settled.then_some(self.settled.unwrap_or(now));
        self.is_held &= !is_settled;
    }

    /// Looks whether an agreed map task's bytes can still be had, and has them made again if not.
    ///
    /// Complaints are one tracker's word, so that they cause a few attempts at most.
    pub(crate) fn check_served(&mut self, workforce: &mut Workforce, index: u32) {
        let id = self.task_id(Stage::Map, index);
        let Some(task) = self.task(id).filter(|task| task.agreed.is_some()) else { return };
        let agrees = |attempt: &&Attempt| task.agreed.is_some_and(|agreed| attempt.has_for_readers(agreed));
        let mut reachable = task.attempts.iter().filter(agrees).filter(|attempt| workforce.serves(attempt.tracker));
        let is_served = reachable.clone().any(|attempt| !attempt.is_complained);
        let is_heard = reachable.next().is_none() || task.reruns < COMPLAINT_RERUNS_MAX;
        let (was_lacking, reruns) = (task.is_lacking, task.reruns);
        let is_lacking = !is_served && (was_lacking || is_heard);
        if is_lacking == was_lacking {
            return;
        }
        if is_lacking && reruns >= RERUNS_MAX {
            let reason = format!("its output was lost {reruns} times with the trackers that had it");
            self.end(Ending::Failed(JobFailure::NotRunnable { task: id, reason }));
        }
        if let Some(task) = self.task_mut(id) {
            task.is_lacking = is_lacking;
            task.reruns = task.reruns.saturating_add(u16::from(is_lacking));
        }
        workforce.tell(id.job, || Happening::Lacking { task: id, is_lacking });
        if is_lacking {
            self.lacking.insert(index);
        } else {
            self.lacking.remove(&index);
        }
        self.settle(workforce.now);
        self.refresh(id);
    }

    /// As [`Job::check_served`], for all map tasks that a tracker serves.
    pub(crate) fn check_served_by(&mut self, workforce: &mut Workforce, tracker: TrackerId) {
        // Taken out and put back: the check changes the job, not this list.
        let Some(maps) = self.crew.get_mut(tracker).map(|member| std::mem::take(&mut member.served)) else { return };
        maps.iter().for_each(|index| self.check_served(workforce, *index));
        if let Some(member) = self.crew.get_mut(tracker) {
            member.served = maps;
        }
    }
}
