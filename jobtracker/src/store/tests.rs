//! Restarts and damage, at the disk.

use super::*;
use crate::testing::REPLICA;
use tempfile::TempDir;

fn cluster() -> Digest {
    Digest::of(b"cluster")
}
fn open(directory: &Path) -> Result<(Store, Kept), StoreError> {
    Store::open(directory, cluster(), REPLICA, None)
}
fn record(i: usize) -> Record {
    Record::Body(vec![i as u8; 40 + i % 300].into())
}
fn file(directory: &TempDir) -> PathBuf {
    directory.path().join(FILE_NAME)
}

/// So many writes, of one, two and three records in turn.
fn write(store: &mut Store, from: usize, to: usize) {
    for i in from..to {
        store.stage(&record(i));
        if i % 3 != 0 {
            continue;
        }
        store.write().expect("written");
    }
    store.write().expect("written");
}

/// What a killed process leaves behind: the file as it is while it is open, without any goodbye.
fn killed(directory: &TempDir) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    fs::copy(file(directory), file(&copy)).expect("copied");
    copy
}

fn compaction() -> Compaction {
    Compaction { state: vec![1; 5000].into(), ledger: vec![2; 70], records: vec![record(7), record(8)] }
}

#[test]
fn a_killed_process_finds_all_that_it_wrote_and_nothing_else() {
    let directory = TempDir::new().expect("a directory");
    let (mut store, kept) = open(directory.path()).expect("new");
    assert!(kept.base.is_none() && kept.records.is_empty());
    write(&mut store, 0, 20);
    store.stage(&record(99));
    let copy = killed(&directory);
    let (mut store, kept) = open(copy.path()).expect("opens");
    assert_eq!(kept.records, (0..20).map(record).collect::<Vec<_>>());
    write(&mut store, 20, 25);
    drop(store);
    let (_, kept) = open(copy.path()).expect("opens");
    assert_eq!(kept.records, (0..25).map(record).collect::<Vec<_>>());
}

#[test]
fn a_compaction_replaces_all_that_was_kept_or_staged() {
    let directory = TempDir::new().expect("a directory");
    let (mut store, _) = open(directory.path()).expect("new");
    for round in 0..2 {
        write(&mut store, 0, 20);
        store.stage(&record(99));
        store.compact(&compaction()).expect("written");
        write(&mut store, 30, 33 + round);
    }
    let (_, kept) = open(killed(&directory).path()).expect("opens");
    assert_eq!(kept.base, Some((compaction().state, compaction().ledger)));
    assert_eq!(kept.records, [7, 8, 30, 31, 32, 33].map(record));
}

#[test]
fn one_process_has_the_directory_and_another_replica_never() {
    let directory = TempDir::new().expect("a directory");
    let (store, _) = open(directory.path()).expect("new");
    assert!(matches!(open(directory.path()).err(), Some(StoreError::InUse { .. })));
    drop(store);
    let foreign = Store::open(directory.path(), Digest::of(b"other"), REPLICA, None).err();
    assert!(matches!(foreign, Some(StoreError::Foreign { what: "cluster", .. })), "{foreign:?}");
    let founded = Store::open(directory.path(), cluster(), REPLICA, Some(Digest::of(b"founding"))).err();
    assert!(matches!(founded, Some(StoreError::Foreign { what: "founding of the cluster", .. })), "{founded:?}");
    let foreign = Store::open(directory.path(), cluster(), ReplicaId::new(1), None).err();
    assert!(matches!(foreign, Some(StoreError::Foreign { what: "replica", .. })), "{foreign:?}");
}

/// Changes a table behind the store's back, so that its own checksums fit.
fn tamper(directory: &TempDir, change: impl FnOnce(&mut redb::Table<'_, u64, &[u8]>)) {
    let store = Database::open(file(directory)).expect("opens");
    let transaction = store.begin_write().expect("writes");
    change(&mut transaction.open_table(WRITES).expect("there"));
    transaction.commit().expect("committed");
}

#[test]
fn a_flipped_byte_in_a_write_is_named_with_file_and_place() {
    let directory = TempDir::new().expect("a directory");
    write(&mut open(directory.path()).expect("new").0, 0, 20);
    tamper(&directory, |table| {
        let mut bytes = table.get(3).expect("read").expect("there").value().to_vec();
        bytes[60] ^= 1;
        table.insert(3, bytes.as_slice()).expect("written");
    });
    let error = open(directory.path()).err().expect("refused");
    assert!(matches!(error, StoreError::Damaged { place: Place::Write(3), .. }), "{error:?}");
    assert!(error.to_string().contains(FILE_NAME) && error.to_string().contains("write 3"), "{error}");
}

#[test]
fn missing_and_exchanged_writes_are_named() {
    for (missing, other) in [(0, None), (2, None), (2, Some(3)), (3, Some(2))] {
        let directory = TempDir::new().expect("a directory");
        write(&mut open(directory.path()).expect("new").0, 0, 20);
        tamper(&directory, |table| {
            let other = other.map(|other: u64| table.get(other).expect("read").expect("there").value().to_vec());
            match other {
                Some(bytes) => drop(table.insert(missing, bytes.as_slice()).expect("written")),
                None => drop(table.remove(missing).expect("removed")),
            }
        });
        let error = open(directory.path()).err().expect("refused");
        assert!(matches!(error, StoreError::Damaged { place: Place::Write(at), .. } if at == missing), "{error:?}");
    }
}

/// Opens a damaged file the way a replica does. The store panics on some damage that it does not expect.
fn open_damaged(directory: &Path) -> Option<Kept> {
    std::panic::catch_unwind(|| open(directory)).ok()?.ok().map(|(_, kept)| kept)
}

#[test]
fn a_damaged_file_gives_what_was_written_or_an_error() {
    let directory = TempDir::new().expect("a directory");
    let (mut store, _) = open(directory.path()).expect("new");
    write(&mut store, 0, 20);
    store.compact(&compaction()).expect("written");
    write(&mut store, 30, 90);
    let killed = killed(&directory);
    drop(store);
    let all: Vec<_> = [7, 8].into_iter().chain(30..90).map(record).collect();
    for source in [&directory, &killed] {
        let whole = fs::read(file(source)).expect("read");
        let mut refused = 0;
        // A step that is no multiple of a page meets headers, keys and values alike.
        for at in (0..whole.len()).step_by(whole.len() / 61 + 1) {
            let copy = TempDir::new().expect("a directory");
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(file(&copy), &bytes).expect("written");
            match open_damaged(copy.path()) {
                None => refused += 1,
                // The newest write may have vanished, which the trusted log shows; nothing else may differ.
                Some(kept) => assert!(all.starts_with(&kept.records), "byte {at} flipped, and other records came out"),
            }
        }
        assert!(refused > 0, "no flipped byte mattered: the test tests nothing");
        for length in [0, 1, 100, whole.len() / 2] {
            let copy = TempDir::new().expect("a directory");
            fs::write(file(&copy), &whole[..length]).expect("written");
            assert!(open_damaged(copy.path()).is_none(), "a file cut to {length} bytes was taken");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("file"), b"").expect("written");
    let error = open(&directory.path().join("file/below")).err().expect("refused");
    assert!(matches!(error, StoreError::Directory { .. }) && error.to_string().contains("file/below"), "{error}");
}
