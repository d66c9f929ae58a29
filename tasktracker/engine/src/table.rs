//! The collector with a combiner: a hash table of typed accumulators.
//!
//! Emitting a key that is there costs one hash, one probe and one call. Keys of up to 15 bytes stand in the table itself,
//! longer ones in an arena.

use crate::{
    collect::{Collected, budget, check_record, data_file},
    emitter::Collect,
    merge::{Meter, each_span, merge_error, narrow, prefix},
    partition::Partitioner,
    program::{TaskError, Watch},
    record::RecordReader,
    spill::{Run, RunWriter, Spills},
    value::{DecodeError, OwnedValue},
};
use hashbrown::HashTable;
use std::{io, path::Path};
use xxhash_rust::xxh3::xxh3_64;

/// The longest key that stands in the table itself, in bytes.
const SHORT_MAX: usize = 15;
/// In the place of a short key's length: the key is in the arena.
const LONG: u8 = 0xff;

/// A key in sixteen bytes: either the key, padded with zeros, and its length, or where it is in the arena.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name([u8; 16]);

impl Name {
    #[inline]
    fn short(key: &[u8]) -> Option<Self> {
        let mut name = [0; 16];
        name.get_mut(..key.len()).filter(|_| key.len() <= SHORT_MAX)?.copy_from_slice(key);
        name[SHORT_MAX] = key.len() as u8;
        Some(Self(name))
    }

    /// The name of a key in the arena. Keys are shorter than 2^32 bytes.
    fn long(offset: usize, length: usize) -> Self {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&(offset as u64).to_le_bytes());
        name[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        name[SHORT_MAX] = LONG;
        Self(name)
    }

    #[inline]
    fn key<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        let [offset @ .., l0, l1, l2, l3, _, _, _, tag] = &self.0;
        if *tag != LONG {
            return &self.0[..usize::from(*tag)];
        }
        let offset = u64::from_le_bytes(*offset) as usize;
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        &arena[offset..offset + length]
    }
}

struct Slot<V> {
    name: Name,
    value: V,
}

/// A slot on its way into a spill.
struct Leaving<V> {
    partition: u32,
    prefix: u64,
    slot: Slot<V>,
}

/// Combines the values of each key as they are emitted, in bounded memory.
///
/// `combine(accumulator, value)` must be associative: values are combined in the order of emission, but a spill may come
/// between any two of them, and then two accumulators are combined.
pub struct CombineCollector<V, C> {
    partitioner: Partitioner,
    budget: usize,
    combine: C,
    table: HashTable<Slot<V>>,
    arena: Vec<u8>,
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
            table: HashTable::new(),
            arena: Vec::new(),
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
        (self.table, self.arena) = (HashTable::new(), Vec::new());
        let memory = self.budget as u64;
        // Only the last merge combines: so accumulators meet in the order of spilling, for any number of merges.
        let runs = narrow(self.spills.take(), memory, self.spills.directory(), watch)?;
        let mut writer = RunWriter::create(data)?;
        self.combine_runs(&runs, &mut writer, watch)?;
        Ok(Collected::new(writer.finish()?, spills))
    }

    /// Puts a key into the table that is not there.
    #[cold]
    #[inline(never)]
    fn insert(&mut self, hash: u64, key: &[u8], short: Option<Name>, value: &V) -> Result<(), TaskError> {
        self.scratch.clear();
        value.append(&mut self.scratch);
        check_record(key, &self.scratch)?;
        if self.table.len() == self.table.capacity() {
            self.grow()?;
        }
        let long = if short.is_some() { 0 } else { key.len() };
        if self.over_budget(long + value.weight()) {
            self.make_room(long + value.weight())?;
        }
        let name = short.unwrap_or_else(|| {
            let offset = self.arena.len();
            self.arena.extend_from_slice(key);
            Name::long(offset, key.len())
        });
        self.weight += value.weight();
        let arena = &self.arena;
        let slot = Slot { name, value: value.clone() };
        self.table.insert_unique(hash, slot, |slot| xxh3_64(slot.name.key(arena)));
        Ok(())
    }

    /// Doubles the table, or empties it when there is no memory for a larger one.
    fn grow(&mut self) -> Result<(), TaskError> {
        let entries = (2 * self.table.capacity()).max(64);
        // While the table is rebuilt, the old one is there too.
        let larger = entries * (size_of::<Slot<V>>() + 1) * 8 / 7 + self.table.allocation_size();
        if larger + entries * size_of::<Leaving<V>>() + self.arena.len() + self.weight > self.budget
            && !self.table.is_empty()
        {
            return self.spill();
        }
        let arena = &self.arena;
        self.table.reserve(entries - self.table.len(), |slot| xxh3_64(slot.name.key(arena)));
        self.fixed = self.table.allocation_size() + self.table.capacity() * size_of::<Leaving<V>>();
        Ok(())
    }

    #[inline]
    fn over_budget(&self, more: usize) -> bool {
        self.fixed + self.arena.len() + self.weight + more > self.budget
    }

    /// Counts what accumulators keep, since the sum so far is only an upper bound, and spills if that is too much.
    #[cold]
    fn make_room(&mut self, more: usize) -> Result<(), TaskError> {
        if self.table.is_empty() {
            return Ok(());
        }
        self.weight = self.table.iter().map(|slot| slot.value.weight()).sum();
        // A quarter must be free, lest they be counted again and again.
        if self.over_budget(more + self.budget / 4) { self.spill() } else { Ok(()) }
    }

    /// Writes what memory holds as a sorted run, and forgets it.
    #[cold]
    fn spill(&mut self) -> Result<(), TaskError> {
        let mut writer = self.spills.writer()?;
        self.write_sorted(&mut writer)?;
        self.spills.push(writer.finish_run()?);
        self.arena.clear();
        self.weight = 0;
        Ok(())
    }

    fn write_sorted(&mut self, writer: &mut RunWriter) -> Result<(), TaskError> {
        let Self { partitioner, table, arena, scratch, .. } = self;
        let mut leaving: Vec<_> = table
            .drain()
            .map(|slot| {
                let key = slot.name.key(arena);
                Leaving { partition: partitioner.of(key), prefix: prefix(key), slot }
            })
            .collect();
        leaving.sort_unstable_by(|a, b| {
            (a.partition, a.prefix)
                .cmp(&(b.partition, b.prefix))
                .then_with(|| a.slot.name.key(arena).cmp(b.slot.name.key(arena)))
        });
        for Leaving { partition, slot, .. } in &leaving {
            while writer.spans() < *partition as usize {
                writer.end_span();
            }
            scratch.clear();
            slot.value.append(scratch);
            write_record(slot.name.key(arena), scratch, writer)?;
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
        let (hash, short) = (xxh3_64(key), Name::short(key));
        // The table and the function are borrowed apart.
        let arena = &self.arena;
        let found = match short {
            Some(name) => self.table.find_mut(hash, |slot| slot.name == name),
            None => self.table.find_mut(hash, |slot| slot.name.0[SHORT_MAX] == LONG && slot.name.key(arena) == key),
        };
        let Some(slot) = found else { return self.insert(hash, key, short, value) };
        (self.combine)(&mut slot.value, value);
        let more = value.weight();
        if more > 0 {
            self.weight += more;
            if self.over_budget(0) {
                self.make_room(0)?;
            }
        }
        Ok(())
    }
}
