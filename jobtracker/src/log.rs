//! The ordered log on disk: every ordered command with its time, and a snapshot that stands for the oldest of them.
//!
//! What must hold:
//!
//! * an entry is durable before anybody hears of its effect;
//! * what is read back is what was written, or it is an error with the file and the position: each entry and each
//!   snapshot carries a BLAKE3 digest that also covers its position, and positions have no gaps;
//! * the newest transaction never vanishes. Commits have two phases: with one, the store takes a damaged newest
//!   transaction for one that a crash cut off, and drops it silently;
//! * one process has a directory open (the store locks its file), and a directory belongs to one replica of one cluster.

use quorate_protocol::{
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The file's name in the replica's directory.
const FILE_NAME: &str = "ordered.redb";
/// Memory for the store's pages. The log is written and seldom read.
const CACHE_BYTES: usize = 16 << 20;
const FORMAT: u64 = 2;

/// Position to entry: check, time, envelope.
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// Commands covered to snapshot: check, state. At most one.
const SNAPSHOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshots");
/// Whose log it is.
const IDENTITY: TableDefinition<&str, &[u8]> = TableDefinition::new("identity");

const CHECK_BYTES: usize = 32;
const TIME_BYTES: usize = 8;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directory cannot be made or reached.
    #[error("the directory {} cannot be used", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{} is open in another process: one replica runs on a directory", .path.display())]
    InUse {
        /// The log's file.
        path: PathBuf,
    },
    /// It is of another replica or cluster.
    #[error("{} belongs to another {what}", .path.display())]
    Foreign {
        /// The log's file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged at {place}: {what}. Nothing was changed. Restore the file from a copy, or start with an empty \
         directory and lose what it held",
        .path.display()
    )]
    Damaged {
        /// The log's file.
        path: PathBuf,
        /// Where: a position, or the file as a whole.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// The log is whole, and this program fails at an entry of it: a bug, whose message was printed.
    #[error(
        "entry {position} of {} cannot be executed: this program has a bug there. The log is intact; start a version of \
         the program that executes it",
        .path.display()
    )]
    NotExecutable {
        /// The log's file.
        path: PathBuf,
        /// The entry's position.
        position: u64,
    },
    /// The store cannot read or write.
    #[error("{} cannot be read or written", .path.display())]
    Store {
        /// The log's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
}

/// Where a log is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An ordered command.
    Entry(u64),
    /// The snapshot that covers so many commands.
    Snapshot(u64),
    /// The store's own structure.
    Structure,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Entry(position) => write!(f, "position {position}"),
            Place::Snapshot(covered) => write!(f, "the snapshot of position {covered}"),
            Place::Structure => f.write_str("its structure"),
        }
    }
}

/// An ordered command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Its ordered time.
    pub(crate) time: OrderedTime,
    /// The envelope's canonical bytes.
    pub(crate) envelope: Vec<u8>,
}

/// An open log.
pub(crate) struct Log {
    store: Database,
    path: PathBuf,
    /// The position of the next entry.
    next: u64,
}

impl Log {
    /// Opens a directory's log, or makes a new one.
    pub(crate) fn open(directory: &Path, cluster: Digest, replica: ReplicaId) -> Result<Self, LogError> {
        let unusable = |source| LogError::Directory { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(unusable)?;
        let path = directory.join(FILE_NAME);
        // The store would take it for a new one.
        if fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            return Err(damaged(&path, Place::Structure, "it is empty"));
        }
        let mut store =
            redb::Builder::new().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| open_error(&path, error))?;
        if !store.check_integrity().map_err(|error| open_error(&path, error))? {
            return Err(damaged(&path, Place::Structure, "pages do not match their checksums"));
        }
        // A new file must not vanish from its directory when the power does.
        fs::File::open(directory).and_then(|folder| folder.sync_all()).map_err(unusable)?;
        let mut log = Self { store, path, next: 0 };
        log.claim(cluster, replica)?;
        log.next = log.end()?;
        Ok(log)
    }

    /// The log's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// The position of the next entry.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Makes the tables of a new log, or checks whose log an old one is.
    fn claim(&self, cluster: Digest, replica: ReplicaId) -> Result<(), LogError> {
        let fields: [(&str, &'static str, Vec<u8>); 3] = [
            ("format", "version of this program", FORMAT.to_le_bytes().to_vec()),
            ("cluster", "cluster", cluster.as_bytes().to_vec()),
            ("replica", "replica", replica.number().to_le_bytes().to_vec()),
        ];
        let differs = || -> Result<Option<&'static str>, redb::Error> {
            let identity = self.store.begin_read()?.open_table(IDENTITY)?;
            for (field, what, value) in &fields {
                if identity.get(field)?.is_none_or(|kept| kept.value() != value.as_slice()) {
                    return Ok(Some(what));
                }
            }
            Ok(None)
        };
        match differs() {
            Ok(None) => Ok(()),
            Ok(Some(what)) => Err(LogError::Foreign { path: self.path.clone(), what }),
            Err(redb::Error::TableDoesNotExist(_)) => self.write(|transaction| {
                let mut identity = transaction.open_table(IDENTITY)?;
                for (field, _, value) in &fields {
                    identity.insert(field, value.as_slice())?;
                }
                transaction.open_table(ENTRIES)?;
                transaction.open_table(SNAPSHOTS)?;
                Ok(())
            }),
            Err(error) => Err(self.store_error(error)),
        }
    }

    fn end(&self) -> Result<u64, LogError> {
        let read = || -> Result<(Option<u64>, Option<u64>), redb::Error> {
            let transaction = self.store.begin_read()?;
            let last = transaction.open_table(ENTRIES)?.last()?.map(|(position, _)| position.value());
            let covered = transaction.open_table(SNAPSHOTS)?.last()?.map(|(covered, _)| covered.value());
            Ok((last, covered))
        };
        let (last, covered) = read().map_err(|error| self.store_error(error))?;
        let after_last = match last {
            Some(last) => {
                last.checked_add(1).ok_or_else(|| damaged(&self.path, Place::Entry(last), "no log is that long"))?
            }
            None => 0,
        };
        Ok(after_last.max(covered.unwrap_or(0)))
    }

    /// The snapshot, with the number of commands that it covers.
    pub(crate) fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, LogError> {
        let read = || -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
            let transaction = self.store.begin_read()?;
            let table = transaction.open_table(SNAPSHOTS)?;
            let newest = table.last()?;
            Ok(newest.map(|(covered, bytes)| (covered.value(), bytes.value().to_vec())))
        };
        let Some((covered, mut bytes)) = read().map_err(|error| self.store_error(error))? else { return Ok(None) };
        let wrong = || damaged(&self.path, Place::Snapshot(covered), "it is not what was written");
        let state = checked(covered, &bytes).ok_or_else(wrong)?.len();
        bytes.drain(..bytes.len() - state);
        Ok(Some((covered, bytes)))
    }

    /// Hands over all entries from a position on, in order.
    pub(crate) fn replay(
        &self,
        from: u64,
        mut take: impl FnMut(u64, Entry) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let read = || -> Result<_, redb::Error> { Ok(self.store.begin_read()?.open_table(ENTRIES)?.range(from..)?) };
        let mut expected = from;
        for item in read().map_err(|error| self.store_error(error))? {
            let (position, bytes) = item.map_err(|error| self.store_error(error.into()))?;
            if position.value() != expected {
                return Err(damaged(&self.path, Place::Entry(expected), "the entry is missing"));
            }
            let wrong = || damaged(&self.path, Place::Entry(expected), "the entry is not what was written");
            take(expected, decode(expected, bytes.value()).ok_or_else(wrong)?)?;
            expected += 1;
        }
        if expected == self.next {
            Ok(())
        } else {
            Err(damaged(&self.path, Place::Entry(expected), "entries are missing"))
        }
    }

    /// Appends entries in one transaction. They are durable when this returns.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        let next = self.write(|transaction| {
            let mut table = transaction.open_table(ENTRIES)?;
            let mut position = self.next;
            for entry in entries {
                table.insert(position, encode(position, entry).as_slice())?;
                position += 1;
            }
            Ok(position)
        })?;
        self.next = next;
        Ok(())
    }

    /// Keeps the state after all entries so far in their place.
    pub(crate) fn replace_by_snapshot(&mut self, state: &[u8]) -> Result<(), LogError> {
        let covered = self.next;
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS)?;
            snapshots.retain(|_, _| false)?;
            let check = check(covered, state);
            snapshots.insert(covered, [check.as_bytes().as_slice(), state].concat().as_slice())?;
            transaction.open_table(ENTRIES)?.retain_in(..covered, |_, _| false)?;
            Ok(())
        })
    }

    fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, LogError> {
        let run = || -> Result<T, redb::Error> {
            let mut transaction = self.store.begin_write()?;
            transaction.set_two_phase_commit(true);
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|error| self.store_error(error))
    }

    fn store_error(&self, error: redb::Error) -> LogError {
        store_error(&self.path, error)
    }
}

fn check(position: u64, bytes: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(&position.to_le_bytes()).update(bytes).finalize()
}

/// The content behind the check, when it is what was written at this position.
fn checked(position: u64, bytes: &[u8]) -> Option<&[u8]> {
    let (kept, content) = bytes.split_first_chunk::<CHECK_BYTES>()?;
    (check(position, content) == *kept).then_some(content)
}

fn encode(position: u64, entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![0; CHECK_BYTES];
    bytes.extend_from_slice(&entry.time.0.to_le_bytes());
    bytes.extend_from_slice(&entry.envelope);
    let check = check(position, &bytes[CHECK_BYTES..]);
    bytes[..CHECK_BYTES].copy_from_slice(check.as_bytes());
    bytes
}

fn decode(position: u64, bytes: &[u8]) -> Option<Entry> {
    let (time, envelope) = checked(position, bytes)?.split_first_chunk::<TIME_BYTES>()?;
    Some(Entry { time: OrderedTime(u64::from_le_bytes(*time)), envelope: envelope.to_vec() })
}

pub(crate) fn damaged(path: &Path, place: Place, what: impl Into<String>) -> LogError {
    LogError::Damaged { path: path.to_owned(), place, what: what.into() }
}

fn open_error(path: &Path, error: DatabaseError) -> LogError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => LogError::InUse { path: path.to_owned() },
        other => store_error(path, other.into()),
    }
}

fn store_error(path: &Path, error: redb::Error) -> LogError {
    match error {
        redb::Error::Corrupted(what) => damaged(path, Place::Structure, what),
        redb::Error::TableDoesNotExist(what) => damaged(path, Place::Structure, format!("the table {what} is missing")),
        // A file that is no store at all, or a piece of one.
        redb::Error::Io(source)
            if matches!(source.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            damaged(path, Place::Structure, source.to_string())
        }
        other => LogError::Store { path: path.to_owned(), source: Box::new(other) },
    }
}
