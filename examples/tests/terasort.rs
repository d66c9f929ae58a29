//! Terasort against the sort benchmark's own figures, and against a plain sort.

#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../src/bin/terasort/main.rs"]
mod terasort;

use quorate::testing::Harness;
use sha2::{Digest, Sha256};
use terasort::{
    generate::{Layout, RECORD, write_records},
    validate::Findings,
};

fn records(layout: Layout, first: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_records(layout, first, end, &mut bytes).expect("memory takes all");
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn validate(bytes: &[u8]) -> Findings {
    let mut findings = Findings::default();
    for record in bytes.chunks_exact(RECORD) {
        findings.add(record.try_into().expect("whole records"));
    }
    findings
}

#[test]
fn generated_records_are_the_benchmarks() {
    let first = records(Layout::Binary, 0, 100_000);
    assert!(first.starts_with(b"JimGrayRIP"));
    assert_eq!(sha256(&first), "b448d01a3705d4908bf9170e6d5591f6bf94f9219d0faed44b3e4011eef91087");
    let later = records(Layout::Binary, 500_000, 501_000);
    assert_eq!(sha256(&later), "cddf96e0687b4fd7df57e50ca994987215d207fc7351febeee69d9d877cbae58");
    assert_eq!(validate(&later).checksum, 0x01fc_0ff9_cbce);
    let ascii = records(Layout::Ascii, 0, 100_000);
    assert_eq!(sha256(&ascii), "80fe641398d33c5f9875d526adcc2cc637540ced7d08b925e119cb44f3005375");
}

#[test]
fn sorted_records_are_the_benchmarks() {
    let input = records(Layout::Binary, 0, 100_000);
    let job = Harness::new(terasort::job()).partitions(5).split_bytes(1_000_033).memory(16 << 20);
    let outcome = job.run(&[("/records", &input)]).expect("sorted");
    assert!(outcome.parts.iter().all(|part| !part.is_empty()), "the cuts come from the keys");
    let output = outcome.parts.concat();
    assert_eq!(sha256(&output), "ef9a775fee35ecaa3d743b0713c3f62a259db9b5b286af74d01c97133f5cf283");
    let findings = validate(&output);
    assert_eq!((findings.records, findings.duplicates, findings.unordered), (100_000, 0, None));
    assert_eq!(format!("{:x}", findings.checksum), "c3068574c6ff");
}

#[test]
fn crowded_keys_are_sorted_too() {
    let input = records(Layout::Skewed, 0, 20_000);
    let mut expected: Vec<&[u8]> = input.chunks_exact(RECORD).collect();
    expected.sort_by_key(|record| &record[..10]);
    let crowd = expected.iter().filter(|record| record[..6] == expected[0][..6]).count();
    let largest = expected.chunk_by(|a, b| a[..6] == b[..6]).map(<[_]>::len).max();
    assert!(
        crowd > 0 && largest.is_some_and(|largest| largest > 9_000),
        "half of the keys crowd together: {largest:?}"
    );
    let outcome = Harness::new(terasort::job()).partitions(4).split_bytes(300_000).run(&[("/records", &input)]);
    let output = outcome.expect("sorted").parts.concat();
    assert!(output == expected.concat());
    assert_eq!(validate(&output).checksum, validate(&input).checksum);
}

#[test]
fn validation_finds_disorder_and_duplicates() {
    let input = records(Layout::Binary, 0, 100);
    let mut sorted: Vec<&[u8]> = input.chunks_exact(RECORD).collect();
    sorted.sort();
    sorted.swap(40, 60);
    let disorder = validate(&sorted.concat());
    assert!(disorder.unordered.is_some());
    sorted.swap(40, 60);
    sorted.insert(7, sorted[7]);
    let duplicate = validate(&sorted.concat());
    assert_eq!((duplicate.unordered, duplicate.duplicates, duplicate.records), (None, 1, 101));
    assert_ne!(duplicate.checksum, disorder.checksum);
}

#[test]
fn a_file_with_half_a_record_is_refused() {
    let mut input = records(Layout::Binary, 0, 10);
    input.truncate(950);
    let error = Harness::new(terasort::job()).run(&[("/records", &input)]).expect_err("half a record");
    assert!(error.to_string().contains("/records") && error.to_string().contains("50 are left over"), "{error}");
}
