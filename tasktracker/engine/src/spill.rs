//! Runs: files of sorted records with one span for each partition, and their writer.

use crate::{
    program::{FetchedSegment, Span, TaskError},
    record::{self, FileRange},
};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Bytes written at once: they stay in the second-level cache until they are.
const WRITE_BYTES: usize = 256 << 10;

/// A sorted run: consecutive spans, one for each partition.
pub(crate) struct Run {
    place: RunPlace,
    /// The spans' lengths.
    pub(crate) spans: Vec<u64>,
}

/// Where a run's bytes are.
enum RunPlace {
    /// In a file of our own, which goes when the run does.
    Own(PathBuf),
    /// In a file or in memory; a file stays.
    Segment(FetchedSegment),
}

impl Run {
    /// A run of one span that others hold.
    pub(crate) fn of_segment(segment: FetchedSegment) -> Self {
        Self { spans: vec![segment.length()], place: RunPlace::Segment(segment) }
    }

    /// The run's bytes as a stream.
    pub(crate) fn open(&self) -> RunBytes {
        match &self.place {
            RunPlace::Own(path) => RunBytes::File(FileRange::new(path.clone(), 0, self.length())),
            RunPlace::Segment(FetchedSegment::File(bytes)) => {
                RunBytes::File(FileRange::new(bytes.path.clone(), bytes.offset, bytes.length))
            }
            RunPlace::Segment(FetchedSegment::Memory(bytes)) => RunBytes::Memory(bytes.clone()),
        }
    }

    /// Bytes in all spans.
    pub(crate) fn length(&self) -> u64 {
        self.spans.iter().fold(0, |sum, span| sum.saturating_add(*span))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let RunPlace::Own(path) = &self.place {
            // The attempt's directory is removed with all that is left in it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The bytes of a run as a stream.
pub(crate) enum RunBytes {
    File(FileRange),
    Memory(Bytes),
}

impl Read for RunBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(bytes) => {
                let read = bytes.split_to(bytes.len().min(buffer.len()));
                buffer[..read.len()].copy_from_slice(&read);
                Ok(read.len())
            }
        }
    }
}

/// Writes sorted records, span after span.
pub(crate) struct RunWriter {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// Bytes that are in the file already.
    written: u64,
    spans: Vec<Span>,
    /// Where the open span began, and its records so far.
    span_start: u64,
    records: u64,
}

impl RunWriter {
    pub(crate) fn create(path: PathBuf) -> Result<Self, TaskError> {
        let file = File::create(&path).map_err(|e| TaskError::machine(format!("create {}", path.display()), e))?;
        let buffer = Vec::with_capacity(WRITE_BYTES + (64 << 10));
        Ok(Self { path, file, buffer, written: 0, spans: Vec::new(), span_start: 0, records: 0 })
    }

    /// Writes a record.
    #[inline]
    pub(crate) fn append(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        record::append(key, value, &mut self.buffer);
        self.appended()
    }

    /// Writes a record that has its form already.
    #[inline]
    pub(crate) fn append_record(&mut self, record: &[u8]) -> Result<(), TaskError> {
        self.buffer.extend_from_slice(record);
        self.appended()
    }

    #[inline]
    fn appended(&mut self) -> Result<(), TaskError> {
        self.records += 1;
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// The records from now on belong to the next partition.
    pub(crate) fn end_span(&mut self) {
        let end = self.written + self.buffer.len() as u64;
        self.spans.push(Span { offset: self.span_start, length: end - self.span_start, records: self.records });
        (self.span_start, self.records) = (end, 0);
    }

    /// Spans ended so far.
    pub(crate) fn spans(&self) -> usize {
        self.spans.len()
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.file
            .write_all(&self.buffer)
            .map_err(|e| TaskError::machine(format!("write {}", self.path.display()), e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> Result<(PathBuf, Vec<Span>), TaskError> {
        self.flush()?;
        Ok((self.path, self.spans))
    }

    /// Ends the file, which goes when the run does.
    pub(crate) fn finish_run(self) -> Result<Run, TaskError> {
        let (path, spans) = self.finish()?;
        Ok(Run { place: RunPlace::Own(path), spans: spans.iter().map(|span| span.length).collect() })
    }
}

/// The runs that an attempt has spilled into its directory.
pub(crate) struct Spills {
    directory: PathBuf,
    runs: Vec<Run>,
}

impl Spills {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), runs: Vec::new() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn push(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// All runs, in the order of spilling.
    pub(crate) fn take(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.runs)
    }

    /// A writer for the next spill.
    pub(crate) fn writer(&self) -> Result<RunWriter, TaskError> {
        RunWriter::create(self.directory.join(format!("spill-{}", self.runs.len())))
    }
}
