//! The collector without a combiner: an arena of records, and small entries that are sorted in their stead.
//!
//! Entries are numbers, so most of the order is found without a look at the records: a number's upper half is the key's
//! first eight bytes, its lower half where the record is. Only among entries with the same first bytes are whole keys
//! compared.

use crate::{
    arena::{Arena, Memory},
    collect::{Collected, budget, check_record, data_file},
    emitter::Collect,
    merge::{merge_runs, narrow, prefix},
    partition::Partitioner,
    program::{TaskError, Watch},
    record::{self, Header},
    spill::{RunWriter, Spills},
    value::Value,
};
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};
use std::path::Path;

/// Records that are fetched from the arena together.
const GATHER: usize = 32;

/// A record of the arena, as it is sorted: the key's prefix, and below it where the record begins, which also tells
/// which was emitted first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u128);

impl Entry {
    #[inline]
    pub(crate) fn new(prefix: u64, offset: usize) -> Self {
        Self(u128::from(prefix) << 64 | offset as u128)
    }

    #[inline]
    fn prefix(self) -> u64 {
        (self.0 >> 64) as u64
    }

    #[inline]
    fn offset(self) -> usize {
        self.0 as u64 as usize
    }
}

/// Sorts records by partition, key and emission, in bounded memory.
pub struct SortCollector {
    partitioner: Partitioner,
    budget: usize,
    /// The records, and the entries of each partition.
    arena: Arena,
    /// How many entries there are in all.
    count: usize,
    value: Vec<u8>,
    spills: Spills,
}

impl SortCollector {
    /// A collector that writes into `directory` and uses its part of an attempt's `memory`.
    pub fn new(directory: &Path, partitioner: Partitioner, memory: u64) -> Self {
        let budget = budget(memory);
        Self {
            arena: Arena::take(budget, partitioner.partitions() as usize),
            count: 0,
            partitioner,
            budget,
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
        let spilled = self.spills.len();
        if spilled == 0 {
            let mut writer = RunWriter::create(data)?;
            self.write_sorted(&mut writer)?;
            return Ok(Collected::new(writer.finish()?, 0));
        }
        self.spill()?;
        // The merge's buffers take the place of the arena, which another sorter may have.
        let Self { arena, mut spills, budget, .. } = self;
        drop(arena);
        let memory = budget as u64;
        let runs = narrow(spills.take(), memory, spills.directory(), watch)?;
        let mut writer = RunWriter::create(data)?;
        merge_runs(&runs, memory, &mut writer, watch)?;
        Ok(Collected::new(writer.finish()?, spilled))
    }

    fn collect_bytes(&mut self, key: &[u8]) -> Result<(), TaskError> {
        check_record(key, &self.value)?;
        let needed = key.len() + self.value.len() + 2 * size_of::<u64>() + size_of::<Entry>();
        let used = self.arena.length() + self.count * size_of::<Entry>();
        if used + needed > self.budget && self.count > 0 {
            self.spill()?;
        }
        let partition = self.partitioner.of(key);
        let Memory { records, entries } = self.arena.memory();
        entries[partition as usize].push(Entry::new(prefix(key), records.len()));
        self.count += 1;
        record::append(key, &self.value, records);
        Ok(())
    }

    /// Writes what memory holds as a sorted run, and forgets it.
    #[cold]
    fn spill(&mut self) -> Result<(), TaskError> {
        let mut writer = self.spills.writer()?;
        self.write_sorted(&mut writer)?;
        self.spills.push(writer.finish_run()?);
        self.arena.clear();
        self.count = 0;
        Ok(())
    }

    fn write_sorted(&mut self, writer: &mut RunWriter) -> Result<(), TaskError> {
        let Memory { records: arena, entries } = self.arena.memory();
        // No two entries are equal, so the order is the same for any number of threads.
        entries.par_iter_mut().for_each(|entries| sort(arena, entries));
        let mut lengths = [0; GATHER];
        for entries in entries {
            for batch in entries.chunks(GATHER) {
                // The records lie all over the arena: asked for together, they come from memory at the same time.
                for (length, entry) in lengths.iter_mut().zip(batch) {
                    *length = header(&arena[entry.offset()..]).total();
                }
                for (length, entry) in lengths.iter().zip(batch) {
                    writer.append_record(&arena[entry.offset()..][..*length])?;
                }
            }
            writer.end_span();
        }
        Ok(())
    }
}

/// Sorts the entries of one partition by key and emission.
fn sort(arena: &[u8], entries: &mut [Entry]) {
    entries.sort_unstable();
    for same in entries.chunk_by_mut(|a, b| a.prefix() == b.prefix()) {
        if same.len() > 1 {
            same.sort_unstable_by(|a, b| key(arena, *a).cmp(key(arena, *b)).then(a.cmp(b)));
        }
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

fn key(arena: &[u8], entry: Entry) -> &[u8] {
    let record = &arena[entry.offset()..];
    let header = header(record);
    &record[header.header..][..header.key]
}

impl<V: Value + ?Sized> Collect<V> for SortCollector {
    #[inline]
    fn collect(&mut self, key: &[u8], value: &V) -> Result<(), TaskError> {
        self.value.clear();
        value.append(&mut self.value);
        self.collect_bytes(key)
    }
}
