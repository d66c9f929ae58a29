//! Has stored chunks written to the disk soon, while nobody waits for it.
//!
//! Left alone, an operating system keeps what was written in memory for seconds, and then makes whoever writes next wait until
//! the disk has caught up: a job that begins after its input was stored would pay for that. HDFS has the same as
//! `dfs.datanode.sync.behind.writes`.

use std::{
    collections::VecDeque,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Files that may wait. A disk that is slower than the network gets the others when the operating system sees fit.
const WAITING_MAX: usize = 64;

/// The files of one store that are to go to the disk, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<PathBuf>,
    /// Whether a thread is at work.
    is_busy: bool,
}

impl Behind {
    /// A file was written.
    pub(crate) fn push(&self, path: PathBuf) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() < WAITING_MAX {
            queue.waiting.push_back(path);
        }
        if !std::mem::replace(&mut queue.is_busy, true) {
            let queue = Arc::downgrade(&self.queue);
            tokio::task::spawn_blocking(move || while write_next(&queue) {});
        }
    }
}

#[cfg(test)]
impl Behind {
    /// Lets files wait, as if a thread were at work on another one.
    pub(crate) fn hold(&self) {
        lock(&self.queue).is_busy = true;
    }
    /// The files that wait.
    pub(crate) fn waiting(&self) -> Vec<PathBuf> {
        lock(&self.queue).waiting.iter().cloned().collect()
    }
}

/// Writes the file that waits longest. False when none does, and when the store is gone.
fn write_next(queue: &Weak<Mutex<Queue>>) -> bool {
    let Some(queue) = queue.upgrade() else { return false };
    let next = {
        let mut queue = lock(&queue);
        let next = queue.waiting.pop_front();
        queue.is_busy = next.is_some();
        next
    };
    let Some(path) = next else { return false };
    // Should it fail, nothing is lost: what a power cut tears is noticed by its digest. The file may be deleted by now.
    let _ = File::open(path).and_then(|file| file.sync_data());
    true
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_go_one_by_one_and_the_thread_ends_with_them_or_with_the_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let written = folder.path().join("written");
        std::fs::write(&written, b"bytes").expect("written");
        let behind = Behind::default();
        behind.hold();
        behind.push(folder.path().join("deleted"));
        (0..2 * WAITING_MAX).for_each(|_| behind.push(written.clone()));
        assert_eq!(behind.waiting().len(), WAITING_MAX);
        let queue = Arc::downgrade(&behind.queue);
        assert!(write_next(&queue) && write_next(&queue));
        assert_eq!(behind.waiting().len(), WAITING_MAX - 2);
        while write_next(&queue) {}
        assert!(!lock(&behind.queue).is_busy);
        behind.push(written);
        drop(behind);
        assert!(!write_next(&queue));
    }

    #[tokio::test]
    async fn a_push_is_enough() {
        let folder = tempfile::tempdir().expect("a folder");
        let behind = Behind::default();
        behind.push(folder.path().join("deleted"));
        let done = async {
            while lock(&behind.queue).is_busy {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), done).await.expect("it ends");
        assert!(behind.waiting().is_empty());
    }
}
