//! Counts words: the job that every MapReduce user knows.
//!
//! ```text
//! cargo run --release -p quorate-examples --bin wordcount
//! cargo run --release -p quorate-examples --bin wordcount -- --input README.md --output /tmp/words --liar none
//! ```
//!
//! Without `--input` it counts a made-up text, and unless told otherwise one of the five trackers lies, so that the vote
//! can be watched.

use quorate::prelude::*;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Splits text into words. Where lines end makes no difference, so it takes many at once.
pub(crate) struct Words;

impl Mapper for Words {
    type Input = LineBlocks;
    type Key = [u8];
    type Value = u64;

    fn map(&mut self, lines: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
        Ok(out.emit_words(lines, &1)?)
    }
}

/// Adds the counts of one word.
pub(crate) struct Sum;

impl Reducer for Sum {
    type Key = [u8];
    type Value = u64;
    type Output = TextLines;

    fn reduce(&mut self, word: &[u8], counts: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        let total: u64 = counts.sum();
        out.count("words", total);
        out.write(word, &total)
    }
}

pub(crate) fn job() -> Job<Words, Sum> {
    Job::new(|| Words, || Sum).combiner(|total, count| *total += count)
}

fn main() -> ExitCode {
    quorate::main(
        App::new("wordcount", |_: &NoArgs| job())
            .about("Counts the words of text files")
            .sample_input(make_text)
            .default_liar("2=corrupt-map")
            .summary(print_top),
    )
}

/// Words shown at the end.
const TOP: usize = 10;

/// Prints the most frequent words.
fn print_top(results: &Results<'_>, out: &mut dyn Write) -> Result<()> {
    let mut top = BinaryHeap::new();
    let mut distinct = 0u64;
    results.each_line(|line| {
        distinct += 1;
        if let Some((word, count)) = line.rsplit_once('\t') {
            top.push((Reverse(count.parse::<u64>()?), word.to_owned()));
            if top.len() > TOP {
                top.pop();
            }
        }
        Ok(())
    })?;
    let words = results.counters().get("words").copied().unwrap_or(0);
    writeln!(out, "{words} words, {distinct} different; the most frequent:")?;
    for (Reverse(count), word) in top.into_sorted_vec() {
        writeln!(out, "{count:>10}  {word}")?;
    }
    Ok(())
}

/// The words of the made-up text, the frequent ones first.
const VOCABULARY: &str = "the of and to in a is that it was for on are with as be this from at or an by not but what all \
    were when we there can your which their will each about how up out them then she many some so these would other into \
    has more her two like him see time could no make than first been its who now people my made over did down only way \
    find use may water long little very after words called just where most know general quorum vote verdict tracker \
    replica domain traitor loyal order attack retreat messenger siege camp city agreement promise";

/// Writes about 8 MiB of text, the same on every machine.
fn make_text(folder: &Path) -> Result<Vec<PathBuf>> {
    const BYTES: usize = 8 << 20;
    let vocabulary: Vec<&str> = VOCABULARY.split_whitespace().collect();
    let path = folder.join("sample.txt");
    let mut file = BufWriter::new(std::fs::File::create(&path)?);
    let mut random = 2026u64;
    let mut written = 0;
    while written < BYTES {
        let mut line = String::new();
        while line.len() < 72 {
            // Multiplying two uniform numbers makes small indices, the frequent words, likelier.
            let (a, b) = (next(&mut random), next(&mut random));
            let index = (a * b / 65_536) as usize * vocabulary.len() / 65_536;
            line.push_str(vocabulary.get(index).copied().unwrap_or("the"));
            line.push(' ');
        }
        writeln!(file, "{}", line.trim_end())?;
        written += line.len();
    }
    file.flush()?;
    Ok(vec![path])
}

/// The next of a sequence of random numbers below 65,536.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 48
}
