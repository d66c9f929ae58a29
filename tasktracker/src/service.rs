//! What a tracker serves to other trackers: segments, its votes, and its attempts' logs.

use crate::{
    outputs::{Output, Outputs},
    segments::statement,
};
use bytes::Bytes;
use quorate_engine::{digest, program::Span};
use quorate_liars::Lie;
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{AttemptId, JobId, TrackerId},
    limits::{self, BLOCK_BYTES_MAX},
    sign::{SecretKey, Signed},
    vote::Segment,
    wire::{Block, LogRequest, SegmentRequest, VoteNotice, VotesRequest, tracker_server},
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Segments read at once, and blocks of each that wait for their reader.
const READS_MAX: usize = 32;
const BLOCKS_QUEUED_MAX: usize = 4;
/// Vote streams at once.
const FOLLOWERS_MAX: usize = 4096;

type Blocks = ReceiverStream<Result<Block, Status>>;

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
        Self { shared: Arc::new(Serving { cluster, tracker, key, outputs, lie, reads, followers }), stop }
    }
}

fn attempt_of(bytes: &[u8]) -> Result<AttemptId, Status> {
    canonical::decode(bytes, 64).map_err(|_| Status::invalid_argument("that is no attempt"))
}

#[tonic::async_trait]
impl tracker_server::Tracker for TrackerService {
    type GetSegmentStream = Blocks;
    type FollowVotesStream = ReceiverStream<Result<VoteNotice, Status>>;
    type GetLogStream = Blocks;

    async fn get_segment(&self, request: Request<SegmentRequest>) -> Result<Response<Blocks>, Status> {
        let request = request.into_inner();
        let attempt = attempt_of(&request.attempt)?;
        let found = self.shared.outputs.get(attempt).and_then(|output| {
            let at = request.partition as usize;
            Some((*output.spans.get(at)?, *output.segments.get(at)?, output))
        });
        if found.is_none() && !request.prove {
            return Err(Status::not_found("this tracker has no such segment"));
        }
        let permit = Arc::clone(&self.shared.reads).acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("the tracker is stopping"))?;
        let (to, blocks) = mpsc::channel(BLOCKS_QUEUED_MAX);
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let sending = Sending { shared: &shared, reader: TrackerId::new(request.reader), to: &to };
            let answer = match sending.send(attempt, request.partition, request.prove, found) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Status::not_found("the segment is gone"),
                Err(error) => Status::internal(format!("reading the segment: {error}")),
            };
            let _ = to.blocking_send(Err(answer));
        });
        Ok(Response::new(ReceiverStream::new(blocks)))
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
                    let segments = canonical::encode(&*output.segments);
                    let notice = VoteNotice { vote: output.vote.to_wire(), segments };
                    if to.send(Ok(notice)).await.is_err() {
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
        Ok(Response::new(ReceiverStream::new(blocks)))
    }
}

fn send_block(to: &mpsc::Sender<Result<Block, Status>>, data: Bytes) -> io::Result<()> {
    let block = Block { data, served: Vec::new() };
    to.blocking_send(Ok(block)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
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
    fn send(
        &self,
        attempt: AttemptId,
        partition: u32,
        prove: bool,
        found: Option<(Span, Segment, Arc<Output>)>,
    ) -> io::Result<()> {
        // Who is asked for proof looks twice before signing: a disk that went bad is no lie.
        let found = match found {
            Some((span, segment, output)) if prove && self.shared.lie.checks_before_proving() => {
                let now = digest::digest_spans(&output.data, &[span]);
                now.is_ok_and(|now| now == [segment]).then_some((span, output))
            }
            other => other.map(|(span, _, output)| (span, output)),
        };
        let mut sent = None;
        if let Some((span, output)) = found {
            sent = Some(self.send_span(&output, span, prove)?);
        }
        if prove {
            let served = statement(self.shared.cluster, self.shared.tracker, attempt, partition);
            let served = Signed::seal(&quorate_protocol::vote::Served { sent, ..served }, &self.shared.key);
            let block = Block { data: Bytes::new(), served: served.to_wire() };
            let _ = self.to.blocking_send(Ok(block));
        }
        Ok(())
    }

    /// Sends a span's bytes; with `hash` returns their digest and length.
    fn send_span(&self, output: &Output, span: Span, hash: bool) -> io::Result<(Digest, u64)> {
        let mut file = File::open(&output.data)?;
        file.seek(SeekFrom::Start(span.offset))?;
        let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
        copy_blocks(file.take(span.length), |block| {
            for block in self.shared.lie.spoil_served(self.reader, block) {
                if hash {
                    hasher.update(&block);
                    length += block.len() as u64;
                }
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
