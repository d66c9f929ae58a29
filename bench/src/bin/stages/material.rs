//! What the stages work on: made-up text or records, in memory, in files, and as the keys and values that a mapper makes of
//! them.

use crate::terasort::generate::{KEY, Layout, RECORD, write_records};
use quorate::Result;
use quorate_bench::text::Text;
use quorate_engine::{
    collect::SortCollector,
    emitter::{Collect, Emitter},
    partition::Partitioner,
    program::{InputSource, LocalBytes, MapTask, TaskContext},
};
use quorate_protocol::{
    ids::{AttemptId, JobId, Stage, TaskId},
    job::{InputKind, Partitioning, Split},
    limits,
    vote::Counters,
};
use std::{
    hint::black_box,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

const SEED: u64 = 2026;
/// Partitions of a map attempt's output.
pub(crate) const PARTITIONS: u32 = 4;
/// The longest block of lines, in bytes.
const BLOCK_BYTES: usize = 1 << 20;
/// Keys that the cuts between the records' partitions are taken from.
const SAMPLES: usize = 10_000;

/// What the input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Text with Zipf's frequencies; a pair is a word and 1.
    Words,
    /// Records of 100 bytes; a pair is a key of 10 bytes and the rest.
    Records,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Words, Self::Records];

    /// Its name on command lines and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Records => "records",
        }
    }
}

/// An input.
pub(crate) struct Material {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
    /// Where the words are, if it is text.
    words: Vec<Range<u32>>,
    partitioning: Partitioning,
}

impl Material {
    /// An input of about `bytes` bytes.
    pub(crate) fn make(kind: Kind, bytes: u64) -> Result<Self> {
        let mut made = Vec::new();
        match kind {
            Kind::Words => Text::new(SEED).write(bytes, &mut made)?,
            Kind::Records => write_records(Layout::Ascii, 0, bytes / RECORD as u64, &mut made)?,
        }
        let (words, partitioning) = match kind {
            Kind::Words => (words_of(&made), Partitioning::Hash),
            Kind::Records => (Vec::new(), Partitioning::Ranges(cuts_of(&made))),
        };
        Ok(Self { kind, bytes: made, words, partitioning })
    }

    /// How many keys with values a mapper makes of it.
    pub(crate) fn pairs(&self) -> usize {
        match self.kind {
            Kind::Words => self.words.len(),
            Kind::Records => self.bytes.len() / RECORD,
        }
    }

    /// Memory that takes all pairs at once.
    pub(crate) fn ample(&self) -> u64 {
        (16 << 20) + 16 * self.bytes.len() as u64
    }

    /// How keys are given to partitions.
    pub(crate) fn partitioner(&self) -> Partitioner {
        Partitioner::new(&self.partitioning, PARTITIONS)
    }

    /// Emits some of the pairs into a sorter, and counts them.
    pub(crate) fn emit(&self, pairs: Range<usize>, sorter: &mut SortCollector) -> Result<u64> {
        match self.kind {
            Kind::Words => self.emit_words(pairs, sorter),
            Kind::Records => self.emit_records(pairs, sorter),
        }
    }

    /// All of a text in blocks of whole lines.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let most = rest.len().min(BLOCK_BYTES);
            let end = rest[..most].iter().rposition(|byte| *byte == b'\n').map_or(most, |at| at + 1);
            let (block, after) = rest.split_at(end);
            rest = after;
            (!block.is_empty()).then_some(block)
        })
    }

    // Jobs know no collector's type: what calls one must not know it here, either, or it would be compiled into the loop.
    fn emit_words(&self, pairs: Range<usize>, collector: &mut dyn Collect<u64>) -> Result<u64> {
        let mut counters = Counters::new();
        let mut out: Emitter<'_, [u8], u64> = Emitter::new(black_box(collector), &mut counters);
        for word in &self.words[pairs] {
            out.emit(&self.bytes[word.start as usize..word.end as usize], &1)?;
        }
        Ok(out.records())
    }

    fn emit_records(&self, pairs: Range<usize>, collector: &mut dyn Collect<[u8]>) -> Result<u64> {
        let mut counters = Counters::new();
        let mut out: Emitter<'_, [u8], [u8]> = Emitter::new(black_box(collector), &mut counters);
        for record in self.bytes[pairs.start * RECORD..pairs.end * RECORD].chunks_exact(RECORD) {
            let (key, value) = record.split_at(KEY);
            out.emit(key, value)?;
        }
        Ok(out.records())
    }

    /// What an attempt on all of it is told.
    pub(crate) fn task(&self) -> MapTask {
        let input_kind = match self.kind {
            Kind::Words => InputKind::Lines,
            Kind::Records => InputKind::FixedRecords(RECORD as u32),
        };
        MapTask {
            context: self.context(Stage::Map, PARTITIONS),
            path: "/input".to_owned(),
            input_kind,
            split: Split { file: 0, start: 0, end: self.bytes.len() as u64 },
            partitioning: self.partitioning.clone(),
        }
    }

    /// The first attempt of a stage's first task.
    pub(crate) fn context(&self, stage: Stage, partitions: u32) -> TaskContext {
        TaskContext {
            attempt: attempt(stage),
            entry: self.kind.name().to_owned(),
            arguments: "{}".to_owned(),
            partitions,
            memory: self.ample(),
        }
    }

    /// Writes it to a file in chunks of the usual length.
    pub(crate) fn store(&self, folder: &Path) -> Result<InputFile> {
        let path = folder.join("input");
        std::fs::write(&path, &self.bytes)?;
        let chunks = self.bytes.chunks(limits::CHUNK_BYTES_DEFAULT as usize);
        Ok(InputFile { path, lengths: chunks.map(|chunk| chunk.len() as u32).collect() })
    }
}

/// The first attempt of a stage's first task.
pub(crate) fn attempt(stage: Stage) -> AttemptId {
    AttemptId { task: TaskId { job: JobId::new(1), stage, index: 0 }, attempt: 0 }
}

fn words_of(text: &[u8]) -> Vec<Range<u32>> {
    let mut words = Vec::new();
    let mut start = 0;
    for (at, byte) in text.iter().enumerate() {
        if byte.is_ascii_whitespace() {
            words.extend((start < at).then_some(start as u32..at as u32));
            start = at + 1;
        }
    }
    words.extend((start < text.len()).then_some(start as u32..text.len() as u32));
    words
}

/// The lowest keys of all partitions but the first, from evenly spaced records.
fn cuts_of(records: &[u8]) -> Vec<Vec<u8>> {
    let step = (records.len() / RECORD / SAMPLES).max(1) * RECORD;
    let mut keys: Vec<&[u8]> = records.chunks_exact(RECORD).step_by(step / RECORD).map(|one| &one[..KEY]).collect();
    keys.sort_unstable();
    (1..PARTITIONS as usize).map(|n| keys[keys.len() * n / PARTITIONS as usize].to_vec()).collect()
}

/// An input in a file, as an attempt gets it.
pub(crate) struct InputFile {
    path: PathBuf,
    lengths: Vec<u32>,
}

impl InputSource for InputFile {
    fn chunk_lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
        let before = self.lengths[..index].iter().map(|length| u64::from(*length));
        let length = u64::from(self.lengths[index]);
        Ok(LocalBytes { path: self.path.clone(), offset: before.sum(), length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_lies_between_blanks() {
        let text = b"one two\n\nthree  4";
        let words: Vec<&[u8]> =
            words_of(text).into_iter().map(|at| &text[at.start as usize..at.end as usize]).collect();
        assert_eq!(words, [&b"one"[..], b"two", b"three", b"4"]);
        assert!(words_of(b"").is_empty());
    }

    #[test]
    fn blocks_are_whole_lines_and_all_of_them() {
        let material = Material::make(Kind::Words, (5 << 20) / 2).expect("material");
        let blocks: Vec<&[u8]> = material.blocks().collect();
        assert_eq!(blocks.len(), 3);
        assert!(blocks.iter().all(|block| block.len() <= BLOCK_BYTES && block.ends_with(b"\n")));
        assert!(blocks.concat() == material.bytes);
    }

    #[test]
    fn partitions_are_about_equal() {
        for kind in Kind::ALL {
            let material = Material::make(kind, 1 << 20).expect("material");
            let partitioner = material.partitioner();
            let mut counts = [0usize; PARTITIONS as usize];
            match kind {
                Kind::Words => {
                    let keys = material.words.iter().map(|at| &material.bytes[at.start as usize..at.end as usize]);
                    keys.for_each(|key| counts[partitioner.of(key) as usize] += 1);
                }
                Kind::Records => {
                    let keys = material.bytes.chunks_exact(RECORD).map(|record| &record[..KEY]);
                    keys.for_each(|key| counts[partitioner.of(key) as usize] += 1);
                }
            }
            assert_eq!(counts.iter().sum::<usize>(), material.pairs());
            assert!(counts.iter().all(|count| *count > material.pairs() / 10), "{kind:?}: {counts:?}");
        }
    }
}
