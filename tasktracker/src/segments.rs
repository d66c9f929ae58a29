//! Fetching segments: bytes count only when they are what their server voted.

use crate::{
    dataplane::{self, FetchFault, SegmentKey},
    peers::Peers,
};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    digest::Digest,
    evidence::Evidence,
    ids::{AttemptId, TrackerId},
    query::Blame,
    sign::Signed,
    spent,
    vote::{Segment, Served, Vote},
    wire::{Block, SegmentRequest},
};
use std::{io, sync::Arc, time::Duration};
use tonic::Streaming;

/// A server that sends nothing for so long is not waited for.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// What a server may send beyond its segment when it is to sign what it sent.
const RUN_ON_BYTES: u64 = 8 << 20;

/// A segment as some tracker voted for it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Who serves it.
    pub server: TrackerId,
    /// The map attempt.
    pub attempt: AttemptId,
    /// The partition.
    pub partition: u32,
    /// The server's signed vote.
    pub vote: Signed<Vote>,
    /// The list that the vote names.
    pub segments: Arc<[Segment]>,
}

impl Wanted {
    fn segment(&self) -> Option<&Segment> {
        self.segments.get(self.partition as usize)
    }
}

/// Why a segment was not had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server is away, or broke off: it may do better later.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// The server.
        server: TrackerId,
        /// What happened.
        why: String,
    },
    /// It gave other bytes than it voted, or none.
    #[error("{server} {what}")]
    Wrong {
        /// The server.
        server: TrackerId,
        /// What it did.
        what: String,
        /// What anybody can check, when it signed what it did.
        evidence: Option<Box<Evidence>>,
    },
    /// The bytes could not be written here.
    #[error("storing a fetched segment: {0}")]
    Sink(#[from] io::Error),
}

/// Fetches one segment and gives its bytes to `sink`, with their place in it; after an error what `sink` got is worth
/// nothing.
///
/// A server whose bytes are wrong is asked once more, with proof: what it then signs convicts it, or the right bytes come.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    peers: &Peers,
    cluster: &Cluster,
    reader: TrackerId,
    wanted: &Wanted,
    sink: &mut (dyn FnMut(u64, &[u8]) -> io::Result<()> + Send),
) -> Result<(), FetchError> {
    let unreachable = |why: String| FetchError::Unreachable { server: wanted.server, why };
    let wrong = |what: &str| FetchError::Wrong { server: wanted.server, what: what.to_owned(), evidence: None };
    let Some(segment) = wanted.segment() else { return Err(wrong("voted for too few segments")) };
    let complaint = match first_try(peers, reader, wanted, segment, sink).await {
        Ok(received) if received == (segment.digest, segment.length) => return Ok(()),
        Ok(_) => "sent other bytes than it voted",
        Err(FetchFault::Sink(error)) => return Err(error.into()),
        Err(FetchFault::NotFound) => "has not got what it voted",
        Err(FetchFault::TooLong) => "sent more bytes than it voted",
        Err(FetchFault::Broken(error)) => return Err(unreachable(error.to_string())),
    };
    match with_proof(peers, reader, wanted, segment, sink).await {
        Ok(received) if received.is(segment) => Ok(()),
        Ok(received) => {
            let evidence = received.served.and_then(|served| convict(cluster, wanted, served)).map(Box::new);
            Err(FetchError::Wrong { server: wanted.server, what: complaint.to_owned(), evidence })
        }
        Err(ReceiveError::Sink(error)) => Err(error.into()),
        Err(_) => Err(wrong(complaint)),
    }
}

/// The data plane's way: fast, and nothing is signed.
async fn first_try(
    peers: &Peers,
    reader: TrackerId,
    wanted: &Wanted,
    segment: &Segment,
    sink: &mut (dyn FnMut(u64, &[u8]) -> io::Result<()> + Send),
) -> Result<(Digest, u64), FetchFault> {
    let address = peers.address(wanted.server).map_err(io::Error::other)?;
    let key = SegmentKey { attempt: wanted.attempt, partition: wanted.partition, reader };
    let receiving = dataplane::receive(peers.connections(), (wanted.server, &address), &key, segment, sink);
    let silent = || Err(io::Error::new(io::ErrorKind::TimedOut, "it is too slow").into());
    tokio::time::timeout(dataplane::patience(segment.length), receiving).await.unwrap_or_else(|_| silent())
}

/// Makes evidence of what a server signed, when it is evidence.
fn convict(cluster: &Cluster, wanted: &Wanted, served: Signed<Served>) -> Option<Evidence> {
    let evidence = Evidence::WrongSegment { vote: wanted.vote.clone(), segments: wanted.segments.to_vec(), served };
    match evidence.check(cluster) {
        Ok((accused, blame)) if accused == wanted.server && blame > Blame::None => Some(evidence),
        _ => None,
    }
}

struct Received {
    digest: Digest,
    length: u64,
    served: Option<Signed<Served>>,
}

impl Received {
    fn is(&self, segment: &Segment) -> bool {
        self.digest == segment.digest && self.length == segment.length
    }
}

enum ReceiveError {
    Server,
    Sink(io::Error),
}

/// Asks for the segment with a signed statement of what was sent.
async fn with_proof(
    peers: &Peers,
    reader: TrackerId,
    wanted: &Wanted,
    segment: &Segment,
    sink: &mut (dyn FnMut(u64, &[u8]) -> io::Result<()> + Send),
) -> Result<Received, ReceiveError> {
    let receiving = receive_all(peers, reader, wanted, segment, sink);
    tokio::time::timeout(dataplane::patience(segment.length), receiving).await.unwrap_or(Err(ReceiveError::Server))
}

async fn receive_all(
    peers: &Peers,
    reader: TrackerId,
    wanted: &Wanted,
    segment: &Segment,
    sink: &mut (dyn FnMut(u64, &[u8]) -> io::Result<()> + Send),
) -> Result<Received, ReceiveError> {
    let mut client = peers.client(wanted.server).map_err(|_| ReceiveError::Server)?;
    let request = SegmentRequest {
        attempt: canonical::encode(&wanted.attempt),
        partition: wanted.partition,
        reader: reader.number(),
        vote: wanted.vote.to_wire(),
    };
    let opened = tokio::time::timeout(BLOCK_TIMEOUT, client.prove_segment(request)).await;
    let opened = opened.map_err(|_| ReceiveError::Server)?;
    let mut stream = opened.map_err(|_| ReceiveError::Server)?.into_inner();
    let mut hasher = blake3::Hasher::new();
    let (mut length, mut served) = (0u64, None);
    while let Some(block) = next(&mut stream).await? {
        let end = length.saturating_add(block.data.len() as u64);
        // A server may run on a little, so that it may sign what it did.
        if end > segment.length.saturating_add(RUN_ON_BYTES) {
            return Err(ReceiveError::Server);
        }
        spent::digested(block.data.len() as u64);
        hasher.update(&block.data);
        if end <= segment.length {
            sink(length, &block.data).map_err(ReceiveError::Sink)?;
        }
        length = end;
        if !block.served.is_empty() {
            served = Signed::from_wire(&block.served).ok();
        }
    }
    Ok(Received { digest: hasher.finalize().into(), length, served })
}

async fn next(stream: &mut Streaming<Block>) -> Result<Option<Block>, ReceiveError> {
    let message = tokio::time::timeout(BLOCK_TIMEOUT, stream.message()).await.map_err(|_| ReceiveError::Server)?;
    message.map_err(|_| ReceiveError::Server)
}
