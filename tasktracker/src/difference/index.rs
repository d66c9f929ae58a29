//! The server's side: nodes of the digest trees of this tracker's segments, and where their records begin.
//!
//! Whoever asks for the upper levels of a segment of more than a group (1 MiB) makes this tracker read the segment once.
//! What that cost is bounded: one segment is read at a time, and what was found in it is kept, a few hundred bytes for each
//! 8 MiB. The lower levels are computed from the one group that is asked about.

use super::tree::{self, Value};
use crate::outputs::Outputs;
use quorate_engine::{
    program::Span,
    record::{HEADER_BYTES_MAX, Header},
};
use quorate_protocol::ids::AttemptId;
use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The level of nodes of which an index keeps the values.
const GROUP: u32 = 1;
/// Segments whose indexes are kept.
const INDEXES_MAX: usize = 8;
/// The longest segment that is read for somebody's question: its index has 3 MiB.
const INDEXED_BYTES_MAX: u64 = 64 << 30;
/// Questions at once; more are refused.
const QUESTIONS_MAX: usize = 32;

/// Which segment.
type Key = (AttemptId, u32);

/// A record's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Its first byte.
    pub(crate) start: u64,
    /// Its number, from 0.
    pub(crate) number: u64,
}

/// Answers questions about segments.
pub(crate) struct Digests {
    outputs: Arc<Outputs>,
    indexes: Mutex<VecDeque<(Key, Arc<Index>)>>,
    questions: Semaphore,
    reading: Semaphore,
    stop: CancellationToken,
}

impl Digests {
    /// Over the outputs of a tracker, until `stop`.
    pub(crate) fn new(outputs: Arc<Outputs>, stop: CancellationToken) -> Self {
        let (questions, reading) = (Semaphore::new(QUESTIONS_MAX), Semaphore::new(1));
        Self { outputs, indexes: Mutex::default(), questions, reading, stop }
    }

    /// The values of the nodes below a node, one after the other; of a block, its bytes.
    pub(crate) async fn node(&self, key: Key, level: u32, index: u64) -> Result<Vec<u8>, Status> {
        let _asked = self.ask()?;
        let part = self.part(key)?;
        let (start, covered) = tree::span(part.length, level, index).ok_or_else(no_node)?;
        if level > tree::root_level(part.length) {
            return Err(no_node());
        }
        if level <= GROUP {
            return blocking(move || part.node(level, start, covered)).await;
        }
        let known = self.index(key, &part).await?;
        let first = tree::first_below(index);
        let below = tree::lengths_below(level, covered).zip(first..);
        Ok(below.flat_map(|(covered, index)| known.value(level - 1, index, covered)).collect())
    }

    /// The record that has a byte.
    pub(crate) async fn record_at(&self, key: Key, byte: u64) -> Result<Place, Status> {
        let _asked = self.ask()?;
        let part = self.part(key)?;
        if byte >= part.length {
            return Err(Status::out_of_range("the segment ends before that byte"));
        }
        let known = self.index(key, &part).await?;
        blocking(move || known.record_at(&part, byte)).await
    }

    fn ask(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Status> {
        self.questions.try_acquire().map_err(|_| Status::resource_exhausted("too many questions about segments"))
    }

    fn part(&self, (attempt, partition): Key) -> Result<Part, Status> {
        let output = self.outputs.get(attempt).ok_or_else(|| Status::not_found("there is no such output any more"))?;
        let span =
            output.spans.get(partition as usize).ok_or_else(|| Status::not_found("there is no such partition"))?;
        let Span { offset, length, .. } = *span;
        Ok(Part { path: output.data.clone(), offset, length })
    }

    /// The index of a segment, which is read now if it is not known.
    async fn index(&self, key: Key, part: &Part) -> Result<Arc<Index>, Status> {
        if let Some(known) = self.known(key) {
            return Ok(known);
        }
        if part.length > INDEXED_BYTES_MAX {
            return Err(Status::out_of_range("the segment is too long to be read for this"));
        }
        let _turn = self.reading.acquire().await.map_err(|_| Status::unavailable("the tracker is stopping"))?;
        if let Some(known) = self.known(key) {
            return Ok(known);
        }
        let (part, stop) = (part.clone(), self.stop.clone());
        let index = Arc::new(blocking(move || Index::read(&part, &stop)).await?);
        let mut indexes = self.indexes();
        indexes.push_back((key, Arc::clone(&index)));
        if indexes.len() > INDEXES_MAX {
            indexes.pop_front();
        }
        Ok(index)
    }

    fn known(&self, key: Key) -> Option<Arc<Index>> {
        self.indexes().iter().find(|(its, _)| *its == key).map(|(_, index)| Arc::clone(index))
    }

    fn indexes(&self) -> MutexGuard<'_, VecDeque<(Key, Arc<Index>)>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_node() -> Status {
    Status::out_of_range("the segment has no such node")
}

/// Work with a file, where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|done| done).map_err(|error| Status::internal(error.to_string()))
}

/// A segment as a part of a file.
#[derive(Clone)]
struct Part {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl Part {
    /// Bytes from `start` of the segment on: `length` of them, or up to its end.
    fn read(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        read_at(&open(&self.path)?, self, start, length)
    }

    fn node(&self, level: u32, start: u64, covered: u64) -> io::Result<Vec<u8>> {
        let bytes = self.read(start, covered)?;
        if level == 0 {
            return Ok(bytes);
        }
        let blocks = bytes.chunks(tree::BLOCK_BYTES as usize).zip(0u64..);
        Ok(blocks.flat_map(|(block, n)| tree::value_of(block, start + n * tree::BLOCK_BYTES)).collect())
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn read_at(file: &File, part: &Part, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = length.min(part.length.saturating_sub(start));
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, part.offset.saturating_add(start))?;
    Ok(bytes)
}

/// What one reading of a segment found.
struct Index {
    /// One for each group.
    groups: Vec<(Value, Place)>,
}

impl Index {
    /// Reads a segment, group by group. Each group's place is that of the first record that begins in it or after it.
    fn read(part: &Part, stop: &CancellationToken) -> io::Result<Self> {
        let file = open(&part.path)?;
        let mut groups = Vec::new();
        let mut next = Place { start: 0, number: 0 };
        let mut start = 0;
        while start < part.length {
            if stop.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let covered = tree::reach(GROUP).min(part.length - start);
            let bytes = read_at(&file, part, start, covered + HEADER_BYTES_MAX as u64)?;
            let value = tree::value_of(bytes.get(..covered as usize).unwrap_or(&bytes), start);
            groups.push((value, next));
            next = first_at(part.length, &bytes, start, next, start + covered);
            start += covered;
        }
        Ok(Self { groups })
    }

    /// The value of a node of a level from [`GROUP`] on, which covers so many bytes.
    fn value(&self, level: u32, index: u64, covered: u64) -> Value {
        if level <= GROUP {
            return self.groups.get(index as usize).map_or([0; 32], |(value, _)| *value);
        }
        let first = tree::first_below(index);
        let below = tree::lengths_below(level, covered).zip(first..);
        let below: Vec<Value> = below.map(|(covered, index)| self.value(level - 1, index, covered)).collect();
        tree::merged(level, covered, &below)
    }

    fn record_at(&self, part: &Part, byte: u64) -> io::Result<Place> {
        let after = self.groups.partition_point(|(_, place)| place.start <= byte);
        let first = after.checked_sub(1).and_then(|group| self.groups.get(group));
        let from = first.map_or(Place { start: 0, number: 0 }, |(_, place)| *place);
        let bytes = part.read(from.start, tree::reach(GROUP) + HEADER_BYTES_MAX as u64)?;
        Ok(last_up_to(part.length, &bytes, from, byte))
    }
}

/// The first record that begins at `at` or after it, from an earlier one on. `bytes` begin at `start` and hold all headers
/// in between. What is no record ends the walk where it begins.
fn first_at(length: u64, bytes: &[u8], start: u64, mut place: Place, at: u64) -> Place {
    while place.start < at.min(length) {
        match after(length, bytes, start, place) {
            Some(next) => place = next,
            None => break,
        }
    }
    place
}

/// The last record that begins at `byte` or before it, from one of these on, at which `bytes` begin.
fn last_up_to(length: u64, bytes: &[u8], from: Place, byte: u64) -> Place {
    let mut place = from;
    while let Some(next) = after(length, bytes, from.start, place).filter(|next| next.start <= byte) {
        place = next;
    }
    place
}

fn after(length: u64, bytes: &[u8], start: u64, place: Place) -> Option<Place> {
    let at = usize::try_from(place.start.checked_sub(start)?).ok()?;
    let header = Header::read(bytes.get(at..)?).ok()??;
    let next = place.start.checked_add(header.total() as u64).filter(|next| *next <= length)?;
    Some(Place { start: next, number: place.number + 1 })
}
