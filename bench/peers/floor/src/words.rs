//! Word count, tuned: 64 bytes are searched for spaces at a time, words of up to 15 bytes are numbers in an open-addressing
//! table, and the table's memory is asked for before it is needed.

use crate::count::{Counted, is_space};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::{
    arch::x86_64::*,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Slots that a table begins with.
const SLOTS: usize = 1 << 18;
/// Words looked up together. A block of 64 bytes adds 33 at most.
const BATCH: usize = 32;
/// Bytes searched at a time.
const BLOCK: usize = 64;
/// The longest word that a [`Key`] holds.
const SHORT: usize = 15;

/// Whether the processor can do it.
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
}

/// Counts the words of the chunks.
pub(crate) fn count(input: &'static [u8], chunks: &[&'static [u8]]) -> Vec<Counted> {
    assert!(supported(), "asked for without AVX2");
    let next = AtomicUsize::new(0);
    let tables = rayon::broadcast(|_| {
        let mut table = Table::new();
        while let Some(chunk) = chunks.get(next.fetch_add(1, Relaxed)) {
            let start = chunk.as_ptr().addr() - input.as_ptr().addr();
            // SAFETY: the processor has the features.
            unsafe { count_range(input, start, start + chunk.len(), &mut table) };
        }
        table
    });
    let merged = tables.into_iter().reduce(Table::merge);
    merged.map_or(Vec::new(), Table::into_words)
}

/// A word of 1 to 15 bytes: the bytes, then zeros, and its length in the last byte. All zeros are no word.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    low: u64,
    high: u64,
}

impl Key {
    /// What is kept of the 16 bytes from a word's beginning on, by its length, and the length.
    const MASKS: [(u128, u128); SHORT + 1] = {
        let mut masks = [(0, 0); SHORT + 1];
        let mut length = 1;
        while length <= SHORT {
            masks[length] = ((1 << (8 * length)) - 1, (length as u128) << 120);
            length += 1;
        }
        masks
    };

    #[inline(always)]
    fn new(bytes: [u8; 16], length: usize) -> Self {
        let (mask, length) = Self::MASKS[length];
        let both = u128::from_le_bytes(bytes) & mask | length;
        Self { low: both as u64, high: (both >> 64) as u64 }
    }

    #[inline(always)]
    fn hash(self) -> usize {
        let product = u128::from(self.low ^ 0x243F_6A88_85A3_08D3) * u128::from(self.high ^ 0x1319_8A2E_0370_7344);
        ((product >> 64) as u64 ^ product as u64) as usize
    }

    fn is_word(self) -> bool {
        self.high != 0
    }

    fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_le_bytes()
    }
}

#[derive(Clone, Copy, Default)]
struct Slot {
    key: Key,
    number: u64,
}

/// How often each word was met.
struct Table {
    slots: Vec<Slot>,
    used: usize,
    long: HashMap<&'static [u8], u64, FixedState>,
}

impl Table {
    fn new() -> Self {
        Self { slots: vec![Slot::default(); SLOTS], used: 0, long: HashMap::default() }
    }

    #[inline(always)]
    fn add(&mut self, key: Key, hash: usize, number: u64) {
        let mask = self.slots.len() - 1;
        let mut index = hash & mask;
        loop {
            // SAFETY: there are a power of two of slots, so the mask keeps the index below their number.
            let slot = unsafe { self.slots.get_unchecked_mut(index) };
            if slot.key == key {
                slot.number += number;
                return;
            }
            if !slot.key.is_word() {
                *slot = Slot { key, number };
                self.used += 1;
                if self.used * 2 > mask {
                    self.grow();
                }
                return;
            }
            index = (index + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let more = vec![Slot::default(); self.slots.len() * 4];
        self.used = 0;
        for slot in std::mem::replace(&mut self.slots, more).iter().filter(|slot| slot.key.is_word()) {
            self.add(slot.key, slot.key.hash(), slot.number);
        }
    }

    #[inline(always)]
    fn prefetch(&self, hash: usize) {
        // SAFETY: a prefetch of any address does no harm, and this one is in the table.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(self.slots.as_ptr().add(hash & (self.slots.len() - 1)).cast()) };
    }

    fn merge(mut self, other: Self) -> Self {
        for slot in other.slots.iter().filter(|slot| slot.key.is_word()) {
            self.add(slot.key, slot.key.hash(), slot.number);
        }
        for (word, number) in other.long {
            *self.long.entry(word).or_insert(0) += number;
        }
        self
    }

    fn into_words(self) -> Vec<Counted> {
        let short = self.slots.iter().filter(|slot| slot.key.is_word());
        let short = short.map(|slot| (slot.key.to_bytes(), slot.number)).collect::<Vec<_>>().leak();
        let words = short.iter().map(|(bytes, number)| (&bytes[..usize::from(bytes[SHORT])], *number));
        words.chain(self.long).collect()
    }
}

/// Short words that were met, and whose slots are on their way from memory.
struct Batch {
    words: [(Key, usize); BATCH + BLOCK],
    count: usize,
}

impl Batch {
    fn new() -> Self {
        Self { words: [Default::default(); BATCH + BLOCK], count: 0 }
    }

    #[inline(always)]
    fn meet(&mut self, input: &'static [u8], begin: usize, end: usize, table: &mut Table) {
        let length = end - begin;
        if length > SHORT {
            *table.long.entry(&input[begin..end]).or_insert(0) += 1;
            return;
        }
        let key = match input[begin..].first_chunk() {
            Some(bytes) => Key::new(*bytes, length),
            None => {
                let mut bytes = [0; 16];
                bytes[..length].copy_from_slice(&input[begin..end]);
                Key::new(bytes, length)
            }
        };
        let hash = key.hash();
        table.prefetch(hash);
        self.words[self.count] = (key, hash);
        self.count += 1;
    }

    #[inline(always)]
    fn add_to(&mut self, table: &mut Table) {
        for (key, hash) in &self.words[..self.count] {
            table.add(*key, *hash, 1);
        }
        self.count = 0;
    }
}

/// Counts the words between two places of the input that are between words.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn count_range(input: &'static [u8], start: usize, end: usize, table: &mut Table) {
    let (mut at, mut batch) = (start, Batch::new());
    // Where the word begins whose end was not met yet, and whether the last byte was space.
    let (mut open, mut was_space) = (None, 1);
    while let Some(block) = input[..end].get(at..at + BLOCK) {
        let spaces = spaces(block);
        // The places where words begin or end, in turn.
        let mut borders = spaces ^ (spaces << 1 | was_space);
        was_space = spaces >> (BLOCK - 1);
        if borders != 0
            && let Some(begin) = open.take()
        {
            batch.meet(input, begin, at + take_lowest(&mut borders), table);
        }
        while borders != 0 {
            let begin = at + take_lowest(&mut borders);
            if borders == 0 {
                open = Some(begin);
            } else {
                batch.meet(input, begin, at + take_lowest(&mut borders), table);
            }
        }
        if batch.count >= BATCH {
            batch.add_to(table);
        }
        at += BLOCK;
    }
    batch.add_to(table);
    count_rest(input, open.unwrap_or(at), end, table);
}

/// Counts the words of the last, incomplete block.
fn count_rest(input: &'static [u8], start: usize, end: usize, table: &mut Table) {
    let (mut begin, mut batch) = (start, Batch::new());
    for at in start..=end {
        if at == end || is_space(input[at]) {
            if at > begin {
                batch.meet(input, begin, at, table);
                batch.add_to(table);
            }
            begin = at + 1;
        }
    }
}

/// The number of the lowest bit that is set, which is then no more.
#[inline(always)]
fn take_lowest(bits: &mut u64) -> usize {
    let lowest = bits.trailing_zeros() as usize;
    *bits &= *bits - 1;
    lowest
}

/// Which bytes of a block are space, the first in the lowest bit.
#[inline]
#[target_feature(enable = "avx2")]
fn spaces(block: &[u8]) -> u64 {
    let (low, high) = block.split_at(BLOCK / 2);
    u64::from(spaces_of_half(low)) | u64::from(spaces_of_half(high)) << (BLOCK / 2)
}

#[inline]
#[target_feature(enable = "avx2")]
fn spaces_of_half(half: &[u8]) -> u32 {
    assert!(half.len() == BLOCK / 2, "half a block");
    // SAFETY: 32 bytes are there, and need not be aligned.
    let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    let from_tab = _mm256_sub_epi8(bytes, _mm256_set1_epi8(b'\t' as i8));
    // Tab to carriage return are five, and what is below tab has become large.
    let control = _mm256_cmpeq_epi8(_mm256_min_epu8(from_tab, _mm256_set1_epi8(4)), from_tab);
    let blank = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b' ' as i8));
    _mm256_movemask_epi8(_mm256_or_si256(control, blank)) as u32
}
