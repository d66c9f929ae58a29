//! The combiner's hash table: accumulators in the order in which their keys came first, and an index of them.
//!
//! Frequent keys come early. So their accumulators lie together at the beginning and stay in the caches, wherever their hashes
//! are, and only the index, four bytes for a key, is reached all over. The index has open addressing with linear probing and is
//! at most half full; a place in it holds eight bits of the hash too, so that few wrong keys are looked at. It goes by the
//! upper bits of the hash.
//!
//! What memory is slow to give is asked for early: keys come in batches ([`Table::fetch`]), whose places are all read before
//! the first of them is waited for.
//!
//! The hash is fixed and public. Somebody who chooses the keys can make them collide, and then each costs time in
//! proportion to the number of keys: so users can slow down the attempts of their own job, which nobody but they wait for,
//! and a tracker ends those that make no progress.

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
}

impl<V> Table<V> {
    pub(crate) fn new() -> Self {
        Self { index: Vec::new(), entries: Vec::new(), arena: Vec::new(), shift: 0 }
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
        (self.index.len() / 2).min(KEYS_MAX)
    }

    /// How many keys there may be after growing; `None` when it cannot grow.
    pub(crate) fn capacity_next(&self) -> Option<usize> {
        let next = (self.places_next() / 2).min(KEYS_MAX);
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

    /// Reads the place of a short key in the index.
    #[inline(always)]
    pub(crate) fn locate(&self, wanted: Wanted) -> Wanted {
        let place = self.index.get((wanted.hash >> self.shift) as usize);
        Wanted { place: place.copied().unwrap_or(0), ..wanted }
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
