//! Digests off the async threads.

use bytes::Bytes;
use quorate_protocol::{
    digest::{ChunkId, Digest},
    limits, spent,
};
use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

/// Buffers up to this long are digested in place: it takes less than half a millisecond.
const INLINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file that are read and digested at once: they stay in the second-level cache meanwhile.
const PIECE_BYTES: usize = 256 << 10;

/// The name of a buffer.
pub(crate) async fn name_of(bytes: &Bytes) -> ChunkId {
    spent::digested(bytes.len() as u64);
    if bytes.len() <= INLINE_BYTES_MAX {
        return ChunkId(Digest::of(bytes));
    }
    let shared = bytes.clone();
    match tokio::task::spawn_blocking(move || Digest::of(&shared)).await {
        Ok(digest) => ChunkId(digest),
        // Only a runtime that shuts down refuses blocking work; the answer is the same either way.
        Err(_) => ChunkId(Digest::of(bytes)),
    }
}

/// The name of a file's bytes, and how many there are. They are read in pieces, so that no room for all of them is needed.
pub(crate) async fn name_of_file(path: PathBuf) -> io::Result<(ChunkId, u64)> {
    let read = move || {
        // What is longer than any chunk is none, whatever it holds.
        let mut file = File::open(path)?.take(limits::CHUNK_BYTES_MAX + 1);
        let mut hasher = blake3::Hasher::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut length = 0;
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok((ChunkId(hasher.finalize().into()), length)),
                Ok(read) => {
                    spent::digested(read as u64);
                    hasher.update(piece.get(..read).unwrap_or_default());
                    length += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
