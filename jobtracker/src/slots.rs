//! A small value in a file with two slots, of which one is always whole.
//!
//! Each write goes into the slot that does not hold the present value. A write that was torn leaves its slot without a valid
//! check, and the other one counts. Only one process has the file open.

use quorate_protocol::{canonical, digest::Digest};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Slots are this far apart.
const SLOT_BYTES: usize = 8192;
const NUMBER_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;
const CHECK_BYTES: usize = 32;
/// The longest value.
pub(crate) const VALUE_BYTES_MAX: usize = SLOT_BYTES - NUMBER_BYTES - LENGTH_BYTES - CHECK_BYTES;

/// An open file.
#[derive(Debug)]
pub(crate) struct Slots {
    file: File,
    owner: Digest,
    /// Counts writes: the larger one is the later one.
    number: u64,
    /// After a failed write it is unknown what the disk has: nothing more is written.
    failed: bool,
}

fn check(owner: Digest, number: u64, value: &[u8]) -> Digest {
    canonical::digest(&("quorate slot v1", owner, number, value))
}

impl Slots {
    /// Opens the file of an owner, or makes it. Gives the value that was kept last; there is none in a new file.
    pub(crate) fn open(path: &Path, owner: Digest) -> io::Result<(Self, Option<Vec<u8>>)> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process has it open"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let slots = [read(&file, owner, 0)?, read(&file, owner, 1)?];
        let last = slots.into_iter().flatten().max_by_key(|(number, _)| *number);
        if last.is_none() {
            if file.metadata()?.len() > 0 && !is_blank(&file)? {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged, or of another replica"));
            }
            // So that later writes allocate nothing, and a new file does not vanish when the power does.
            file.set_len(2 * SLOT_BYTES as u64)?;
            file.sync_all()?;
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()?;
        }
        let (number, value) = last.map_or((0, None), |(number, value)| (number, Some(value)));
        Ok((Self { file, owner, number, failed: false }, value))
    }

    /// Keeps a value: it outlives the process.
    pub(crate) fn keep(&mut self, value: &[u8]) -> io::Result<()> {
        if self.failed || value.len() > VALUE_BYTES_MAX {
            return Err(io::Error::other("an earlier write failed, or the value is too long"));
        }
        let number = self.number.saturating_add(1);
        let mut slot = number.to_le_bytes().to_vec();
        slot.extend_from_slice(&(value.len() as u32).to_le_bytes());
        slot.extend_from_slice(value);
        slot.extend_from_slice(check(self.owner, number, value).as_bytes());
        self.failed = true;
        self.file.write_all_at(&slot, number % 2 * SLOT_BYTES as u64)?;
        self.failed = false;
        self.number = number;
        Ok(())
    }

    /// Brings what was kept onto the disk: it outlives a crash of the machine.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let synced = self.file.sync_data();
        self.failed |= synced.is_err();
        synced
    }
}

fn read(file: &File, owner: Digest, slot: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut bytes = vec![0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64) {
        Ok(()) => Ok(decode(owner, &bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(owner: Digest, bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let number = u64::from_le_bytes(*number);
    let whole = rest.get(..CHECK_BYTES)? == check(owner, number, value).as_bytes();
    whole.then(|| (number, value.to_vec()))
}

/// Whether nothing was written yet: the process ended before.
fn is_blank(file: &File) -> io::Result<bool> {
    let mut bytes = vec![0; 2 * SLOT_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(bytes.iter().take(read).all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn owner() -> Digest {
        Digest::of(b"owner")
    }
    /// A file whose last two values are "four" and "five".
    fn kept(directory: &TempDir) -> std::path::PathBuf {
        let path = directory.path().join("slots");
        let (mut slots, first) = Slots::open(&path, owner()).expect("made");
        assert_eq!(first, None);
        for value in ["one", "two", "three", "four", "five"] {
            slots.keep(value.as_bytes()).expect("kept");
        }
        slots.sync().expect("synced");
        path
    }
    fn last(path: &Path) -> io::Result<Option<Vec<u8>>> {
        Slots::open(path, owner()).map(|(_, value)| value)
    }

    #[test]
    fn the_last_value_is_found_again_and_a_blank_file_has_none() {
        let directory = TempDir::new().expect("a directory");
        assert_eq!(last(&kept(&directory)).expect("opened"), Some(b"five".to_vec()));
        let blank = directory.path().join("blank");
        assert_eq!(last(&blank).expect("made"), None);
        assert_eq!(last(&blank).expect("opened"), None);
    }

    #[test]
    fn a_torn_slot_falls_back_and_two_are_an_error_at_any_byte() {
        let directory = TempDir::new().expect("a directory");
        let path = kept(&directory);
        let whole = fs::read(&path).expect("read");
        // The fifth write went there, and the fourth one to the beginning.
        let (newest, other) = (SLOT_BYTES, 0);
        for byte in 0..NUMBER_BYTES + LENGTH_BYTES + 4 + CHECK_BYTES {
            let mut torn = whole.clone();
            torn[newest + byte] ^= 1;
            fs::write(&path, &torn).expect("written");
            assert_eq!(last(&path).expect("opened"), Some(b"four".to_vec()), "byte {byte}");
            torn[other + byte] ^= 1;
            fs::write(&path, &torn).expect("written");
            assert_eq!(last(&path).expect_err("damaged").kind(), io::ErrorKind::InvalidData, "byte {byte}");
        }
    }

    #[test]
    fn the_longest_value_fits_and_one_byte_more_does_not() {
        let directory = TempDir::new().expect("a directory");
        let path = kept(&directory);
        let (mut slots, _) = Slots::open(&path, owner()).expect("opened");
        assert!(slots.keep(&[7; VALUE_BYTES_MAX + 1]).is_err());
        slots.keep(&[7; VALUE_BYTES_MAX]).expect("kept");
        assert!(Slots::open(&path, owner()).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        drop(slots);
        assert_eq!(last(&path).expect("opened"), Some(vec![7; VALUE_BYTES_MAX]));
        assert!(Slots::open(&path, Digest::of(b"another")).is_err(), "another's");
    }
}
