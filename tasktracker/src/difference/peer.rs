//! A tracker as a source of its segments.

use super::{
    index::Place,
    search::{Fault, Source},
    tree::BLOCK_BYTES,
};
use crate::{dataplane, peers::Peers};
use bytes::Bytes;
use quorate_protocol::{
    canonical,
    ids::{AttemptId, TrackerId},
    limits,
    vote::{Ballot, Segment, Vote, segments_digest},
    wire::{Node, NodeRequest, RecordPlace, RecordRequest, VoteNotice, VoteRequest, tracker_client::TrackerClient},
};
use std::{future::Future, time::Duration};
use tokio::time::Instant;
use tonic::{Response, Status, transport::Channel};

/// How long a tracker may take to show a vote.
const VOTE_PATIENCE: Duration = Duration::from_secs(10);
/// The longest time that one segment's questions may take altogether, whatever its length: the length is its tracker's word.
const SEGMENT_PATIENCE_MAX: Duration = Duration::from_secs(300);
/// An answer about a node: a block, and its frame.
const ANSWER_BYTES_MAX: usize = BLOCK_BYTES as usize + (4 << 10);
/// A client is no tracker: its reader's number is none of theirs.
const READER: u32 = u32::MAX;

/// One segment of a tracker's.
pub(super) struct Peer {
    calls: TrackerClient<Channel>,
    attempt: Vec<u8>,
    partition: u32,
    deadline: Instant,
}

impl Peer {
    /// A segment that a tracker voted. It may have to read all of it for the first answer.
    pub(super) fn new(
        peers: &Peers,
        tracker: TrackerId,
        attempt: AttemptId,
        partition: u32,
        segment: &Segment,
    ) -> Result<Self, Fault> {
        let calls = peers.client(tracker).map_err(|error| Fault::None(error.to_string()))?;
        let calls = calls.max_decoding_message_size(ANSWER_BYTES_MAX);
        let patience = dataplane::patience(segment.length).min(SEGMENT_PATIENCE_MAX);
        let deadline = Instant::now() + patience;
        Ok(Self { calls, attempt: canonical::encode(&attempt), partition, deadline })
    }
}

impl Source for Peer {
    async fn node(&self, level: u32, index: u64) -> Result<Bytes, Fault> {
        let (attempt, partition) = (self.attempt.clone(), self.partition);
        let request = NodeRequest { attempt, partition, level, index, reader: READER };
        let Node { content } = answer(self.deadline, self.calls.clone().get_node(request)).await?;
        Ok(content)
    }

    async fn record_at(&self, byte: u64) -> Result<Place, Fault> {
        let request = RecordRequest { attempt: self.attempt.clone(), partition: self.partition, byte };
        let RecordPlace { start, number } = answer(self.deadline, self.calls.clone().find_record(request)).await?;
        Ok(Place { start, number })
    }
}

/// The segments that a vote names, from the tracker whose vote it is.
pub(super) async fn segments(peers: &Peers, vote: &Vote) -> Result<Vec<Segment>, Fault> {
    let Ballot::Map { segments: list, .. } = &vote.ballot else { return Err(Fault::Unlike(None)) };
    let mut client = peers.client(vote.tracker).map_err(|error| Fault::None(error.to_string()))?;
    let request = VoteRequest { attempt: canonical::encode(&vote.attempt) };
    let VoteNotice { segments, .. } = answer(Instant::now() + VOTE_PATIENCE, client.get_vote(request)).await?;
    let segments: Vec<Segment> =
        canonical::decode(&segments, limits::SEGMENTS_BYTES_MAX).map_err(|_| Fault::Unlike(None))?;
    if segments_digest(&segments) == *list { Ok(segments) } else { Err(Fault::Unlike(None)) }
}

async fn answer<T>(deadline: Instant, asked: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Fault> {
    match tokio::time::timeout_at(deadline, asked).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Fault::None(status.message().to_owned())),
        Err(_) => Err(Fault::None("it does not answer".to_owned())),
    }
}
