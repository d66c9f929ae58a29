//! Restarts, damage and retries, at the disk.

use super::*;
use crate::testing::{REPLICA, Who, cluster, envelope, register};
use quorate_protocol::command::Command;
use redb::ReadableTable as _;
use std::{fs, path::PathBuf, thread::JoinHandle};
use tempfile::TempDir;

const SNAPSHOT_EVERY_TEST: u64 = 8;

/// An order with the thread that runs it.
struct Running {
    order: Order,
    thread: JoinHandle<Result<(), LogError>>,
}

impl Running {
    fn open(directory: &Path) -> Result<Self, LogError> {
        let (solo, order) = Solo::open_with(&cluster("127.0.0.1:1"), REPLICA, directory, SNAPSHOT_EVERY_TEST)?;
        Ok(Self { order, thread: std::thread::spawn(|| solo.run()) })
    }
    async fn submit(&self, sequence: u64, command: Command) -> Answer {
        let envelope = envelope(&cluster("127.0.0.1:1"), Who::Tracker, 1, sequence, command);
        self.order.submit(envelope).await.expect("the order runs")
    }
    async fn state(&self) -> Vec<u8> {
        self.order.read(|state| state.to_bytes()).await.expect("the order runs")
    }
    async fn stop(self) {
        self.order.stop().await;
        tokio::task::spawn_blocking(|| self.thread.join()).await.expect("joined").expect("no panic").expect("no error");
    }
}

/// What a killed process leaves behind: the file as it is while the order runs, without any goodbye.
fn killed(directory: &TempDir) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    fs::copy(file(directory), file(&copy)).expect("copied");
    copy
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("ordered.redb")
}

async fn with_commands(count: u64) -> (TempDir, Running) {
    let directory = TempDir::new().expect("a directory");
    let running = Running::open(directory.path()).expect("a new log");
    for sequence in 1..=count {
        running.submit(sequence, register(sequence)).await;
    }
    (directory, running)
}

#[tokio::test]
async fn a_killed_replica_comes_back_to_the_same_state() {
    // Below a snapshot, at one, just after one, and after several.
    for count in [0, 3, SNAPSHOT_EVERY_TEST, SNAPSHOT_EVERY_TEST + 1, 3 * SNAPSHOT_EVERY_TEST + 5] {
        let (directory, running) = with_commands(count).await;
        let (copy, before) = (killed(&directory), running.state().await);
        running.stop().await;
        let again = Running::open(copy.path()).expect("a killed log opens");
        assert_eq!(again.state().await, before, "after {count} commands");
        assert_eq!(*again.order.executed().borrow(), count);
        again.stop().await;
    }
}

#[tokio::test]
async fn a_stopped_replica_goes_on_where_it_was() {
    let (directory, running) = with_commands(SNAPSHOT_EVERY_TEST + 3).await;
    let before = running.state().await;
    running.stop().await;
    let again = Running::open(directory.path()).expect("opens");
    assert_eq!(again.state().await, before);
    let repeated = again.submit(SNAPSHOT_EVERY_TEST + 3, register(SNAPSHOT_EVERY_TEST + 3)).await;
    assert_eq!(repeated, Answer::Done, "the kept answer survives");
    let old = again.submit(1, register(1)).await;
    assert_eq!(old, Answer::Refused(quorate_protocol::command::Refusal::Stale));
    again.stop().await;
}

#[tokio::test]
async fn one_process_has_the_directory_and_another_replica_never() {
    let (directory, running) = with_commands(2).await;
    assert!(matches!(Running::open(directory.path()).err(), Some(LogError::InUse { .. })));
    running.stop().await;
    let mut other = cluster("127.0.0.1:1");
    other.name = "other".to_owned();
    let foreign = Solo::open(&other, REPLICA, directory.path()).err();
    assert!(matches!(foreign, Some(LogError::Foreign { what: "cluster", .. })), "{foreign:?}");
    let foreign = Solo::open(&cluster("127.0.0.1:1"), ReplicaId::new(1), directory.path()).err();
    assert!(matches!(foreign, Some(LogError::Foreign { what: "replica", .. })), "{foreign:?}");
}

#[tokio::test]
async fn a_flipped_byte_in_an_entry_is_named_with_file_and_position() {
    let (directory, running) = with_commands(5).await;
    running.stop().await;
    // Behind the store's back, so that its own checksums fit and only the entry's check can tell.
    let store = redb::Database::open(file(&directory)).expect("opens");
    let entries = redb::TableDefinition::<u64, &[u8]>::new("entries");
    let transaction = store.begin_write().expect("writes");
    {
        let mut table = transaction.open_table(entries).expect("there");
        let mut bytes = table.get(3).expect("read").expect("there").value().to_vec();
        bytes[60] ^= 1;
        table.insert(3, bytes.as_slice()).expect("written");
    }
    transaction.commit().expect("committed");
    drop(store);
    let error = Running::open(directory.path()).err().expect("refused");
    assert!(matches!(error, LogError::Damaged { place: Place::Entry(3), .. }), "{error:?}");
    assert!(error.to_string().contains("ordered.redb") && error.to_string().contains("position 3"), "{error}");
}

/// A state in which the next command finds an alarm of a job that does not exist.
fn broken_state() -> Vec<u8> {
    let mut bytes = Application::new(cluster("127.0.0.1:1")).to_bytes();
    // The empty ends of the encoding: alarms; jobs, ended jobs, jobs submitted; senders, commands executed; trackers.
    assert!(bytes.ends_with(&[0; 7]));
    bytes.truncate(bytes.len() - 7);
    let attempt = quorate_protocol::ids::AttemptId {
        task: quorate_protocol::ids::TaskId {
            job: quorate_protocol::ids::JobId::new(9),
            stage: quorate_protocol::ids::Stage::Map,
            index: 0,
        },
        attempt: 0,
    };
    bytes.extend(canonical::encode(&[(OrderedTime(1), attempt)].to_vec()));
    bytes.extend([0; 6]);
    bytes
}

#[tokio::test]
async fn an_entry_that_cannot_be_executed_is_no_damage() {
    let (directory, running) = with_commands(0).await;
    running.stop().await;
    let cluster = cluster("127.0.0.1:1");
    let envelope = canonical::encode(&envelope(&cluster, Who::Tracker, 1, 1, register(1)));
    let mut log = Log::open(directory.path(), cluster.id(), REPLICA).expect("opens");
    log.replace_by_snapshot(&broken_state()).expect("written");
    assert!(recover(&log, &cluster).is_ok(), "the snapshot itself is readable");
    log.append(&[Entry { time: OrderedTime(5), envelope }]).expect("written");
    drop(log);
    let error = Running::open(directory.path()).err().expect("refused");
    assert!(matches!(error, LogError::NotExecutable { position: 0, .. }), "{error:?}");
    assert!(
        error.to_string().starts_with("entry 0 of ") && error.to_string().contains("cannot be executed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_entry_is_named() {
    for missing in [0, 2, 4] {
        let (directory, running) = with_commands(5).await;
        running.stop().await;
        let store = redb::Database::open(file(&directory)).expect("opens");
        let transaction = store.begin_write().expect("writes");
        transaction
            .open_table(redb::TableDefinition::<u64, &[u8]>::new("entries"))
            .expect("there")
            .remove(missing)
            .expect("removed");
        transaction.commit().expect("committed");
        drop(store);
        let result = Running::open(directory.path());
        match result {
            // The last one of a log cannot be told from one that was never written.
            Ok(running) if missing == 4 => running.stop().await,
            Ok(_) => panic!("entry {missing} is missing and nobody noticed"),
            Err(error) => assert!(matches!(error, LogError::Damaged { place: Place::Entry(at), .. } if at == missing)),
        }
    }
}

/// Opens a damaged file the way a replica does, and says what state it led to.
async fn open_damaged(directory: &Path) -> Option<Vec<u8>> {
    let directory = directory.to_owned();
    let open = tokio::task::spawn_blocking(move || Running::open(&directory)).await;
    let running = open.ok()?.ok()?;
    let state = running.state().await;
    running.stop().await;
    Some(state)
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_unharmed_but_never_guessed() {
    let (directory, running) = with_commands(3 * SNAPSHOT_EVERY_TEST + 5).await;
    let (killed, state) = (killed(&directory), running.state().await);
    running.stop().await;
    for source in [&directory, &killed] {
        let whole = fs::read(file(source)).expect("read");
        let mut refused = 0;
        // A step that is no multiple of a page meets headers, keys and values alike.
        for at in (0..whole.len()).step_by(whole.len() / 61 + 1) {
            let copy = TempDir::new().expect("a directory");
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(file(&copy), &bytes).expect("written");
            match open_damaged(copy.path()).await {
                None => refused += 1,
                Some(found) => assert!(found == state, "byte {at} flipped, and another state came out"),
            }
        }
        assert!(refused > 0, "no flipped byte mattered: the test tests nothing");
        for length in [0, 1, 100, whole.len() / 2] {
            let copy = TempDir::new().expect("a directory");
            fs::write(file(&copy), &whole[..length]).expect("written");
            let found = open_damaged(copy.path()).await;
            assert!(found.is_none(), "a file cut to {length} bytes was taken");
        }
    }
}
