//! A reduce attempt's output: cut into chunks and staged on this tracker's own chunk server while it is written.
//!
//! Two rooms take chunk after chunk in turn: while one is filled, the chunk in the other is digested and written. Each chunk
//! begins at an address that the store can write from without a copy.

use bytes::Bytes;
use quorate_dfs::{ALIGNMENT, ChunkStore, StoreError};
use quorate_liars::Lie;
use quorate_protocol::{
    digest::ChunkId,
    file::Manifest,
    ids::AttemptId,
    limits::{CHUNK_BYTES_DEFAULT, FILE_CHUNKS_MAX},
};
use std::{
    io::{self, Write},
    sync::Arc,
};
use tokio::{runtime::Handle, task::JoinHandle};

/// The least room for a chunk, in bytes.
const ROOM_MIN: usize = 64 << 10;

/// The output of an attempt, as a file to write to.
pub(crate) struct StagedOutput {
    store: Arc<ChunkStore>,
    lie: Arc<dyn Lie>,
    attempt: AttemptId,
    handle: Handle,
    /// Room for a chunk that begins at `start`, where the store wants it.
    room: Vec<u8>,
    start: usize,
    /// Bytes of the chunk so far.
    length: usize,
    chunks: Vec<(ChunkId, u32)>,
    /// The chunk after these, on its way into the store.
    flight: Option<Flight>,
}

/// Gives the chunk's name, and its room back.
type Flight = JoinHandle<Result<(ChunkId, u32, Bytes), StoreError>>;

impl StagedOutput {
    /// Made on the runtime, and written to from a thread that may wait for it.
    pub(crate) fn new(store: Arc<ChunkStore>, lie: Arc<dyn Lie>, attempt: AttemptId) -> Self {
        let (room, chunks) = (Vec::new(), Vec::new());
        Self { store, lie, attempt, handle: Handle::current(), room, start: 0, length: 0, chunks, flight: None }
    }

    /// Makes room for so many bytes. The last chunk of many small files need not cost a chunk's room.
    fn make_room(&mut self, wanted: usize) {
        // After a whole chunk more of them are likely.
        let least = if self.flight.is_some() { CHUNK_BYTES_DEFAULT as usize } else { ROOM_MIN };
        let length = wanted.next_power_of_two().clamp(least, CHUNK_BYTES_DEFAULT as usize);
        let mut room = vec![0; length + ALIGNMENT];
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let chunk = self.room.get(self.start..self.start + self.length).unwrap_or_default();
        room[start..start + chunk.len()].copy_from_slice(chunk);
        (self.room, self.start) = (room, start);
    }

    fn stage(&mut self) -> io::Result<()> {
        let spare = self.land()?;
        if self.chunks.len() >= FILE_CHUNKS_MAX {
            let gib = (FILE_CHUNKS_MAX as u64 * CHUNK_BYTES_DEFAULT) >> 30;
            return Err(io::Error::other(format!("a part is at most {gib} GiB long; use more reducers")));
        }
        let chunk = self.start..self.start + self.length;
        self.lie.spoil_reduce_output(self.chunks.is_empty(), &mut self.room[chunk.clone()]);
        let room = Bytes::from(std::mem::replace(&mut self.room, spare));
        let (store, attempt, length) = (Arc::clone(&self.store), self.attempt, self.length as u32);
        self.flight = Some(self.handle.spawn(async move {
            let chunk = store.stage(attempt, room.slice(chunk)).await?;
            Ok((chunk, length, room))
        }));
        self.start = self.room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        self.length = 0;
        Ok(())
    }

    /// Waits until the chunk before is stored, and gives its room, which the store has let go of.
    fn land(&mut self) -> io::Result<Vec<u8>> {
        let Some(flight) = self.flight.take() else { return Ok(Vec::new()) };
        let landed = self.handle.block_on(flight).map_err(io::Error::other)?;
        let (chunk, length, room) = landed.map_err(io::Error::other)?;
        self.chunks.push((chunk, length));
        Ok(room.into())
    }

    /// What was written, as the attempt will vote for it.
    pub(crate) fn finish(&mut self) -> io::Result<Manifest> {
        if self.length > 0 {
            self.stage()?;
        }
        self.land()?;
        Ok(Manifest { chunks: std::mem::take(&mut self.chunks) })
    }
}

impl Write for StagedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES_DEFAULT as usize - self.length);
        let end = self.length + taken;
        if self.room.len() < end + ALIGNMENT {
            self.make_room(end);
        }
        self.room[self.start + self.length..self.start + end].copy_from_slice(&bytes[..taken]);
        self.length = end;
        if self.length == CHUNK_BYTES_DEFAULT as usize {
            self.stage()?;
        }
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for StagedOutput {
    /// Nothing is stored any more once a run has ended, however it did: what it has stored is dropped then.
    fn drop(&mut self) {
        let _ = self.land();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_liars::Honest;
    use quorate_protocol::digest::Digest;

    const CHUNK: usize = CHUNK_BYTES_DEFAULT as usize;

    fn attempt() -> AttemptId {
        "job-1/reduce-0.0".parse().expect("an attempt")
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    /// Does something with an output on a thread that may wait.
    async fn with_output<T: Send + 'static>(
        store: &Arc<ChunkStore>,
        work: impl FnOnce(StagedOutput) -> T + Send + 'static,
    ) -> T {
        let output = StagedOutput::new(Arc::clone(store), Arc::new(Honest), attempt());
        tokio::task::spawn_blocking(move || work(output)).await.expect("no panic")
    }

    #[tokio::test]
    async fn chunks_come_in_the_order_of_their_bytes() {
        for length in [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17] {
            let (store, all) = (Arc::new(ChunkStore::memory()), bytes(length));
            let written = all.clone();
            let write = move |mut output: StagedOutput| {
                written.chunks(300_001).try_for_each(|piece| output.write_all(piece)).expect("written");
                output.finish().expect("stored")
            };
            let manifest = with_output(&store, write).await;
            let expected: Vec<_> =
                all.chunks(CHUNK).map(|chunk| (ChunkId(Digest::of(chunk)), chunk.len() as u32)).collect();
            assert_eq!(manifest.chunks, expected, "{length}");
            for (chunk, _) in expected {
                assert!(store.get(chunk).await.expect("read").is_some());
            }
        }
    }

    #[tokio::test]
    async fn an_output_that_is_left_stores_nothing_afterwards() {
        let store = Arc::new(ChunkStore::memory());
        with_output(&store, |mut output| output.write_all(&bytes(2 * CHUNK)).expect("written")).await;
        let second = ChunkId(Digest::of(&bytes(2 * CHUNK)[CHUNK..]));
        assert!(store.get(second).await.expect("read").is_some());
        store.discard(attempt()).await.expect("dropped");
        assert_eq!(store.usage().await.expect("listed").chunks, 0);
    }
}
