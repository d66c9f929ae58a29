//! The combiner's hash table: accumulators in the order in which their keys came first, and an index of them.
//!
//! Frequent keys come early. So their accumulators lie together at the beginning and stay in the caches, wherever their hashes
//! are, and only the index, four bytes for a key, is reached all over. The index has open addressing with linear probing and is
//! at most half full; a place in it holds eight bits of the hash too, so that few wrong keys are looked at. It goes by the
//! upper bits of the hash.
//!
//! What memory is slow to give is asked for early, where many keys are there at once: first the places of all of them are
//! read ([`Table::locate`]), then the entries that these name ([`Table::fetch`]), and only then is a key compared.
//!
//! The hash is fixed and public. Whoever chooses a job's program or its input can make keys collide, and then each costs
//! time in proportion to the number of keys. The answer stays right; that job is slow, on every machine alike, and others
//! lose the slots that it takes until its owner kills it. An endless loop in a mapper does the same.

use crate::name::Name;
use std::hint::black_box;
use xxhash_rust::xxh3::xxh3_64;

/// Places of the smallest index.
const PLACES_MIN: usize = 128;
/// Bits of a place that hold an entry's number and one; 0 is an empty place.
const NUMBER_BITS: u32 = 24;
const NUMBER: u32 = (1 << NUMBER_BITS) - 1;
/// The most keys in a table.
const KEYS_MAX: usize = NUMBER as usize;

/// A key with its accumulator.
pub(crate) struct Entry<V> {
    pub(crate) name: Name,
    pub(crate) value: V,
}

/// A key as it is looked up.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    name: Name,
    hash: u64,
    /// What the index has where the key should be, if it was looked up.
    place: u32,
}

impl Wanted {
    /// A short key; `None` for others.
    #[inline(always)]
    pub(crate) fn short(key: &[u8]) -> Option<Self> {
        Name::short(key).map(|name| Self { name, hash: name.hash(), place: 0 })
    }

    /// A short key that stands in a text, if it does not stand near the end.
    #[inline(always)]
    pub(crate) fn within(text: &[u8], start: usize, end: usize) -> Option<Self> {
        Name::within(text, start, end).map(|name| Self { name, hash: name.hash(), place: 0 })
    }

    /// A long key.
    pub(crate) fn long(key: &[u8]) -> Self {
        let hash = xxh3_64(key);
        Self { name: Name::long(hash, key.len()), hash, place: 0 }
    }

    pub(crate) fn name(&self) -> Name {
        self.name
    }

    /// The number of the entry that the key probably has, once it was located.
    #[inline(always)]
    pub(crate) fn entry(&self) -> usize {
        (self.place & NUMBER).wrapping_sub(1) as usize
    }

    /// The bits of the hash that stand in the index.
    #[inline(always)]
    fn mark(&self) -> u32 {
        (self.hash as u32) & !NUMBER
    }
}

/// Accumulators by key.
pub(crate) struct Table<V> {
    index: Vec<u32>,
    entries: Vec<Entry<V>>,
    /// The long keys.
    arena: Vec<u8>,
    /// What is left of a hash after a shift by this is a place's number.
    shift: u32,
    keys_max: usize,
}

impl<V> Table<V> {
    pub(crate) fn new() -> Self {
        Self { index: Vec::new(), entries: Vec::new(), arena: Vec::new(), shift: 0, keys_max: KEYS_MAX }
    }

    /// A table that is full sooner.
    #[cfg(test)]
    pub(crate) fn of_at_most(keys_max: usize) -> Self {
        Self { keys_max, ..Self::new() }
    }

    /// The keys with their accumulators, in the order in which they came.
    pub(crate) fn entries(&self) -> &[Entry<V>] {
        &self.entries
    }

    /// Bytes of the long keys.
    pub(crate) fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// Whether it must grow before another key comes.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() == self.capacity()
    }

    /// How many keys there may be before it must grow.
    pub(crate) fn capacity(&self) -> usize {
        (self.index.len() / 2).min(self.keys_max)
    }

    /// How many keys there may be after growing; `None` when it cannot grow.
    pub(crate) fn capacity_next(&self) -> Option<usize> {
        let next = (self.places_next() / 2).min(self.keys_max);
        (next > self.capacity()).then_some(next)
    }

    fn places_next(&self) -> usize {
        (2 * self.index.len()).max(PLACES_MIN)
    }

    /// Bytes that a table for so many keys takes.
    pub(crate) fn bytes(capacity: usize) -> usize {
        capacity * (2 * size_of::<u32>() + size_of::<Entry<V>>())
    }

    /// The accumulator of a short key.
    #[inline(always)]
    pub(crate) fn find_short(&mut self, wanted: &Wanted) -> Option<&mut V> {
        let found = self.find(wanted, |entry, _| entry.name.is(wanted.name));
        self.entries.get_mut(found?).map(|entry| &mut entry.value)
    }

    /// The accumulator of a long key.
    pub(crate) fn find_long(&mut self, wanted: &Wanted, key: &[u8]) -> Option<&mut V> {
        let found = self
            .find(wanted, |entry, arena| entry.name.may_be(wanted.name) && entry.name.key(arena, &mut [0; 16]) == key);
        self.entries.get_mut(found?).map(|entry| &mut entry.value)
    }

    /// The number of an entry.
    #[inline(always)]
    fn find(&self, wanted: &Wanted, is_it: impl Fn(&Entry<V>, &[u8]) -> bool) -> Option<usize> {
        let mut at = (wanted.hash >> self.shift) as usize;
        loop {
            let place = *self.index.get(at)?;
            if place & !NUMBER == wanted.mark()
                && let Some(number) = (place & NUMBER).checked_sub(1)
                && let Some(entry) = self.entries.get(number as usize)
                && is_it(entry, &self.arena)
            {
                return Some(number as usize);
            }
            if place == 0 {
                return None;
            }
            at = self.after(at);
        }
    }

    /// Reads the places of some keys in the index, so that memory gives all of them at the same time.
    #[inline(always)]
    pub(crate) fn locate(&self, batch: &mut [Wanted]) {
        for wanted in batch {
            wanted.place = self.index.get((wanted.hash >> self.shift) as usize).copied().unwrap_or(0);
        }
    }

    /// Reads some entries, so that memory gives all of them at the same time.
    #[inline(always)]
    pub(crate) fn fetch(&self, numbers: impl Iterator<Item = usize>) {
        let entries = numbers.filter_map(|number| self.entries.get(number));
        black_box(entries.fold(false, |any, entry| any | entry.name.is_long()));
    }

    /// The accumulator of a key that was located, if it is in the entry that it probably has.
    #[inline(always)]
    pub(crate) fn find_fetched(&mut self, wanted: &Wanted) -> Option<&mut V> {
        let entry = self.entries.get_mut(wanted.entry())?;
        entry.name.is(wanted.name).then_some(&mut entry.value)
    }

    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.index.len() { 0 } else { at + 1 }
    }

    /// Puts in a short key that is not there. The table must not be full.
    pub(crate) fn insert_short(&mut self, wanted: &Wanted, value: V) {
        self.insert(wanted.name, wanted, value);
    }

    /// Puts in a long key that is not there. The table must not be full.
    pub(crate) fn insert_long(&mut self, wanted: &Wanted, key: &[u8], value: V) {
        let offset = self.arena.len();
        self.arena.extend_from_slice(key);
        self.insert(wanted.name.at(offset), wanted, value);
    }

    fn insert(&mut self, name: Name, wanted: &Wanted, value: V) {
        assert!(!self.is_full(), "the table was made to grow before");
        self.entries.push(Entry { name, value });
        self.place(wanted, self.entries.len() as u32);
    }

    fn place(&mut self, wanted: &Wanted, number: u32) {
        let mut at = (wanted.hash >> self.shift) as usize;
        while self.index[at] != 0 {
            at = self.after(at);
        }
        self.index[at] = wanted.mark() | number;
    }

    /// Doubles the index.
    pub(crate) fn grow(&mut self) {
        let places = self.places_next();
        // The old one goes before the new one comes.
        self.index = Vec::new();
        self.index = vec![0; places];
        self.shift = u64::BITS - places.ilog2();
        self.entries.reserve_exact(self.capacity() - self.entries.len());
        for number in 0..self.entries.len() {
            let name = self.entries[number].name;
            let hash = if name.is_long() { xxh3_64(name.key(&self.arena, &mut [0; 16])) } else { name.hash() };
            self.place(&Wanted { name, hash, place: 0 }, number as u32 + 1);
        }
    }

    /// Forgets all keys and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.arena.clear();
        self.index.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds one to a key's number.
    fn count(table: &mut Table<u32>, key: &[u8]) {
        let (short, long) = (Wanted::short(key), Wanted::long(key));
        let found = match &short {
            Some(wanted) => table.find_short(wanted),
            None => table.find_long(&long, key),
        };
        if let Some(number) = found {
            *number += 1;
            return;
        }
        if table.is_full() {
            table.grow();
        }
        match &short {
            Some(wanted) => table.insert_short(wanted, 1),
            None => table.insert_long(&long, key, 1),
        }
    }

    #[test]
    fn keys_are_found_while_the_table_grows_and_keep_their_order() {
        let mut table = Table::new();
        let keys: Vec<String> = (0..10_000u32).map(|n| format!("{}{n}", "x".repeat(n as usize % 20))).collect();
        for round in 1..4 {
            keys.iter().for_each(|key| count(&mut table, key.as_bytes()));
            let entries = table.entries().iter().zip(&keys);
            for (Entry { name, value }, key) in entries {
                assert_eq!((name.key(table.arena(), &mut [0; 16]), *value), (key.as_bytes(), round));
            }
            assert_eq!(table.entries().len(), keys.len());
        }
        let mut batch: Vec<Wanted> = keys.iter().filter_map(|key| Wanted::short(key.as_bytes())).collect();
        table.locate(&mut batch);
        let found = batch.iter().filter(|wanted| table.find_fetched(wanted).is_some()).count();
        assert!(found * 2 > batch.len(), "most keys are where they are looked for first: {found} of {}", batch.len());
        table.clear();
        count(&mut table, keys[0].as_bytes());
        assert_eq!(table.entries().len(), 1);
    }

    #[test]
    fn a_table_takes_as_many_keys_as_it_may_and_no_more() {
        let mut table = Table::of_at_most(100);
        (0..100u32).for_each(|n| count(&mut table, &n.to_be_bytes()));
        assert!(table.is_full());
        assert_eq!(table.capacity_next(), None);
        assert_eq!(table.entries()[99].value, 1);
    }

    #[test]
    fn keys_that_collide_are_told_apart() {
        let mut table = Table::new();
        table.grow();
        let mut wanted: Vec<Wanted> = (0..64u64).filter_map(|n| Wanted::short(&n.to_be_bytes())).collect();
        // The last place: those behind it are at the beginning.
        wanted.iter_mut().for_each(|wanted| wanted.hash = u64::MAX);
        for (n, wanted) in (0..).zip(&wanted) {
            assert!(table.find_short(wanted).is_none());
            table.insert_short(wanted, n);
        }
        for (n, wanted) in (0..).zip(&wanted) {
            assert_eq!(table.find_short(wanted), Some(&mut n.clone()));
        }
    }
}
