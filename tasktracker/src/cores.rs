//! The processor's cores, shared by the map attempts of all trackers in one process.
//!
//! An embedded cluster has more slots than the machine has cores. Map attempts that all run at once push each other's tables and
//! buffers out of the caches, and take memory for all of them: ten word counts at once on two cores took twice the CPU time of two at once. So a map attempt waits for a core, but not for ever: a program that never ends must not keep others
//! from beginning. Reduce attempts do not: they wait for disks, and would keep a core meanwhile.

use std::{
    sync::{Arc, LazyLock},
    thread::available_parallelism,
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long an attempt waits for a core: longer than most tasks run, and shorter than anybody waits for a sign of progress.
const PATIENCE: Duration = Duration::from_secs(3);

static CORES: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))));

/// Waits for a core. Whoever drops it gives it back; `None` is to go on without one.
pub(crate) async fn core() -> Option<OwnedSemaphorePermit> {
    tokio::time::timeout(PATIENCE, Arc::clone(&CORES).acquire_owned()).await.ok()?.ok()
}
