//! The collector with a combiner: a [`Table`] of typed accumulators, which becomes one sorted run when memory is full, and at
//! the end.
//!
//! A text's words are looked up in batches. What waits in a batch is words of one call with one and the same value, so it
//! makes no difference that a long word passes them.

use crate::{
    collect::{Collected, budget, check_record, data_file},
    emitter::Collect,
    merge::{Meter, each_span, merge_error, narrow},
    partition::Partitioner,
    program::{TaskError, Watch},
    record::RecordReader,
    spill::{Run, RunWriter, Spills},
    table::{Entry, Table, Wanted},
    value::{DecodeError, OwnedValue},
    words::Words,
};
use std::{io, mem, path::Path};

/// Entries of the table that are asked for together.
const BATCH: usize = 64;

/// The fewest entries of a range when keys begin with all bytes alike.
const RANGE_MIN: usize = 16;
/// Of the first sixteen bits of a text's keys, about so many tell nothing.
const SPARE_BITS: u32 = 4;

/// An entry of the table on its way into a run.
#[derive(Clone, Copy, Default)]
struct Leaving {
    /// As [`Name::order`](crate::name::Name::order).
    order: (u64, u64),
    partition: u32,
    entry: u32,
}

impl Leaving {
    /// The first sixteen bytes of the key, or all of a short one.
    #[inline]
    fn beginning(&self) -> u128 {
        let (high, low) = self.order;
        u128::from(high) << 64 | u128::from(low)
    }
}

/// Combines the values of each key as they are emitted, in bounded memory.
///
/// `combine(accumulator, value)` must be associative: values are combined in the order of emission, but a spill may come
/// between any two of them, and then two accumulators are combined.
pub struct CombineCollector<V, C> {
    partitioner: Partitioner,
    budget: usize,
    combine: C,
    table: Table<V>,
    /// Keys that are looked up together. Empty between calls.
    batch: Vec<Wanted>,
    /// What the table takes, and sorting it would.
    fixed: usize,
    /// What accumulators keep outside of the table: never too low.
    weight: usize,
    scratch: Vec<u8>,
    spills: Spills,
}

impl<V: OwnedValue, C: FnMut(&mut V, &V)> CombineCollector<V, C> {
    /// A collector that writes into `directory` and uses its part of an attempt's `memory`.
    pub fn new(directory: &Path, partitioner: Partitioner, memory: u64, combine: C) -> Self {
        Self {
            partitioner,
            budget: budget(memory),
            combine,
            table: Table::new(),
            batch: Vec::with_capacity(BATCH),
            fixed: 0,
            weight: 0,
            scratch: Vec::new(),
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
        // The merge's buffers take the place of the table.
        self.table = Table::new();
        let memory = self.budget as u64;
        // Only the last merge combines: so accumulators meet in the order of spilling, for any number of merges.
        let runs = narrow(self.spills.take(), memory, self.spills.directory(), watch)?;
        let mut writer = RunWriter::create(data)?;
        self.combine_runs(&runs, &mut writer, watch)?;
        Ok(Collected::new(writer.finish()?, spills))
    }

    /// Combines a value with those of the batch's keys.
    #[inline]
    fn add_batch(&mut self, value: &V) -> Result<(), TaskError> {
        let mut batch = mem::take(&mut self.batch);
        self.table.locate(&mut batch);
        self.table.fetch(batch.iter().map(Wanted::entry));
        for wanted in &batch {
            match self.table.find_fetched(wanted) {
                Some(sum) => {
                    (self.combine)(sum, value);
                    self.combined(value)?;
                }
                None => self.add_short(wanted, value)?,
            }
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    #[inline]
    fn add_short(&mut self, wanted: &Wanted, value: &V) -> Result<(), TaskError> {
        let Some(sum) = self.table.find_short(wanted) else { return self.insert_short(wanted, value) };
        (self.combine)(sum, value);
        self.combined(value)
    }

    #[inline(never)]
    fn add_long(&mut self, key: &[u8], value: &V) -> Result<(), TaskError> {
        let Some(sum) = self.table.find_long(&Wanted::long(key), key) else { return self.insert_long(key, value) };
        (self.combine)(sum, value);
        self.combined(value)
    }

    /// Counts what an accumulator may have grown by.
    #[inline]
    fn combined(&mut self, value: &V) -> Result<(), TaskError> {
        let more = value.weight();
        if more > 0 {
            self.weight += more;
            if self.over_budget(0) {
                self.make_room(0)?;
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn insert_short(&mut self, wanted: &Wanted, value: &V) -> Result<(), TaskError> {
        let mut room = [0; 16];
        self.prepare(wanted.name().key(&[], &mut room), 0, value)?;
        self.table.insert_short(wanted, value.clone());
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn insert_long(&mut self, key: &[u8], value: &V) -> Result<(), TaskError> {
        self.prepare(key, key.len(), value)?;
        self.table.insert_long(&Wanted::long(key), key, value.clone());
        Ok(())
    }

    /// Sees to it that the table has room for a record with a new key, of which the arena gets `more` bytes.
    fn prepare(&mut self, key: &[u8], more: usize, value: &V) -> Result<(), TaskError> {
        self.scratch.clear();
        value.append(&mut self.scratch);
        check_record(key, &self.scratch)?;
        if self.table.is_full() {
            self.grow()?;
        }
        let more = more + value.weight();
        if self.over_budget(more) {
            self.make_room(more)?;
        }
        self.weight += value.weight();
        Ok(())
    }

    /// Doubles the table, or empties it when there is no memory for a larger one.
    fn grow(&mut self) -> Result<(), TaskError> {
        let next = self.table.capacity_next();
        // While the entries move, the old ones are there too.
        let needed = |next| Self::fixed(next) + self.table.capacity() * size_of::<Entry<V>>();
        let fits = |next| needed(next) + self.table.arena().len() + self.weight <= self.budget;
        match next.filter(|next| self.table.entries().is_empty() || fits(*next)) {
            Some(next) => {
                self.table.grow();
                self.fixed = Self::fixed(next);
                Ok(())
            }
            None => self.spill(),
        }
    }

    /// What a table for so many keys takes, and sorting it would.
    fn fixed(capacity: usize) -> usize {
        Table::<V>::bytes(capacity) + capacity * (size_of::<Leaving>() + 2 * size_of::<u32>())
    }

    #[inline]
    fn over_budget(&self, more: usize) -> bool {
        self.fixed + self.table.arena().len() + self.weight + more > self.budget
    }

    /// Counts what accumulators keep, since the sum so far is only an upper bound, and spills if that is too much.
    #[cold]
    fn make_room(&mut self, more: usize) -> Result<(), TaskError> {
        if self.table.entries().is_empty() {
            return Ok(());
        }
        self.weight = self.table.entries().iter().map(|entry| entry.value.weight()).sum();
        // A quarter must be free, lest they be counted again and again.
        if self.over_budget(more + self.budget / 4) { self.spill() } else { Ok(()) }
    }

    /// Writes what memory holds as a sorted run, and forgets it.
    #[cold]
    fn spill(&mut self) -> Result<(), TaskError> {
        let mut writer = self.spills.writer()?;
        self.write_sorted(&mut writer)?;
        self.spills.push(writer.finish_run()?);
        self.table.clear();
        self.weight = 0;
        Ok(())
    }

    fn write_sorted(&mut self, writer: &mut RunWriter) -> Result<(), TaskError> {
        let Self { partitioner, table, scratch, .. } = self;
        for batch in sort(table, partitioner).chunks(BATCH) {
            table.fetch(batch.iter().map(|leaving| leaving.entry as usize));
            for Leaving { partition, entry, .. } in batch {
                while writer.spans() < *partition as usize {
                    writer.end_span();
                }
                let Entry { name, value } = &table.entries()[*entry as usize];
                scratch.clear();
                value.append(scratch);
                write_record(name.key(table.arena(), &mut [0; 16]), scratch, writer)?;
            }
        }
        while writer.spans() < partitioner.partitions() as usize {
            writer.end_span();
        }
        Ok(())
    }

    fn combine_runs(&mut self, runs: &[Run], writer: &mut RunWriter, watch: &Watch) -> Result<(), TaskError> {
        let Self { combine, scratch, budget, .. } = self;
        let mut meter = Meter::new(watch);
        let mut key = Vec::new();
        each_span(runs, *budget as u64, |merge| {
            while let Some(first) = merge.current() {
                key.clear();
                key.extend_from_slice(first.key());
                let mut sum: V = value_of(first)?;
                loop {
                    meter.add(merge.current().map_or(0, |record| record.record().len()))?;
                    merge.advance().map_err(merge_error)?;
                    let Some(next) = merge.current().filter(|next| next.key() == key) else { break };
                    combine(&mut sum, &value_of(next)?);
                }
                scratch.clear();
                sum.append(scratch);
                write_record(&key, scratch, writer)?;
            }
            writer.end_span();
            Ok(())
        })
    }
}

/// The entries in the order of partition and key.
fn sort<V>(table: &Table<V>, partitioner: &Partitioner) -> Vec<Leaving> {
    let (mut leaving, ends) = scatter(table, partitioner);
    let mut start = 0;
    for end in ends {
        let range = leaving.get_mut(start..end as usize).unwrap_or_default();
        if range.len() > 1 {
            sort_range(table, range);
        }
        start = end as usize;
    }
    leaving
}

/// The entries in ranges that are in order, and where these end: as many as make them short, by what a key begins with.
fn scatter<V>(table: &Table<V>, partitioner: &Partitioner) -> (Vec<Leaving>, Vec<u32>) {
    let (entries, arena) = (table.entries(), table.arena());
    let partitions = partitioner.partitions() as usize;
    // Each range has 2^bits beginnings of one partition; most of these no key of a text has.
    let bits =
        (entries.len() / RANGE_MIN / partitions.max(1)).checked_ilog2().map_or(0, |bits| (bits + SPARE_BITS).min(16));
    let mut places = Vec::with_capacity(entries.len());
    let mut ends = vec![0u32; partitions << bits];
    for Entry { name, .. } in entries {
        let partition = partitioner.of(name.key(arena, &mut [0; 16]));
        let beginning = (name.order(arena).0 >> 48) >> (16 - bits);
        let range = partition << bits | beginning as u32;
        places.push(range);
        ends[range as usize] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        start += mem::replace(end, start);
    }
    let mut leaving = vec![Leaving::default(); entries.len()];
    for (entry, (range, Entry { name, .. })) in (0..).zip(places.iter().zip(entries)) {
        let end = &mut ends[*range as usize];
        leaving[*end as usize] = Leaving { order: name.order(arena), partition: range >> bits, entry };
        *end += 1;
    }
    (leaving, ends)
}

fn sort_range<V>(table: &Table<V>, range: &mut [Leaving]) {
    let (entries, arena) = (table.entries(), table.arena());
    // Comparing one number takes no branch. Few keys have a common beginning so long that it does not tell them apart.
    range.sort_unstable_by_key(Leaving::beginning);
    for alike in range.chunk_by_mut(|a, b| a.beginning() == b.beginning()).filter(|alike| alike.len() > 1) {
        let name = |leaving: &Leaving| entries[leaving.entry as usize].name;
        alike.sort_unstable_by(|a, b| name(a).key(arena, &mut [0; 16]).cmp(name(b).key(arena, &mut [0; 16])));
    }
}

/// Writes an accumulator, which may have grown past the bound of a record.
#[inline]
fn write_record(key: &[u8], value: &[u8], writer: &mut RunWriter) -> Result<(), TaskError> {
    check_record(key, value)?;
    writer.append(key, value)
}

/// The value of a record that we spilled.
fn value_of<V: OwnedValue, R: io::Read>(record: &RecordReader<R>) -> Result<V, TaskError> {
    V::decode(record.value())
        .map_err(|error: DecodeError| merge_error(io::Error::new(io::ErrorKind::InvalidData, error)))
}

impl<V: OwnedValue, C: FnMut(&mut V, &V)> Collect<V> for CombineCollector<V, C> {
    #[inline]
    fn collect(&mut self, key: &[u8], value: &V) -> Result<(), TaskError> {
        match Wanted::short(key) {
            Some(wanted) => self.add_short(&wanted, value),
            None => self.add_long(key, value),
        }
    }

    fn collect_words(&mut self, mut words: Words<'_>, value: &V) -> Result<u64, TaskError> {
        let mut records = 0;
        while let Some((start, end)) = words.next_span() {
            records += 1;
            let wanted = Wanted::within(words.text(), start, end);
            let word = words.text().get(start..end).unwrap_or_default();
            match wanted.or_else(|| Wanted::short(word)) {
                Some(wanted) => {
                    self.batch.push(wanted);
                    if self.batch.len() == BATCH {
                        self.add_batch(value)?;
                    }
                }
                None => self.add_long(word, value)?,
            }
        }
        self.add_batch(value)?;
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::job::Partitioning;

    #[test]
    fn a_table_that_may_not_grow_is_emptied() {
        let directory = tempfile::tempdir().expect("a directory");
        let add = |sum: &mut u64, value: &u64| *sum += *value;
        let partitioner = Partitioner::new(&Partitioning::Hash, 2);
        let mut collector = CombineCollector::new(directory.path(), partitioner, 64 << 20, add);
        collector.table = Table::of_at_most(100);
        for n in 0..250u32 {
            collector.collect(&(n % 125).to_be_bytes(), &1).expect("collected");
        }
        let collected = collector.finish(&Watch::default()).expect("finished");
        assert_eq!(collected.spills, 2);
        assert_eq!(collected.spans.iter().map(|span| span.records).sum::<u64>(), 125);
    }
}
