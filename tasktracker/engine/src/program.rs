//! The seam between a tracker and a user's program.
//!
//! A [`Program`] maps and reduces; it knows nothing of trackers, votes or sockets. The tracker hands it verified local
//! bytes and takes its product. The same trait is implemented by user code linked into the process (embedded cluster)
//! and by the child process that runs it elsewhere.

use bytes::Bytes;
use quorate_protocol::{
    ids::AttemptId,
    job::{InputKind, Partitioning, Split},
    vote::{Counters, FailureKind},
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// What every task of a job is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskContext {
    /// The attempt, for messages; nothing in the output may depend on its number.
    pub attempt: AttemptId,
    /// Which of the program's jobs.
    pub entry: String,
    /// The job's arguments as JSON.
    pub arguments: String,
    /// Reduce tasks of the job.
    pub partitions: u32,
    /// Memory of the attempt in bytes.
    pub memory: u64,
}

/// A map task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapTask {
    /// Common to all tasks.
    pub context: TaskContext,
    /// The input file's path in the namespace.
    pub path: String,
    /// How it is read.
    pub input_kind: InputKind,
    /// Which records.
    pub split: Split,
    /// How keys are given to partitions.
    pub partitioning: Partitioning,
}

/// A reduce task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReduceTask {
    /// Common to all tasks.
    pub context: TaskContext,
    /// The partition.
    pub partition: u32,
}

/// Verified bytes on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalBytes {
    /// The file that holds them. It does not change while the attempt runs.
    pub path: PathBuf,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
}

impl LocalBytes {
    /// A part of these bytes.
    ///
    /// # Errors
    /// `InvalidInput` when it does not lie in them.
    pub fn part(&self, part: Range<u64>) -> io::Result<Self> {
        if part.start > part.end || part.end > self.length {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the part does not lie in the bytes"));
        }
        Ok(Self { path: self.path.clone(), offset: self.offset + part.start, length: part.end - part.start })
    }
}

/// A segment that was fetched and verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchedSegment {
    /// In a file.
    File(LocalBytes),
    /// In memory: small enough for the attempt's part of it.
    Memory(Bytes),
}

impl FetchedSegment {
    /// Its bytes' number.
    pub fn length(&self) -> u64 {
        match self {
            Self::File(bytes) => bytes.length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

impl From<LocalBytes> for FetchedSegment {
    fn from(bytes: LocalBytes) -> Self {
        Self::File(bytes)
    }
}

/// A map task's input file: chunks that are fetched and verified when they are asked for.
pub trait InputSource {
    /// The lengths of all chunks of the file, in order.
    fn chunk_lengths(&self) -> &[u32];
    /// Makes one chunk available.
    ///
    /// # Errors
    /// When no copy of it could be had: the attempt is declined, not failed.
    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes>;
    /// Makes a part of a chunk available, for a reader that wants no more of it: a source that can verify a part alone need
    /// not fetch the rest.
    ///
    /// # Errors
    /// As [`InputSource::chunk`], and when the part does not lie in the chunk.
    fn part(&mut self, index: usize, part: Range<u64>) -> io::Result<LocalBytes> {
        self.chunk(index)?.part(part)
    }
}

/// Where a partition begins in a map attempt's data file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Records.
    pub records: u64,
}

/// What a map attempt made: one data file with a span for each partition, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapProduct {
    /// The data file, inside the directory given to [`Program::map`].
    pub data: PathBuf,
    /// One for each partition.
    pub spans: Vec<Span>,
    /// The user's counters.
    pub counters: Counters,
}

/// What a reduce attempt made besides the bytes it wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReduceProduct {
    /// The user's counters.
    pub counters: Counters,
}

/// Why an attempt gave no product.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The user's program, or its input, is at fault: trackers vote on it.
    #[error("{message}")]
    Program {
        /// How it failed.
        kind: FailureKind,
        /// At which record of the task's input, from 0.
        record: Option<u64>,
        /// What it said.
        message: String,
    },
    /// The tracker took the attempt back.
    #[error("cancelled")]
    Cancelled,
    /// This machine could not do it: disk full, chunk unavailable, child not started.
    #[error("{what}")]
    Machine {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl TaskError {
    /// A machine's failure, with what was being done.
    pub fn machine(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        Self::Machine { what: format!("{what}: {source}"), source }
    }
}

/// How the tracker watches an attempt and stops it.
#[derive(Debug, Default)]
pub struct Watch {
    units: AtomicU64,
    cancelled: AtomicBool,
}

impl Watch {
    /// Says that more work is done: bytes read or merged.
    pub fn advance(&self, units: u64) {
        self.units.fetch_add(units, Ordering::Relaxed);
    }
    /// Work done so far.
    pub fn units(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }
    /// Asks the attempt to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
    /// Fails when the attempt was asked to stop. Long loops call it every few thousand records.
    ///
    /// # Errors
    /// [`TaskError::Cancelled`].
    pub fn check(&self) -> Result<(), TaskError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(TaskError::Cancelled) } else { Ok(()) }
    }
}

/// A user's program as a tracker sees it.
pub trait Program: Send + Sync {
    /// Whether [`Program::reduce`] takes segments in memory; a program in another process does not.
    fn takes_memory(&self) -> bool {
        true
    }

    /// Maps one split into sorted segments, written to one data file in `directory`.
    ///
    /// # Errors
    /// [`TaskError`].
    fn map(
        &self,
        task: &MapTask,
        input: &mut dyn InputSource,
        directory: &Path,
        watch: &Watch,
    ) -> Result<MapProduct, TaskError>;

    /// Merges one partition's segments, given in the order of their map tasks, reduces them and writes the part file's
    /// bytes to `output`. `directory` is for intermediate merges.
    ///
    /// # Errors
    /// [`TaskError`]. An error of `output` is a [`TaskError::Machine`].
    fn reduce(
        &self,
        task: &ReduceTask,
        segments: &[FetchedSegment],
        output: &mut dyn Write,
        directory: &Path,
        watch: &Watch,
    ) -> Result<ReduceProduct, TaskError>;
}
