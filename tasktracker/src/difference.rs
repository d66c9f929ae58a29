//! What a person wants to know of an undecidable task: the first record at which its attempts differ.
//!
//! The client finds it itself, from signed votes and bytes that it checks against them, so nobody's word is needed.

use crate::{
    peers::{PeerError, Peers},
    segments::{self, FetchError, Wanted},
};
use bytes::Bytes;
use quorate_dfs::{ChunkClient, GetError, Servers};
use quorate_engine::record::records;
use quorate_jobtracker::client::{Client, ClientError};
use quorate_protocol::{
    canonical,
    evidence::verify_vote,
    file::Manifest,
    ids::{AttemptId, TaskId, TrackerId},
    limits,
    sign::Signed,
    vote::{Ballot, Segment, Vote, segments_digest},
    wire::{LogRequest, VoteNotice, VotesRequest},
};
use std::{fmt, io, sync::Arc, time::Duration};

/// How long a tracker may take to show its votes.
const VOTES_TIMEOUT: Duration = Duration::from_secs(10);
/// A segment that is compared in memory, in bytes.
const COMPARED_BYTES_MAX: u64 = 1 << 30;
/// What is shown of a record's key and value, in bytes.
const SHOWN_BYTES_MAX: usize = 80;

/// Where two attempts of one task differ first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The task.
    pub task: TaskId,
    /// The partition.
    pub partition: u32,
    /// The record of the partition's segment, from 0; for a reduce task, the byte of the part file.
    pub position: u64,
    /// The two attempts' trackers, and what each has there.
    pub sides: [(TrackerId, String); 2],
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.task.stage == quorate_protocol::ids::Stage::Map { "record" } else { "byte" };
        let [(left, left_shown), (right, right_shown)] = &self.sides;
        write!(f, "{}, partition {}, {unit} {}: ", self.task, self.partition, self.position)?;
        write!(f, "{left} has {left_shown}, {right} has {right_shown}")
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
    /// A tracker does not show what it voted.
    #[error("{0} does not show what it voted")]
    NotShown(TrackerId),
    /// A segment could not be fetched.
    #[error(transparent)]
    Segment(#[from] FetchError),
    /// A chunk could not be fetched.
    #[error(transparent)]
    Chunk(#[from] GetError),
    /// It is too large to compare.
    #[error("a segment of {0} bytes is too large to compare")]
    TooLarge(u64),
}

/// Finds the first record at which two attempts of an undecidable task differ.
///
/// # Errors
/// [`DifferenceError`]: for example when a tracker is gone, or keeps the bytes no longer.
pub async fn first_difference(client: &Client, task: TaskId) -> Result<Difference, DifferenceError> {
    let cluster = Arc::clone(client.cluster());
    let trackers = client.trackers().await?;
    let peers = Peers::default();
    peers.update(&trackers);
    let signed = client.votes(task).await?;
    let votes: Vec<(Signed<Vote>, Vote)> = signed
        .into_iter()
        .filter_map(|signed| verify_vote(&cluster, &signed).ok().map(|(vote, _)| (signed, vote)))
        .collect();
    let other = |vote: &Vote| votes.iter().find(|(_, other)| outputs_differ(&vote.ballot, &other.ballot));
    let pair = votes.iter().find_map(|left| other(&left.1).map(|right| (left, right)));
    let ((left_signed, left), (right_signed, right)) = pair.ok_or(DifferenceError::NothingToCompare(task))?;
    match (&left.ballot, &right.ballot) {
        (Ballot::Reduce { manifest: first, .. }, Ballot::Reduce { manifest: second, .. }) => {
            let chunks = ChunkClient::new(cluster, client.key().clone());
            chunks.set_servers(Servers::of(&trackers));
            compare_parts(&chunks, task, (left.tracker, first), (right.tracker, second)).await
        }
        _ => {
            let left = shown(&peers, left_signed, left).await?;
            let right = shown(&peers, right_signed, right).await?;
            compare_segments(&peers, client, task, left, right).await
        }
    }
}

fn outputs_differ(left: &Ballot, right: &Ballot) -> bool {
    match (left, right) {
        (Ballot::Map { segments: left, .. }, Ballot::Map { segments: right, .. }) => left != right,
        (Ballot::Reduce { manifest: left, .. }, Ballot::Reduce { manifest: right, .. }) => left != right,
        _ => false,
    }
}

/// Asks a tracker for the segments that its vote names.
async fn shown(peers: &Peers, signed: &Signed<Vote>, vote: &Vote) -> Result<Wanted, DifferenceError> {
    let not_shown = || DifferenceError::NotShown(vote.tracker);
    let Ballot::Map { segments: list, .. } = &vote.ballot else { return Err(not_shown()) };
    let search = async {
        let mut client = peers.client(vote.tracker).ok()?;
        let request = VotesRequest { job: vote.attempt.task.job.number(), from: 0 };
        let mut notices = client.follow_votes(request).await.ok()?.into_inner();
        loop {
            let VoteNotice { segments, .. } = notices.message().await.ok()??;
            let segments: Vec<Segment> = canonical::decode(&segments, limits::SEGMENTS_BYTES_MAX).ok()?;
            if segments_digest(&segments) == *list {
                return Some(segments);
            }
        }
    };
    let segments = tokio::time::timeout(VOTES_TIMEOUT, search).await.ok().flatten().ok_or_else(not_shown)?;
    Ok(Wanted {
        server: vote.tracker,
        attempt: vote.attempt,
        partition: 0,
        vote: signed.clone(),
        segments: segments.into(),
    })
}

async fn compare_segments(
    peers: &Peers,
    client: &Client,
    task: TaskId,
    mut left: Wanted,
    mut right: Wanted,
) -> Result<Difference, DifferenceError> {
    let differs = left.segments.iter().zip(right.segments.iter()).position(|(left, right)| left != right);
    let partition = differs.ok_or(DifferenceError::NothingToCompare(task))? as u32;
    (left.partition, right.partition) = (partition, partition);
    let left_bytes = fetch_whole(peers, client, &left).await?;
    let right_bytes = fetch_whole(peers, client, &right).await?;
    let (mut ours, mut theirs) = (records(&left_bytes), records(&right_bytes));
    let mut position = 0;
    loop {
        let sides = (ours.next(), theirs.next());
        match sides {
            (Some(Ok(one)), Some(Ok(other))) if one == other => position += 1,
            (None, None) => return Err(DifferenceError::NothingToCompare(task)),
            (one, other) => {
                let show = |side: Option<Result<(&[u8], &[u8]), _>>| match side {
                    Some(Ok((key, value))) => format!("key {} value {}", excerpt(key), excerpt(value)),
                    Some(Err(error)) => format!("no record: {error}"),
                    None => "nothing more".to_owned(),
                };
                let sides = [(left.server, show(one)), (right.server, show(other))];
                return Ok(Difference { task, partition, position, sides });
            }
        }
    }
}

async fn fetch_whole(peers: &Peers, client: &Client, wanted: &Wanted) -> Result<Vec<u8>, DifferenceError> {
    let length = wanted.segments.get(wanted.partition as usize).map_or(0, |segment| segment.length);
    if length > COMPARED_BYTES_MAX {
        return Err(DifferenceError::TooLarge(length));
    }
    let mut bytes = Vec::new();
    let mut sink = |at: u64, block: &[u8]| -> io::Result<()> {
        bytes.truncate(at as usize);
        bytes.extend_from_slice(block);
        Ok(())
    };
    // A client is no tracker: its reader's number is none of theirs.
    segments::fetch(peers, client.cluster(), TrackerId::new(u32::MAX), wanted, &mut sink).await?;
    Ok(bytes)
}

async fn compare_parts(
    chunks: &ChunkClient,
    task: TaskId,
    (left, left_manifest): (TrackerId, &Manifest),
    (right, right_manifest): (TrackerId, &Manifest),
) -> Result<Difference, DifferenceError> {
    let mut position = 0u64;
    let (mut ours, mut theirs) = (left_manifest.chunks.iter(), right_manifest.chunks.iter());
    loop {
        let sides = (ours.next(), theirs.next());
        if let (Some(one), Some(other)) = sides
            && one == other
        {
            position += u64::from(one.1);
            continue;
        }
        let mut bytes = [Bytes::new(), Bytes::new()];
        for (bytes, (server, side)) in bytes.iter_mut().zip([(left, sides.0), (right, sides.1)]) {
            if let Some((chunk, length)) = side {
                *bytes = chunks.get(*chunk, *length, &[server]).await?;
            }
        }
        let same = bytes[0].iter().zip(bytes[1].iter()).take_while(|(one, other)| one == other).count();
        let [one, other] = bytes.map(|bytes| excerpt(bytes.get(same..).unwrap_or_default()));
        let sides = [(left, one), (right, other)];
        return Ok(Difference { task, partition: task.index, position: position + same as u64, sides });
    }
}

fn excerpt(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_ascii())
}

/// What an attempt's user code wrote to its standard output and error, from the tracker that ran it.
///
/// # Errors
/// [`PeerError`] when the tracker is not there; its status otherwise.
pub async fn read_log(peers: &Peers, tracker: TrackerId, attempt: AttemptId) -> Result<Vec<u8>, LogError> {
    let mut client = peers.client(tracker)?;
    let request = LogRequest { attempt: canonical::encode(&attempt) };
    let mut blocks = client.get_log(request).await.map_err(Box::new)?.into_inner();
    let mut log = Vec::new();
    while let Some(block) = blocks.message().await.map_err(Box::new)? {
        log.extend_from_slice(&block.data);
        if log.len() as u64 > limits::LOG_BYTES_MAX {
            log.truncate(limits::LOG_BYTES_MAX as usize);
            break;
        }
    }
    Ok(log)
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The tracker is not there.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It did not give the log.
    #[error("{}", .0.message())]
    Status(#[from] Box<tonic::Status>),
}
