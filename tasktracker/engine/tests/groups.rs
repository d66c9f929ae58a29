//! The merge of segments against concatenation and a stable sort.

use proptest::prelude::*;
use quorate_engine::{
    groups::Groups,
    program::{FetchedSegment, LocalBytes, TaskError, Watch},
    record,
};
use std::path::Path;

type Records = Vec<(Vec<u8>, Vec<u8>)>;
/// Keys, each with its values.
type Grouped = Vec<(Vec<u8>, Vec<Vec<u8>>)>;

fn bytes_of(records: &Records) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|(key, value)| record::append(key, value, &mut bytes));
    bytes
}

/// Puts segments into one file, with something between them.
fn store(segments: &[Vec<u8>], directory: &Path) -> Vec<FetchedSegment> {
    let path = directory.join("segments");
    let mut data = Vec::new();
    let mut local = Vec::new();
    for bytes in segments {
        data.extend_from_slice(b"gap");
        // Where a segment is makes no difference.
        local.push(if local.len() % 2 == 0 {
            LocalBytes { path: path.clone(), offset: data.len() as u64, length: bytes.len() as u64 }.into()
        } else {
            FetchedSegment::Memory(bytes.clone().into())
        });
        data.extend_from_slice(bytes);
    }
    std::fs::write(path, data).expect("written");
    local
}

fn merged(segments: &[Vec<u8>], memory: u64) -> Result<Grouped, TaskError> {
    let directory = tempfile::tempdir().expect("a directory");
    let local = store(segments, directory.path());
    let watch = Watch::default();
    let mut groups = Groups::open(&local, memory, directory.path(), &watch)?;
    let mut found = Vec::new();
    while let Some(mut group) = groups.next_group()? {
        let key = group.key.to_vec();
        let mut values = Vec::new();
        while let Some(value) = group.next_value() {
            values.push(value.to_vec());
        }
        found.push((key, values));
    }
    drop(groups);
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1, "no intermediate file is left");
    if segments.iter().any(|bytes| !bytes.is_empty()) {
        assert!(watch.units() > 0);
    }
    Ok(found)
}

fn naively_merged(segments: &[Records]) -> Grouped {
    let mut all = segments.concat();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut groups: Grouped = Vec::new();
    for (key, value) in all {
        match groups.last_mut().filter(|group| group.0 == key) {
            Some(group) => group.1.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

fn segment() -> impl Strategy<Value = Records> {
    let key = prop_oneof![
        prop::collection::vec(prop_oneof![Just(0u8), Just(1)], 0..4),
        "samebegin[ab]{0,3}".prop_map(String::into_bytes),
    ];
    prop::collection::vec((key, prop::collection::vec(any::<u8>(), 0..5)), 0..12).prop_map(|mut records| {
        records.sort_by(|a, b| a.0.cmp(&b.0));
        records
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_merge_is_a_stable_sort_for_any_number_of_passes(segments in prop::collection::vec(segment(), 0..12)) {
        let bytes: Vec<_> = segments.iter().map(bytes_of).collect();
        let expected = naively_merged(&segments);
        // Room for two buffers, for three, and for all.
        for memory in [0, 384 << 10, 16 << 20] {
            prop_assert_eq!(merged(&bytes, memory).expect("merged"), expected.clone());
        }
    }

    #[test]
    fn garbage_gives_an_error_or_groups_in_order(
        segments in prop::collection::vec(prop::collection::vec(0u8..6, 0..40), 1..4)
    ) {
        match merged(&segments, 1 << 20) {
            Ok(groups) => prop_assert!(groups.windows(2).all(|pair| pair[0].0 < pair[1].0)),
            Err(TaskError::Machine { source, .. }) => {
                prop_assert_eq!(source.kind(), std::io::ErrorKind::InvalidData);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

fn record_of(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.as_bytes().to_vec(), value.as_bytes().to_vec())
}

#[test]
fn a_thousand_inputs_in_the_least_memory() {
    let segments: Vec<Records> = (0..1000u32)
        .map(|map| (0..20).map(|n| record_of(&format!("key {:03}", n * 7 % 20 + n), &format!("{map}"))).collect())
        .map(|mut records: Records| {
            records.sort_by(|a, b| a.0.cmp(&b.0));
            records
        })
        .collect();
    let bytes: Vec<_> = segments.iter().map(bytes_of).collect();
    assert!(merged(&bytes, 16 << 20).expect("merged") == naively_merged(&segments));
}

#[test]
fn keys_out_of_order_are_found_within_an_input() {
    for memory in [0, 16 << 20] {
        let unsorted = vec![record_of("a", ""), record_of("c", ""), record_of("b", "")];
        let sorted = vec![record_of("a", ""), record_of("d", "")];
        let segments = [bytes_of(&sorted), bytes_of(&unsorted), bytes_of(&sorted)];
        let error = merged(&segments, memory).expect_err("unsorted");
        assert!(error.to_string().contains("not in order"), "{error}");
        assert!(matches!(error, TaskError::Machine { .. }));
    }
}

#[test]
fn values_that_were_not_read_are_passed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let records = vec![record_of("a", "1"), record_of("a", "2"), record_of("b", "3"), record_of("c", "4")];
    let local = store(&[bytes_of(&records)], directory.path());
    let watch = Watch::default();
    let mut groups = Groups::open(&local, 1 << 20, directory.path(), &watch).expect("opened");
    let mut keys = Vec::new();
    while let Some(mut group) = groups.next_group().expect("a group") {
        keys.push(group.key.to_vec());
        if group.key == b"b" {
            assert_eq!(group.next_value(), Some(&b"3"[..]));
            assert_eq!(group.next_value(), None);
            assert_eq!(group.next_value(), None);
        }
    }
    assert_eq!(keys, [b"a", b"b", b"c"]);
}

#[test]
fn typed_values_are_decoded_and_a_wrong_one_ends_the_merge() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = b"k".to_vec();
    let records = vec![(key.clone(), vec![3]), (key.clone(), vec![0x84, 0x01]), (b"l".to_vec(), vec![0x80])];
    let local = store(&[bytes_of(&records)], directory.path());
    let watch = Watch::default();
    let mut groups = Groups::open(&local, 1 << 20, directory.path(), &watch).expect("opened");
    let group = groups.next_group().expect("read").expect("a group");
    assert_eq!(group.values::<u64>().sum::<u64>(), 135);
    let group = groups.next_group().expect("read").expect("a group");
    assert_eq!(group.values::<u64>().sum::<u64>(), 0);
    let failure = groups.failure().expect("a value that is none");
    assert!(matches!(&failure, TaskError::Machine { .. }), "{failure}");
    assert!(groups.next_group().expect("told before").is_none());
}

#[test]
fn text_values_are_borrowed() {
    let directory = tempfile::tempdir().expect("a directory");
    let local = store(&[bytes_of(&vec![record_of("k", "one"), record_of("k", "two")])], directory.path());
    let watch = Watch::default();
    let mut groups = Groups::open(&local, 1 << 20, directory.path(), &watch).expect("opened");
    let group = groups.next_group().expect("read").expect("a group");
    let mut values = group.values::<str>();
    assert_eq!(values.next_ref(), Some("one"));
    assert_eq!(values.next_ref(), Some("two"));
    assert_eq!(values.next_ref(), None);
}

#[test]
fn a_missing_file_is_the_machines_failure_and_a_cancelled_merge_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let watch = Watch::default();
    let missing = [LocalBytes { path: directory.path().join("none"), offset: 0, length: 5 }.into()];
    assert!(matches!(Groups::open(&missing, 1 << 20, directory.path(), &watch), Err(TaskError::Machine { .. })));

    let records: Records = (0..40_000u32).map(|n| (n.to_be_bytes().to_vec(), vec![0; 100])).collect();
    let local = store(&[bytes_of(&records)], directory.path());
    let mut groups = Groups::open(&local, 16 << 20, directory.path(), &watch).expect("opened");
    assert!(groups.next_group().expect("a group").is_some());
    watch.cancel();
    let end = loop {
        match groups.next_group() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("not cancelled"),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, TaskError::Cancelled));
}
