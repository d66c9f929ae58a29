//! Stages, tasks and attempts, as a job's record has them.

use super::{Cost, Evidence, task_name};
use crate::{
    record::{AttemptStanding, TaskStanding},
    web::Compared,
};
use quorate_protocol::ids::TaskId;
use quorate_schedule::events::Purpose;
use serde::Serialize;
use utoipa::ToSchema;

/// A stage of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Stage {
    /// `map` or `reduce`.
    pub(crate) stage: &'static str,
    pub(crate) all: u32,
    /// Tasks with a verdict.
    pub(crate) agreed: u32,
    /// Whether all maps are agreed: until then running reduces are tentative.
    pub(crate) settled: bool,
    /// Tasks by their state.
    pub(crate) states: Option<TaskCounts>,
    /// Attempts by their state.
    pub(crate) attempts: Option<AttemptCounts>,
    /// Estimated from how long the agreed tasks took.
    pub(crate) left_ms: Option<u64>,
    /// How long attempts took that voted.
    pub(crate) durations: Option<Durations>,
    /// The slowest of them.
    pub(crate) slowest: Vec<Slow>,
}

/// Tasks by their state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub(crate) struct TaskCounts {
    /// No attempt runs yet.
    pub(crate) pending: u32,
    pub(crate) running: u32,
    /// Some votes are there.
    pub(crate) voted: u32,
    /// Votes differ or attempts are late, and there is no verdict.
    pub(crate) disputed: u32,
    pub(crate) agreed: u32,
    /// Agreed after a dispute.
    pub(crate) contested: u32,
    /// Agreed, and its bytes are made again.
    pub(crate) lacking: u32,
    pub(crate) failed: u32,
}

/// Attempts by their state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub(crate) struct AttemptCounts {
    pub(crate) running: u32,
    /// Voted, and there is no verdict.
    pub(crate) voted: u32,
    pub(crate) agreed: u32,
    pub(crate) outvoted: u32,
    pub(crate) overdue: u32,
    /// Lost or declined.
    pub(crate) lost: u32,
    pub(crate) withdrawn: u32,
    /// Not needed any more.
    pub(crate) cancelled: u32,
}

/// How long attempts took.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, ToSchema)]
pub(crate) struct Durations {
    pub(crate) count: u64,
    pub(crate) p50_ms: u64,
    pub(crate) p90_ms: u64,
    pub(crate) p99_ms: u64,
    pub(crate) max_ms: u64,
    /// The longest as a multiple of the median.
    pub(crate) skew: f64,
}

/// An attempt that took long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Slow {
    pub(crate) task: String,
    pub(crate) attempt: u16,
    pub(crate) tracker: u32,
    pub(crate) ms: u64,
}

/// What a record is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Events {
    pub(crate) count: u64,
    /// Whether the replica missed some.
    pub(crate) gaps: bool,
    /// Of all lines of the log: equal on honest replicas with equal counts and no gaps.
    pub(crate) digest: String,
}

/// The vote matrix of a stage, or a part of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Tasks {
    pub(crate) job: u64,
    pub(crate) stage: &'static str,
    pub(crate) revision: u64,
    /// Tasks of the stage.
    pub(crate) all: u32,
    /// The first that is listed.
    pub(crate) from: u32,
    pub(crate) settled: bool,
    /// A letter for each task: `p`ending, `r`unning, `v`oted, `d`isputed, `a`greed, `q` agreed after a dispute, `l`acking,
    /// `f`ailed.
    pub(crate) states: String,
    /// A word for each task, with a letter for each attempt: `r`uns, `v`oted, `a`greed, `o`utvoted, `l`ate, `x` lost,
    /// `w`ithdrawn, `c`ancelled; upper case for extra or repeated work.
    pub(crate) attempts: String,
    /// A word for each task, with the number of each attempt's tracker, between commas.
    pub(crate) trackers: String,
}

/// A task in full.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TaskDetail {
    pub(crate) job: u64,
    pub(crate) task: String,
    pub(crate) stage: &'static str,
    pub(crate) index: u32,
    /// `pending`, `running`, `voted`, `disputed`, `agreed`, `contested`, `lacking`, `failed`.
    pub(crate) state: &'static str,
    pub(crate) f: u32,
    /// The agreed ballot's digest.
    pub(crate) agreed: Option<String>,
    pub(crate) disputed: bool,
    /// The part of the input that a map task reads, while the job lives.
    pub(crate) input: Option<Input>,
    pub(crate) attempts: Vec<Attempt>,
    /// What was voted, in the order of the first vote for it.
    pub(crate) ballots: Vec<Ballot>,
    pub(crate) timeline: Vec<Moment>,
    /// What is held against trackers for their part in this task.
    pub(crate) accusations: Vec<Accusation>,
}

/// A part of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Input {
    pub(crate) path: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// An attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Attempt {
    pub(crate) attempt: u16,
    pub(crate) tracker: u32,
    pub(crate) domain: Option<String>,
    /// `running`, `voted`, `agreed`, `outvoted`, `overdue`, `lost`, `withdrawn`, `cancelled`.
    pub(crate) state: &'static str,
    pub(crate) placed: u64,
    pub(crate) ended: Option<u64>,
    /// The ballot's digest.
    pub(crate) ballot: Option<String>,
    /// Whether its vote decides nothing.
    pub(crate) rerun: bool,
    /// `decides`; `brings-back`: the bytes of an agreed task; `repeats`: its tracker was asked to run an attempt again; `probes`: its
    /// tracker is on probation.
    pub(crate) purpose: &'static str,
    /// The attempt that it repeats.
    pub(crate) repeats: Option<u16>,
    /// Of those that repeat or probe: whether it voted otherwise than that attempt, or than was agreed.
    pub(crate) differs: Option<bool>,
    /// Whether it ever was overdue.
    pub(crate) overdue: bool,
    pub(crate) cost: Option<Cost>,
    /// Why it will not vote.
    pub(crate) why: Option<String>,
}

/// What was voted, and by which attempts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Ballot {
    pub(crate) digest: String,
    pub(crate) agreed: bool,
    pub(crate) attempts: Vec<u16>,
    /// `map`, `reduce` or `failed`, while the votes themselves are there.
    pub(crate) kind: Option<&'static str>,
    pub(crate) summary: Option<String>,
}

/// Something that happened to a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Moment {
    pub(crate) time: u64,
    /// `placed`, `voted`, `agreed`, `overdue`, `lost`, `declined`, `withdrawn`, `cancelled`, `restarted`, `blamed`.
    pub(crate) what: &'static str,
    pub(crate) attempt: Option<u16>,
    pub(crate) tracker: Option<u32>,
    pub(crate) text: String,
}

/// Evidence with the tracker that it is against.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Accusation {
    pub(crate) tracker: u32,
    #[serde(flatten)]
    pub(crate) evidence: Evidence,
}

/// Where the votes of a task differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Difference {
    pub(crate) job: u64,
    pub(crate) task: String,
    /// The votes of the most trackers, compared with each of the others.
    pub(crate) found: Vec<Compared>,
}

impl Difference {
    pub(crate) fn new(task: TaskId, found: Vec<Compared>) -> Self {
        Self { job: task.job.number(), task: task_name(task), found }
    }
}

/// A task's state in a word.
pub(crate) const fn task_state(standing: TaskStanding) -> &'static str {
    match standing {
        TaskStanding::Pending => "pending",
        TaskStanding::Running => "running",
        TaskStanding::Voted => "voted",
        TaskStanding::Disputed => "disputed",
        TaskStanding::Agreed => "agreed",
        TaskStanding::Contested => "contested",
        TaskStanding::Lacking => "lacking",
        TaskStanding::Failed => "failed",
    }
}

/// What an attempt is for, in a word.
pub(crate) const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Decides => "decides",
        Purpose::BringsBack => "brings-back",
        Purpose::Repeats(_) => "repeats",
        Purpose::Probes => "probes",
    }
}

/// The attempt that one repeats.
pub(crate) const fn repeats(purpose: Purpose) -> Option<u16> {
    match purpose {
        Purpose::Repeats(of) => Some(of),
        Purpose::Decides | Purpose::BringsBack | Purpose::Probes => None,
    }
}

/// A task's state in a letter.
pub(crate) const fn task_letter(standing: TaskStanding) -> char {
    match standing {
        TaskStanding::Pending => 'p',
        TaskStanding::Running => 'r',
        TaskStanding::Voted => 'v',
        TaskStanding::Disputed => 'd',
        TaskStanding::Agreed => 'a',
        TaskStanding::Contested => 'q',
        TaskStanding::Lacking => 'l',
        TaskStanding::Failed => 'f',
    }
}

/// An attempt's state in a word.
pub(crate) const fn attempt_state(standing: AttemptStanding) -> &'static str {
    match standing {
        AttemptStanding::Running => "running",
        AttemptStanding::Overdue => "overdue",
        AttemptStanding::Voted => "voted",
        AttemptStanding::Agreed => "agreed",
        AttemptStanding::Outvoted => "outvoted",
        AttemptStanding::Lost => "lost",
        AttemptStanding::Withdrawn => "withdrawn",
        AttemptStanding::Cancelled => "cancelled",
    }
}

/// An attempt's state in a letter.
pub(crate) const fn attempt_letter(standing: AttemptStanding) -> char {
    match standing {
        AttemptStanding::Running => 'r',
        AttemptStanding::Overdue => 'l',
        AttemptStanding::Voted => 'v',
        AttemptStanding::Agreed => 'a',
        AttemptStanding::Outvoted => 'o',
        AttemptStanding::Lost => 'x',
        AttemptStanding::Withdrawn => 'w',
        AttemptStanding::Cancelled => 'c',
    }
}
