//! An input file as one stream of bytes over its chunks, and as places to read at.

use crate::program::{InputSource, LocalBytes, MapTask, TaskError, Watch};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

/// The most that is asked for of a chunk at first that has nothing of the split: what a store verifies alone.
const PART_BYTES: u64 = 64 << 10;

/// The bytes of an input file from some position on. A chunk is asked for when its first byte is.
///
/// Of a chunk beside the split only the end or the beginning of one record is wanted, so a part of it is asked for first, and
/// the whole chunk when more is read.
pub(super) struct Chunks<'a> {
    path: String,
    source: &'a mut dyn InputSource,
    watch: &'a Watch,
    /// Where each chunk ends in the file.
    ends: Vec<u64>,
    split: Range<u64>,
    position: u64,
    /// The chunk that a part was asked of last.
    parted: Option<usize>,
    /// The chunk, or the part of one, that holds `position`: the file, already there, and the bytes left.
    open: Option<(File, u64)>,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(task: &MapTask, source: &'a mut dyn InputSource, watch: &'a Watch) -> Self {
        let mut end = 0u64;
        let ends = source.chunk_lengths().iter().map(|length| {
            end += u64::from(*length);
            end
        });
        let (path, split) = (task.path.clone(), task.split.start..task.split.end);
        Self { path, ends: ends.collect(), source, watch, split, position: 0, parted: None, open: None }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The file's length.
    pub(super) fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(super) fn seek(&mut self, position: u64) {
        self.position = position;
        self.open = None;
    }

    /// The chunk that holds a position, and where it is in the file.
    fn chunk_at(&self, position: u64) -> Option<(usize, Range<u64>)> {
        let index = self.ends.partition_point(|end| *end <= position);
        let end = *self.ends.get(index)?;
        Some((index, index.checked_sub(1).map_or(0, |before| self.ends[before])..end))
    }

    /// Makes the chunk that holds a position available: where the chunk begins in the file, and its bytes.
    pub(super) fn locate(&mut self, position: u64) -> Result<Option<(u64, LocalBytes)>, TaskError> {
        let Some((index, at)) = self.chunk_at(position) else { return Ok(None) };
        let bytes = self.source.chunk(index);
        Ok(Some((at.start, self.checked(index, bytes, at.end - at.start)?)))
    }

    /// Makes bytes from the position on available: the rest of its chunk, or `wanted` of it when that is all that there is
    /// to want.
    fn locate_some(&mut self, wanted: u64) -> Result<Option<LocalBytes>, TaskError> {
        let Some((index, at)) = self.chunk_at(self.position) else { return Ok(None) };
        let (into, length) = (self.position - at.start, at.end - at.start);
        let is_beside = at.end <= self.split.start || at.start >= self.split.end;
        if is_beside && self.parted.replace(index) != Some(index) {
            let end = length.min(into + wanted.min(PART_BYTES));
            let bytes = self.source.part(index, into..end);
            return self.checked(index, bytes, end - into).map(Some);
        }
        let bytes = self.source.chunk(index);
        let rest = self.checked(index, bytes, length)?.part(into..length);
        rest.map(Some).map_err(|error| self.failed(index, error))
    }

    fn checked(&self, index: usize, bytes: io::Result<LocalBytes>, length: u64) -> Result<LocalBytes, TaskError> {
        match bytes {
            Ok(bytes) if bytes.length == length => Ok(bytes),
            Ok(_) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "the chunk has another length");
                Err(self.failed(index, error))
            }
            Err(error) => Err(self.failed(index, error)),
        }
    }

    fn failed(&self, index: usize, error: io::Error) -> TaskError {
        TaskError::machine(format!("read chunk {index} of {}", self.path), error)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, TaskError> {
        self.watch.check()?;
        let (mut file, left) = match self.open.take() {
            Some(open) => open,
            None => {
                let Some(bytes) = self.locate_some(buffer.len() as u64)? else { return Ok(0) };
                let open = |e| TaskError::machine(format!("open {}", bytes.path.display()), e);
                let mut file = File::open(&bytes.path).map_err(open)?;
                file.seek(SeekFrom::Start(bytes.offset)).map_err(open)?;
                (file, bytes.length)
            }
        };
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = |e| TaskError::machine(format!("read {}", self.path), e);
        let got = file.read(&mut buffer[..wanted]).map_err(read)?;
        if got == 0 {
            return Err(read(io::ErrorKind::UnexpectedEof.into()));
        }
        self.position += got as u64;
        self.watch.advance(got as u64);
        let left = left - got as u64;
        self.open = (left > 0).then_some((file, left));
        Ok(got)
    }
}

/// Failures travel through decoders as the inner error of an [`io::Error`]; [`task_error`] finds them again.
impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.read_some(buffer).map_err(io::Error::other)
    }
}

/// The failure behind a reader's error: the one of the chunks below it, or else bad input.
pub(super) fn task_error(error: io::Error, path: &str) -> TaskError {
    match error.downcast::<TaskError>() {
        Ok(failure) => failure,
        Err(error) => super::bad_input(None, format!("{path}: {error}")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use quorate_protocol::{
        ids::{AttemptId, JobId, Stage, TaskId},
        job::{InputKind, Partitioning, Split},
    };
    use tempfile::TempDir;

    /// A file in chunks of given lengths, in a directory that goes with it.
    pub(crate) struct TestSource {
        lengths: Vec<u32>,
        directory: TempDir,
        pub(crate) asked: Vec<usize>,
        pub(crate) parts: Vec<(usize, Range<u64>)>,
    }

    impl TestSource {
        /// Cuts `bytes` at the given lengths, over and over.
        pub(crate) fn new(bytes: &[u8], lengths: &[usize]) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let (mut rest, mut kept) = (bytes, Vec::new());
            for length in lengths.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*length).max(1).min(rest.len()));
                // Not at the file's beginning, as a store may have it.
                let stored = [b"xyz", chunk].concat();
                std::fs::write(directory.path().join(kept.len().to_string()), stored).expect("written");
                kept.push(chunk.len() as u32);
                rest = after;
            }
            Self { lengths: kept, directory, asked: Vec::new(), parts: Vec::new() }
        }
    }

    impl InputSource for TestSource {
        fn chunk_lengths(&self) -> &[u32] {
            &self.lengths
        }
        fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
            self.asked.push(index);
            let path = self.directory.path().join(index.to_string());
            Ok(LocalBytes { path, offset: 3, length: u64::from(self.lengths[index]) })
        }
        fn part(&mut self, index: usize, part: Range<u64>) -> io::Result<LocalBytes> {
            self.parts.push((index, part.clone()));
            let path = self.directory.path().join(index.to_string());
            LocalBytes { path, offset: 3, length: u64::from(self.lengths[index]) }.part(part)
        }
    }

    /// A source whose chunks cannot be had.
    pub(crate) struct Unavailable;

    impl InputSource for Unavailable {
        fn chunk_lengths(&self) -> &[u32] {
            &[100]
        }
        fn chunk(&mut self, _index: usize) -> io::Result<LocalBytes> {
            Err(io::ErrorKind::NotConnected.into())
        }
    }

    pub(crate) fn map_task(path: &str, start: u64, end: u64) -> MapTask {
        let task = TaskId { job: JobId::new(1), stage: Stage::Map, index: 0 };
        MapTask {
            context: crate::program::TaskContext {
                attempt: AttemptId { task, attempt: 0 },
                entry: "test".to_owned(),
                arguments: "{}".to_owned(),
                partitions: 1,
                memory: 16 << 20,
            },
            path: path.to_owned(),
            input_kind: InputKind::Lines,
            split: Split { file: 0, start, end },
            partitioning: Partitioning::Hash,
        }
    }

    #[test]
    fn chunks_are_asked_for_when_they_are_needed() {
        let mut source = TestSource::new(b"0123456789", &[4]);
        let watch = Watch::default();
        let mut chunks = Chunks::new(&map_task("/f", 0, 10), &mut source, &watch);
        assert_eq!(chunks.length(), 10);
        chunks.seek(5);
        let mut text = [0; 2];
        chunks.read_exact(&mut text).expect("read");
        assert_eq!(&text, b"56");
        assert_eq!(source.asked, [1]);
        assert_eq!(watch.units(), 2);
    }

    #[test]
    fn of_a_chunk_beside_the_split_a_part_is_read_and_all_of_it_when_that_is_not_enough() {
        let (mut source, watch) = (TestSource::new(b"0123456789ab", &[4]), Watch::default());
        let mut chunks = Chunks::new(&map_task("/f", 4, 8), &mut source, &watch);
        chunks.seek(3);
        let mut text = [0; 6];
        chunks.read_exact(&mut text).expect("read");
        assert_eq!(&text, b"345678");
        chunks.read_exact(&mut text[..3]).expect("read");
        assert_eq!(&text[..3], b"9ab");
        assert_eq!((source.parts, source.asked), (vec![(0, 3..4), (2, 0..1)], vec![1, 2]));
    }

    #[test]
    fn a_cancelled_attempt_stops_reading() {
        let (mut source, watch) = (TestSource::new(b"0123", &[4]), Watch::default());
        watch.cancel();
        let mut chunks = Chunks::new(&map_task("/f", 0, 4), &mut source, &watch);
        let error = chunks.read(&mut [0; 4]).expect_err("cancelled");
        assert!(matches!(task_error(error, "/f"), TaskError::Cancelled));
    }
}
