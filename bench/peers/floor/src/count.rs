//! What both word counts share: input in chunks that end between words, and the sorted output.

use rayon::prelude::*;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// A word, and how often it is there.
pub(crate) type Counted = (&'static [u8], u64);
/// Counts the words of chunks of one input: the first argument is the whole, which every chunk is a part of.
pub(crate) type Count = fn(&'static [u8], &[&'static [u8]]) -> Vec<Counted>;

/// Small enough that threads end together.
const CHUNK_BYTES: usize = 4 << 20;

/// Counts, sorts and writes.
pub(crate) fn run(input: &'static [u8], output: &str, count: Count) -> io::Result<()> {
    let mut words = count(input, &chunks(input));
    words.par_sort_unstable_by(|a, b| a.0.cmp(b.0));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(Path::new(output).join("part-00000"))?);
    for (word, number) in words {
        out.write_all(word)?;
        writeln!(out, "\t{number}")?;
    }
    out.flush()
}

fn chunks(input: &'static [u8]) -> Vec<&'static [u8]> {
    let (mut chunks, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let least = CHUNK_BYTES.min(rest.len());
        let end = rest[least..].iter().position(|byte| is_space(*byte)).map_or(rest.len(), |more| least + more);
        let (chunk, after) = rest.split_at(end);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// What words are separated by: what C's `isspace` says.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Both counts of a text, against the simplest one.
    fn check(text: &[u8]) {
        let text: &'static [u8] = Box::leak(text.to_vec().into_boxed_slice());
        let mut expected: BTreeMap<&[u8], u64> = BTreeMap::new();
        for word in text.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()) {
            *expected.entry(word).or_default() += 1;
        }
        let sorted = |count: Count| {
            let mut words = count(text, &chunks(text));
            words.sort_unstable();
            words
        };
        let expected: Vec<Counted> = expected.into_iter().collect();
        assert_eq!(sorted(crate::plain::count), expected);
        #[cfg(target_arch = "x86_64")]
        if crate::words::supported() {
            assert_eq!(sorted(crate::words::count), expected);
        }
    }

    #[test]
    fn words_of_all_lengths_at_all_places_are_counted() {
        check(b"");
        check(b" \n\t ");
        check(b"word");
        for length in 1..40 {
            let mut text = Vec::new();
            for gap in 1..70 {
                text.extend([&b"a".repeat(length)[..], &b" ".repeat(gap), &b"b".repeat(length), b"\r\n"].concat());
            }
            // A text may end with a word, and within one.
            for cut in [0, 2, length / 2 + 2] {
                check(&text[..text.len() - cut]);
            }
        }
    }

    #[test]
    fn more_words_than_a_table_begins_with_and_chunks_that_end_within_words() {
        let mut text = Vec::new();
        for number in 0..600_000u32 {
            write!(text, "{} {:x} ", number * 7, number % 1000).expect("memory takes all");
        }
        assert!(text.len() > CHUNK_BYTES);
        check(&text);
    }

    #[test]
    fn bytes_that_are_no_text_are_words_too() {
        let text: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        check(&text);
    }
}
