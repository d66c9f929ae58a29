//! What happened in a job: who disagreed with whom, since which record, who won by whose votes, what it cost, and what it
//! looks like.
//!
//! The job tracker tells the votes, and f + 1 of its replicas alike. Where outputs differ is found out here, from bytes that
//! are checked against the votes ([`Inquiry`]). What could not be found out is said, and whose word the rest is.

mod looks;
mod text;

pub use looks::Look;

use crate::{
    connection::Connection,
    exit::{Code, Failure},
    report,
};
use quorate_protocol::{
    evidence::Evidence,
    ids::{AttemptId, Domain, JobId, Stage, TaskId, TrackerId},
    query::{Blame, Dispute, JobState, JobView, Standing, TrackerView},
};
use quorate_tasktracker::{Finding, Inquiry, Voted, votes};
use serde::{Serialize, Serializer};
use std::fmt::Display;

/// Tasks that are looked into when none is named.
const LOOKED_INTO_MAX: usize = 8;

/// Names in JSON as everywhere else.
fn as_text<T: Display, S: Serializer>(name: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// A job, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// How it stands, in a word.
    pub state: &'static str,
    /// Why it failed.
    pub failure: Option<String>,
    /// Its f.
    pub f: u32,
    /// Its tasks.
    pub tasks: u64,
    /// Tasks whose votes differ or that had overdue attempts.
    pub disputed: u64,
    /// Those that were looked into.
    pub disputes: Vec<Explained>,
    /// The task that was asked about, when nobody disputes it.
    pub undisputed: Option<String>,
    /// What it cost.
    pub cost: Cost,
    /// What is held against trackers for this job.
    pub held: Vec<Held>,
    /// What all that looks like.
    pub looks: Vec<Look>,
}

/// A disputed task.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub task: TaskId,
    /// Those that voted, by what they said: the winners first.
    pub camps: Vec<Camp>,
    /// Those that did not.
    pub others: Vec<Other>,
    /// Where the camps' outputs differ.
    pub findings: Vec<Finding>,
    /// Why there is none.
    pub not_compared: Option<&'static str>,
    /// Attempts that it had more than f + 1.
    pub attempts_more: u64,
}

/// Trackers that said the same.
#[derive(Clone, Debug, Serialize)]
pub struct Camp {
    /// The beginning of their ballot's digest.
    pub ballot: String,
    /// How they stand to the verdict.
    pub won: Won,
    /// They.
    pub members: Vec<Member>,
}

/// How a camp stands to the verdict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Won {
    /// f + 1 domains: theirs is the task's output.
    Agreed,
    /// There is no verdict.
    Undecided,
    /// Others agreed.
    Outvoted,
}

/// A tracker that voted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Member {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub tracker: TrackerId,
    /// Its failure domain.
    #[serde(serialize_with = "as_text")]
    pub domain: Domain,
    /// Its attempt.
    #[serde(serialize_with = "as_text")]
    pub attempt: AttemptId,
}

/// A tracker that had an attempt and did not vote.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub tracker: TrackerId,
    /// What became of it.
    pub what: String,
}

/// What the disputes cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Attempts started in all.
    pub attempts: u64,
    /// Of these, those that disputed tasks had more than f + 1.
    pub attempts_more: u64,
    /// Reduces that were started again, since they had used map output that was not agreed.
    pub restarts: u32,
    /// Map output that was fetched again, in bytes.
    pub refetched: u64,
}

/// What is held against a tracker for this job.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub tracker: TrackerId,
    /// Whether what it signed proves a lie.
    pub proven: bool,
    /// What, in a sentence.
    pub what: String,
}

/// Explains a job, or one of its tasks.
///
/// # Errors
/// When the job tracker does not answer, or there is no such job or task.
pub async fn explain(connection: &Connection, job: JobId, task: Option<TaskId>) -> Result<Explanation, Failure> {
    let client = &connection.client;
    let view = client.job(job).await?;
    if let Some(task) = task {
        check(&view, task)?;
    }
    let trackers = client.trackers().await?;
    let inquiry = Inquiry::new(client).await?;
    let mut chosen: Vec<&Dispute> = view.disputes.iter().filter(|d| task.is_none_or(|task| d.task == task)).collect();
    // Those in which votes differ come first.
    chosen.sort_by_key(|dispute| (camps(connection, dispute).len() < 2, dispute.task));
    chosen.truncate(LOOKED_INTO_MAX);
    let mut disputes = Vec::new();
    for dispute in chosen {
        disputes.push(look_into(connection, &inquiry, &view, dispute).await?);
    }
    let held = held(connection, &trackers, job).await?;
    let looks = looks::of(&view, &all_camps(connection, &view), &disputes, &held, &trackers);
    Ok(Explanation {
        job,
        name: view.summary.name.clone(),
        state: report::state(&view.summary.state),
        failure: match &view.summary.state {
            JobState::Failed(failure) => Some(report::failure(failure)),
            JobState::Running | JobState::Waiting(_) | JobState::Succeeded | JobState::Killed => None,
        },
        f: view.summary.f,
        tasks: tasks(&view),
        disputed: view.disputed,
        undisputed: task.filter(|_| disputes.is_empty()).map(|task| format!("{}-{}", task.stage, task.index)),
        disputes,
        cost: cost(&view),
        held,
        looks,
    })
}

fn tasks(view: &JobView) -> u64 {
    u64::from(view.summary.maps.1) + u64::from(view.summary.reduces.1)
}

fn check(view: &JobView, task: TaskId) -> Result<(), Failure> {
    let count = match task.stage {
        Stage::Map => view.summary.maps.1,
        Stage::Reduce => view.summary.reduces.1,
    };
    if task.job == view.summary.job && task.index < count {
        return Ok(());
    }
    let (maps, reduces) = (view.summary.maps.1, view.summary.reduces.1);
    let failure = Failure::new(Code::NoSuchJob, format!("there is no {task}"));
    Err(failure.hint(format!("{} has {maps} map and {reduces} reduce tasks, numbered from 0", view.summary.job)))
}

fn cost(view: &JobView) -> Cost {
    let more = view.disputes.iter().map(|dispute| attempts_more(dispute, view.summary.f)).sum();
    let (restarts, refetched) = (view.cost.restarts, view.cost.refetched);
    Cost { attempts: view.attempts, attempts_more: more, restarts, refetched }
}

fn attempts_more(dispute: &Dispute, f: u32) -> u64 {
    (dispute.attempts.len() as u64).saturating_sub(u64::from(f) + 1)
}

/// Who voted alike, the winners first.
fn camps(connection: &Connection, dispute: &Dispute) -> Vec<Camp> {
    let mut camps: Vec<Camp> = Vec::new();
    for (attempt, tracker, standing) in &dispute.attempts {
        let (won, ballot) = match standing {
            Standing::Agreed(ballot) => (Won::Agreed, ballot),
            Standing::Voted(ballot) => (Won::Undecided, ballot),
            Standing::Outvoted(ballot) => (Won::Outvoted, ballot),
            Standing::Running | Standing::Overdue | Standing::Lost(_) | Standing::Cancelled => continue,
        };
        let known = connection.cluster.tracker(*tracker);
        let domain = known.map_or_else(|| Domain(String::new()), |member| member.domain.clone());
        let member = Member { tracker: *tracker, domain, attempt: *attempt };
        match camps.iter_mut().find(|camp| camp.ballot == *ballot) {
            Some(camp) => camp.members.push(member),
            None => camps.push(Camp { ballot: ballot.clone(), won, members: vec![member] }),
        }
    }
    camps.sort_by_key(|camp| camp.won);
    camps.iter_mut().for_each(|camp| camp.members.sort_by_key(|member| member.tracker));
    camps
}

fn all_camps(connection: &Connection, view: &JobView) -> Vec<(TaskId, Vec<Camp>)> {
    view.disputes.iter().map(|dispute| (dispute.task, camps(connection, dispute))).collect()
}

async fn look_into(
    connection: &Connection,
    inquiry: &Inquiry,
    view: &JobView,
    dispute: &Dispute,
) -> Result<Explained, Failure> {
    let camps = camps(connection, dispute);
    let others = dispute.attempts.iter().filter_map(|(_, tracker, standing)| {
        let what = match standing {
            Standing::Running => "is still at work".to_owned(),
            Standing::Overdue => "was overdue, and has not voted".to_owned(),
            Standing::Lost(reason) => format!("gave no answer ({reason})"),
            Standing::Cancelled => "was no longer needed".to_owned(),
            Standing::Voted(_) | Standing::Agreed(_) | Standing::Outvoted(_) => return None,
        };
        Some(Other { tracker: *tracker, what })
    });
    let mut explained = Explained {
        task: dispute.task,
        others: others.collect(),
        findings: Vec::new(),
        not_compared: None,
        attempts_more: attempts_more(dispute, view.summary.f),
        camps,
    };
    if explained.camps.len() > 1 {
        let votes = votes(&connection.client, dispute.task).await?;
        explained.findings = inquiry.compare_camps(&votes_of(&explained.camps, &votes)).await;
        if explained.findings.is_empty() {
            explained.not_compared = Some("the job tracker no longer has the votes of this task");
        }
    }
    Ok(explained)
}

/// The votes of each camp.
fn votes_of<'a>(camps: &[Camp], votes: &'a [Voted]) -> Vec<Vec<&'a Voted>> {
    let of = |camp: &Camp| {
        let is_one = |voted: &&Voted| camp.members.iter().any(|member| member.attempt == voted.vote().attempt);
        votes.iter().filter(is_one).collect()
    };
    camps.iter().map(of).collect()
}

async fn held(connection: &Connection, trackers: &[TrackerView], job: JobId) -> Result<Vec<Held>, Failure> {
    let mut all = Vec::new();
    for tracker in trackers.iter().filter(|tracker| tracker.blame != Blame::None).map(|tracker| tracker.id) {
        let mut evidence = connection.client.evidence(tracker).await?;
        // What names no job may be of this one.
        evidence.retain(|piece| report::job_of(piece).is_none_or(|its| its == job));
        let proves = |piece: &Evidence| piece.check(&connection.cluster) == Ok((tracker, Blame::Convicted));
        let proven = evidence.iter().any(proves);
        if let Some(what) = report::held_against(&connection.cluster, tracker, &evidence, None) {
            all.push(Held { tracker, proven, what });
        }
    }
    Ok(all)
}
