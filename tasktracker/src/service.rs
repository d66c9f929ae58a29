//! What a tracker serves to other trackers over gRPC: its votes, its attempts' logs, and signed statements of what it sends.

use crate::{
    difference::{Digests, Place},
    outputs::{Output, Outputs},
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use quorate_engine::program::Span;
use quorate_liars::Lie;
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{AttemptId, JobId, TrackerId},
    limits::{self, BLOCK_BYTES_MAX},
    sign::{SecretKey, Signed},
    vote::{Served, Subject, Vote},
    wire::{
        Block, LogRequest, Node, NodeRequest, RecordPlace, RecordRequest, SegmentRequest, VoteNotice, VoteRequest,
        VotesRequest, tracker_server,
    },
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Segments proven at once, and blocks of each that wait for their reader.
const READS_MAX: usize = 32;
const BLOCKS_QUEUED_MAX: usize = 4;
/// Vote streams at once.
const FOLLOWERS_MAX: usize = 4096;

/// A reader that takes no block for so long is left.
const READER_PATIENCE: Duration = Duration::from_secs(20);

type Blocks = Pin<Box<dyn Stream<Item = Result<Block, Status>> + Send>>;

/// The service.
pub(crate) struct TrackerService {
    shared: Arc<Serving>,
    stop: CancellationToken,
}

struct Serving {
    cluster: Digest,
    tracker: TrackerId,
    key: SecretKey,
    outputs: Arc<Outputs>,
    digests: Digests,
    lie: Arc<dyn Lie>,
    reads: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl TrackerService {
    /// A service over the outputs of a tracker, until `stop`.
    pub(crate) fn new(
        cluster: Digest,
        tracker: TrackerId,
        key: SecretKey,
        outputs: Arc<Outputs>,
        lie: Arc<dyn Lie>,
        stop: CancellationToken,
    ) -> Self {
        let (reads, followers) = (Arc::new(Semaphore::new(READS_MAX)), Arc::new(Semaphore::new(FOLLOWERS_MAX)));
        let digests = Digests::new(Arc::clone(&outputs), stop.clone());
        Self { shared: Arc::new(Serving { cluster, tracker, key, outputs, digests, lie, reads, followers }), stop }
    }
}

fn attempt_of(bytes: &[u8]) -> Result<AttemptId, Status> {
    canonical::decode(bytes, 64).map_err(|_| Status::invalid_argument("that is no attempt"))
}

#[tonic::async_trait]
impl tracker_server::Tracker for TrackerService {
    type ProveSegmentStream = Blocks;
    type FollowVotesStream = ReceiverStream<Result<VoteNotice, Status>>;
    type GetLogStream = Blocks;

    async fn prove_segment(&self, request: Request<SegmentRequest>) -> Result<Response<Blocks>, Status> {
        let request = request.into_inner();
        let attempt = attempt_of(&request.attempt)?;
        let vote = self.shared.own_vote(attempt, &request.vote)?;
        let permit = Arc::clone(&self.shared.reads).acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("the tracker is stopping"))?;
        let (to, blocks) = mpsc::channel(BLOCKS_QUEUED_MAX);
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let sending = Sending { shared: &shared, reader: TrackerId::new(request.reader), to: &to };
            sending.send(attempt, request.partition, vote);
        });
        // The room is held until the reader has taken, or left, everything.
        let held = ReceiverStream::new(blocks).map(move |block| {
            let _ = &permit;
            block
        });
        Ok(Response::new(Box::pin(held)))
    }

    async fn follow_votes(&self, request: Request<VotesRequest>) -> Result<Response<Self::FollowVotesStream>, Status> {
        let request = request.into_inner();
        let permit = Arc::clone(&self.shared.followers).try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("too many followers"))?;
        let mut position = usize::try_from(request.from).map_err(|_| Status::invalid_argument("no such position"))?;
        let (to, notices) = mpsc::channel(BLOCKS_QUEUED_MAX);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let mut changes = shared.outputs.changes();
            loop {
                changes.mark_unchanged();
                for output in shared.outputs.from(JobId::new(request.job), position) {
                    position += 1;
                    if to.send(Ok(notice(&output))).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = to.closed() => return,
                    () = stop.cancelled() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(notices)))
    }

    async fn get_log(&self, request: Request<LogRequest>) -> Result<Response<Blocks>, Status> {
        let attempt = attempt_of(&request.into_inner().attempt)?;
        let log = self.shared.outputs.log(attempt);
        let (to, blocks) = mpsc::channel(BLOCKS_QUEUED_MAX);
        tokio::task::spawn_blocking(move || {
            let file = File::open(&log).map(|file| file.take(limits::LOG_BYTES_MAX));
            let answer = match file.and_then(|file| copy_blocks(file, |block| send_block(&to, block))) {
                Ok(_) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Status::not_found("there is no such log"),
                Err(error) => Status::internal(error.to_string()),
            };
            let _ = to.blocking_send(Err(answer));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(blocks))))
    }

    async fn get_vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteNotice>, Status> {
        let attempt = attempt_of(&request.into_inner().attempt)?;
        let output = self.shared.outputs.get(attempt);
        let output = output.ok_or_else(|| Status::not_found("there is no such output any more"))?;
        Ok(Response::new(notice(&output)))
    }

    async fn get_node(&self, request: Request<NodeRequest>) -> Result<Response<Node>, Status> {
        let request = request.into_inner();
        let segment = (attempt_of(&request.attempt)?, request.partition);
        let content = self.shared.digests.node(segment, request.level, request.index).await?;
        let spoilt = self.shared.lie.spoil_served(TrackerId::new(request.reader), content.into());
        Ok(Response::new(Node { content: spoilt.concat().into() }))
    }

    async fn find_record(&self, request: Request<RecordRequest>) -> Result<Response<RecordPlace>, Status> {
        let request = request.into_inner();
        let segment = (attempt_of(&request.attempt)?, request.partition);
        let Place { start, number } = self.shared.digests.record_at(segment, request.byte).await?;
        Ok(Response::new(RecordPlace { start, number }))
    }
}

fn notice(output: &Output) -> VoteNotice {
    VoteNotice { vote: output.vote.to_wire(), segments: canonical::encode(&*output.segments) }
}

impl Serving {
    /// Checks that the vote which a reader shows is this tracker's own for the attempt, and names it. A tracker that has
    /// not voted says nothing that could be held against a later vote.
    fn own_vote(&self, attempt: AttemptId, shown: &[u8]) -> Result<Digest, Status> {
        let not_ours = || Status::invalid_argument("the vote shown is not this tracker's for this attempt");
        let signed = Signed::<Vote>::from_wire(shown).map_err(|_| not_ours())?;
        let vote = signed.verify(&self.key.public()).map_err(|_| not_ours())?;
        let is_own = vote.cluster == self.cluster && vote.tracker == self.tracker && vote.attempt == attempt;
        if is_own { Ok(Digest::of(signed.bytes())) } else { Err(not_ours()) }
    }
}

fn send_block(to: &mpsc::Sender<Result<Block, Status>>, data: Bytes) -> io::Result<()> {
    let block = Block { data, served: Vec::new() };
    let sent = Handle::current().block_on(tokio::time::timeout(READER_PATIENCE, to.send(Ok(block))));
    match sent {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
    }
}

/// Reads to the end in blocks as large as a message may be.
fn copy_blocks(mut from: impl Read, mut to: impl FnMut(Bytes) -> io::Result<()>) -> io::Result<()> {
    loop {
        let mut block = Vec::with_capacity(BLOCK_BYTES_MAX);
        if (&mut from).take(BLOCK_BYTES_MAX as u64).read_to_end(&mut block)? == 0 {
            return Ok(());
        }
        to(block.into())?;
    }
}

struct Sending<'a> {
    shared: &'a Serving,
    reader: TrackerId,
    to: &'a mpsc::Sender<Result<Block, Status>>,
}

impl Sending<'_> {
    /// Sends a segment, and a signed statement of what was sent, which names the own vote.
    fn send(&self, attempt: AttemptId, partition: u32, vote: Digest) {
        let honest = self.shared.lie.checks_before_proving();
        let found = self.shared.outputs.get(attempt).and_then(|output| {
            let at = partition as usize;
            Some((*output.spans.get(at)?, *output.segments.get(at)?, output))
        });
        let mut sent = None;
        if let Some((span, segment, output)) = found {
            let served = self.send_span(&output, span);
            // A disk that lost or changed bytes is no lie: what is not as voted counts as nothing sent.
            sent = match served {
                Ok(served) if !honest || served == (segment.digest, segment.length) => Some(served),
                Ok(_) | Err(_) => None,
            };
        }
        let subject = Subject::Segment { attempt, partition };
        let (cluster, tracker) = (self.shared.cluster, self.shared.tracker);
        let served = Served { cluster, tracker, subject, vote: Some(vote), sent };
        let block = Block { data: Bytes::new(), served: Signed::seal(&served, &self.shared.key).to_wire() };
        let _ = self.to.blocking_send(Ok(block));
    }

    /// Sends a span's bytes; returns their digest and length.
    fn send_span(&self, output: &Output, span: Span) -> io::Result<(Digest, u64)> {
        let mut file = File::open(&output.data)?;
        file.seek(SeekFrom::Start(span.offset))?;
        let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
        copy_blocks(file.take(span.length), |block| {
            for block in self.shared.lie.spoil_served(self.reader, block) {
                hasher.update(&block);
                length += block.len() as u64;
                // A reader that has heard enough hangs up; that is its right.
                if send_block(self.to, block).is_err() {
                    return Err(io::Error::from(io::ErrorKind::BrokenPipe));
                }
            }
            Ok(())
        })
        .or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        Ok((hasher.finalize().into(), length))
    }
}
