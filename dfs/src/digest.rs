//! Digests off the async threads.

use bytes::Bytes;
use quorate_protocol::{
    digest::{ChunkId, Digest},
    spent,
};

/// Buffers up to this long are digested in place: it takes less than half a millisecond.
const INLINE_BYTES_MAX: usize = 1 << 20;

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
