//! The collector without a combiner: an arena of records, and small entries that are sorted in their stead.

use crate::{
    collect::{Collected, budget, check_record, data_file},
    emitter::Collect,
    merge::{merge_runs, narrow, prefix},
    partition::Partitioner,
    program::{TaskError, Watch},
    record::{self, Header},
    spill::{RunWriter, Spills},
    value::Value,
};
use rayon::slice::ParallelSliceMut;
use std::{cmp::Ordering, path::Path};

/// Entries from which several threads sort faster than one.
const PARALLEL_MIN: usize = 1 << 16;
/// Records that are fetched from the arena together.
const GATHER: usize = 32;

/// A record of the arena, as it is sorted.
#[derive(Clone, Copy)]
struct Entry {
    prefix: u64,
    /// Where the record begins in the arena; it also tells which was emitted first.
    offset: usize,
    partition: u32,
    key_length: u32,
}

/// Sorts records by partition, key and emission, in bounded memory.
pub struct SortCollector {
    partitioner: Partitioner,
    budget: usize,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    value: Vec<u8>,
    spills: Spills,
}

impl SortCollector {
    /// A collector that writes into `directory` and uses its part of an attempt's `memory`.
    pub fn new(directory: &Path, partitioner: Partitioner, memory: u64) -> Self {
        Self {
            partitioner,
            budget: budget(memory),
            arena: Vec::new(),
            entries: Vec::new(),
            value: Vec::new(),
            spills: Spills::new(directory),
        }
    }

    /// Writes the data file.
    ///
    /// # Errors
    /// [`TaskError::Machine`] when it cannot be written, [`TaskError::Cancelled`].
    pub fn finish(mut self, watch: &Watch) -> Result<Collected, TaskError> {
        let data = data_file(self.spills.directory());
        let spills = self.spills.len();
        if spills == 0 {
            let mut writer = RunWriter::create(data)?;
            self.write_sorted(&mut writer)?;
            return Ok(Collected::new(writer.finish()?, 0));
        }
        self.spill()?;
        // The merge's buffers take the place of the arena.
        (self.arena, self.entries) = (Vec::new(), Vec::new());
        let memory = self.budget as u64;
        let runs = narrow(self.spills.take(), memory, self.spills.directory(), watch)?;
        let mut writer = RunWriter::create(data)?;
        merge_runs(&runs, memory, &mut writer, watch)?;
        Ok(Collected::new(writer.finish()?, spills))
    }

    fn collect_bytes(&mut self, key: &[u8]) -> Result<(), TaskError> {
        check_record(key, &self.value)?;
        let needed = key.len() + self.value.len() + 2 * size_of::<u64>() + size_of::<Entry>();
        let used = self.arena.len() + self.entries.len() * size_of::<Entry>();
        if used + needed > self.budget && !self.entries.is_empty() {
            self.spill()?;
        }
        let (offset, partition) = (self.arena.len(), self.partitioner.of(key));
        self.entries.push(Entry { prefix: prefix(key), offset, partition, key_length: key.len() as u32 });
        record::append(key, &self.value, &mut self.arena);
        Ok(())
    }

    /// Writes what memory holds as a sorted run, and forgets it.
    #[cold]
    fn spill(&mut self) -> Result<(), TaskError> {
        let mut writer = self.spills.writer()?;
        self.write_sorted(&mut writer)?;
        self.spills.push(writer.finish_run()?);
        self.arena.clear();
        self.entries.clear();
        Ok(())
    }

    fn write_sorted(&mut self, writer: &mut RunWriter) -> Result<(), TaskError> {
        let Self { arena, entries, .. } = self;
        let order = |a: &Entry, b: &Entry| compare(arena, a, b);
        // No two entries are equal, so the order is the same for any number of threads.
        if entries.len() >= PARALLEL_MIN {
            entries.par_sort_unstable_by(order);
        } else {
            entries.sort_unstable_by(order);
        }
        let partitions = self.partitioner.partitions() as usize;
        let mut lengths = [0; GATHER];
        for batch in entries.chunks(GATHER) {
            // The records lie all over the arena: asked for together, they come from memory at the same time.
            for (length, entry) in lengths.iter_mut().zip(batch) {
                *length = header(&arena[entry.offset..]).total();
            }
            for (length, entry) in lengths.iter().zip(batch) {
                while writer.spans() < entry.partition as usize {
                    writer.end_span();
                }
                writer.append_record(&arena[entry.offset..entry.offset + length])?;
            }
        }
        while writer.spans() < partitions {
            writer.end_span();
        }
        Ok(())
    }
}

/// The header of a record in our own arena.
#[inline]
fn header(record: &[u8]) -> Header {
    match Header::read(record) {
        Ok(Some(header)) => header,
        Ok(None) | Err(_) => unreachable!("the arena holds whole records"),
    }
}

#[inline]
fn compare(arena: &[u8], a: &Entry, b: &Entry) -> Ordering {
    (a.partition, a.prefix).cmp(&(b.partition, b.prefix)).then_with(|| compare_keys(arena, a, b))
}

/// The order of two keys with the same prefix.
fn compare_keys(arena: &[u8], a: &Entry, b: &Entry) -> Ordering {
    let by_key = if a.key_length <= 8 && b.key_length <= 8 {
        // The prefix holds both; where they differ, the longer one goes on with zeros.
        a.key_length.cmp(&b.key_length)
    } else {
        key(arena, a).cmp(key(arena, b))
    };
    by_key.then(a.offset.cmp(&b.offset))
}

fn key<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    let record = &arena[entry.offset..];
    &record[header(record).header..][..entry.key_length as usize]
}

impl<V: Value + ?Sized> Collect<V> for SortCollector {
    #[inline]
    fn collect(&mut self, key: &[u8], value: &V) -> Result<(), TaskError> {
        self.value.clear();
        value.append(&mut self.value);
        self.collect_bytes(key)
    }
}
