//! Parquet files as Arrow record batches.
//!
//! A split gives the row groups whose first byte lies in it. Pages that carry a checksum are verified. A damaged file is
//! refused as bad input, also where the library panics over it.

use super::{
    bad_input,
    chunks::{Chunks, task_error},
};
use crate::program::{InputSource, LocalBytes, MapTask, TaskError, Watch};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    },
    errors::ParquetError,
    file::{
        FOOTER_SIZE,
        metadata::{PageIndexPolicy, RowGroupMetaData},
        reader::{ChunkReader, Length},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

/// Rows of a batch; the last one of a row group may have less.
const BATCH_ROWS: usize = 8192;

/// Gives the row groups of a split, batch by batch.
pub struct ParquetReader<'a> {
    chunks: Chunks<'a>,
    watch: &'a Watch,
    file: ParquetFile,
    metadata: ArrowReaderMetadata,
    /// Row groups that are still to be read.
    groups: VecDeque<usize>,
    open: Option<ParquetRecordBatchReader>,
    records: u64,
}

impl<'a> ParquetReader<'a> {
    /// A reader of the task's split.
    ///
    /// # Errors
    /// [`TaskError::Program`] when the file is no Parquet file, [`TaskError::Machine`] when chunks cannot be had.
    pub fn open(task: &MapTask, source: &'a mut dyn InputSource, watch: &'a Watch) -> Result<Self, TaskError> {
        let mut chunks = Chunks::new(task, source, watch);
        let file = ParquetFile { length: chunks.length(), local: Arc::default() };
        let metadata = read_metadata(&mut chunks, &file)?;
        let split = task.split.start..task.split.end;
        let groups = guarded(chunks.path(), &file, || {
            let starts = metadata.metadata().row_groups().iter().map(|group| bytes_of(group).start);
            Ok(starts.enumerate().filter(|(_, start)| split.contains(start)).map(|(index, _)| index).collect())
        })?;
        Ok(Self { chunks, watch, file, metadata, groups, open: None, records: 0 })
    }

    /// The next batch.
    ///
    /// # Errors
    /// [`TaskError::Program`] when the file is damaged, [`TaskError::Machine`] when chunks cannot be had,
    /// [`TaskError::Cancelled`].
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, TaskError> {
        loop {
            self.watch.check()?;
            let path = self.chunks.path().to_owned();
            if let Some(open) = &mut self.open {
                if let Some(batch) = guarded(&path, &self.file, || Ok(open.next().transpose()?))? {
                    self.watch.advance(batch.get_array_memory_size() as u64);
                    self.records += 1;
                    return Ok(Some(batch));
                }
                self.open = None;
            }
            let Some(group) = self.groups.pop_front() else { return Ok(None) };
            let bytes = guarded(&path, &self.file, || Ok(bytes_of(self.metadata.metadata().row_group(group))))?;
            self.file.fetch(&mut self.chunks, bytes)?;
            let (file, metadata) = (self.file.clone(), self.metadata.clone());
            self.open = Some(guarded(&path, &self.file, || {
                ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
                    .with_row_groups(vec![group])
                    .with_batch_size(BATCH_ROWS)
                    .build()
            })?);
        }
    }

    /// The number of the batch given last in this split, from 0.
    pub fn record(&self) -> Option<u64> {
        self.records.checked_sub(1)
    }
}

fn read_metadata(chunks: &mut Chunks<'_>, file: &ParquetFile) -> Result<ArrowReaderMetadata, TaskError> {
    let tail = file.length.saturating_sub(FOOTER_SIZE as u64);
    file.fetch(chunks, tail..file.length)?;
    let mut length = [0; 4];
    if file.length >= FOOTER_SIZE as u64 {
        let mut reader = LocalReader { file: file.clone(), position: tail };
        reader.read_exact(&mut length).map_err(|e| task_error(e, chunks.path()))?;
    }
    let start = tail.saturating_sub(u64::from(u32::from_le_bytes(length)));
    file.fetch(chunks, start..file.length)?;
    guarded(chunks.path(), file, || {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        ArrowReaderMetadata::load(file, options)
    })
}

/// Where a row group's columns lie in the file.
fn bytes_of(group: &RowGroupMetaData) -> Range<u64> {
    let columns = || group.columns().iter().map(|column| column.byte_range());
    let start = columns().map(|(start, _)| start).min().unwrap_or(0);
    start..columns().map(|(start, length)| start.saturating_add(length)).max().unwrap_or(0)
}

/// Runs the library over bytes that may be damaged: an error or panic of it means bad input, unless the machine could not
/// read the bytes.
fn guarded<T>(path: &str, file: &ParquetFile, run: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, TaskError> {
    let what = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the file is damaged".to_owned(),
    };
    match file.state().failure.take() {
        Some(error) => Err(TaskError::machine(format!("read {path}"), error)),
        None => Err(bad_input(None, format!("{path}: {what}"))),
    }
}

/// An input file with those of its chunks that were fetched, for a library that wants to own what it reads from.
#[derive(Clone)]
struct ParquetFile {
    length: u64,
    local: Arc<Mutex<Local>>,
}

#[derive(Default)]
struct Local {
    /// Chunks by where they begin.
    chunks: BTreeMap<u64, LocalBytes>,
    /// Why a chunk that is here could not be read.
    failure: Option<io::Error>,
}

impl ParquetFile {
    fn state(&self) -> std::sync::MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a part of the file available, as far as the file goes.
    fn fetch(&self, chunks: &mut Chunks<'_>, part: Range<u64>) -> Result<(), TaskError> {
        let mut position = part.start;
        while position < part.end {
            let known = self.state().chunk(position).map(|(start, bytes)| start + bytes.length);
            position = match known {
                Some(end) => end,
                None => {
                    let Some((start, bytes)) = chunks.locate(position)? else { return Ok(()) };
                    let end = start + bytes.length;
                    self.state().chunks.insert(start, bytes);
                    end
                }
            };
        }
        Ok(())
    }
}

impl Local {
    /// The chunk that holds a position, if it was fetched.
    fn chunk(&self, position: u64) -> Option<(u64, &LocalBytes)> {
        let (start, bytes) = self.chunks.range(..=position).next_back()?;
        (position - start < bytes.length).then_some((*start, bytes))
    }

    fn read(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((start, bytes)) = self.chunk(position) else {
            // What was not fetched lies in no row group of the split: the file's own words contradict each other.
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a page lies outside of its row group"));
        };
        let into = position - start;
        let wanted = usize::try_from(bytes.length - into).unwrap_or(usize::MAX).min(buffer.len());
        let read = read_exactly(bytes, into, &mut buffer[..wanted]);
        read.map(|()| wanted).map_err(|error| {
            self.failure = Some(error);
            io::ErrorKind::Other.into()
        })
    }
}

fn read_exactly(bytes: &LocalBytes, into: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(&bytes.path)?;
    file.seek(SeekFrom::Start(bytes.offset + into))?;
    file.read_exact(buffer)
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for ParquetFile {
    type T = BufReader<LocalReader>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(LocalReader { file: self.clone(), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        // A length that lies must not allocate: the file is as long as it is.
        if start.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.length)));
        }
        let mut bytes = vec![0; length];
        LocalReader { file: self.clone(), position: start }.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads a [`ParquetFile`] from a position on.
struct LocalReader {
    file: ParquetFile,
    position: u64,
}

impl Read for LocalReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position >= self.file.length {
            return Ok(0);
        }
        let read = self.file.state().read(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::chunks::tests::{TestSource, map_task},
        output::ParquetWriter,
    };
    use arrow::{array::AsArray, array::UInt64Array, datatypes::UInt64Type};
    use quorate_protocol::vote::FailureKind;

    fn rows_of(path: &str, bytes: &[u8], chunk: usize, split: Range<u64>) -> Result<Vec<RecordBatch>, TaskError> {
        let (mut source, watch) = (TestSource::new(bytes, &[chunk]), Watch::default());
        let mut reader = ParquetReader::open(&map_task(path, split.start, split.end), &mut source, &watch)?;
        let mut batches = Vec::new();
        while let Some(batch) = reader.next_batch()? {
            batches.push(batch);
            assert_eq!(reader.record(), Some(batches.len() as u64 - 1));
        }
        Ok(batches)
    }

    fn numbers(count: u64) -> RecordBatch {
        let column: UInt64Array = (0..count).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).expect("a batch")
    }

    fn file_of(batch: &RecordBatch) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = ParquetWriter::new(&mut bytes, batch.schema()).expect("a writer");
        // In pieces, which must not show.
        for start in (0..batch.num_rows()).step_by(100_000) {
            writer.write(&batch.slice(start, 100_000.min(batch.num_rows() - start))).expect("written");
        }
        writer.finish().expect("finished");
        bytes
    }

    fn column(batches: &[RecordBatch]) -> Vec<u64> {
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec()).collect()
    }

    #[test]
    fn splits_give_each_row_group_once() {
        let batch = numbers(1_100_000);
        let bytes = file_of(&batch);
        let total = bytes.len() as u64;
        let whole = rows_of("/f", &bytes, 70_000, 0..total).expect("read");
        assert_eq!(column(&whole), batch.column(0).as_primitive::<UInt64Type>().values().to_vec());
        let parts = [0..3, 3..5, 5..total / 2, total / 2..total].map(|split| {
            rows_of("/f", &bytes, 1 << 20, split).expect("read").iter().map(RecordBatch::num_rows).sum::<usize>()
        });
        // The file begins with four bytes that belong to no row group.
        assert_eq!(parts, [0, 1 << 20, 0, 1_100_000 - (1 << 20)]);
    }

    #[test]
    fn damaged_files_are_bad_input_and_never_a_panic() {
        let good = file_of(&numbers(50));
        let check = |bytes: &[u8]| match rows_of("/f.parquet", bytes, 100, 0..bytes.len() as u64) {
            Ok(_) => {}
            Err(TaskError::Program { kind: FailureKind::BadInput, message, .. }) => {
                assert!(message.starts_with("/f.parquet: "), "{message}");
            }
            Err(other) => panic!("{other}"),
        };
        for length in 0..good.len() {
            check(&good[..length]);
        }
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 0xff;
            check(&damaged);
        }
        assert!(rows_of("/f", b"", 1, 0..1).is_err());
        assert!(rows_of("/f", &good[..good.len() - 1], 100, 0..1000).is_err());
    }

    #[test]
    fn a_chunk_that_vanished_is_the_machines_failure() {
        let bytes = file_of(&numbers(50));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("chunk");
        std::fs::write(&path, &bytes).expect("written");
        struct Vanishing(Vec<u32>, LocalBytes);
        impl InputSource for Vanishing {
            fn chunk_lengths(&self) -> &[u32] {
                &self.0
            }
            fn chunk(&mut self, _index: usize) -> io::Result<LocalBytes> {
                Ok(self.1.clone())
            }
        }
        let length = bytes.len() as u64;
        let mut source = Vanishing(vec![length as u32], LocalBytes { path: path.clone(), offset: 0, length });
        let watch = Watch::default();
        let mut reader = ParquetReader::open(&map_task("/f", 0, length), &mut source, &watch).expect("opened");
        std::fs::remove_file(path).expect("removed");
        assert!(matches!(reader.next_batch(), Err(TaskError::Machine { .. })));
    }

    /// The Parquet project's own test files.
    #[test]
    fn real_files_are_read_and_a_wrong_checksum_is_refused() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/parquet");
        if !folder.exists() {
            assert!(std::env::var_os("CI").is_none(), "{} is missing", folder.display());
            println!("skipped: {} is missing", folder.display());
            return;
        }
        let read = |name: &str| {
            let bytes = std::fs::read(folder.join(name)).expect(name);
            rows_of(name, &bytes, 5000, 0..bytes.len() as u64)
        };
        let rows = |name: &str| read(name).expect(name).iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(rows("alltypes_plain.parquet"), 8);
        assert_eq!(rows("alltypes_plain.snappy.parquet"), 2);
        assert_eq!(rows("delta_binary_packed.parquet"), 200);
        assert_eq!(rows("delta_byte_array.parquet"), 1000);
        assert_eq!(rows("int32_with_null_pages.parquet"), 1000);
        assert_eq!(rows("lz4_raw_compressed_larger.parquet"), 10_000);
        assert!(rows("nested_structs.rust.parquet") > 0);
        let name = "datapage_v1-corrupt-checksum.parquet";
        match read(name) {
            Err(TaskError::Program { kind: FailureKind::BadInput, message, .. }) => {
                assert!(message.starts_with(name) && message.contains("checksum"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}
