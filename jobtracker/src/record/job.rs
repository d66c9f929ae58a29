//! What is known of one job from its events: its tasks, their attempts, and what came of them.
//!
//! The same events give the same record, whether they are told as they happen or read from a log years later.

use quorate_protocol::{
    command::Cost,
    digest::Digest,
    ids::{AttemptId, JobId, OrderedTime, Stage, TaskId, TrackerId},
    query::{Blame, JobState},
    vote::Counters,
};
use quorate_schedule::events::{AttemptEnd, Closed, Event, Happening, Purpose, Submitted};
use std::collections::VecDeque;

/// Tasks that a record has room for; of a larger job only its beginning and end are known.
pub(crate) const TASKS_MAX: usize = 1 << 17;
/// Attempts of a task that a record has room for.
const ATTEMPTS_PER_TASK_MAX: u16 = 64;
/// Accusations of a record.
const CHARGES_MAX: usize = 256;
/// The newest changes of a live job's tasks: whoever is further behind takes all anew.
const CHANGES_MAX: usize = 1 << 14;

/// A job, as its events tell it.
#[derive(Clone, Debug)]
pub(crate) struct JobRecord {
    pub(crate) job: JobId,
    pub(crate) submitted: OrderedTime,
    pub(crate) about: Submitted,
    pub(crate) maps: StageRecord,
    pub(crate) reduces: StageRecord,
    /// Tasks that were disputed.
    pub(crate) disputed: u64,
    pub(crate) charges: Vec<ChargeRecord>,
    pub(crate) closed: Option<(OrderedTime, Closed)>,
    /// The newest event's time.
    pub(crate) until: OrderedTime,
    /// How many events it is made of.
    pub(crate) events: u64,
    /// Whether there are gaps between these.
    pub(crate) has_gaps: bool,
    /// The number of the newest.
    pub(crate) newest: u64,
    /// Over the lines of all events: equal for replicas that heard the same.
    pub(crate) digest: blake3::Hasher,
    /// The tasks that changed last, with the count of events by then.
    changes: VecDeque<(u64, Stage, u32)>,
    /// From which count of events on all changes are in `changes`.
    changes_from: u64,
}

/// The tasks of a stage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct StageRecord {
    /// How many there are.
    pub(crate) all: u32,
    /// How many have a verdict.
    pub(crate) agreed: u32,
    /// Each; empty when there are too many.
    pub(crate) tasks: Vec<TaskRecord>,
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TaskRecord {
    pub(crate) attempts: Vec<AttemptRecord>,
    pub(crate) agreed: Option<(OrderedTime, Digest)>,
    pub(crate) is_lacking: bool,
    pub(crate) is_failed: bool,
}

/// An attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AttemptRecord {
    pub(crate) tracker: TrackerId,
    pub(crate) placed: OrderedTime,
    pub(crate) purpose: Purpose,
    pub(crate) overdue: Option<OrderedTime>,
    pub(crate) end: Option<(OrderedTime, End)>,
}

/// What came of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Voted {
        ballot: Digest,
        cost: Cost,
    },
    /// It will not vote: boxed, for few say why.
    Not(Box<AttemptEnd>),
}

/// How an attempt stands to its task's verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AttemptStanding {
    Running,
    Overdue,
    Voted,
    Agreed,
    Outvoted,
    Lost,
    Withdrawn,
    Cancelled,
}

/// How a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TaskStanding {
    Pending,
    Running,
    Voted,
    Disputed,
    Agreed,
    Contested,
    Lacking,
    Failed,
}

/// Something found against a tracker in the course of the job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChargeRecord {
    pub(crate) number: u64,
    pub(crate) time: OrderedTime,
    pub(crate) tracker: TrackerId,
    pub(crate) kind: String,
    pub(crate) blame: Blame,
    pub(crate) attempt: AttemptId,
}

/// What has changed since.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Changes {
    /// These tasks, each once, in order.
    Tasks(Vec<(Stage, u32)>),
    /// More than is remembered.
    TooMany,
}

impl JobRecord {
    /// A record that begins with the first event of a job; `None` for any other.
    /// Of more than `room` tasks it keeps no account.
    pub(crate) fn begin(first: &Event, line: &str, room: usize) -> Option<Self> {
        let Happening::Submitted(about) = &first.what else { return None };
        let has_room = u64::from(about.maps).saturating_add(about.reduces.into()) <= room.min(TASKS_MAX) as u64;
        let tasks = |all: u32| if has_room { vec![TaskRecord::default(); all as usize] } else { Vec::new() };
        let stage = |all: u32| StageRecord { all, agreed: 0, tasks: tasks(all) };
        let mut digest = blake3::Hasher::new();
        digest.update(line.as_bytes());
        Some(Self {
            job: first.job,
            submitted: first.time,
            maps: stage(about.maps),
            reduces: stage(about.reduces),
            about: (**about).clone(),
            disputed: 0,
            charges: Vec::new(),
            closed: None,
            until: first.time,
            events: 1,
            has_gaps: false,
            newest: first.number,
            digest,
            changes: VecDeque::new(),
            changes_from: 1,
        })
    }

    /// Takes over the next event, with its line in the log.
    pub(crate) fn take(&mut self, event: &Event, line: &str) {
        self.newest = event.number;
        self.until = self.until.max(event.time);
        self.events = self.events.saturating_add(1);
        self.digest.update(line.as_bytes());
        let time = event.time;
        match &event.what {
            Happening::Submitted(_) => {}
            Happening::Placed { attempt, tracker, purpose } => self.place(time, *attempt, *tracker, *purpose),
            Happening::Voted { attempt, ballot, cost } => {
                self.end(time, *attempt, End::Voted { ballot: *ballot, cost: *cost });
            }
            Happening::Agreed { task, ballot } => self.agree(time, *task, *ballot),
            Happening::Overdue { attempt } => self.change(attempt.task, |task| {
                if let Some(attempt) = task.attempts.get_mut(usize::from(attempt.attempt)) {
                    attempt.overdue.get_or_insert(time);
                }
            }),
            Happening::Ended { attempt, why } => self.end(time, *attempt, End::Not(Box::new(why.clone()))),
            Happening::Lacking { task, is_lacking } => self.change(*task, |task| task.is_lacking = *is_lacking),
            Happening::Blamed { tracker, kind, blame, attempt } => {
                if self.charges.len() < CHARGES_MAX {
                    let (number, tracker, blame, attempt) = (event.number, *tracker, *blame, *attempt);
                    self.charges.push(ChargeRecord { number, time, tracker, kind: kind.clone(), blame, attempt });
                }
            }
            Happening::Closed(closed) => self.close(time, closed),
        }
    }

    /// A stage's record.
    pub(crate) fn stage(&self, stage: Stage) -> &StageRecord {
        match stage {
            Stage::Map => &self.maps,
            Stage::Reduce => &self.reduces,
        }
    }
    fn stage_mut(&mut self, stage: Stage) -> &mut StageRecord {
        match stage {
            Stage::Map => &mut self.maps,
            Stage::Reduce => &mut self.reduces,
        }
    }
    /// A task's record.
    pub(crate) fn task(&self, task: TaskId) -> Option<&TaskRecord> {
        self.stage(task.stage).tasks.get(task.index as usize)
    }
    /// Whether all maps are agreed: from then on reduces work on agreed input alone.
    pub(crate) fn is_settled(&self) -> bool {
        self.maps.agreed >= self.maps.all
    }
    /// Tasks whose attempts it knows.
    pub(crate) fn size(&self) -> usize {
        self.maps.tasks.len() + self.reduces.tasks.len()
    }

    /// What has changed since so many events were there.
    pub(crate) fn changes_since(&self, events: u64) -> Changes {
        if events.saturating_add(1) < self.changes_from {
            return Changes::TooMany;
        }
        let new = self.changes.iter().rev().take_while(|(count, ..)| *count > events);
        let mut tasks: Vec<(Stage, u32)> = new.map(|(_, stage, index)| (*stage, *index)).collect();
        tasks.sort_unstable();
        tasks.dedup();
        Changes::Tasks(tasks)
    }

    fn change(&mut self, id: TaskId, change: impl FnOnce(&mut TaskRecord)) {
        let Some(task) = self.stage_mut(id.stage).tasks.get_mut(id.index as usize) else { return };
        let was_disputed = task.is_disputed();
        change(task);
        let is_newly_disputed = !was_disputed && task.is_disputed();
        self.disputed += u64::from(is_newly_disputed);
        self.changes.push_back((self.events, id.stage, id.index));
        while self.changes.len() > CHANGES_MAX {
            if let Some((count, ..)) = self.changes.pop_front() {
                self.changes_from = count.saturating_add(1);
            }
        }
    }

    fn place(&mut self, placed: OrderedTime, id: AttemptId, tracker: TrackerId, purpose: Purpose) {
        self.change(id.task, |task| {
            // An attempt's number is its place; one that is far off says that events are missing.
            if usize::from(id.attempt) == task.attempts.len() && id.attempt < ATTEMPTS_PER_TASK_MAX {
                task.attempts.push(AttemptRecord { tracker, placed, purpose, overdue: None, end: None });
            }
        });
    }

    fn end(&mut self, time: OrderedTime, id: AttemptId, end: End) {
        self.change(id.task, |task| {
            if let Some(attempt) = task.attempts.get_mut(usize::from(id.attempt)) {
                attempt.end = Some((time, end));
            }
        });
    }

    fn agree(&mut self, time: OrderedTime, id: TaskId, ballot: Digest) {
        let stage = self.stage_mut(id.stage);
        stage.agreed = stage.agreed.saturating_add(1);
        self.change(id, |task| task.agreed = Some((time, ballot)));
    }

    /// What still ran does not any more.
    fn close(&mut self, time: OrderedTime, closed: &Closed) {
        for stage in [Stage::Map, Stage::Reduce] {
            for index in 0..self.stage(stage).tasks.len() {
                self.stop(time, TaskId { job: self.job, stage, index: index as u32 });
            }
        }
        if let JobState::Failed(failure) = &closed.state {
            self.change(failure.task(), |task| task.is_failed = true);
        }
        self.closed = Some((time, closed.clone()));
    }

    fn stop(&mut self, time: OrderedTime, id: TaskId) {
        let runs = |task: &TaskRecord| task.attempts.iter().any(|attempt| attempt.end.is_none());
        if !self.task(id).is_some_and(runs) {
            return;
        }
        self.change(id, |task| {
            for attempt in task.attempts.iter_mut().filter(|attempt| attempt.end.is_none()) {
                attempt.end = Some((time, End::Not(Box::new(AttemptEnd::Cancelled))));
            }
        });
    }

    /// Agreed counters, once the job has ended.
    pub(crate) fn counters(&self) -> Option<&Counters> {
        self.closed.as_ref().map(|(_, closed)| &closed.counters)
    }
}

impl TaskRecord {
    /// How an attempt stands.
    pub(crate) fn standing_of(&self, attempt: &AttemptRecord) -> AttemptStanding {
        match &attempt.end {
            None if attempt.overdue.is_some() => AttemptStanding::Overdue,
            None => AttemptStanding::Running,
            Some((_, End::Voted { ballot, .. })) => match &self.agreed {
                None => AttemptStanding::Voted,
                Some((_, agreed)) if agreed == ballot => AttemptStanding::Agreed,
                Some(_) => AttemptStanding::Outvoted,
            },
            Some((_, End::Not(why))) => match **why {
                AttemptEnd::Lost(_) | AttemptEnd::Declined(_) => AttemptStanding::Lost,
                AttemptEnd::Withdrawn => AttemptStanding::Withdrawn,
                AttemptEnd::Cancelled if attempt.overdue.is_some() => AttemptStanding::Overdue,
                AttemptEnd::Cancelled => AttemptStanding::Cancelled,
            },
        }
    }

    /// How the task stands.
    pub(crate) fn standing(&self) -> TaskStanding {
        let has_votes = self.ballots().next().is_some();
        let runs = self.attempts.iter().any(|attempt| attempt.end.is_none());
        match &self.agreed {
            _ if self.is_failed => TaskStanding::Failed,
            Some(_) if self.is_lacking => TaskStanding::Lacking,
            Some(_) if self.is_disputed() => TaskStanding::Contested,
            Some(_) => TaskStanding::Agreed,
            None if self.is_disputed() => TaskStanding::Disputed,
            None if has_votes => TaskStanding::Voted,
            None if runs => TaskStanding::Running,
            None => TaskStanding::Pending,
        }
    }

    /// Whether its votes differed, or an attempt was overdue.
    pub(crate) fn is_disputed(&self) -> bool {
        let mut ballots = self.ballots();
        let first = ballots.next();
        ballots.any(|ballot| Some(ballot) != first) || self.attempts.iter().any(|attempt| attempt.overdue.is_some())
    }

    /// Whether an attempt that tests its tracker came out otherwise than it should have; `None` for others, and while it runs.
    pub(crate) fn differs(&self, attempt: &AttemptRecord) -> Option<bool> {
        let expected = match attempt.purpose {
            Purpose::Decides | Purpose::BringsBack => return None,
            Purpose::Repeats(of) => self.attempts.get(usize::from(of))?.ballot(),
            Purpose::Probes => self.agreed.map(|(_, ballot)| ballot),
        };
        Some(attempt.ballot()? != expected?)
    }

    fn ballots(&self) -> impl Iterator<Item = Digest> {
        self.attempts.iter().filter_map(AttemptRecord::ballot)
    }
}

impl AttemptRecord {
    /// What it voted.
    pub(crate) fn ballot(&self) -> Option<Digest> {
        match &self.end {
            Some((_, End::Voted { ballot, .. })) => Some(*ballot),
            Some((_, End::Not(_))) | None => None,
        }
    }
    /// What it cost, when it voted.
    pub(crate) fn cost(&self) -> Option<Cost> {
        match &self.end {
            Some((_, End::Voted { cost, .. })) => Some(*cost),
            Some((_, End::Not(_))) | None => None,
        }
    }
    /// Whether it is work that a task which goes smoothly does without.
    pub(crate) fn is_extra(&self, number: usize, f: u32) -> bool {
        self.purpose != Purpose::Decides || number > f as usize || self.cost().is_some_and(|cost| cost.restarts > 0)
    }
}
