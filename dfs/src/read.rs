//! Reading a file: its chunks in order, verified, a few ahead of the reader.

use crate::{client::ChunkClient, fault::GetError};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use quorate_protocol::{digest::ChunkId, file::File, ids::TrackerId};
use std::ops::Range;
use tokio::task::JoinSet;

/// Chunks fetched while one is being consumed.
const READ_AHEAD: usize = 2;

/// A chunk to fetch, and what of it is wanted.
struct Piece {
    chunk: ChunkId,
    length: u32,
    servers: Vec<TrackerId>,
    wanted: Range<usize>,
}

impl ChunkClient {
    /// All bytes of a file in order. Nothing comes after an error.
    pub fn read(&self, file: &File) -> impl Stream<Item = Result<Bytes, GetError>> + Send + Unpin + use<> {
        self.read_range(file, 0, file.manifest.length())
    }

    /// The bytes `start..end` of a file in order, as far as it has them. Nothing comes after an error.
    pub fn read_range(
        &self,
        file: &File,
        start: u64,
        end: u64,
    ) -> impl Stream<Item = Result<Bytes, GetError>> + Send + Unpin + use<> {
        let client = self.clone();
        let (pieces, refused) = match file.check() {
            Ok(()) => (cut(file, start, end), None),
            Err(reason) => (Vec::new(), Some(Err(GetError::BadFile(reason)))),
        };
        // Tasks of their own: a reader that takes its time must not make a good server look stalled. [DFS-3]
        let fetched = stream::iter(pieces).map(move |piece| {
            let mut task = JoinSet::new();
            task.spawn(fetch(client.clone(), piece));
            async move { task.join_next().await.and_then(Result::ok).unwrap_or(Err(GetError::Stopped)) }
        });
        let mut failed = false;
        let until_error = fetched.buffered(1 + READ_AHEAD).take_while(move |bytes| {
            let go_on = !failed;
            failed |= bytes.is_err();
            std::future::ready(go_on)
        });
        stream::iter(refused).chain(until_error)
    }
}

async fn fetch(client: ChunkClient, piece: Piece) -> Result<Bytes, GetError> {
    let bytes = client.get(piece.chunk, piece.length, &piece.servers).await?;
    Ok(bytes.slice(piece.wanted))
}

/// The pieces of a checked file that make up a range.
fn cut(file: &File, start: u64, end: u64) -> Vec<Piece> {
    let servers = file.placements.iter().flat_map(|run| std::iter::repeat_n(&run.servers, run.chunks as usize));
    let mut pieces = Vec::new();
    let mut offset = 0u64;
    for ((chunk, length), servers) in file.manifest.chunks.iter().zip(servers) {
        let within = |position: u64| position.clamp(offset, offset + u64::from(*length)) - offset;
        let wanted = within(start) as usize..within(end) as usize;
        if !wanted.is_empty() {
            pieces.push(Piece { chunk: *chunk, length: *length, servers: servers.clone(), wanted });
        }
        offset += u64::from(*length);
    }
    pieces
}
