//! Where outputs of one task differ: the first record, or byte, at which two attempts disagree.
//!
//! The client finds it itself, from signed votes and bytes that it checks against them, so nobody's word is needed for what
//! a tracker has. Of map output it fetches digests, and then the bytes around the difference alone.
//!
//! * [`tree`] is pure: how a voted digest is a promise about every part of a segment;
//! * [`index`] answers questions about a tracker's segments;
//! * [`search`] asks them, of two segments at once, and believes what fits the votes;
//! * [`peer`] carries them over the network;
//! * [`parts`] compares reduce output;
//! * [`page`] does it for the page of a job-tracker replica.

mod index;
mod page;
mod parts;
mod peer;
mod search;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use self::index::{Digests, Place};
pub use self::{page::Comparer, search::Shown};

use self::{
    parts::PartError,
    peer::Peer,
    search::{Fault, Tree},
};
use crate::peers::Peers;
use quorate_dfs::{ChunkClient, GetError, Servers};
use quorate_jobtracker::client::{Client, ClientError};
use quorate_protocol::{
    cluster::Cluster,
    evidence::verify_vote,
    ids::{AttemptId, Stage, TaskId, TrackerId},
    query::TrackerView,
    sign::{SecretKey, Signed},
    vote::{Ballot, Counters, Segment, Vote},
};
use serde::{Serialize, Serializer};
use std::{fmt, sync::Arc};

/// Names in JSON as everywhere else.
fn as_text<T: fmt::Display, S: Serializer>(name: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// A vote whose signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voted(Vote);

impl Voted {
    /// What it says.
    pub fn vote(&self) -> &Vote {
        &self.0
    }
}

/// One of two outputs where they differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Side {
    /// Whose it is.
    #[serde(serialize_with = "as_text")]
    pub tracker: TrackerId,
    /// Which attempt made it.
    #[serde(serialize_with = "as_text")]
    pub attempt: AttemptId,
    /// What it has there.
    pub shown: Shown,
}

/// Who says where a record begins and which it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vouched {
    /// Both sides, alike.
    Both,
    /// One of them: the other says otherwise, or nothing.
    One(#[serde(serialize_with = "as_text")] TrackerId),
}

/// Where two attempts of one task differ first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// The task.
    #[serde(serialize_with = "as_text")]
    pub task: TaskId,
    /// The partition.
    pub partition: u32,
    /// The byte of the partition's segment, or of the part file, from 0. Up to there both are alike.
    pub byte: u64,
    /// Of map output: the record of the segment that has this byte, from 0, and who says so.
    pub record: Option<(u64, Vouched)>,
    /// Of reduce output: the line, from 1, when it was near enough to be counted.
    pub line: Option<u64>,
    /// The two sides.
    pub sides: [Side; 2],
    /// Rounds of questions about digests that it took.
    pub rounds: u32,
    /// Bytes that were fetched, digests included.
    pub fetched: u64,
}

impl Difference {
    /// Where it is, in words.
    pub fn place(&self) -> String {
        let byte = self.byte;
        match (self.task.stage, self.record, self.line) {
            (Stage::Map, Some((record, _)), _) => format!("partition {}, record {record}", self.partition),
            (Stage::Map, None, _) => format!("partition {}, byte {byte}", self.partition),
            (Stage::Reduce, _, Some(line)) => format!("line {line}, byte {byte}"),
            (Stage::Reduce, _, None) => format!("byte {byte}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [left, right] = &self.sides;
        write!(f, "{}, {}: ", self.task, self.place())?;
        write!(f, "{} has {}, {} has {}", left.tracker, left.shown, right.tracker, right.shown)
    }
}

/// What a comparison of two differing votes found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The first place where the outputs differ.
    Difference(Box<Difference>),
    /// The outputs are alike, and a counter is not.
    Counter {
        /// Its name.
        name: String,
        /// What each side counted.
        sides: [(Named, Option<u64>); 2],
    },
    /// The user's program failed in one of them, or in both in different ways.
    Outcomes([(Named, String); 2]),
    /// What a tracker serves is not what it voted.
    NotAsVoted {
        /// Which.
        tracker: Named,
        /// Whose output it is instead, when it is the other's.
        is_of: Option<Named>,
    },
    /// The outputs have the same bytes in other chunks.
    Cuts,
    /// A tracker does not give what is needed to compare.
    Missing {
        /// Which.
        tracker: Named,
        /// Why, by its word or ours.
        why: String,
    },
}

/// A tracker in a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Named(#[serde(serialize_with = "as_text")] pub TrackerId);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: &Option<u64>| count.map_or("nothing".to_owned(), |count| count.to_string());
        match self {
            Finding::Difference(difference) => difference.fmt(f),
            Finding::Counter { name, sides: [(left, ours), (right, theirs)] } => {
                let (ours, theirs) = (count(ours), count(theirs));
                write!(
                    f,
                    "the outputs are alike; of the counter {name}, {} has {ours}, {} has {theirs}",
                    left.0, right.0
                )
            }
            Finding::Outcomes([(left, ours), (right, theirs)]) => {
                write!(f, "on {} {ours}, on {} {theirs}", left.0, right.0)
            }
            Finding::NotAsVoted { tracker, is_of: None } => {
                write!(f, "what {} serves is not what it voted", tracker.0)
            }
            Finding::NotAsVoted { tracker, is_of: Some(other) } => write!(
                f,
                "what {0} serves is what {1} voted, and not what {0} voted itself: only its vote is wrong",
                tracker.0, other.0
            ),
            Finding::Cuts => f.write_str("the outputs have the same bytes, cut into other chunks"),
            Finding::Missing { tracker, why } => write!(f, "{} does not show what it has: {why}", tracker.0),
        }
    }
}

/// Why no difference was found.
#[derive(Debug, thiserror::Error)]
pub enum DifferenceError {
    /// The job tracker did not answer.
    #[error(transparent)]
    JobTracker(#[from] ClientError),
    /// There are no two different votes with output.
    #[error("no two attempts of {0} have different output to compare")]
    NothingToCompare(TaskId),
    /// They were compared, and something else was found.
    #[error("{0}")]
    Otherwise(Finding),
}

/// Finds the first place at which two attempts of a task differ.
///
/// # Errors
/// [`DifferenceError`]: for example when a tracker is gone, or keeps the bytes no longer.
pub async fn first_difference(client: &Client, task: TaskId) -> Result<Difference, DifferenceError> {
    let inquiry = Inquiry::new(client).await?;
    let votes = votes(client, task).await?;
    let differs = |left: &Voted| votes.iter().find(|right| outputs_differ(&left.0.ballot, &right.0.ballot));
    let pair = votes.iter().find_map(|left| differs(left).map(|right| (left, right)));
    let (left, right) = pair.ok_or(DifferenceError::NothingToCompare(task))?;
    match inquiry.compare(left, right).await {
        Finding::Difference(difference) => Ok(*difference),
        finding => Err(DifferenceError::Otherwise(finding)),
    }
}

fn outputs_differ(left: &Ballot, right: &Ballot) -> bool {
    match (left, right) {
        (Ballot::Map { segments: left, .. }, Ballot::Map { segments: right, .. }) => left != right,
        (Ballot::Reduce { manifest: left, .. }, Ballot::Reduce { manifest: right, .. }) => left != right,
        _ => false,
    }
}

/// Compares outputs, with one connection to each tracker.
pub struct Inquiry {
    peers: Peers,
    chunks: ChunkClient,
}

impl Inquiry {
    /// Asks where the trackers are.
    ///
    /// # Errors
    /// When the job tracker does not answer.
    pub async fn new(client: &Client) -> Result<Self, ClientError> {
        let trackers = client.trackers().await?;
        Ok(Self::among(&trackers, Arc::clone(client.cluster()), client.key().clone()))
    }

    /// An inquiry with these trackers.
    pub fn among(trackers: &[TrackerView], cluster: Arc<Cluster>, key: SecretKey) -> Self {
        let peers = Peers::default();
        peers.update(trackers);
        let chunks = ChunkClient::new(cluster, key);
        chunks.set_servers(Servers::of(trackers));
        Self { peers, chunks }
    }

    /// Compares those that voted alike, the first camp with each other one. A member of the first that cannot show what it voted is
    /// passed over, and what is wrong with it is a finding too.
    pub async fn compare_camps(&self, camps: &[Vec<&Voted>]) -> Vec<Finding> {
        let Some((first, rest)) = camps.split_first() else { return Vec::new() };
        let (mut winners, mut findings) = (first.as_slice(), Vec::new());
        for loser in rest.iter().filter_map(|camp| camp.first()) {
            while let Some((winner, others)) = winners.split_first() {
                let finding = self.compare(winner, loser).await;
                let is_about_winner = faulted(&finding) == Some(winner.0.tracker);
                findings.push(finding);
                if !is_about_winner || others.is_empty() {
                    break;
                }
                winners = others;
            }
        }
        findings
    }

    /// Finds where the outputs of two votes of one task differ.
    pub async fn compare(&self, left: &Voted, right: &Voted) -> Finding {
        let sides = [&left.0, &right.0];
        match (&left.0.ballot, &right.0.ballot) {
            (Ballot::Map { segments: ours, .. }, Ballot::Map { segments: theirs, .. }) if ours != theirs => {
                self.compare_maps(sides).await.unwrap_or_else(|finding| finding)
            }
            (Ballot::Reduce { manifest: ours, .. }, Ballot::Reduce { manifest: theirs, .. }) if ours != theirs => {
                let compared = parts::compare(&self.chunks, (left.0.tracker, ours), (right.0.tracker, theirs)).await;
                of_parts(sides, compared)
            }
            (Ballot::Map { counters: ours, .. }, Ballot::Map { counters: theirs, .. })
            | (Ballot::Reduce { counters: ours, .. }, Ballot::Reduce { counters: theirs, .. }) => {
                of_counters(sides, ours, theirs)
            }
            (Ballot::Map { .. } | Ballot::Reduce { .. } | Ballot::Failed { .. }, _) => {
                Finding::Outcomes(sides.map(|vote| (Named(vote.tracker), outcome(&vote.ballot))))
            }
        }
    }

    /// A finding that is no difference comes as the error.
    async fn compare_maps(&self, votes: [&Vote; 2]) -> Result<Finding, Finding> {
        let (ours, theirs) =
            futures::join!(peer::segments(&self.peers, votes[0]), peer::segments(&self.peers, votes[1]));
        let lists = [
            ours.map_err(|fault| of_fault(votes, None, (0, fault)))?,
            theirs.map_err(|fault| of_fault(votes, None, (1, fault)))?,
        ];
        let longest = lists[0].len().max(lists[1].len());
        let at = (0..longest).find(|at| lists[0].get(*at) != lists[1].get(*at)).unwrap_or_default();
        let [Some(one), Some(other)] = [0, 1].map(|side| lists[side].get(at).copied()) else {
            return Err(Finding::Outcomes(
                [0, 1].map(|side| (Named(votes[side].tracker), format!("there are {} partitions", lists[side].len()))),
            ));
        };
        let segments = [one, other];
        let found = self.search(votes, at as u32, segments).await;
        found.map_err(|fault| of_fault(votes, Some(segments), fault))
    }

    async fn search(
        &self,
        votes: [&Vote; 2],
        partition: u32,
        segments: [Segment; 2],
    ) -> Result<Finding, search::SideFault> {
        let tree = |side: usize| {
            let (vote, segment) = (votes[side], segments[side]);
            let source = Peer::new(&self.peers, vote.tracker, vote.attempt, partition, &segment);
            source.map(|source| Tree::new(source, segment)).map_err(|fault| (side, fault))
        };
        let mut trees = [tree(0)?, tree(1)?];
        let Some(byte) = search::first_difference(&mut trees).await? else {
            // The bytes are alike, so the votes differ in what no digest covers.
            return Ok(Finding::Outcomes([0, 1].map(|side| {
                (Named(votes[side].tracker), format!("the same bytes count as {} records", segments[side].records))
            })));
        };
        let (record, sides) = search::describe(&mut trees, byte).await?;
        let side =
            |at: usize| Side { tracker: votes[at].tracker, attempt: votes[at].attempt, shown: sides[at].clone() };
        let record =
            record.map(|(number, by)| (number, by.map_or(Vouched::Both, |at| Vouched::One(votes[at].tracker))));
        Ok(Finding::Difference(Box::new(Difference {
            task: votes[0].attempt.task,
            partition,
            byte,
            record,
            line: None,
            sides: [side(0), side(1)],
            rounds: trees[0].rounds.max(trees[1].rounds),
            fetched: trees[0].fetched + trees[1].fetched,
        })))
    }
}

/// The votes of a task that the job tracker has, those whose signatures hold.
///
/// # Errors
/// When the job tracker does not answer, or knows no such job.
pub async fn votes(client: &Client, task: TaskId) -> Result<Vec<Voted>, ClientError> {
    let votes = verified(client.cluster(), &client.votes(task).await?);
    Ok(votes.into_iter().filter(|voted| voted.0.attempt.task == task).collect())
}

fn verified(cluster: &Cluster, votes: &[Signed<Vote>]) -> Vec<Voted> {
    votes.iter().filter_map(|signed| verify_vote(cluster, signed).ok()).map(|(vote, _)| Voted(vote)).collect()
}

/// Whose bytes kept a comparison from being made.
fn faulted(finding: &Finding) -> Option<TrackerId> {
    match finding {
        Finding::NotAsVoted { tracker, .. } | Finding::Missing { tracker, .. } => Some(tracker.0),
        Finding::Difference(_) | Finding::Counter { .. } | Finding::Outcomes(_) | Finding::Cuts => None,
    }
}

fn of_fault(votes: [&Vote; 2], segments: Option<[Segment; 2]>, (side, fault): search::SideFault) -> Finding {
    let other = 1 - side;
    match fault {
        Fault::None(why) => Finding::Missing { tracker: Named(votes[side].tracker), why },
        Fault::Unlike(digest) => {
            let is_others = segments.is_some_and(|segments| digest == Some(segments[other].digest));
            let is_of = is_others.then_some(Named(votes[other].tracker));
            Finding::NotAsVoted { tracker: Named(votes[side].tracker), is_of }
        }
    }
}

fn of_parts(votes: [&Vote; 2], compared: Result<Option<parts::PartDifference>, PartError>) -> Finding {
    let found = match compared {
        Ok(Some(found)) => found,
        Ok(None) | Err(PartError::Cuts) => return Finding::Cuts,
        Err(PartError::Chunk(tracker, error)) => {
            return Finding::Missing { tracker: Named(tracker), why: chunk_error(&error) };
        }
    };
    let task = votes[0].attempt.task;
    let [ours, theirs] = found.sides;
    let side = |vote: &Vote, shown| Side { tracker: vote.tracker, attempt: vote.attempt, shown };
    Finding::Difference(Box::new(Difference {
        task,
        partition: task.index,
        byte: found.byte,
        record: None,
        line: found.line,
        sides: [side(votes[0], ours), side(votes[1], theirs)],
        rounds: 0,
        fetched: found.fetched,
    }))
}

fn chunk_error(error: &GetError) -> String {
    match error {
        GetError::NoCopy { tried, .. } => {
            tried.first().map_or_else(|| error.to_string(), |(_, fault)| fault.to_string())
        }
        _ => error.to_string(),
    }
}

fn of_counters(votes: [&Vote; 2], ours: &Counters, theirs: &Counters) -> Finding {
    let differs = ours.keys().chain(theirs.keys()).find(|name| ours.get(*name) != theirs.get(*name));
    let name = differs.cloned().unwrap_or_default();
    let counts = [ours.get(&name).copied(), theirs.get(&name).copied()];
    Finding::Counter { name, sides: [0, 1].map(|side| (Named(votes[side].tracker), counts[side])) }
}

fn outcome(ballot: &Ballot) -> String {
    match ballot {
        Ballot::Map { .. } | Ballot::Reduce { .. } => "there is output".to_owned(),
        Ballot::Failed { kind, record } => {
            let at = record.map_or(String::new(), |record| format!(" at record {record}"));
            format!("the program failed ({kind:?}{at})")
        }
    }
}
