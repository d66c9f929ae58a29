//! A whole local run: read splits, collect, digest, merge, reduce, write; against a map in memory.

use quorate_engine::{
    collect::{Collected, CombineCollector, SortCollector},
    digest::digest_spans,
    emitter::{Collect, Emitter},
    groups::Groups,
    input::LineReader,
    output::TextWriter,
    partition::Partitioner,
    program::{FetchedSegment, InputSource, LocalBytes, MapTask, TaskContext, Watch},
};
use quorate_protocol::{
    ids::{AttemptId, JobId, Stage, TaskId},
    job::{InputKind, Partitioning, Split},
    vote::{Counters, Segment, segments_digest},
};
use std::{collections::BTreeMap, io, path::Path};

/// Words of very different frequency, short and long, over lines of all kinds.
fn text() -> Vec<u8> {
    let mut state = 1u64;
    let mut text = String::new();
    for n in 0..60_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let rank = (state >> 33) % (1 + (state >> 50) % 5000);
        text += &if rank % 7 == 3 { format!("a-word-that-is-rather-long-{rank}") } else { format!("w{rank}") };
        text += if n % 11 == 0 {
            "\r\n"
        } else if n % 7 == 0 {
            "\n"
        } else {
            " "
        };
    }
    text.into_bytes()
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

struct File {
    chunks: Vec<LocalBytes>,
    lengths: Vec<u32>,
}

impl File {
    fn store(bytes: &[u8], chunk: usize, directory: &Path) -> Self {
        let path = directory.join("input");
        std::fs::write(&path, bytes).expect("written");
        let lengths: Vec<u32> = bytes.chunks(chunk).map(|part| part.len() as u32).collect();
        let mut offset = 0;
        let chunks = lengths.iter().map(|length| {
            let local = LocalBytes { path: path.clone(), offset, length: u64::from(*length) };
            offset += local.length;
            local
        });
        Self { chunks: chunks.collect(), lengths }
    }
}

impl InputSource for File {
    fn chunk_lengths(&self) -> &[u32] {
        &self.lengths
    }
    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
        Ok(self.chunks[index].clone())
    }
}

fn map_task(index: u32, partitions: u32, memory: u64, split: Split) -> MapTask {
    let task = TaskId { job: JobId::new(1), stage: Stage::Map, index };
    let attempt = AttemptId { task, attempt: 0 };
    let arguments = "{}".to_owned();
    MapTask {
        context: TaskContext { attempt, entry: "count".to_owned(), arguments, partitions, memory },
        path: "/input".to_owned(),
        input_kind: InputKind::Lines,
        split,
        partitioning: Partitioning::Hash,
    }
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    combine: bool,
    memory: u64,
    partitions: u32,
    split: u64,
    chunk: usize,
}

fn emit_words(task: &MapTask, file: &mut File, watch: &Watch, collector: &mut dyn Collect<u64>) {
    let mut counters = Counters::new();
    let mut emitter: Emitter<'_, [u8], u64> = Emitter::new(collector, &mut counters);
    let mut lines = LineReader::open(task, file, watch).expect("opened");
    while let Some(line) = lines.next_line().expect("read") {
        words(line).for_each(|word| emitter.emit(word, &1).expect("emitted"));
    }
}

fn map(task: &MapTask, file: &mut File, combine: bool, directory: &Path) -> Collected {
    let watch = Watch::default();
    let context = &task.context;
    let partitioner = Partitioner::new(&task.partitioning, context.partitions);
    if combine {
        let add = |sum: &mut u64, value: &u64| *sum += *value;
        let mut collector = CombineCollector::new(directory, partitioner, context.memory, add);
        emit_words(task, file, &watch, &mut collector);
        collector.finish(&watch).expect("finished")
    } else {
        let mut collector = SortCollector::new(directory, partitioner, context.memory);
        emit_words(task, file, &watch, &mut collector);
        collector.finish(&watch).expect("finished")
    }
}

fn reduce(segments: &[FetchedSegment], memory: u64, directory: &Path) -> Vec<u8> {
    let watch = Watch::default();
    let mut part = Vec::new();
    let mut writer = TextWriter::new(&mut part);
    let mut groups = Groups::open(segments, memory, directory, &watch).expect("opened");
    while let Some(group) = groups.next_group().expect("merged") {
        let key = group.key;
        writer.write(key, &group.values::<u64>().sum::<u64>()).expect("written");
    }
    writer.finish().expect("written");
    part
}

/// The part files, how often maps spilled, and the digests of all segments.
fn run(text: &[u8], setup: Setup) -> (Vec<Vec<u8>>, usize, Vec<Segment>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut file = File::store(text, setup.chunk, directory.path());
    let (mut products, mut spills, mut segments) = (Vec::new(), 0, Vec::new());
    for (index, start) in (0..text.len() as u64).step_by(setup.split as usize).enumerate() {
        let split = Split { file: 0, start, end: (start + setup.split).min(text.len() as u64) };
        let task = map_task(index as u32, setup.partitions, setup.memory, split);
        let attempt = directory.path().join(format!("map-{index}"));
        std::fs::create_dir(&attempt).expect("a directory");
        let collected = map(&task, &mut file, setup.combine, &attempt);
        spills += collected.spills;
        segments.extend(digest_spans(&collected.data, &collected.spans).expect("digests"));
        products.push(collected);
    }
    let parts = (0..setup.partitions as usize).map(|partition| {
        let local = products.iter().map(|product| {
            let span = product.spans[partition];
            LocalBytes { path: product.data.clone(), offset: span.offset, length: span.length }.into()
        });
        reduce(&local.collect::<Vec<_>>(), setup.memory, directory.path())
    });
    (parts.collect(), spills, segments)
}

fn oracle(text: &[u8]) -> Vec<u8> {
    let mut counts = BTreeMap::<&[u8], u64>::new();
    words(text).for_each(|word| *counts.entry(word).or_default() += 1);
    counts.iter().flat_map(|(word, n)| [*word, b"\t", n.to_string().as_bytes(), b"\n"].concat()).collect()
}

fn sorted_lines(parts: &[Vec<u8>]) -> Vec<u8> {
    let all = parts.concat();
    let mut lines: Vec<_> = all.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_by_key(|line| line.split(|byte| *byte == b'\t').next());
    lines.concat()
}

#[test]
fn counts_are_right_for_every_setup() {
    let text = text();
    let expected = oracle(&text);
    let base = Setup { combine: true, memory: 16 << 20, partitions: 1, split: 100_000, chunk: 33_333 };
    let (parts, spills, _) = run(&text, base);
    assert!(parts == [expected.clone()], "one sorted part");
    assert_eq!(spills, 0);
    for setup in [
        Setup { combine: false, ..base },
        Setup { memory: 400 << 10, partitions: 3, ..base },
        Setup { combine: false, memory: 300 << 10, partitions: 3, ..base },
        Setup { combine: false, memory: 300 << 10, partitions: 7, split: 1 << 30, chunk: 1 << 20 },
        Setup { partitions: 5, split: 777, chunk: 1000, ..base },
    ] {
        let (parts, spills, _) = run(&text, setup);
        assert!(sorted_lines(&parts) == expected, "{setup:?}");
        assert!(parts.iter().all(|part| !part.is_empty()), "{setup:?}");
        assert_eq!(spills > 0, setup.memory < 1 << 20, "{setup:?}: {spills} spills");
    }
}

#[test]
fn segments_are_the_same_every_time_and_for_any_chunks() {
    let text = text();
    let base = Setup { combine: false, memory: 300 << 10, partitions: 4, split: 150_000, chunk: 33_333 };
    let (_, _, segments) = run(&text, base);
    let (_, _, again) = run(&text, base);
    let (_, _, other_chunks) = run(&text, Setup { chunk: 999, ..base });
    // Without a combiner not even memory shows in a segment.
    let (_, _, more_memory) = run(&text, Setup { memory: 64 << 20, ..base });
    for other in [again, other_chunks, more_memory] {
        assert_eq!(segments_digest(&other), segments_digest(&segments));
    }
}
