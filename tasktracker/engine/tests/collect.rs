//! Collectors against a naive sort, with so little memory that they spill.

use proptest::prelude::*;
use quorate_engine::{
    collect::{Collected, CombineCollector, SortCollector},
    emitter::{Collect, Emitter},
    partition::Partitioner,
    program::{TaskError, Watch},
    record::{self, RECORD_BYTES_MAX},
};
use quorate_protocol::{
    job::Partitioning,
    vote::{Counters, FailureKind},
};
use std::{collections::BTreeMap, path::Path};

type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn hash(partitions: u32) -> Partitioner {
    Partitioner::new(&Partitioning::Hash, partitions)
}

/// The records of each partition, and that the spans say what the file has and nothing else is left.
fn segments(collected: &Collected, directory: &Path) -> Vec<Records> {
    let data = std::fs::read(&collected.data).expect("the data file");
    let mut end = 0;
    let mut segments = Vec::new();
    for span in &collected.spans {
        assert_eq!(span.offset, end, "no gap between spans");
        end += span.length;
        let bytes = &data[span.offset as usize..end as usize];
        let records: Result<Records, _> =
            record::records(bytes).map(|r| r.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect();
        let records = records.expect("well-formed records");
        assert_eq!(records.len() as u64, span.records);
        segments.push(records);
    }
    assert_eq!(end as usize, data.len());
    assert_eq!(std::fs::read_dir(directory).expect("a directory").count(), 1, "one file, and no spill is left");
    segments
}

fn sorted(records: &Records, partitions: u32, memory: u64) -> (Vec<Records>, usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut collector = SortCollector::new(directory.path(), hash(partitions), memory);
    for (key, value) in records {
        collector.collect(key, value.as_slice()).expect("collected");
    }
    let collected = collector.finish(&Watch::default()).expect("finished");
    (segments(&collected, directory.path()), collected.spills)
}

fn naively_sorted(records: &Records, partitions: u32) -> Vec<Records> {
    let partitioner = hash(partitions);
    let mut segments = vec![Records::new(); partitions as usize];
    for record in records {
        segments[partitioner.of(&record.0) as usize].push(record.clone());
    }
    segments.iter_mut().for_each(|segment| segment.sort_by(|a, b| a.0.cmp(&b.0)));
    segments
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop_oneof![Just(0u8), Just(7)], 0..12),
        "[ab]{0,3}".prop_map(String::into_bytes),
        "commonprefix[ab]{0,6}".prop_map(String::into_bytes),
        // Around the longest key that stands in the table itself; some differ in their last byte or in zeros at their end alone.
        (12usize..19, 0usize..3, any::<bool>()).prop_map(|(length, zeros, last)| {
            let mut key = b"one key of many".repeat(2)[..length].to_vec();
            key[length - zeros..].fill(0);
            key.push(u8::from(last));
            key
        }),
    ]
}

/// Lines of words, of which some are long, some the same, and some have zeros in them.
fn some_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = prop_oneof![
        4 => "[ab]{1,3}".prop_map(String::into_bytes),
        2 => "aaaaaaaaaaa[ab]{0,8}".prop_map(String::into_bytes),
        1 => "b{200,400}".prop_map(String::into_bytes),
        1 => Just(vec![0; 3]),
    ];
    let line = prop::collection::vec((word, "[ \t\n]{1,3}"), 0..100);
    let line =
        line.prop_map(|words| words.into_iter().flat_map(|(word, gap)| [word, gap.into_bytes()].concat()).collect());
    prop::collection::vec(line, 0..4)
}

fn some_records() -> impl Strategy<Value = Records> {
    prop::collection::vec((keys(), prop::collection::vec(any::<u8>(), 0..20)), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_sorter_sorts_for_any_memory(records in some_records(), partitions in 1u32..5) {
        let expected = naively_sorted(&records, partitions);
        for memory in [0, 2000, 1 << 20] {
            let (found, spills) = sorted(&records, partitions, memory);
            prop_assert_eq!(&found, &expected);
            prop_assert!(memory != 0 || records.len() < 2 || spills > 0);
        }
    }

    #[test]
    fn a_combiner_keeps_the_order_of_emission_for_any_memory(records in some_records(), partitions in 1u32..5) {
        // Appending is associative and not commutative, so every exchange of two values would show.
        let mut expected = vec![BTreeMap::<Vec<u8>, Vec<u8>>::new(); partitions as usize];
        for (key, value) in &records {
            expected[hash(partitions).of(key) as usize].entry(key.clone()).or_default().extend(value);
        }
        let expected: Vec<Records> = expected.into_iter().map(|segment| segment.into_iter().collect()).collect();
        for memory in [0, 10_000, 1 << 20] {
            let directory = tempfile::tempdir().expect("a directory");
            let append = |sum: &mut Vec<u8>, value: &Vec<u8>| sum.extend_from_slice(value);
            let mut collector = CombineCollector::new(directory.path(), hash(partitions), memory, append);
            for (key, value) in &records {
                collector.collect(key, value).expect("collected");
            }
            let collected = collector.finish(&Watch::default()).expect("finished");
            prop_assert_eq!(segments(&collected, directory.path()), expected.clone());
            prop_assert!(memory != 0 || expected.concat().len() < 2 || collected.spills > 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn words_emitted_together_are_words_emitted_one_by_one(lines in some_lines()) {
        let split = |line: &[u8]| -> Vec<Vec<u8>> {
            line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let mut expected = BTreeMap::<Vec<u8>, Vec<u8>>::new();
        for (number, line) in (0u8..).zip(&lines) {
            split(line).into_iter().for_each(|word| expected.entry(word).or_default().push(number));
        }
        let expected: Records = expected.into_iter().collect();
        for memory in [0, 10_000, 1 << 20] {
            let directory = tempfile::tempdir().expect("a directory");
            let append = |sum: &mut Vec<u8>, value: &Vec<u8>| sum.extend_from_slice(value);
            let mut collector = CombineCollector::new(directory.path(), hash(1), memory, append);
            let mut counters = Counters::new();
            let mut emitter: Emitter<'_, [u8], Vec<u8>> = Emitter::new(&mut collector, &mut counters);
            let mut records = 0;
            for (number, line) in (0u8..).zip(&lines) {
                emitter.emit_words(line, &vec![number]).expect("emitted");
                records += split(line).len() as u64;
            }
            prop_assert_eq!(emitter.records(), records);
            let collected = collector.finish(&Watch::default()).expect("finished");
            prop_assert_eq!(segments(&collected, directory.path()), vec![expected.clone()]);
            prop_assert!(memory != 0 || expected.len() < 2 || collected.spills > 0);
        }
        // A collector that does nothing of its own for words.
        let directory = tempfile::tempdir().expect("a directory");
        let mut sorter = SortCollector::new(directory.path(), hash(1), 1 << 20);
        let mut counters = Counters::new();
        let mut emitter: Emitter<'_, [u8], u64> = Emitter::new(&mut sorter, &mut counters);
        lines.iter().for_each(|line| emitter.emit_words(line, &1).expect("emitted"));
        let collected = sorter.finish(&Watch::default()).expect("finished");
        prop_assert_eq!(collected.spans[0].records, expected.iter().map(|(_, lines)| lines.len() as u64).sum::<u64>());
    }
}

#[test]
fn many_spills_take_several_passes_and_give_the_same() {
    // 60% of this is less than three of the smallest merge buffers.
    let memory = 300 << 10;
    let records: Records = (0..60_000u32)
        .map(|n| (format!("{}", n.wrapping_mul(2_654_435_761) % 9973).into_bytes(), n.to_be_bytes().to_vec()))
        .collect();
    let (found, spills) = sorted(&records, 3, memory);
    assert!(spills > 4, "{spills}");
    assert_eq!(found, naively_sorted(&records, 3));
}

#[test]
fn a_combiner_with_many_keys_spills_and_gives_the_same() {
    let count = |memory: u64| {
        let directory = tempfile::tempdir().expect("a directory");
        let add = |sum: &mut u64, value: &u64| *sum += *value;
        let mut collector = CombineCollector::new(directory.path(), hash(4), memory, add);
        let mut counters = Counters::new();
        let mut emitter: Emitter<'_, str, u64> = Emitter::new(&mut collector, &mut counters);
        for n in 0..60_000u64 {
            emitter.emit(&format!("{}", n * n % 30_011), &n).expect("emitted");
            emitter.emit(&format!("a key that is not short {}", n % 5003), &1).expect("emitted");
            emitter.count("pairs", 1);
        }
        assert_eq!(emitter.records(), 120_000);
        assert_eq!(counters["pairs"], 60_000);
        let collected = collector.finish(&Watch::default()).expect("finished");
        (segments(&collected, directory.path()), collected.spills)
    };
    let (large, none) = count(64 << 20);
    let (little, several) = count(700 << 10);
    assert_eq!(none, 0);
    assert!(several > 4, "{several}");
    assert!(large == little);
}

#[test]
fn a_hot_key_with_growing_values_is_counted_again_and_not_spilled_each_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let max = |sum: &mut String, value: &String| *sum = sum.clone().max(value.clone());
    let mut collector = CombineCollector::new(directory.path(), hash(1), 200 << 10, max);
    for n in 0..20_000u32 {
        collector.collect(b"key", &format!("{n:0100}")).expect("collected");
    }
    let collected = collector.finish(&Watch::default()).expect("finished");
    assert_eq!(collected.spills, 0);
    assert_eq!(segments(&collected, directory.path())[0][0].1, format!("{:0100}", 19_999).into_bytes());
}

#[test]
fn ranges_make_the_parts_follow_each_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let cuts = Partitioning::Ranges(vec![b"3".to_vec(), b"6".to_vec()]);
    let mut collector = SortCollector::new(directory.path(), Partitioner::new(&cuts, 3), 1 << 20);
    for n in (0..100u32).rev() {
        collector.collect(n.to_string().as_bytes(), &()).expect("collected");
    }
    let segments = segments(&collector.finish(&Watch::default()).expect("finished"), directory.path());
    let keys: Vec<_> = segments.concat().into_iter().map(|(key, _)| key).collect();
    assert!(keys.is_sorted());
    assert!(segments.iter().all(|segment| segment.len() > 20));
}

#[test]
fn a_record_at_the_bound_is_taken_and_one_above_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut collector = SortCollector::new(directory.path(), hash(1), 16 << 20);
    let value = vec![0u8; RECORD_BYTES_MAX as usize];
    match collector.collect(b"k", value.as_slice()) {
        Err(TaskError::Program { kind: FailureKind::UserError, message, .. }) => {
            assert!(message.contains("68157441 bytes"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    collector.collect(b"", value.as_slice()).expect("at the bound");
    let collected = collector.finish(&Watch::default()).expect("finished");
    assert_eq!(collected.spans[0].records, 1);
}

#[test]
fn a_directory_that_cannot_be_written_is_the_machines_failure() {
    let mut collector = SortCollector::new(Path::new("/nowhere/at/all"), hash(1), 16 << 20);
    collector.collect(b"k", b"v".as_slice()).expect("in memory");
    assert!(matches!(collector.finish(&Watch::default()), Err(TaskError::Machine { .. })));
}

#[test]
fn an_empty_map_has_empty_segments() {
    let (found, spills) = sorted(&Records::new(), 3, 1 << 20);
    assert_eq!((found, spills), (vec![Records::new(); 3], 0));
}
