//! Digests off the async threads.

use crate::piece::{Tree, TreeBuilder};
use bytes::Bytes;
use quorate_protocol::{
    digest::{ChunkId, Digest},
    limits, spent,
};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Buffers up to this long are digested in place: it takes less than half a millisecond.
const INLINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file that are read and digested at once, some pieces: they stay in the second-level cache meanwhile.
const BLOCK_BYTES: usize = 256 << 10;

/// The name of a buffer that is to be stored.
pub(crate) async fn name_of(bytes: &Bytes) -> ChunkId {
    spent::digested(bytes.len() as u64);
    name(bytes).await
}

/// The name of a buffer that was read.
pub(crate) async fn name_of_read(bytes: &Bytes) -> ChunkId {
    spent::read(bytes.len() as u64);
    name(bytes).await
}

async fn name(bytes: &Bytes) -> ChunkId {
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

/// The name of a buffer, with the hashes of its pieces.
pub(crate) async fn tree_of(bytes: &Bytes) -> (ChunkId, Tree) {
    spent::digested(bytes.len() as u64);
    if bytes.len() <= INLINE_BYTES_MAX {
        return Tree::of(bytes);
    }
    let shared = bytes.clone();
    // As above.
    tokio::task::spawn_blocking(move || Tree::of(&shared)).await.unwrap_or_else(|_| Tree::of(bytes))
}

/// The name of a file's bytes, with the hashes of its pieces. It is read in blocks, so that no room for all of it is
/// needed. What is longer than any chunk is read no further, and is none, whatever it holds.
pub(crate) fn tree_of_file(path: &Path) -> io::Result<(ChunkId, Tree)> {
    let mut file = File::open(path)?.take(limits::CHUNK_BYTES_MAX + 1);
    let mut tree = TreeBuilder::new();
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        spent::read(block.len() as u64);
        tree.add(&block);
        if block.len() < BLOCK_BYTES {
            return Ok(tree.finish(&block));
        }
    }
}
