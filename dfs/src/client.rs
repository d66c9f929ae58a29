//! A client of many chunk servers that believes none of them.
//!
//! What must hold:
//! * DFS-1: bytes that a caller gets have the digest and the length that it asked for.
//! * DFS-2: a server counts as a copy only after it signed that it has exactly those bytes.
//! * DFS-3: every wait for a server ends: what makes no progress within the client's patience has failed.
//! * DFS-4: a finding convicts: it was checked with [`Evidence::check`] before it was kept. A server that sends wrong bytes
//!   is asked again, with its signature, before it is left for another; a damaged disk is not a lie.

use crate::{
    digest::{name_of, name_of_read},
    fault::{GetError, PutError, ServerFault},
    piece::{self, PIECE_BYTES, is_piece},
    remote::Remote,
    servers::Servers,
    store::ChunkStore,
};
use bytes::Bytes;
use futures::future::join_all;
use quorate_protocol::{
    cluster::Cluster,
    digest::{ChunkId, Digest},
    evidence::Evidence,
    ids::TrackerId,
    limits,
    query::Blame,
    sign::{SecretKey, Signed},
    vote::Served,
};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tonic::transport::Channel;

/// How long a server may do nothing before the next one is asked.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(10);

/// Reads and writes chunks and files. Clones share their connections, servers and findings.
#[derive(Clone, Debug)]
pub struct ChunkClient {
    cluster: Arc<Cluster>,
    cluster_id: Digest,
    key: SecretKey,
    local: Option<(TrackerId, Arc<ChunkStore>)>,
    patience: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    servers: Mutex<Arc<Servers>>,
    /// At most one for each tracker, with the address that it goes to.
    channels: Mutex<BTreeMap<TrackerId, (String, Channel)>>,
    /// At most one for each tracker: one proof convicts.
    findings: Mutex<BTreeMap<TrackerId, Evidence>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is a single call, so a panic elsewhere leaves the value whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChunkClient {
    /// A client that signs with `key`. Servers take chunks only with a client's of the cluster; a tracker's is good for
    /// reading, and for its own store. It knows no servers yet.
    pub fn new(cluster: Arc<Cluster>, key: SecretKey) -> Self {
        let cluster_id = cluster.id();
        Self { cluster, cluster_id, key, local: None, patience: PATIENCE_DEFAULT, shared: Arc::default() }
    }

    /// Reads and writes this tracker's chunks directly in its own store.
    #[must_use]
    pub fn with_local(mut self, tracker: TrackerId, store: Arc<ChunkStore>) -> Self {
        self.local = Some((tracker, store));
        self
    }

    /// How long a server may make no progress before it counts as failed. 10 s unless said otherwise.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Takes over where the servers are now.
    pub fn set_servers(&self, servers: Servers) {
        *lock(&self.shared.servers) = Arc::new(servers);
    }

    /// The servers as last set.
    pub fn servers(&self) -> Arc<Servers> {
        lock(&self.shared.servers).clone()
    }

    /// Takes the proofs of wrong chunks found since the last call, at most one for each tracker.
    pub fn findings(&self) -> Vec<Evidence> {
        std::mem::take(&mut *lock(&self.shared.findings)).into_values().collect()
    }

    /// Reads one chunk of `length` bytes: from the own store if it is there, else from the first of `servers` that has a
    /// right copy.
    ///
    /// # Errors
    /// [`GetError::NoCopy`] with what each server did.
    pub async fn get(&self, chunk: ChunkId, length: u32, servers: &[TrackerId]) -> Result<Bytes, GetError> {
        let mut tried = Vec::new();
        if let Some((own, store)) = &self.local {
            match get_local(store, chunk, length).await {
                Ok(bytes) => return Ok(bytes),
                Err(fault) if servers.contains(own) => tried.push((*own, fault)),
                // Nobody said that it should be here.
                Err(_) => {}
            }
        }
        for server in self.reading_order(chunk, servers) {
            match self.get_from(server, chunk, length).await {
                Ok(bytes) => return Ok(bytes),
                Err(fault) => {
                    tracing::debug!(%server, %chunk, %fault, "a copy could not be read");
                    tried.push((server, fault));
                }
            }
        }
        Err(GetError::NoCopy { chunk, tried })
    }

    /// Reads a part of a chunk of `length` bytes that lies within one [piece](crate::PIECE_BYTES), and as little more as
    /// verifying it takes. Where that fails, or the part reaches over a piece's end, the whole chunk is read.
    ///
    /// # Errors
    /// As [`ChunkClient::get`].
    ///
    /// # Panics
    /// When the part does not lie in the chunk.
    pub async fn get_part(
        &self,
        chunk: ChunkId,
        length: u32,
        part: Range<u32>,
        servers: &[TrackerId],
    ) -> Result<Bytes, GetError> {
        assert!(part.start < part.end && part.end <= length, "the part lies in the chunk");
        let number = part.start / PIECE_BYTES as u32;
        let start = number * PIECE_BYTES as u32;
        let of = |bytes: Bytes, start: u32| bytes.slice((part.start - start) as usize..(part.end - start) as usize);
        if u64::from(part.end - start) <= PIECE_BYTES
            && let Some(piece) = self.piece(chunk, length, number, servers).await
        {
            return Ok(of(piece, start));
        }
        Ok(of(self.get(chunk, length, servers).await?, 0))
    }

    /// A piece of a chunk, from whoever has it right. Nobody signs pieces: who gives a wrong one is asked for the whole chunk,
    /// which finds out more. [DFS-4]
    async fn piece(&self, chunk: ChunkId, length: u32, number: u32, servers: &[TrackerId]) -> Option<Bytes> {
        let range = piece::range(length.into(), number)?;
        let is_right = |(bytes, proof): &(Bytes, Vec<u8>)| is_piece(chunk, length.into(), number, bytes, proof);
        if let Some((_, store)) = &self.local
            && let Ok(Some(found)) = store.piece(chunk, number).await
            && is_right(&found)
        {
            return Some(found.0);
        }
        for server in self.reading_order(chunk, servers) {
            let Ok(remote) = self.remote(server) else { continue };
            match remote.piece(chunk, number).await {
                Ok(found) if is_right(&found) => return Some(found.0),
                Ok(_) => {
                    if let Ok(bytes) = self.get_from(server, chunk, length).await {
                        return Some(bytes.slice(range.start as usize..range.end as usize));
                    }
                }
                Err(fault) => tracing::debug!(%server, %chunk, number, %fault, "a piece could not be read"),
            }
        }
        None
    }

    /// Stores a chunk on all of `servers`, at once.
    ///
    /// # Errors
    /// [`PutError::Failed`] with the servers that do not have it now; the others do.
    pub async fn put(&self, bytes: Bytes, servers: &[TrackerId]) -> Result<ChunkId, PutError> {
        if bytes.is_empty() || bytes.len() as u64 > limits::CHUNK_BYTES_MAX {
            return Err(PutError::Length { length: bytes.len() });
        }
        let chunk = name_of(&bytes).await;
        let failed = self.put_each(chunk, &bytes, servers).await;
        if failed.is_empty() { Ok(chunk) } else { Err(PutError::Failed { chunk, failed }) }
    }

    /// Stores a chunk on all of `servers`, and tells which failed.
    pub(crate) async fn put_each(
        &self,
        chunk: ChunkId,
        bytes: &Bytes,
        servers: &[TrackerId],
    ) -> Vec<(TrackerId, ServerFault)> {
        let puts = servers.iter().map(|server| async { (*server, self.put_to(*server, chunk, bytes.clone()).await) });
        let done = join_all(puts).await;
        done.into_iter().filter_map(|(server, done)| Some((server, done.err()?))).collect()
    }

    async fn put_to(&self, server: TrackerId, chunk: ChunkId, bytes: Bytes) -> Result<(), ServerFault> {
        match &self.local {
            Some((own, store)) if *own == server => store.put(chunk, bytes).await.map_err(ServerFault::Own),
            _ => self.remote(server)?.put(&self.key, chunk, bytes).await,
        }
    }

    /// The servers to ask, without this process's own: live ones before others, those with a proof against them last, and
    /// among equals another first one for each chunk, so that readers spread.
    fn reading_order(&self, chunk: ChunkId, servers: &[TrackerId]) -> Vec<TrackerId> {
        let known = self.servers();
        let own = self.local.as_ref().map(|(own, _)| *own);
        let mut order: Vec<_> = servers.iter().copied().filter(|server| Some(*server) != own).collect();
        if !order.is_empty() {
            let first = usize::from(chunk.0.as_bytes()[0]) % order.len();
            order.rotate_left(first);
        }
        let findings = lock(&self.shared.findings);
        order.sort_by_key(|server| (findings.contains_key(server), Reverse(known.is_live(*server))));
        order
    }

    async fn get_from(&self, server: TrackerId, chunk: ChunkId, length: u32) -> Result<Bytes, ServerFault> {
        let remote = self.remote(server)?;
        match remote.get(chunk, length, false).await?.bytes {
            Ok(bytes) if name_of_read(&bytes).await == chunk => exactly(bytes, length),
            Ok(_) => self.get_proof(&remote, chunk, length, ServerFault::WrongBytes { proven: false }).await,
            Err(fault) => self.get_proof(&remote, chunk, length, fault).await,
        }
    }

    /// Asks a server that sent wrong bytes once more, with its signature. If it thinks better of it, its bytes are as good
    /// as another's.
    async fn get_proof(
        &self,
        remote: &Remote<'_>,
        chunk: ChunkId,
        length: u32,
        before: ServerFault,
    ) -> Result<Bytes, ServerFault> {
        let fetched = remote.get(chunk, length, true).await?;
        if let Ok(bytes) = fetched.bytes
            && name_of_read(&bytes).await == chunk
        {
            tracing::warn!(server = %remote.server, %chunk, "sent wrong bytes, and right ones when it had to sign them");
            return exactly(bytes, length);
        }
        let proven = fetched.served.is_some_and(|served| self.keep_proof(remote.server, served));
        tracing::warn!(server = %remote.server, %chunk, proven, "sent wrong bytes");
        Err(if proven { ServerFault::WrongBytes { proven } } else { before })
    }

    /// Keeps the statement if it convicts the server. [DFS-4]
    fn keep_proof(&self, server: TrackerId, served: Signed<Served>) -> bool {
        let evidence = Evidence::WrongChunk(served);
        let convicts = evidence.check(&self.cluster) == Ok((server, Blame::Convicted));
        if convicts {
            lock(&self.shared.findings).entry(server).or_insert(evidence);
        }
        convicts
    }

    fn remote(&self, server: TrackerId) -> Result<Remote<'_>, ServerFault> {
        let member = self.cluster.tracker(server).ok_or(ServerFault::NoAddress)?;
        let known = self.servers();
        let address = known.get(server).map(|server| server.address.as_str()).filter(|address| !address.is_empty());
        let address = address.ok_or(ServerFault::NoAddress)?;
        let channel = self.channel(server, address)?;
        Ok(Remote::new(self.cluster_id, server, &member.key, channel, self.patience))
    }

    fn channel(&self, server: TrackerId, address: &str) -> Result<Channel, ServerFault> {
        let mut channels = lock(&self.shared.channels);
        match channels.get(&server) {
            Some((its, channel)) if its == address => Ok(channel.clone()),
            _ => {
                let channel = crate::remote::connect(address, self.patience)?;
                channels.insert(server, (address.to_owned(), channel.clone()));
                Ok(channel)
            }
        }
    }
}

async fn get_local(store: &ChunkStore, chunk: ChunkId, length: u32) -> Result<Bytes, ServerFault> {
    let bytes = store.get(chunk).await.map_err(ServerFault::Own)?.ok_or(ServerFault::Missing)?;
    exactly(bytes, length)
}

/// The chunk is right, and its name decides; then a wrong length is the asker's mistake, or a wrong manifest's.
fn exactly(bytes: Bytes, length: u32) -> Result<Bytes, ServerFault> {
    let got = bytes.len() as u64;
    if got == u64::from(length) { Ok(bytes) } else { Err(ServerFault::WrongLength { got, length }) }
}
