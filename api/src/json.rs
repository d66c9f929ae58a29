//! What commands print with `--json`. Fields keep their names and meanings; later versions may add some.
//!
//! Ids are bare numbers, amounts are bytes, times are milliseconds, counted from the Unix epoch where they are points.
//! Lists are arrays, whole things objects; what does not apply is `null`.

use crate::{exit::Failure, report, terminal};
use quorate_protocol::{
    command,
    query::{Blame, Dispute, Duty, Entry, JobState, JobSummary, JobView, ReplicaView, Standing, TrackerView},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The choice between a table and JSON.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Format {
    /// Prints JSON instead, for programs; the page *json* tells its fields
    #[arg(long)]
    pub json: bool,
}

/// Prints a shape.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(shape: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(shape).unwrap_or_else(|error| unreachable!("all keys are strings: {error}"));
    terminal::print_bytes(format!("{text}\n").as_bytes()).map(drop)
}

/// A job in `quorate job list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub job: u64,
    /// Its name.
    pub name: String,
    /// `running`, `waiting`, `succeeded`, `failed` or `killed`.
    pub state: String,
    /// Why it waits or failed.
    pub detail: Option<String>,
    /// When it was submitted.
    pub submitted: u64,
    /// When it ended, or the last ordered time.
    pub until: u64,
    /// How many trackers may lie about one task.
    pub f: u32,
    /// The map stage.
    pub maps: Tally,
    /// The reduce stage.
    pub reduces: Tally,
}

/// Tasks of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Those with a verdict.
    pub agreed: u32,
    /// All.
    pub all: u32,
}

impl From<(u32, u32)> for Tally {
    fn from((agreed, all): (u32, u32)) -> Self {
        Self { agreed, all }
    }
}

impl From<&JobSummary> for Job {
    fn from(summary: &JobSummary) -> Self {
        let detail = match &summary.state {
            JobState::Waiting(why) => Some(why.clone()),
            JobState::Failed(failure) => Some(report::failure(failure)),
            JobState::Running | JobState::Succeeded | JobState::Killed => None,
        };
        Self {
            job: summary.job.number(),
            name: summary.name.clone(),
            state: report::state(&summary.state).to_owned(),
            detail,
            submitted: summary.submitted.0,
            until: summary.until.0,
            f: summary.f,
            maps: summary.maps.into(),
            reduces: summary.reduces.into(),
        }
    }
}

/// A job in `quorate job show`: all that the list has, and more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobDetail {
    /// What the list has.
    #[serde(flatten)]
    pub job: Job,
    /// Where the output is, or will be, in the cluster's file system.
    pub output: String,
    /// Attempts started.
    pub attempts: u64,
    /// What attempts cost, by their trackers' words.
    pub cost: Cost,
    /// The job's counters.
    pub counters: BTreeMap<String, u64>,
    /// Tasks that did not go smoothly.
    pub disputed: u64,
    /// The first of them.
    pub disputes: Vec<Disputed>,
}

/// The sum over attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Milliseconds from start to vote.
    pub elapsed_ms: u64,
    /// Bytes fetched in the shuffle.
    pub shuffled: u64,
    /// Of these, bytes fetched again because what was fetched before turned out wrong.
    pub refetched: u64,
    /// How often a reduce started over.
    pub restarts: u32,
}

impl From<command::Cost> for Cost {
    fn from(cost: command::Cost) -> Self {
        let command::Cost { elapsed_ms, shuffled, refetched, restarts } = cost;
        Self { elapsed_ms, shuffled, refetched, restarts }
    }
}

/// A task that did not go smoothly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disputed {
    /// Its name in the job, as in `map-3`.
    pub task: String,
    /// Its attempts.
    pub attempts: Vec<DisputedAttempt>,
}

/// What came of an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DisputedAttempt {
    /// Its number in the task.
    pub attempt: u16,
    /// Whose it is.
    pub tracker: u32,
    /// `running`, `overdue`, `voted`, `agreed`, `outvoted`, `lost` or `cancelled`.
    pub state: String,
    /// The beginning of its ballot's digest.
    pub ballot: Option<String>,
    /// Why it was lost.
    pub why: Option<String>,
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
            DisputedAttempt {
                attempt: attempt.attempt,
                tracker: tracker.number(),
                state: state.to_owned(),
                ballot: ballot.cloned(),
                why: why.cloned(),
            }
        });
        Self { task: format!("{}-{}", dispute.task.stage, dispute.task.index), attempts: attempts.collect() }
    }
}

impl From<&JobView> for JobDetail {
    fn from(view: &JobView) -> Self {
        Self {
            job: (&view.summary).into(),
            output: view.output.to_string(),
            attempts: view.attempts,
            cost: view.cost.into(),
            counters: view.counters.clone(),
            disputed: view.disputed,
            disputes: view.disputes.iter().map(Disputed::from).collect(),
        }
    }
}

/// A file or folder in `quorate fs ls` and `quorate fs du`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Its path in the cluster.
    pub path: String,
    /// Bytes in it, or below it.
    pub bytes: u64,
    /// Files below a folder; `null` for a file.
    pub files: Option<u64>,
    /// Copies of its chunks, the fewest that any of them has; 0 for an empty file.
    pub copies: u32,
}

impl From<&Entry> for Stored {
    fn from(entry: &Entry) -> Self {
        Self { path: entry.path.to_string(), bytes: entry.length, files: entry.files, copies: entry.copies }
    }
}

/// A tracker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tracker {
    /// Its number.
    pub tracker: u32,
    /// Its failure domain.
    pub domain: String,
    /// Where its services are; empty when it never registered.
    pub address: String,
    /// Whether it is there.
    pub live: bool,
    /// Map attempts that it runs and could run.
    pub map_slots: Slots,
    /// The same of reduce attempts.
    pub reduce_slots: Slots,
    /// `none`, `suspected` or `convicted`.
    pub blame: String,
    /// Pieces of evidence against it.
    pub evidence: u32,
    /// Attempts that were overdue: never evidence of a lie.
    pub overdue: u64,
    /// Votes that became verdicts.
    pub agreed: u64,
    /// Votes that were outvoted.
    pub outvoted: u64,
    /// What it is given to do: `full`, `quarantined` or `probation`.
    pub duty: String,
    /// Why it is in quarantine.
    pub why: Option<String>,
}

/// Attempts at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slots {
    /// Those that run.
    pub used: u16,
    /// Those that could.
    pub all: u16,
}

impl From<(u16, u16)> for Slots {
    fn from((used, all): (u16, u16)) -> Self {
        Self { used, all }
    }
}

impl From<&TrackerView> for Tracker {
    fn from(view: &TrackerView) -> Self {
        Self {
            tracker: view.id.number(),
            domain: view.domain.to_string(),
            address: view.address.clone(),
            live: view.live,
            map_slots: view.map_slots.into(),
            reduce_slots: view.reduce_slots.into(),
            blame: match view.blame {
                Blame::None => "none".to_owned(),
                Blame::Suspected | Blame::Convicted => report::blame(view.blame).to_owned(),
            },
            evidence: view.evidence,
            overdue: view.overdue,
            agreed: view.agreed,
            outvoted: view.outvoted,
            duty: match view.duty {
                Duty::Full => "full",
                Duty::Quarantined(_) => "quarantined",
                Duty::Probation { .. } => "probation",
            }
            .to_owned(),
            why: match &view.duty {
                Duty::Quarantined(why) => Some(why.clone()),
                Duty::Full | Duty::Probation { .. } => None,
            },
        }
    }
}

/// `quorate cluster status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// How many replicas may lie.
    pub f: u32,
    /// `minbft` or `pbft`.
    pub agreement: String,
    /// What its safety rests on, in a sentence.
    pub assumption: String,
    /// How many replicas must vote for anything to be ordered.
    pub quorum: usize,
    /// The replicas, each by its own word.
    pub replicas: Vec<Replica>,
    /// What is held against replicas.
    pub faults: Vec<Fault>,
    /// The trackers.
    pub trackers: Vec<Tracker>,
    /// What is held against trackers.
    pub evidence: Vec<Accusation>,
}

/// A replica of the job tracker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replica {
    /// Its number.
    pub replica: u32,
    /// What it says of itself; `null` when it does not answer.
    pub standing: Option<ReplicaStanding>,
    /// Why it has none.
    pub why: Option<String>,
}

/// What a replica says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaStanding {
    /// The last view that it saw begin.
    pub view: u64,
    /// The view that it wants or waits for instead.
    pub changing_to: Option<u64>,
    /// The primary of its view.
    pub primary: u32,
    /// Batches that it has executed.
    pub executed: u64,
    /// The digest of its history, in hexadecimal digits.
    pub history: String,
    /// The last committed batch.
    pub committed: u64,
    /// The last stable checkpoint.
    pub checkpoint: u64,
    /// Requests that wait to be ordered.
    pub pending: u64,
    /// The kind of its trusted log.
    pub trusted_log: String,
    /// The epoch of its trusted log.
    pub epoch: u64,
    /// The position of its trusted log.
    pub position: u64,
    /// Whether the cluster counts that epoch, so that it may vote.
    pub voting: bool,
}

impl From<&ReplicaView> for ReplicaStanding {
    fn from(view: &ReplicaView) -> Self {
        Self {
            view: view.view,
            changing_to: view.changing_to,
            primary: view.primary.number(),
            executed: view.executed.ordered,
            history: view.executed.digest.to_string(),
            committed: view.committed,
            checkpoint: view.checkpoint,
            pending: view.pending,
            trusted_log: view.trusted_log.clone(),
            epoch: view.epoch,
            position: view.position,
            voting: view.voting,
        }
    }
}

/// Something that is held against a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Who.
    pub replica: u32,
    /// Whether what it signed proves it to anybody.
    pub proof: bool,
    /// What, in words.
    pub what: String,
    /// The replicas that say so; empty when this client saw it itself.
    pub by: Vec<u32>,
}

/// Something that is held against a tracker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accusation {
    /// Who.
    pub tracker: u32,
    /// What, in words.
    pub what: String,
}
