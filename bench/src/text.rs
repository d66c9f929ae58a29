//! Made-up text for word counts: words as frequent as Zipf's law says, the frequent ones short. The same seed and length
//! give the same bytes on every machine and with any number of threads.
//!
//! As in large English corpora, the frequency of rank r falls as 1/(r + 2.7) up to a bend, and as 1/r² behind it; sentences
//! begin with a capital and end with a full stop, and some words are numbers. So a gigabyte has about a million different
//! words, most of them rare, and no table of them fits into a cache.

use rayon::prelude::*;
use std::{
    collections::BTreeSet,
    io::{self, Write},
};

/// Words before the bend.
const HEAD: usize = 8_000;
/// Words in all.
const WORDS: usize = 1_000_000;
/// Slots of the table that a word before the bend is drawn from.
const SLOTS: usize = 1 << 20;
/// Of a thousand words, those that are numbers.
const NUMBERS: u64 = 8;
/// The words of a sentence: at least so many, and twice a number below so many more.
const SENTENCE: (u64, u64) = (6, 10);
/// Bytes of a line, about.
const LINE_BYTES: usize = 72;
/// Bytes made at a time by one thread. Each block has random numbers of its own, and ends with a line: so it is no power of
/// two, or lines would end where chunks and splits do, and no reader had to look beyond.
const BLOCK_BYTES: u64 = 1_000_000;
/// Blocks made before they are written.
const BLOCKS: usize = 16;

/// A source of text.
pub struct Text {
    seed: u64,
    /// Those before the bend.
    head: Vec<Vec<u8>>,
    /// Their indices, each as often as Zipf's law says.
    slots: Vec<u16>,
    /// Of 2^32 words, those behind the bend.
    tail: u64,
}

impl Text {
    /// Makes the words.
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut seen = BTreeSet::new();
        let mut head = Vec::with_capacity(HEAD);
        while head.len() < HEAD {
            let word = word(head.len() + 1, &mut random);
            if seen.insert(word.clone()) {
                head.push(word);
            }
        }
        let weight = |rank: usize| 1.0 / (rank as f64 + 2.7);
        let sum: f64 = (1..=HEAD).map(weight).sum();
        let slots_of = |rank: usize| (SLOTS as f64 * weight(rank) / sum).round() as usize;
        let slots = (1..=HEAD).flat_map(|rank| std::iter::repeat_n((rank - 1) as u16, slots_of(rank).max(1)));
        // The integral of the falling square from the bend on, as high there as the head is.
        let bend = HEAD as f64;
        let behind = weight(HEAD) * bend * bend * (1.0 / bend - 1.0 / WORDS as f64);
        let tail = (behind / (sum + behind) * (1u64 << 32) as f64) as u64;
        Self { seed, slots: slots.collect(), head, tail }
    }

    /// Writes `length` bytes of text, made in parallel.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, length: u64, out: &mut impl Write) -> io::Result<()> {
        let starts: Vec<u64> = (0..length).step_by(BLOCK_BYTES as usize).collect();
        for starts in starts.chunks(BLOCKS) {
            let block = |start: &u64| self.block(*start, (length - start).min(BLOCK_BYTES) as usize);
            let blocks: Vec<Vec<u8>> = starts.par_iter().map(block).collect();
            blocks.iter().try_for_each(|block| out.write_all(block))?;
        }
        Ok(())
    }

    fn block(&self, start: u64, length: usize) -> Vec<u8> {
        let mut random = Random(self.seed ^ (start + 1).wrapping_mul(Random::STEP));
        let mut bytes = Vec::with_capacity(length + 2 * LINE_BYTES);
        let (mut line, mut left) = (0, 0);
        while bytes.len() < length {
            let begins = left == 0;
            if begins {
                left = SENTENCE.0 + random.below(SENTENCE.1) + random.below(SENTENCE.1);
            }
            let at = bytes.len();
            self.append_word(&mut random, &mut bytes);
            if begins {
                bytes[at].make_ascii_uppercase();
            }
            left -= 1;
            if left == 0 {
                bytes.push(b'.');
            }
            if bytes.len() - line < LINE_BYTES {
                bytes.push(b' ');
            } else {
                bytes.push(b'\n');
                line = bytes.len();
            }
        }
        bytes.truncate(length);
        if let Some(last) = bytes.last_mut() {
            *last = b'\n';
        }
        bytes
    }

    fn append_word(&self, random: &mut Random, bytes: &mut Vec<u8>) {
        if random.below(1000) < NUMBERS {
            // As many of each number of digits.
            let most = 10u64.pow(1 + random.below(6) as u32);
            bytes.extend_from_slice(random.below(most).to_string().as_bytes());
        } else if random.below(1 << 32) < self.tail {
            let at = random.below(1 << 32) as f64 / (1u64 << 32) as f64;
            // The rank below which that share of the tail lies: the inverse of the integral.
            let rank = HEAD as f64 / (1.0 - at * (1.0 - HEAD as f64 / WORDS as f64));
            bytes.extend_from_slice(&word(rank as usize, &mut Random(self.seed ^ rank as u64)));
        } else {
            let slot = random.below(self.slots.len() as u64) as usize;
            bytes.extend_from_slice(&self.head[usize::from(self.slots[slot])]);
        }
    }
}

/// A word of letters, the longer the rarer it is.
fn word(rank: usize, random: &mut Random) -> Vec<u8> {
    let length = 2 + u64::from(rank.max(1).ilog2()) / 2 + random.below(4);
    (0..length).map(|_| b'a' + random.below(26) as u8).collect()
}

/// SplitMix64 [Steele, Lea, Flood 2014].
struct Random(u64);

impl Random {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    /// A number below `bound`, which is small against 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn text(seed: u64, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Text::new(seed).write(length, &mut bytes).expect("memory takes all");
        bytes
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let length = BLOCK_BYTES * 3 + 17;
        let bytes = text(1, length);
        assert_eq!(bytes.len() as u64, length);
        assert_eq!(bytes, text(1, length));
        assert_ne!(bytes, text(2, length));
        let blocks: Vec<&[u8]> = bytes.chunks(BLOCK_BYTES as usize).collect();
        assert_ne!(blocks[0], blocks[1], "each block has random numbers of its own");
        assert!(blocks.iter().all(|block| block.ends_with(b"\n")), "no word goes on in the next block");
        assert!(text(1, 0).is_empty());
    }

    #[test]
    fn words_are_as_frequent_as_zipf_says() {
        let (text, bytes) = (Text::new(7), text(7, 8 << 20));
        let mut counts: BTreeMap<&[u8], f64> = BTreeMap::new();
        let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for word in words {
            *counts.entry(word).or_default() += 1.0;
        }
        assert!(counts.len() > 10 * HEAD, "{} different words", counts.len());
        let rare = counts.values().filter(|count| **count == 1.0).count();
        assert!(rare > counts.len() / 2, "{rare} of {} come once", counts.len());
        let count = |rank: usize| counts.get(&text.head[rank - 1][..]).copied().unwrap_or(0.0);
        for rank in [10, 100, 1000] {
            let ratio = count(1) / count(rank) / ((rank as f64 + 2.7) / 3.7);
            assert!((0.7..1.4).contains(&ratio), "rank {rank}: {ratio}");
        }
    }
}
