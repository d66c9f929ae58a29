//! The ordered-command interface: envelopes go in, each comes back answered once it is durable and executed.
//!
//! [`Order`] is the seam. Whoever holds one submits commands and reads the executed state, and knows nothing of how the
//! order comes about. Here a single replica decides it alone: one thread owns the log and takes whatever has queued up,
//! stamps it with the ordered time, makes the batch durable in one transaction, executes it, and only then answers.
//!
//! Bounded everywhere: the queue by number and by bytes, the batch by number. When the queue is full, submitters wait.

use crate::{
    application::Application,
    log::{Entry, Log, LogError, Place, damaged},
};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::Envelope,
    ids::{OrderedTime, ReplicaId},
    limits::COMMAND_BYTES_MAX,
    query::Answer,
};
use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Arc, RwLock, TryLockError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

const QUEUE_MAX: usize = 4096;
const BATCH_MAX: usize = 256;
/// Bytes of envelopes that wait in memory.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// The budget is counted in units of so many bytes, so that small commands cost something too.
const BUDGET_UNIT_BYTES: usize = 1024;
/// Commands between two snapshots.
const SNAPSHOT_EVERY: u64 = 4096;
/// An envelope's bytes beside those of its request.
pub(crate) const ENVELOPE_EXTRA_BYTES_MAX: usize = 256;

/// The replica has stopped: nothing is ordered or read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the replica has stopped")]
pub struct Stopped;

/// Why the ordering ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The thread panicked: a bug, which it has printed.
    #[error("the state machine panicked; its log is intact")]
    Panicked,
}

/// A handle to the order. Clones are alike.
#[derive(Clone)]
pub(crate) struct Order {
    inbox: mpsc::Sender<Message>,
    budget: Arc<Semaphore>,
    state: Arc<RwLock<Application>>,
    executed: watch::Receiver<u64>,
}

enum Message {
    Command(Queued),
    /// Execute what is queued, close the log, end.
    Stop,
}

struct Queued {
    envelope: Envelope,
    answer: oneshot::Sender<Answer>,
    /// Gives its share of the budget back when the command is done.
    _share: OwnedSemaphorePermit,
}

/// Milliseconds since the Unix epoch by this machine's clock.
pub(crate) fn wall_clock() -> OrderedTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    OrderedTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Order {
    /// Has an envelope, whose signature was checked, ordered and executed.
    pub(crate) async fn submit(&self, envelope: Envelope) -> Result<Answer, Stopped> {
        let units = (envelope.request.bytes().len() / BUDGET_UNIT_BYTES + 1) as u32;
        let share = Arc::clone(&self.budget).acquire_many_owned(units).await.map_err(|_| Stopped)?;
        let (answer, answered) = oneshot::channel();
        let queued = Message::Command(Queued { envelope, answer, _share: share });
        self.inbox.send(queued).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Looks at the executed state. Does not hold up the runtime when a long command is being executed.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Application) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        match self.read_now(look) {
            Ok(result) => result,
            Err(look) => {
                let state = Arc::clone(&self.state);
                let read = move || state.read().map(|state| look(&state)).map_err(|_| Stopped);
                tokio::task::spawn_blocking(read).await.unwrap_or(Err(Stopped))
            }
        }
    }

    /// Looks at once, or gives the closure back when a command is being executed.
    fn read_now<R, F: FnOnce(&Application) -> R>(&self, look: F) -> Result<Result<R, Stopped>, F> {
        match self.state.try_read() {
            Ok(state) => Ok(Ok(look(&state))),
            Err(TryLockError::Poisoned(_)) => Ok(Err(Stopped)),
            Err(TryLockError::WouldBlock) => Err(look),
        }
    }

    /// Counts executed commands: wakes whoever follows the state.
    pub(crate) fn executed(&self) -> watch::Receiver<u64> {
        self.executed.clone()
    }

    /// Tells the owner to execute what is queued and to end.
    pub(crate) async fn stop(&self) {
        // An error says that it has ended already.
        let _ = self.inbox.send(Message::Stop).await;
    }
    /// Tells the owner to end, without waiting.
    pub(crate) fn abandon(&self) {
        // A full queue ends too, once the last handle is gone.
        let _ = self.inbox.try_send(Message::Stop);
    }
}

/// One replica's order: its own.
pub(crate) struct Solo {
    log: Log,
    inbox: mpsc::Receiver<Message>,
    state: Arc<RwLock<Application>>,
    executed: watch::Sender<u64>,
    snapshot_every: u64,
    /// Commands that the snapshot covers.
    covered: u64,
}

impl Solo {
    /// Opens a directory's log and executes what is in it. Takes as long as that takes: not for an async task.
    pub(crate) fn open(cluster: &Cluster, replica: ReplicaId, directory: &Path) -> Result<(Self, Order), LogError> {
        Self::open_with(cluster, replica, directory, SNAPSHOT_EVERY)
    }

    fn open_with(
        cluster: &Cluster,
        replica: ReplicaId,
        directory: &Path,
        snapshot_every: u64,
    ) -> Result<(Self, Order), LogError> {
        let log = Log::open(directory, cluster.id(), replica)?;
        let (application, covered) = recover(&log, cluster)?;
        let (send, inbox) = mpsc::channel(QUEUE_MAX);
        let (executed, watcher) = watch::channel(log.next());
        let state = Arc::new(RwLock::new(application));
        let budget = Arc::new(Semaphore::new(QUEUE_BYTES_MAX / BUDGET_UNIT_BYTES));
        let order = Order { inbox: send, budget, state: Arc::clone(&state), executed: watcher };
        Ok((Self { log, inbox, state, executed, snapshot_every, covered }, order))
    }

    /// Runs on a thread of its own until it is stopped, all handles are gone, or the log fails.
    pub(crate) fn run(mut self) -> Result<(), LogError> {
        let mut queue = Vec::with_capacity(BATCH_MAX);
        while self.inbox.blocking_recv_many(&mut queue, BATCH_MAX) > 0 {
            let mut batch = Vec::with_capacity(queue.len());
            for message in queue.drain(..) {
                match message {
                    Message::Command(queued) => batch.push(queued),
                    Message::Stop => self.inbox.close(),
                }
            }
            if !batch.is_empty() {
                self.order(batch)?;
            }
        }
        Ok(())
    }

    fn order(&mut self, batch: Vec<Queued>) -> Result<(), LogError> {
        let now = wall_clock().max(self.read().now());
        let entries: Vec<Entry> =
            batch.iter().map(|queued| Entry { time: now, envelope: canonical::encode(&queued.envelope) }).collect();
        self.log.append(&entries)?;
        let answers: Vec<Answer> = batch.iter().map(|queued| self.write().execute(now, &queued.envelope)).collect();
        self.executed.send_replace(self.log.next());
        for (queued, answer) in batch.into_iter().zip(answers) {
            // Whoever asked may have gone; the command is executed all the same.
            let _ = queued.answer.send(answer);
        }
        self.snapshot_when_due()
    }

    fn snapshot_when_due(&mut self) -> Result<(), LogError> {
        if self.log.next() - self.covered < self.snapshot_every {
            return Ok(());
        }
        let state = self.read().to_bytes();
        self.log.replace_by_snapshot(&state)?;
        self.covered = self.log.next();
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Application> {
        self.state.read().expect("only this thread writes, and it ends when it panics")
    }
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Application> {
        self.state.write().expect("only this thread writes, and it ends when it panics")
    }
}

/// The state that the log stands for, and how much of it the snapshot covers.
fn recover(log: &Log, cluster: &Cluster) -> Result<(Application, u64), LogError> {
    let (mut application, covered) = match log.snapshot()? {
        Some((covered, bytes)) => {
            let wrong = |_| damaged(log.path(), Place::Snapshot(covered), "another version of this program wrote it");
            (postcard::from_bytes(&bytes).map_err(wrong)?, covered)
        }
        None => (Application::new(cluster.clone()), 0),
    };
    log.replay(covered, |position, entry| {
        let wrong = |what: String| damaged(log.path(), Place::Entry(position), what);
        let envelope: Envelope = canonical::decode(&entry.envelope, COMMAND_BYTES_MAX + ENVELOPE_EXTRA_BYTES_MAX)
            .map_err(|error| wrong(error.to_string()))?;
        if entry.time < application.now() {
            return Err(wrong("its time is before that of the entry before it".to_owned()));
        }
        // A half-executed state is dropped with the error.
        let run = AssertUnwindSafe(|| application.execute(entry.time, &envelope));
        let stuck = |_| LogError::NotExecutable { path: log.path().to_owned(), position };
        panic::catch_unwind(run).map(|_| ()).map_err(stuck)
    })?;
    Ok((application, covered))
}

#[cfg(test)]
mod tests;
