//! Writes whole chunks past the page cache.
//!
//! What a reduce attempt writes is not read soon. A page cache that fills with it takes memory that the machine could use,
//! makes every write wait for fresh pages, and at last stops all writers until the disk has caught up; measured on a
//! virtual machine, writing output to fresh pages was more than a third of a sort's CPU time. So chunks whose bytes lie in memory as the disk
//! wants them are written from there [open(2), O_DIRECT]. A disk that is slow at it, and a file system that has no such
//! thing, get them through the page cache as usual.

use bytes::Bytes;
use rustix::fs::OFlags;
use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// What the address and the length of a direct write must be a multiple of, in bytes: a page, and what disks write at once.
pub const ALIGNMENT: usize = 4096;
/// Shorter ones are not worth it: they may well be all that there is.
const BYTES_MIN: usize = 1 << 20;
/// A write that takes longer for a megabyte than this is slow: the page cache would take it at once. It is long enough for a
/// few writers that share a fast disk.
const SLOW_PER_MIB: Duration = Duration::from_millis(25);
/// So many chunks go through the page cache before a slow disk is tried again.
const PAUSE_CHUNKS: u32 = 32;

/// Direct writes of one store.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    /// Chunks that are not to be tried.
    pause: AtomicU32,
}

impl Direct {
    /// Writes a new file, whole or not at all, and tells whether it did.
    pub(crate) async fn write(&self, path: PathBuf, bytes: &Bytes) -> bool {
        let length = bytes.len();
        let fits =
            length >= BYTES_MIN && length.is_multiple_of(ALIGNMENT) && bytes.as_ptr().align_offset(ALIGNMENT) == 0;
        if !fits || self.is_paused() {
            return false;
        }
        let (start, bytes) = (Instant::now(), bytes.clone());
        let written = tokio::task::spawn_blocking(move || write_beside(&path, &bytes)).await;
        let is_slow = start.elapsed() > SLOW_PER_MIB * (length >> 20) as u32;
        let written = matches!(written, Ok(Ok(())));
        if is_slow || !written {
            self.pause.store(PAUSE_CHUNKS, Ordering::Relaxed);
        }
        written
    }

    fn is_paused(&self) -> bool {
        let one_less = |pause: u32| pause.checked_sub(1);
        self.pause.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// Writes beside and renames. The name beside is one that the backend takes for its own unfinished uploads.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = PathBuf::from([path.as_os_str().to_owned(), OsString::from("#1")].into_iter().collect::<OsString>());
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(length: usize) -> Bytes {
        let whole = Bytes::from(vec![7; length + ALIGNMENT]);
        let start = whole.as_ptr().align_offset(ALIGNMENT);
        whole.slice(start..start + length)
    }

    #[tokio::test]
    async fn a_file_is_written_whole_or_left_to_others() {
        // Beside the sources, not among the temporary files, which may be in memory: a file system that has it.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let (direct, path) = (Direct::default(), folder.path().join("a/b"));
        let bytes = aligned(BYTES_MIN);
        let is_possible = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(folder.path().join("probe"));
        assert_eq!(direct.write(path.clone(), &bytes).await, is_possible.is_ok());
        assert_eq!(fs::read(&path).ok(), is_possible.is_ok().then(|| bytes.to_vec()));
        assert!(!path.with_file_name("b#1").exists());
        let odd = folder.path().join("odd");
        assert!(!Direct::default().write(odd.clone(), &aligned(BYTES_MIN).slice(1..)).await);
        assert!(!Direct::default().write(odd.clone(), &aligned(BYTES_MIN / 2)).await);
        assert!(!odd.exists());
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_tried_at_once_again() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let blocked = folder.path().join("file");
        fs::write(&blocked, b"no folder").expect("written");
        let direct = Direct::default();
        assert!(!direct.write(blocked.join("chunk"), &aligned(BYTES_MIN)).await);
        for _ in 0..PAUSE_CHUNKS {
            assert!(direct.is_paused());
        }
        assert!(!direct.is_paused());
    }
}
