//! What a replica keeps on its disk: the agreement's records, in order, after the state that stands for the oldest ones.
//!
//! What must hold:
//!
//! * a write is durable when [`Store::write`] returns; the trusted log attests nothing that was not written [SMR-13];
//! * what is read back is what was written, or it is an error with the file and the place: each write and the base carry
//!   a BLAKE3 digest that also covers their place, and writes are numbered without gaps;
//! * commits have one phase, which costs one sync of the disk. When the newest write is damaged at the same moment as the
//!   process dies, the store may take it for one that the crash cut off, and drop it. It is missed all the same: the
//!   trusted log is then ahead of the records, and the agreement gives the log's epoch up [SMR-13];
//! * one process has a directory open (the store locks its file), and a directory belongs to one replica of one cluster.

use quorate_protocol::{canonical, digest::Digest, ids::ReplicaId};
use quorate_smr::{Compaction, Payload, Record};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The file's name in the replica's directory.
const FILE_NAME: &str = "ordered.redb";
/// Memory for the store's pages. They are written, and read only when the replica starts.
const CACHE_BYTES: usize = 16 << 20;
const FORMAT: u64 = 3;

/// Number of the write to its check and records.
const WRITES: TableDefinition<u64, &[u8]> = TableDefinition::new("writes");
/// Number of the first write after it to check, state and ledger. At most one.
const BASE: TableDefinition<u64, &[u8]> = TableDefinition::new("base");
/// Whose records they are.
const IDENTITY: TableDefinition<&str, &[u8]> = TableDefinition::new("identity");

const CHECK_BYTES: usize = 32;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
        /// The store's file.
        path: PathBuf,
    },
    /// It is of another replica or cluster.
    #[error("{} belongs to another {what}", .path.display())]
    Foreign {
        /// The store's file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged at {place}: {what}. Nothing was changed. Start with an empty directory: the replica then learns \
         from the others",
        .path.display()
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// Where.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// It cannot be read or written.
    #[error("{} cannot be read or written", .path.display())]
    Store {
        /// The store's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
}

/// Where a store is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A write, by its number.
    Write(u64),
    /// The state that the writes from this number on follow.
    Base(u64),
    /// The store's own structure.
    Structure,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Write(number) => write!(f, "write {number}"),
            Place::Base(next) => write!(f, "the state before write {next}"),
            Place::Structure => f.write_str("its structure"),
        }
    }
}

/// State and ledger of a compaction.
type Base = (Payload, Vec<u8>);

/// What was kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Of the last compaction.
    pub(crate) base: Option<Base>,
    /// What was kept since, in order.
    pub(crate) records: Vec<Record>,
}

/// An open store.
pub(crate) struct Store {
    store: Database,
    path: PathBuf,
    /// The number of the next write.
    next: u64,
    /// Records that wait for the next write, encoded one after the other.
    staged: Vec<u8>,
}

impl Store {
    /// Whether a directory has a store.
    #[cfg(feature = "tpm")]
    pub(crate) fn is_in(directory: &Path) -> bool {
        directory.join(FILE_NAME).exists()
    }

    /// Opens a directory's store and reads what it holds, or makes a new one. `founding` is the digest of the cluster's, if it has one.
    pub(crate) fn open(
        directory: &Path,
        cluster: Digest,
        replica: ReplicaId,
        founding: Option<Digest>,
    ) -> Result<(Self, Kept), StoreError> {
        let unusable = |source| StoreError::Directory { path: directory.to_owned(), source };
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
        let mut store = Self { store, path, next: 0, staged: Vec::new() };
        store.claim(cluster, replica, founding)?;
        let kept = store.read()?;
        Ok((store, kept))
    }

    /// Makes the tables of a new store, or checks whose store an old one is.
    fn claim(&self, cluster: Digest, replica: ReplicaId, founding: Option<Digest>) -> Result<(), StoreError> {
        let mut fields: Vec<(&str, &'static str, Vec<u8>)> = vec![
            ("format", "version of this program", FORMAT.to_le_bytes().to_vec()),
            ("cluster", "cluster", cluster.as_bytes().to_vec()),
            ("replica", "replica", replica.number().to_le_bytes().to_vec()),
        ];
        fields.extend(founding.map(|founding| ("founding", "founding of the cluster", founding.as_bytes().to_vec())));
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
            Ok(Some(what)) => Err(StoreError::Foreign { path: self.path.clone(), what }),
            Err(redb::Error::TableDoesNotExist(_)) => self.transact(|transaction| {
                let mut identity = transaction.open_table(IDENTITY)?;
                for (field, _, value) in &fields {
                    identity.insert(field, value.as_slice())?;
                }
                transaction.open_table(WRITES)?;
                transaction.open_table(BASE)?;
                Ok(())
            }),
            Err(error) => Err(self.store_error(error)),
        }
    }

    fn read(&mut self) -> Result<Kept, StoreError> {
        let (first, base) = self.read_base()?;
        let mut kept = Kept { base, records: Vec::new() };
        let rows = || -> Result<_, redb::Error> { Ok(self.store.begin_read()?.open_table(WRITES)?.range(0..)?) };
        let mut expected = first;
        for row in rows().map_err(|error| self.store_error(error))? {
            let (number, bytes) = row.map_err(|error| self.store_error(error.into()))?;
            let wrong = |what| damaged(&self.path, Place::Write(expected), what);
            if number.value() != expected {
                return Err(wrong("it is missing"));
            }
            let mut rest = checked(expected, bytes.value()).ok_or_else(|| wrong("it is not what was written"))?;
            while !rest.is_empty() {
                let (record, after) =
                    postcard::take_from_bytes(rest).map_err(|_| wrong("another version of this program wrote it"))?;
                kept.records.push(record);
                rest = after;
            }
            expected = expected.checked_add(1).ok_or_else(|| wrong("no store is that long"))?;
        }
        self.next = expected;
        Ok(kept)
    }

    /// The number of the first write, and what stands before it.
    fn read_base(&self) -> Result<(u64, Option<Base>), StoreError> {
        let read = || -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
            let table = self.store.begin_read()?.open_table(BASE)?;
            let newest = table.last()?;
            Ok(newest.map(|(next, bytes)| (next.value(), bytes.value().to_vec())))
        };
        let Some((next, bytes)) = read().map_err(|error| self.store_error(error))? else { return Ok((0, None)) };
        let wrong = |what| damaged(&self.path, Place::Base(next), what);
        let content = checked(next, &bytes).ok_or_else(|| wrong("it is not what was written"))?;
        let base = postcard::from_bytes(content).map_err(|_| wrong("another version of this program wrote it"))?;
        Ok((next, Some(base)))
    }

    /// Takes a record for the next write.
    pub(crate) fn stage(&mut self, record: &Record) {
        self.staged.append(&mut canonical::encode(record));
    }
    /// Bytes that wait for the next write.
    pub(crate) fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Writes what was staged, if anything, in one transaction. It is durable when this returns.
    pub(crate) fn write(&mut self) -> Result<(), StoreError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let row = with_check(self.next, &self.staged);
        self.transact(|transaction| {
            transaction.open_table(WRITES)?.insert(self.next, row.as_slice())?;
            Ok(())
        })?;
        self.next += 1;
        self.staged.clear();
        Ok(())
    }

    /// Replaces all that was kept or staged. It is durable when this returns.
    pub(crate) fn compact(&mut self, compaction: &Compaction) -> Result<(), StoreError> {
        let Compaction { state, ledger, records } = compaction;
        let base = with_check(self.next, &canonical::encode(&(state, ledger)));
        self.staged.clear();
        let records: Vec<u8> = records.iter().flat_map(canonical::encode).collect();
        self.transact(|transaction| {
            transaction.delete_table(BASE)?;
            transaction.open_table(BASE)?.insert(self.next, base.as_slice())?;
            transaction.delete_table(WRITES)?;
            transaction.open_table(WRITES)?.insert(self.next, with_check(self.next, &records).as_slice())?;
            Ok(())
        })?;
        self.next += 1;
        Ok(())
    }

    fn transact(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), StoreError> {
        let run = || -> Result<(), redb::Error> {
            let transaction = self.store.begin_write()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        };
        run().map_err(|error| self.store_error(error))
    }

    fn store_error(&self, error: redb::Error) -> StoreError {
        store_error(&self.path, error)
    }
}

fn check(number: u64, bytes: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(&number.to_le_bytes()).update(bytes).finalize()
}

fn with_check(number: u64, bytes: &[u8]) -> Vec<u8> {
    [check(number, bytes).as_bytes(), bytes].concat()
}

/// The content behind the check, when it is what was written at this place.
fn checked(number: u64, bytes: &[u8]) -> Option<&[u8]> {
    let (kept, content) = bytes.split_first_chunk::<CHECK_BYTES>()?;
    (check(number, content) == *kept).then_some(content)
}

pub(crate) fn damaged(path: &Path, place: Place, what: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), place, what: what.into() }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        other => store_error(path, other.into()),
    }
}

fn store_error(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(what) => damaged(path, Place::Structure, what),
        redb::Error::TableDoesNotExist(what) => damaged(path, Place::Structure, format!("the table {what} is missing")),
        // A file that is no store at all, or a piece of one.
        redb::Error::Io(source)
            if matches!(source.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            damaged(path, Place::Structure, source.to_string())
        }
        other => StoreError::Store { path: path.to_owned(), source: Box::new(other) },
    }
}

#[cfg(test)]
mod tests;
