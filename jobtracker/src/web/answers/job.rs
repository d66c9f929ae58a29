//! Jobs.

use super::{Events, Position, Stage};
use quorate_protocol::{
    command,
    query::{Dispute, JobFailure, JobState, JobSummary, JobView, Standing},
};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// All jobs that are remembered, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Jobs {
    pub(crate) position: Option<Position>,
    pub(crate) jobs: Vec<Job>,
}

/// A job in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Job {
    pub(crate) job: u64,
    pub(crate) name: String,
    /// `running`, `waiting`, `succeeded`, `failed`, `killed`.
    pub(crate) state: &'static str,
    /// Why it waits or failed.
    pub(crate) detail: Option<String>,
    pub(crate) submitted: u64,
    /// When it ended, or the last ordered time.
    pub(crate) until: u64,
    pub(crate) f: u32,
    pub(crate) maps: Tally,
    pub(crate) reduces: Tally,
    /// Tasks that did not go smoothly.
    pub(crate) disputed: u64,
    /// Grows with each change; 0 when no details are there.
    pub(crate) revision: u64,
}

/// Tasks with a verdict, and all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Tally {
    pub(crate) agreed: u32,
    pub(crate) all: u32,
}

impl From<(u32, u32)> for Tally {
    fn from((agreed, all): (u32, u32)) -> Self {
        Self { agreed, all }
    }
}

impl Job {
    pub(crate) fn new(summary: &JobSummary, disputed: u64, revision: u64) -> Self {
        Self {
            job: summary.job.number(),
            name: summary.name.clone(),
            state: state(&summary.state),
            detail: detail(&summary.state),
            submitted: summary.submitted.0,
            until: summary.until.0,
            f: summary.f,
            maps: summary.maps.into(),
            reduces: summary.reduces.into(),
            disputed,
            revision,
        }
    }
}

impl Job {
    /// Whether more than the time is another than in what was told of this job.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        (self.revision, self.state, &self.detail, self.maps, self.reduces)
            != (other.revision, other.state, &other.detail, other.maps, other.reduces)
    }
}

/// How a job stands, in a word.
pub(crate) const fn state(state: &JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Waiting(_) => "waiting",
        JobState::Succeeded => "succeeded",
        JobState::Failed(_) => "failed",
        JobState::Killed => "killed",
    }
}

/// Why it waits or failed.
pub(crate) fn detail(state: &JobState) -> Option<String> {
    match state {
        JobState::Waiting(why) => Some(why.clone()),
        JobState::Failed(failure) => Some(failed(failure)),
        JobState::Running | JobState::Succeeded | JobState::Killed => None,
    }
}

fn failed(failure: &JobFailure) -> String {
    match failure {
        JobFailure::Program { task, record, message, .. } => {
            let at = record.map_or(String::new(), |record| format!(" at record {record}"));
            format!("the program failed in {task}{at}: {message}")
        }
        JobFailure::Undecidable { task } => {
            format!("{task} is undecidable: no f + 1 votes agree, and no more can be asked for")
        }
        JobFailure::Nondeterministic { task, tracker } => {
            format!("{task} is nondeterministic: {tracker} ran it twice and gave two outputs")
        }
        JobFailure::NotRunnable { task, reason } => format!("{task} could not be run: {reason}"),
    }
}

/// A job in full.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct JobDetail {
    #[serde(flatten)]
    pub(crate) job: Job,
    pub(crate) output: String,
    /// Attempts started.
    pub(crate) attempts: u64,
    pub(crate) cost: Cost,
    /// Agreed counters.
    pub(crate) counters: BTreeMap<String, u64>,
    /// The first of the disputed tasks.
    pub(crate) disputes: Vec<Disputed>,
    /// Which of its program's jobs it is.
    pub(crate) entry: Option<String>,
    pub(crate) inputs: Vec<String>,
    /// Map, then reduce.
    pub(crate) stages: Vec<Stage>,
    /// What the details are made of.
    pub(crate) events: Option<Events>,
    /// `live`, `kept` when it comes from an event log, `none` when the replica has none of this job.
    pub(crate) record: &'static str,
}

/// What attempts cost, by their trackers' words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Cost {
    /// From start to vote.
    pub(crate) elapsed_ms: u64,
    /// Bytes fetched in the shuffle.
    pub(crate) shuffled: u64,
    /// Of these, bytes fetched again because what was fetched before turned out wrong.
    pub(crate) refetched: u64,
    /// How often a reduce started over.
    pub(crate) restarts: u32,
}

impl From<command::Cost> for Cost {
    fn from(cost: command::Cost) -> Self {
        let command::Cost { elapsed_ms, shuffled, refetched, restarts } = cost;
        Self { elapsed_ms, shuffled, refetched, restarts }
    }
}

/// A task that did not go smoothly.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Disputed {
    pub(crate) task: String,
    pub(crate) attempts: Vec<DisputedAttempt>,
}

/// What came of one of its attempts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DisputedAttempt {
    pub(crate) attempt: u16,
    pub(crate) tracker: u32,
    /// `running`, `voted`, `agreed`, `outvoted`, `overdue`, `lost`, `cancelled`.
    pub(crate) state: &'static str,
    /// The ballot's digest, shortened.
    pub(crate) ballot: Option<String>,
    pub(crate) why: Option<String>,
}

impl JobDetail {
    pub(crate) fn new(view: &JobView) -> Self {
        Self {
            job: Job::new(&view.summary, view.disputed, 0),
            output: view.output.to_string(),
            attempts: view.attempts,
            cost: view.cost.into(),
            counters: view.counters.clone(),
            disputes: view.disputes.iter().map(Disputed::from).collect(),
            entry: None,
            inputs: Vec::new(),
            stages: bare_stages(view),
            events: None,
            record: "none",
        }
    }
}

/// The stages of a job of which there is no record.
fn bare_stages(view: &JobView) -> Vec<Stage> {
    let (maps, reduces) = (Tally::from(view.summary.maps), Tally::from(view.summary.reduces));
    let stage = |stage, tally: Tally| Stage {
        stage,
        all: tally.all,
        agreed: tally.agreed,
        settled: maps.agreed == maps.all,
        states: None,
        attempts: None,
        left_ms: None,
        durations: None,
        slowest: Vec::new(),
    };
    vec![stage("map", maps), stage("reduce", reduces)]
}

/// A task's name within its job, `map-3`.
pub(crate) fn task_name(task: quorate_protocol::ids::TaskId) -> String {
    format!("{}-{}", task.stage, task.index)
}

impl From<&Dispute> for Disputed {
    fn from(dispute: &Dispute) -> Self {
        let attempts = dispute.attempts.iter().map(|(attempt, tracker, standing)| {
            let (state, ballot, why) = match standing {
                Standing::Running => ("running", None, None),
                Standing::Overdue => ("overdue", None, None),
                Standing::Voted(ballot) => ("voted", Some(ballot), None),
                Standing::Agreed(ballot) => ("agreed", Some(ballot), None),
                Standing::Outvoted(ballot) => ("outvoted", Some(ballot), None),
                Standing::Lost(why) => ("lost", None, Some(why)),
                Standing::Cancelled => ("cancelled", None, None),
            };
            let (ballot, why) = (ballot.cloned(), why.cloned());
            DisputedAttempt { attempt: attempt.attempt, tracker: tracker.number(), state, ballot, why }
        });
        Self { task: task_name(dispute.task), attempts: attempts.collect() }
    }
}
