//! Where a software log's head outlives its process: a small file with two slots.
//!
//! The head is written before it is attested, each time into the slot that does not hold the present one. A write that was
//! torn leaves its slot without a valid check, and the other one counts: what it lacks was not attested. A slot that
//! was damaged later looks the same; the log is then behind its replica's disk, which gives the epoch up for it.
//! Only one process has the file open, for two would be a cloned log.

use crate::chain::{Epoch, Head, Position};
use quorate_protocol::{canonical, digest::Digest};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Slots are this far apart, so that no disk tears both in one write.
const SLOT_BYTES: u64 = 4096;
/// The encoded state and its check.
const STATE_BYTES: usize = 88;
const CHECK_BYTES: usize = 32;

/// How far a head is written before it is attested.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Onto the disk: it outlives a crash of the machine.
    #[default]
    Machine,
    /// To the operating system: it outlives the process. After a crash of the machine the log may be behind what it
    /// attested. That costs its epoch, and no safety, as long as the replica's own records reach the disk.
    Process,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read, made or written.
    #[error("the trusted log's state in {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// Another process has it open: two would be a cloned log.
    #[error("the trusted log's state in {0} is in use by another process")]
    InUse(PathBuf),
    /// Both slots are damaged.
    #[error(
        "the trusted log's state in {0} is damaged: neither of its two slots can be read. \
         If the file is removed, the replica begins a new epoch"
    )]
    Damaged(PathBuf),
    /// It is of another key, cluster or replica.
    #[error("the trusted log's state in {0} is of another key, cluster or replica")]
    Foreign(PathBuf),
}

/// Whose state it is, with the place: all that a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    owner: Digest,
    /// Counts writes: the larger one is the later one.
    number: u64,
    epoch: Epoch,
    head: Head,
}

/// Numbers have a fixed width, so that a slot's length never changes.
type Layout = (Digest, [u8; 8], [u8; 8], [u8; 8], Digest);

fn check(state: &[u8]) -> Digest {
    canonical::digest(&("quorate trusted log state v1", state))
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let [number, epoch, position] = [self.number, self.epoch.0, self.head.position.0].map(u64::to_le_bytes);
        let layout: Layout = (self.owner, number, epoch, position, self.head.chain);
        let mut bytes = canonical::encode(&layout);
        assert!(bytes.len() == STATE_BYTES, "the layout has a fixed length");
        bytes.extend_from_slice(check(&bytes).as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (state, checked) = bytes.split_at_checked(STATE_BYTES)?;
        if checked != check(state).as_bytes() {
            return None;
        }
        let (owner, number, epoch, position, chain) = canonical::decode::<Layout>(state, STATE_BYTES).ok()?;
        let [number, epoch, position] = [number, epoch, position].map(u64::from_le_bytes);
        Some(Self { owner, number, epoch: Epoch(epoch), head: Head { position: Position(position), chain } })
    }

    fn offset(&self) -> u64 {
        self.number % 2 * SLOT_BYTES
    }
}

/// An open state file.
#[derive(Debug)]
pub(crate) struct StateFile {
    file: File,
    last: State,
    durability: Durability,
    /// After a failed write it is unknown what the disk has. Nothing more is written, so nothing more is attested.
    failed: bool,
}

impl StateFile {
    /// Opens the state of an owner, or makes it, standing at `first`.
    pub(crate) fn open(
        path: &Path,
        owner: Digest,
        first: (Epoch, Head),
        durability: Durability,
    ) -> Result<Self, OpenError> {
        let failure = |source| OpenError::Io { path: path.to_owned(), source };
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let last = State { owner, number: 0, epoch: first.0, head: first.1 };
                let file = create(path, &last).map_err(failure)?;
                return Ok(Self { file, last, durability, failed: false });
            }
            Err(error) => return Err(failure(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failure(error)),
        }
        let slots = [read_slot(&file, 0).map_err(failure)?, read_slot(&file, 1).map_err(failure)?];
        let last = slots.into_iter().flatten().max_by_key(|state| state.number);
        let last = last.ok_or_else(|| OpenError::Damaged(path.to_owned()))?;
        if last.owner != owner {
            return Err(OpenError::Foreign(path.to_owned()));
        }
        Ok(Self { file, last, durability, failed: false })
    }

    /// Where the log stood last.
    pub(crate) fn place(&self) -> (Epoch, Head) {
        (self.last.epoch, self.last.head)
    }

    /// Keeps a place. When it returns, the place may be attested.
    pub(crate) fn keep(&mut self, epoch: Epoch, head: Head) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        let next = State { owner: self.last.owner, number: self.last.number.saturating_add(1), epoch, head };
        self.failed = true;
        self.file.write_all_at(&next.encode(), next.offset())?;
        if self.durability == Durability::Machine {
            self.file.sync_data()?;
        }
        self.failed = false;
        self.last = next;
        Ok(())
    }
}

fn read_slot(file: &File, slot: u64) -> io::Result<Option<State>> {
    let mut bytes = [0; STATE_BYTES + CHECK_BYTES];
    match file.read_exact_at(&mut bytes, slot * SLOT_BYTES) {
        Ok(()) => Ok(State::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the file whole, locked and durable under another name first: under its own name it is never seen unfinished.
fn create(path: &Path, first: &State) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let made = file.lock().and_then(|()| {
        // Both slots, so that later writes allocate nothing.
        file.set_len(2 * SLOT_BYTES)?;
        [0, SLOT_BYTES].iter().try_for_each(|offset| file.write_all_at(&first.encode(), *offset))?;
        file.sync_all()?;
        // Unlike renaming, this fails when another process was faster.
        fs::hard_link(&new, path)
    });
    fs::remove_file(&new)?;
    made?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(position: u64) -> Head {
        Head { position: Position(position), chain: Digest::of(&position.to_le_bytes()) }
    }

    fn open(path: &Path) -> Result<StateFile, OpenError> {
        StateFile::open(path, Digest::of(b"owner"), (Epoch(0), head(0)), Durability::Machine)
    }

    /// A closed file whose last two places are 4 and 5.
    fn kept(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("state");
        let mut state = open(&path).expect("makes it");
        (1..=5).for_each(|position| state.keep(Epoch(7), head(position)).expect("writes"));
        path
    }

    fn flip(path: &Path, offset: u64) {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("reads");
        file.write_all_at(&[byte[0] ^ 1], offset).expect("writes");
    }

    #[test]
    fn the_last_place_is_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept(&folder);
        assert_eq!(open(&path).expect("opens").place(), (Epoch(7), head(5)));
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_torn_slot_falls_back_and_two_are_an_error_at_any_byte() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept(&folder);
        let newest = State { owner: Digest::of(b""), number: 5, epoch: Epoch(0), head: head(0) }.offset();
        let other = SLOT_BYTES - newest;
        for byte in 0..(STATE_BYTES + CHECK_BYTES) as u64 {
            flip(&path, newest + byte);
            assert_eq!(open(&path).expect("the other slot counts").place(), (Epoch(7), head(4)), "byte {byte}");
            flip(&path, other + byte);
            assert!(matches!(open(&path), Err(OpenError::Damaged(_))), "byte {byte}");
            flip(&path, newest + byte);
            flip(&path, other + byte);
        }
        assert_eq!(open(&path).expect("opens").place(), (Epoch(7), head(5)));
    }

    #[test]
    fn after_a_fall_back_the_torn_slot_is_written_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept(&folder);
        flip(&path, SLOT_BYTES);
        let mut state = open(&path).expect("opens");
        state.keep(Epoch(7), head(50)).expect("writes");
        drop(state);
        flip(&path, SLOT_BYTES);
        assert_eq!(open(&path).expect("opens").place(), (Epoch(7), head(4)), "the good slot was left alone");
    }

    #[test]
    fn an_empty_or_cut_file_is_damaged_and_a_missing_one_is_new() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept(&folder);
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(50)).expect("cuts");
        assert!(matches!(open(&path), Err(OpenError::Damaged(_))));
        File::create(&path).expect("empties");
        assert!(matches!(open(&path), Err(OpenError::Damaged(_))));
        fs::remove_file(&path).expect("removes");
        assert_eq!(open(&path).expect("makes it").place(), (Epoch(0), head(0)));
    }

    #[test]
    fn one_at_a_time_and_the_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept(&folder);
        let held = open(&path).expect("opens");
        assert!(matches!(open(&path), Err(OpenError::InUse(_))));
        drop(held);
        let stranger = StateFile::open(&path, Digest::of(b"stranger"), (Epoch(0), head(0)), Durability::Machine);
        assert!(matches!(stranger, Err(OpenError::Foreign(_))));
        let nowhere = open(&folder.path().join("missing/state"));
        assert!(matches!(nowhere, Err(OpenError::Io { .. })));
    }

    #[test]
    fn a_failed_write_is_the_last_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept(&folder);
        let mut state = open(&path).expect("opens");
        state.file = File::open(&path).expect("opens read-only");
        assert!(state.keep(Epoch(7), head(6)).is_err());
        state.file = OpenOptions::new().write(true).open(&path).expect("opens");
        assert!(state.keep(Epoch(7), head(6)).is_err(), "what the disk has is unknown now");
        assert_eq!(state.place(), (Epoch(7), head(5)));
    }

    #[test]
    fn golden_bytes_of_a_slot() {
        let state = State { owner: Digest::from_bytes([1; 32]), number: 2, epoch: Epoch(3), head: head(4) };
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes), Some(state));
        assert_eq!(Digest::of(&bytes).to_string(), "fc28ac4930993789c82bd1ba32d6cc4f52642d52cf59c16df89ba9b4172a0c2c");
    }
}
