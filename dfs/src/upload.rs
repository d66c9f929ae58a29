//! Storing a file: cut, placed, copied, acknowledged.

use crate::{
    client::ChunkClient,
    digest::name_of,
    fault::{ServerFault, UploadError},
    placer::{Placer, TooFew},
};
use bytes::Bytes;
use quorate_protocol::{
    digest::ChunkId,
    file::{File, Manifest, Placement, chunk_bytes},
    ids::TrackerId,
    limits,
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    task::{JoinError, JoinSet},
};

/// Chunks of one file under way at once.
const IN_FLIGHT_MAX: usize = 4;

/// How a file is stored.
#[derive(Clone)]
pub struct Upload {
    copies: usize,
    chunk_bytes: u64,
    length: Option<u64>,
    progress: Option<Arc<dyn Fn(u64) + Send + Sync>>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copies, chunk_bytes, length, progress: _ } = self;
        write!(f, "Upload({copies} copies, chunks of {chunk_bytes} bytes, length {length:?})")
    }
}

impl Upload {
    /// So many copies of each chunk, each in a failure domain of its own: f + 1 of them survive f liars.
    pub fn copies(copies: usize) -> Self {
        Self { copies: copies.max(1), chunk_bytes: limits::CHUNK_BYTES_DEFAULT, length: None, progress: None }
    }

    /// Bytes in a chunk, [`limits::CHUNK_BYTES_DEFAULT`] unless said otherwise.
    #[must_use]
    pub fn chunk_bytes(mut self, bytes: u64) -> Self {
        self.chunk_bytes = bytes.clamp(1, limits::CHUNK_BYTES_MAX);
        self
    }

    /// The file's length, when it is known: chunks grow so that a long file does not have too many.
    #[must_use]
    pub fn length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// Is told after each chunk how many bytes are stored by now.
    #[must_use]
    pub fn progress(mut self, report: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(report));
        self
    }

    fn size(&self) -> u64 {
        chunk_bytes(self.length.unwrap_or(0), self.chunk_bytes)
    }
}

/// A chunk that has all its copies.
struct Stored {
    index: usize,
    chunk: ChunkId,
    length: u32,
    servers: Vec<TrackerId>,
}

/// What the chunks of one upload share.
#[derive(Debug)]
struct Plan {
    placer: Placer,
    copies: usize,
    /// Each server that failed, once.
    failed: Vec<(TrackerId, ServerFault)>,
}

impl Plan {
    /// Takes failed servers out, and names others in their stead for a chunk that some have.
    fn replace(&mut self, failed: Vec<(TrackerId, ServerFault)>, have: &[TrackerId]) -> Result<Vec<TrackerId>, TooFew> {
        for (server, fault) in failed {
            tracing::warn!(%server, %fault, "a chunk server takes no chunks: using another");
            self.placer.fail(server);
            if self.failed.iter().all(|(its, _)| *its != server) {
                self.failed.push((server, fault));
            }
        }
        self.placer.replace(have)
    }

    /// The error of the whole upload: only its owner makes it, so that it has all the failures.
    fn too_few(&mut self, TooFew { domains }: TooFew) -> UploadError {
        UploadError::TooFewDomains { copies: self.copies, domains, failed: std::mem::take(&mut self.failed) }
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChunkClient {
    /// Stores what `from` gives. The file is complete when this returns, and known to nobody: the caller orders its creation.
    ///
    /// # Errors
    /// [`UploadError`]; chunks stored until then stay behind, without a name.
    pub async fn upload(&self, mut from: impl AsyncRead + Unpin + Send, how: Upload) -> Result<File, UploadError> {
        let chunk_bytes = how.size();
        if how.length.is_some_and(|length| length.div_ceil(chunk_bytes) > limits::FILE_CHUNKS_MAX as u64) {
            return Err(UploadError::TooLong { chunk_bytes });
        }
        let mut bytes = read_chunk(&mut from, chunk_bytes).await?;
        let plan = Arc::new(Mutex::new(self.plan(&how, name_of(&bytes).await)));
        let mut under_way = JoinSet::new();
        let mut stored: Vec<Stored> = Vec::new();
        let mut bytes_stored = 0u64;
        for index in 0.. {
            while under_way.len() >= if bytes.is_empty() { 1 } else { IN_FLIGHT_MAX } {
                let done: Result<Stored, _> = finished(under_way.join_next().await)?;
                stored.push(done.map_err(|few| lock(&plan).too_few(few))?);
                bytes_stored += stored.last().map_or(0, |done| u64::from(done.length));
                how.progress.iter().for_each(|report| report(bytes_stored));
            }
            if bytes.is_empty() {
                break;
            }
            if index == limits::FILE_CHUNKS_MAX {
                return Err(UploadError::TooLong { chunk_bytes });
            }
            // Here and not in the task: tasks start in any order, and runs are of consecutive chunks. [PLACE-2]
            let asked = lock(&plan).placer.place(index);
            let asked = asked.map_err(|few| lock(&plan).too_few(few))?;
            under_way.spawn(store_chunk(self.clone(), plan.clone(), index, bytes, asked));
            bytes = read_chunk(&mut from, chunk_bytes).await?;
        }
        Ok(assemble(stored))
    }

    fn plan(&self, how: &Upload, first: ChunkId) -> Plan {
        let placer = Placer::new(&self.servers(), how.copies, first.0.as_bytes()[0]);
        Plan { placer, copies: how.copies, failed: Vec::new() }
    }
}

fn finished<T>(task: Option<Result<T, JoinError>>) -> Result<T, UploadError> {
    task.and_then(Result::ok).ok_or(UploadError::Stopped)
}

/// Reads until a chunk is full or the input ends.
async fn read_chunk(from: &mut (impl AsyncRead + Unpin), chunk_bytes: u64) -> Result<Bytes, UploadError> {
    let mut bytes = Vec::new();
    from.take(chunk_bytes).read_to_end(&mut bytes).await.map_err(UploadError::Read)?;
    Ok(bytes.into())
}

/// Stores one chunk on enough servers, replacing those that fail by others.
async fn store_chunk(
    client: ChunkClient,
    plan: Arc<Mutex<Plan>>,
    index: usize,
    bytes: Bytes,
    mut asked: Vec<TrackerId>,
) -> Result<Stored, TooFew> {
    let chunk = name_of(&bytes).await;
    let mut servers = Vec::with_capacity(asked.len());
    loop {
        let failed = client.put_each(chunk, &bytes, &asked).await;
        servers.extend(asked.into_iter().filter(|server| failed.iter().all(|(its, _)| its != server)));
        servers.sort();
        if failed.is_empty() {
            // Chunks are at most `CHUNK_BYTES_MAX` long, which fits.
            return Ok(Stored { index, chunk, length: bytes.len() as u32, servers });
        }
        asked = lock(&plan).replace(failed, &servers)?;
    }
}

/// The chunks in their order, and runs of equal placements.
fn assemble(mut stored: Vec<Stored>) -> File {
    stored.sort_by_key(|done| done.index);
    let chunks = stored.iter().map(|done| (done.chunk, done.length)).collect();
    let mut placements: Vec<Placement> = Vec::new();
    for done in stored {
        match placements.last_mut() {
            Some(run) if run.servers == done.servers => run.chunks += 1,
            _ => placements.push(Placement { chunks: 1, servers: done.servers }),
        }
    }
    File { manifest: Manifest { chunks }, placements }
}
