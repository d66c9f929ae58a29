//! Where a log stood, in a small file: its epoch's record, the head before the last flush, and that flush's digests.
//!
//! The PCR decides what was appended, and safety rests on it alone. The file only says which heads the PCR may stand for: it is written
//! before the PCR is extended, so the PCR is at the kept head, or as many digests later as were extended before the process ended. When
//! the machine ends, the PCR and with it the epoch end too; so only the beginning of an epoch is synced to the disk, for its number.
//!
//! Two slots take turns, so that a torn write leaves the other one, and a lock keeps a second process out.

use quorate_counter::{APPEND_DIGESTS_MAX, EpochRecord, Head, OpenError};
use quorate_protocol::{canonical, digest::Digest, ids::ReplicaId};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// The longest place: its digests, and room for the rest.
const PLACE_BYTES_MAX: usize = 32 * APPEND_DIGESTS_MAX + 1024;
/// Length and check stand before a place.
const HEADER_BYTES: usize = 4 + 32;
/// Slots are this far apart.
const SLOT_BYTES: u64 = 192 << 10;

/// Where a log stood.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) record: EpochRecord,
    pub(crate) head: Head,
    /// What was to be appended after the head.
    pub(crate) pending: Vec<Digest>,
}

/// What a slot holds. The larger number is the later one.
type Slot = (u64, Place);

fn check(bytes: &[u8]) -> Digest {
    canonical::digest(&("quorate tpm place v1", bytes))
}

fn encode(slot: &Slot) -> Vec<u8> {
    let place = canonical::encode(slot);
    let length = (place.len() as u32).to_le_bytes();
    [&length, check(&place).as_bytes().as_slice(), &place].concat()
}

fn read(file: &File, slot: u64) -> io::Result<Option<Slot>> {
    let mut header = [0; HEADER_BYTES];
    let offset = slot * SLOT_BYTES;
    match file.read_exact_at(&mut header, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (length, checked) = header.split_at(4);
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    if length > PLACE_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    match file.read_exact_at(&mut bytes, offset + HEADER_BYTES as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    if check(&bytes).as_bytes() != checked {
        return Ok(None);
    }
    Ok(canonical::decode(&bytes, PLACE_BYTES_MAX).ok())
}

/// An open file.
#[derive(Debug)]
pub(crate) struct PlaceFile {
    file: File,
    /// Of the last write.
    number: u64,
}

impl PlaceFile {
    /// Opens the file of a replica's log, or makes it. `None` stands for no place yet.
    pub(crate) fn open(path: &Path, cluster: Digest, replica: ReplicaId) -> Result<(Self, Option<Place>), OpenError> {
        let failure = |source| OpenError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failure)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failure(error)),
        }
        if file.metadata().map_err(failure)?.len() == 0 {
            return Ok((Self { file, number: 0 }, None));
        }
        let slots = [read(&file, 0).map_err(failure)?, read(&file, 1).map_err(failure)?];
        let last = slots.into_iter().flatten().max_by_key(|(number, _)| *number);
        let (number, place) = last.ok_or_else(|| OpenError::Damaged(path.to_owned()))?;
        if (place.record.cluster, place.record.replica) != (cluster, replica) {
            return Err(OpenError::Foreign(path.to_owned()));
        }
        Ok((Self { file, number }, Some(place)))
    }

    /// Keeps a place. `begins` an epoch: then it is on the disk when this returns.
    pub(crate) fn keep(&mut self, place: Place, begins: bool) -> io::Result<()> {
        let number = self.number.saturating_add(1);
        self.file.write_all_at(&encode(&(number, place)), number % 2 * SLOT_BYTES)?;
        if begins {
            self.file.sync_all()?;
        }
        self.number = number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_counter::{Epoch, LogKey, Position, TpmDevice, TpmKey, TpmPoint};
    use quorate_protocol::sign::SecretKey;

    const REPLICA: ReplicaId = ReplicaId::new(1);

    fn place(position: u64, pending: usize) -> Place {
        let digest = Digest::of(b"digest");
        let device = TpmDevice { key: TpmPoint { x: [255; 32], y: [255; 32] }, firmware: u64::MAX, pcr: 15 };
        let authority = SecretKey::from_seed([1; 32]);
        let key = TpmKey {
            device,
            reset_count: u32::MAX,
            restart_count: u32::MAX,
            start: digest,
            authority: Some(authority.public()),
            approval: Some(quorate_counter::Approval::of(device, digest, REPLICA, &authority)),
        };
        let record =
            EpochRecord { cluster: digest, replica: REPLICA, epoch: Epoch(u64::MAX), key: LogKey::Tpm(key.into()) };
        Place { record, head: Head { position: Position(position), chain: digest }, pending: vec![digest; pending] }
    }

    fn open(path: &Path) -> Result<(PlaceFile, Option<Place>), OpenError> {
        PlaceFile::open(path, Digest::of(b"digest"), REPLICA)
    }

    #[test]
    fn the_last_place_is_found_and_a_torn_one_falls_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("place");
        let (mut file, none) = open(&path).expect("makes it");
        assert_eq!(none, None);
        assert!(matches!(open(&path), Err(OpenError::InUse(_))));
        for position in [3, 4] {
            file.keep(place(position, APPEND_DIGESTS_MAX), position == 3).expect("the longest place fits");
        }
        drop(file);
        assert_eq!(open(&path).expect("opens").1, Some(place(4, APPEND_DIGESTS_MAX)));
        let flip = |offset| {
            let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).expect("reads");
            file.write_all_at(&[byte[0] ^ 1], offset).expect("writes");
        };
        for byte in [0, 3, 4, 40, 5000] {
            flip(byte);
            assert_eq!(open(&path).expect("opens").1, Some(place(3, APPEND_DIGESTS_MAX)), "byte {byte}");
            flip(SLOT_BYTES + byte);
            assert!(matches!(open(&path), Err(OpenError::Damaged(_))), "byte {byte}");
            flip(byte);
            flip(SLOT_BYTES + byte);
        }
        let stranger = PlaceFile::open(&path, Digest::of(b"digest"), ReplicaId::new(2));
        assert!(matches!(stranger, Err(OpenError::Foreign(_))));
    }
}
