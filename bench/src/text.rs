//! Made-up text for word counts: words as frequent as Zipf's law says, the frequent ones short. The same seed and length
//! give the same bytes on every machine and with any number of threads.

use rayon::prelude::*;
use std::{
    collections::BTreeSet,
    io::{self, Write},
};

/// Different words.
const WORDS: usize = 50_000;
/// Slots of the table that a word is drawn from: enough that the rarest word has one.
const SLOTS: usize = 1 << 20;
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
    words: Vec<Vec<u8>>,
    /// Indices of words, each as often as Zipf's law says.
    slots: Vec<u16>,
}

impl Text {
    /// Makes the words.
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut seen = BTreeSet::new();
        let mut words = Vec::with_capacity(WORDS);
        while words.len() < WORDS {
            let rank = words.len() as u32 + 1;
            let length = 2 + rank.ilog2() as u64 / 2 + random.below(4);
            let word: Vec<u8> = (0..length).map(|_| b'a' + random.below(26) as u8).collect();
            if seen.insert(word.clone()) {
                words.push(word);
            }
        }
        let sum: f64 = (1..=WORDS).map(|rank| 1.0 / rank as f64).sum();
        let mut slots = Vec::with_capacity(SLOTS + WORDS);
        for rank in 1..=WORDS {
            let share = (SLOTS as f64 / (rank as f64 * sum)).round() as usize;
            slots.extend(std::iter::repeat_n((rank - 1) as u16, share.max(1)));
        }
        Self { seed, words, slots }
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
        let mut bytes = Vec::with_capacity(length + LINE_BYTES);
        let mut line = 0;
        while bytes.len() < length {
            let slot = random.below(self.slots.len() as u64) as usize;
            bytes.extend_from_slice(&self.words[usize::from(self.slots[slot])]);
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
        for word in bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            *counts.entry(word).or_default() += 1.0;
        }
        assert!(counts.len() > WORDS / 2, "{} different words", counts.len());
        let count = |rank: usize| counts.get(&text.words[rank - 1][..]).copied().unwrap_or(0.0);
        for rank in [10, 100, 1000] {
            let ratio = count(1) / count(rank) / rank as f64;
            assert!((0.7..1.4).contains(&ratio), "rank {rank}: {ratio}");
        }
    }
}
