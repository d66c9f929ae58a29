//! One chunk server: gives chunks to whoever asks, and takes them from the cluster's clients.
//!
//! What must hold:
//! * SERVE-1: bytes that go out are the chunk asked for: the store verifies them, and a damaged copy is not served. An
//!   honest server therefore never signs a statement that convicts it.
//! * SERVE-2: a chunk is acknowledged after it is stored.
//! * SERVE-3: memory is bounded whatever peers do: a put waits for room for the length that its permit names, a get for the
//!   chunk's length. A peer that neither sends nor reads loses its place, and so does one that takes much longer over a
//!   chunk than its length allows.

use crate::{
    remote::{BLOCK_MESSAGE_BYTES_MAX, blocks},
    store::{ChunkStore, StoreError},
};
use bytes::{Bytes, BytesMut};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    digest::{ChunkId, Digest},
    file::PutPermit,
    ids::TrackerId,
    limits,
    sign::{PublicKey, SecretKey, Signed},
    vote::{Served, Subject},
    wire::{
        Block, ChunkRequest, Piece, PieceRequest, PutBlock, PutReply,
        chunk_server_server::{ChunkServer, ChunkServerServer},
    },
};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::SendTimeoutError},
    },
    time::timeout,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// Bytes of chunks in memory for readers, and as many for writers.
const BYTES_IN_FLIGHT_MAX: u64 = 256 << 20;
/// The unit in which they are counted: also the least that a chunk counts.
const ROOM_BYTES: u64 = 64 << 10;
/// A peer that neither sends nor takes a block for so long is gone.
const PEER_PATIENCE: Duration = Duration::from_secs(30);
/// A peer that needs longer for so many bytes than a second, over and above the patience, is too slow.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// Changes what is served.
type Tampering = Arc<dyn Fn(ChunkId, Bytes) -> Bytes + Send + Sync>;

/// The chunk service of one tracker.
#[derive(Clone)]
pub struct ChunkService {
    cluster: Digest,
    /// Whose permits count: the clients'. Trackers store what they make on their own servers.
    writers: Arc<BTreeSet<PublicKey>>,
    tracker: TrackerId,
    key: SecretKey,
    store: Arc<ChunkStore>,
    tampering: Option<Tampering>,
    gets: Arc<Semaphore>,
    puts: Arc<Semaphore>,
}

impl fmt::Debug for ChunkService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkService({})", self.tracker)
    }
}

impl ChunkService {
    /// Serves the chunks of `store` as `tracker`, which signs with `key`.
    pub fn new(cluster: Arc<Cluster>, tracker: TrackerId, key: SecretKey, store: Arc<ChunkStore>) -> Self {
        let writers = Arc::new(cluster.clients.iter().copied().collect());
        let room = || Arc::new(Semaphore::new((BYTES_IN_FLIGHT_MAX / ROOM_BYTES) as usize));
        Self { cluster: cluster.id(), writers, tracker, key, store, tampering: None, gets: room(), puts: room() }
    }

    /// Serves what `hook` makes of each chunk. A liar's; an honest server has no use for it.
    #[must_use]
    pub fn tampering(mut self, hook: Arc<dyn Fn(ChunkId, Bytes) -> Bytes + Send + Sync>) -> Self {
        self.tampering = Some(hook);
        self
    }

    /// The service to add to a tonic server or router.
    pub fn into_server(self) -> ChunkServerServer<Self> {
        ChunkServerServer::new(self).max_decoding_message_size(BLOCK_MESSAGE_BYTES_MAX)
    }

    /// The chunk as it will be sent, with the name of what is sent; `None` when there is nothing to send.
    async fn load(&self, chunk: ChunkId, prove: bool) -> Result<Option<(Bytes, Digest)>, Status> {
        let bytes = match self.store.get(chunk).await {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => bytes,
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(tracker = %self.tracker, %error, "not served");
                // Signed, it is the plain truth: there is nothing to send.
                return if prove { Ok(None) } else { Err(Status::data_loss("the copy here is damaged")) };
            }
            Err(error) => return Err(self.failure(&error)),
        };
        Ok(Some(match &self.tampering {
            None => (bytes, chunk.0),
            Some(hook) => {
                let bytes = hook(chunk, bytes);
                let digest = crate::digest::name_of(&bytes).await.0;
                (bytes, digest)
            }
        }))
    }

    fn failure(&self, error: &StoreError) -> Status {
        tracing::error!(tracker = %self.tracker, %error, "the chunk store failed");
        match error {
            StoreError::Full(_) => Status::resource_exhausted("no space is left"),
            StoreError::WrongBytes { .. } | StoreError::TooLong(_) => Status::invalid_argument(error.to_string()),
            StoreError::Damaged { .. } | StoreError::Open { .. } | StoreError::Read { .. } | StoreError::Backend(_) => {
                Status::internal("the chunk store failed")
            }
        }
    }

    fn statement(&self, chunk: ChunkId, sent: Option<(Digest, u64)>) -> Vec<u8> {
        let served =
            Served { cluster: self.cluster, tracker: self.tracker, subject: Subject::Chunk(chunk), vote: None, sent };
        Signed::seal(&served, &self.key).to_wire()
    }

    /// Reads a permit and checks that it is for this server and signed by somebody who may give one.
    fn admit(&self, bytes: &[u8]) -> Result<PutPermit, Status> {
        let signed = Signed::<PutPermit>::from_wire(bytes);
        let signed = signed.map_err(|_| Status::invalid_argument("the first message is no permit"))?;
        let claimed = signed.peek().map_err(|_| Status::invalid_argument("the permit is not readable"))?;
        if !self.writers.contains(&claimed.by) {
            return Err(Status::permission_denied("the permit is signed by no client of this cluster"));
        }
        let permit =
            signed.verify(&claimed.by).map_err(|_| Status::unauthenticated("the permit's signature is wrong"))?;
        if permit.cluster != self.cluster || permit.server != self.tracker {
            return Err(Status::permission_denied("the permit is for another server"));
        }
        if permit.length == 0 || u64::from(permit.length) > limits::CHUNK_BYTES_MAX {
            return Err(Status::invalid_argument("the permit's length is out of bounds"));
        }
        Ok(permit.into_inner())
    }
}

fn named(chunk: &[u8]) -> Result<ChunkId, Status> {
    let name = canonical::decode::<ChunkId>(chunk, size_of::<ChunkId>());
    name.map_err(|_| Status::invalid_argument("not a chunk's name"))
}

/// Waits until there is room for a chunk of this length.
async fn room(of: &Arc<Semaphore>, bytes: u64) -> Result<OwnedSemaphorePermit, Status> {
    // No chunk is longer than all the room, so this ends.
    let units = bytes.min(BYTES_IN_FLIGHT_MAX).div_ceil(ROOM_BYTES).max(1);
    of.clone().acquire_many_owned(units as u32).await.map_err(|_| Status::unavailable("the server is stopping"))
}

/// How long a peer may take over a chunk in all: each block may take the whole patience, but a trickle of them may not hold
/// the room for ever. [SERVE-3]
fn allowance(bytes: u64) -> Duration {
    PEER_PATIENCE.saturating_add(Duration::from_secs(bytes.div_ceil(BYTES_PER_SECOND_MIN)))
}

async fn next_block(
    from: &mut (impl Stream<Item = Result<PutBlock, Status>> + Unpin),
) -> Result<Option<PutBlock>, Status> {
    let late = |_| Status::deadline_exceeded("no block came for too long");
    timeout(PEER_PATIENCE, from.next()).await.map_err(late)?.transpose()
}

/// The data after the permit, if it comes in time.
async fn receive(
    from: &mut (impl Stream<Item = Result<PutBlock, Status>> + Unpin),
    length: u32,
) -> Result<Bytes, Status> {
    let late = |_| Status::deadline_exceeded("the data came too slowly");
    timeout(allowance(length.into()), collect(from, length)).await.map_err(late)?
}

/// Exactly as much data as the permit says.
async fn collect(
    from: &mut (impl Stream<Item = Result<PutBlock, Status>> + Unpin),
    length: u32,
) -> Result<Bytes, Status> {
    let length = length as usize;
    let mut bytes = BytesMut::with_capacity(length);
    while let Some(block) = next_block(from).await? {
        if block.data.is_empty() || block.data.len() > length - bytes.len() {
            return Err(Status::invalid_argument("the data does not fit the permit"));
        }
        bytes.extend_from_slice(&block.data);
    }
    if bytes.len() < length {
        Err(Status::invalid_argument("the data is shorter than the permit"))
    } else {
        Ok(bytes.freeze())
    }
}

/// Sends a chunk, and holds its room as long as the reader takes it in time.
async fn send(bytes: Bytes, statement: Vec<u8>, to: mpsc::Sender<Result<Block, Status>>, room: OwnedSemaphorePermit) {
    let sent = timeout(allowance(bytes.len() as u64), send_blocks(bytes, statement, &to)).await;
    drop(room);
    if !matches!(sent, Ok(Ok(()))) {
        // A reader that is slow but there learns why nothing more comes; it might take the end for a lie.
        let _ = timeout(PEER_PATIENCE, to.send(Err(Status::deadline_exceeded("the data was taken too slowly")))).await;
    }
}

/// Sends a chunk block by block as the reader takes them, the statement with the last one.
async fn send_blocks(
    bytes: Bytes,
    mut statement: Vec<u8>,
    to: &mpsc::Sender<Result<Block, Status>>,
) -> Result<(), SendTimeoutError<Result<Block, Status>>> {
    let mut blocks = blocks(bytes).peekable();
    while let Some(data) = blocks.next() {
        let served = if blocks.peek().is_none() { std::mem::take(&mut statement) } else { Vec::new() };
        // Copied: a part of the chunk that waits for its reader would keep all of it in memory, without room. [SERVE-3]
        let block = Block { data: Bytes::copy_from_slice(&data), served };
        to.send_timeout(Ok(block), PEER_PATIENCE).await?;
    }
    Ok(())
}

#[tonic::async_trait]
impl ChunkServer for ChunkService {
    type GetChunkStream = ReceiverStream<Result<Block, Status>>;

    async fn get_chunk(&self, request: Request<ChunkRequest>) -> Result<Response<Self::GetChunkStream>, Status> {
        let ChunkRequest { chunk, prove } = request.into_inner();
        let chunk = named(&chunk)?;
        let length = self.store.length(chunk).await.map_err(|error| self.failure(&error))?;
        let room = room(&self.gets, length.unwrap_or(0)).await?;
        let loaded = self.load(chunk, prove).await?;
        let sent = loaded.as_ref().map(|(bytes, digest)| (*digest, bytes.len() as u64));
        let bytes = match loaded {
            Some((bytes, _)) => bytes,
            None if prove => Bytes::new(),
            None => return Err(Status::not_found(format!("{} has no chunk {}", self.tracker, chunk.0.short()))),
        };
        let statement = if prove { self.statement(chunk, sent) } else { Vec::new() };
        let (to, blocks) = mpsc::channel(1);
        tokio::spawn(send(bytes, statement, to, room));
        Ok(Response::new(ReceiverStream::new(blocks)))
    }

    async fn get_piece(&self, request: Request<PieceRequest>) -> Result<Response<Piece>, Status> {
        let PieceRequest { chunk, piece } = request.into_inner();
        let chunk = named(&chunk)?;
        // All of the chunk may have to be read.
        let length = self.store.length(chunk).await.map_err(|error| self.failure(&error))?;
        let _room = room(&self.gets, length.unwrap_or(0)).await?;
        // A damaged copy is no lie: who asks for all of the chunk is told so.
        let found = self.store.piece(chunk, piece).await.map_err(|error| self.failure(&error))?;
        let (data, proof) = found.ok_or_else(|| Status::not_found(format!("{} has no such piece", self.tracker)))?;
        let data = self.tampering.as_ref().map_or(data.clone(), |hook| hook(chunk, data));
        Ok(Response::new(Piece { data, proof }))
    }

    async fn put_chunk(&self, request: Request<Streaming<PutBlock>>) -> Result<Response<PutReply>, Status> {
        let mut from = request.into_inner();
        let first = next_block(&mut from).await?.ok_or_else(|| Status::invalid_argument("no permit came"))?;
        let permit = self.admit(&first.permit)?;
        let _room = room(&self.puts, permit.length.into()).await?;
        let bytes = receive(&mut from, permit.length).await?;
        self.store.put(permit.chunk, bytes).await.map_err(|error| self.failure(&error))?;
        let stored = self.statement(permit.chunk, Some((permit.chunk.0, permit.length.into())));
        Ok(Response::new(PutReply { stored }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};
    use tonic::Code;

    const LENGTH: usize = 16 << 20;

    /// A peer's step that is always in time by itself, and never in all.
    async fn dawdle() {
        sleep(PEER_PATIENCE - Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_dawdles_holds_room_no_longer_than_its_chunk_allows() {
        let rooms = Arc::new(Semaphore::new(1));
        let room = rooms.clone().acquire_owned().await.expect("room");
        let (to, mut blocks) = mpsc::channel(1);
        let chunk = Bytes::from(vec![7; LENGTH]);
        let start = Instant::now();
        let sending = tokio::spawn(send(chunk.clone(), Vec::new(), to, room));
        let reading = tokio::spawn(async move {
            loop {
                dawdle().await;
                if let Err(status) = blocks.recv().await.expect("an error ends it") {
                    return status.code();
                }
            }
        });
        let _room = rooms.acquire().await.expect("free again");
        assert!(start.elapsed() <= allowance(LENGTH as u64), "after {:?}", start.elapsed());
        assert!(chunk.is_unique(), "the block that the reader has not taken is none of the chunk's memory");
        assert_eq!(reading.await.expect("a reader"), Code::DeadlineExceeded);
        sending.await.expect("ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_keeps_up_gets_everything() {
        let rooms = Arc::new(Semaphore::new(1));
        let room = rooms.clone().acquire_owned().await.expect("room");
        let (to, mut blocks) = mpsc::channel(1);
        tokio::spawn(send(Bytes::from(vec![7; LENGTH]), b"statement".to_vec(), to, room));
        let mut got = 0;
        let mut served = Vec::new();
        while let Some(block) = blocks.recv().await {
            let block = block.expect("no error");
            got += block.data.len();
            served.push(block.served);
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(got, LENGTH);
        assert_eq!(served.iter().position(|statement| !statement.is_empty()), Some(served.len() - 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_whose_bytes_trickle_or_never_come_ends() {
        let start = Instant::now();
        let mut never = tokio_stream::pending();
        assert_eq!(receive(&mut never, LENGTH as u32).await.expect_err("nothing came").code(), Code::DeadlineExceeded);
        assert!(start.elapsed() <= PEER_PATIENCE, "after {:?}", start.elapsed());

        let start = Instant::now();
        let mut trickle = Box::pin(tokio_stream::iter(0..LENGTH).then(|_| async {
            dawdle().await;
            Ok(PutBlock { permit: Vec::new(), data: Bytes::from_static(b"x") })
        }));
        assert_eq!(receive(&mut trickle, LENGTH as u32).await.expect_err("too slow").code(), Code::DeadlineExceeded);
        assert!(start.elapsed() <= allowance(LENGTH as u64), "after {:?}", start.elapsed());
    }
}
