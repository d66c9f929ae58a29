//! A reduce attempt's output: cut into chunks and staged on this tracker's own chunk server while it is written.
//!
//! One buffer takes chunk after chunk. Each begins at an address that the store can write from without a copy.

use crate::worker::Worker;
use bytes::Bytes;
use quorate_dfs::ALIGNMENT;
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
use tokio::runtime::Handle;

/// The least room for a chunk, in bytes.
const ROOM_MIN: usize = 64 << 10;

/// The output of an attempt, as a file to write to.
pub(crate) struct StagedOutput {
    worker: Arc<Worker>,
    attempt: AttemptId,
    handle: Handle,
    /// Room for a chunk that begins at `start`, where the store wants it.
    room: Vec<u8>,
    start: usize,
    /// Bytes of the chunk so far.
    length: usize,
    chunks: Vec<(ChunkId, u32)>,
}

impl StagedOutput {
    pub(crate) fn new(worker: &Arc<Worker>, attempt: AttemptId) -> Self {
        let (worker, handle) = (Arc::clone(worker), Handle::current());
        Self { worker, attempt, handle, room: Vec::new(), start: 0, length: 0, chunks: Vec::new() }
    }

    /// Makes room for so many bytes. The last chunk of many small files need not cost a chunk's room.
    fn make_room(&mut self, wanted: usize) {
        let length = wanted.next_power_of_two().clamp(ROOM_MIN, CHUNK_BYTES_DEFAULT as usize);
        let mut room = vec![0; length + ALIGNMENT];
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let chunk = self.room.get(self.start..self.start + self.length).unwrap_or_default();
        room[start..start + chunk.len()].copy_from_slice(chunk);
        (self.room, self.start) = (room, start);
    }

    fn stage(&mut self) -> io::Result<()> {
        if self.chunks.len() >= FILE_CHUNKS_MAX {
            let gib = (FILE_CHUNKS_MAX as u64 * CHUNK_BYTES_DEFAULT) >> 30;
            return Err(io::Error::other(format!("a part is at most {gib} GiB long; use more reducers")));
        }
        let chunk = self.start..self.start + self.length;
        self.worker.lie.spoil_reduce_output(self.chunks.is_empty(), &mut self.room[chunk.clone()]);
        let room = Bytes::from(std::mem::take(&mut self.room));
        let staged = self.handle.block_on(self.worker.store.stage(self.attempt, room.slice(chunk)));
        self.chunks.push((staged.map_err(io::Error::other)?, self.length as u32));
        // The store has let go of the chunk: its room takes the next one.
        self.room = room.into();
        self.start = self.room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        self.length = 0;
        Ok(())
    }

    /// What was written, as the attempt will vote for it.
    pub(crate) fn finish(&mut self) -> io::Result<Manifest> {
        if self.length > 0 {
            self.stage()?;
        }
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
