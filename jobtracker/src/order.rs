//! The ordered-command interface: a request goes in, and comes back answered once it is ordered and executed.
//!
//! [`Order`] is the seam. Whoever holds one submits requests and reads the executed state, and knows nothing of how the
//! replicas come to agree: that is the work of `quorate-smr`, which the module `node` runs on a thread of its own.
//!
//! Bounded everywhere: requests that wait by number and by bytes. When there are too many, submitters wait.

use crate::{
    application::{Application, Shared},
    device::LogError,
    histories::{Histories, Judgement},
    node::Event,
    report::Log,
    store::StoreError,
};
use quorate_protocol::{
    canonical,
    command::{History, Refusal},
    digest::Digest,
    ids::OrderedTime,
    limits::REPLY_BYTES_MAX,
    query::{Answer, ReplicaView},
};
use quorate_smr::{Outcome, Payload, RequestId};
use std::{
    sync::{
        Arc,
        atomic::AtomicU64,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// Bytes of requests that wait in memory.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// The budget is counted in units of so many bytes, so that small requests cost something too.
const BUDGET_UNIT_BYTES: usize = 1024;
/// How long an asker waits for a replica to execute what the asker has seen. Replicas are a few milliseconds apart.
const CATCH_UP_MAX: Duration = Duration::from_millis(250);

/// The replica has stopped: nothing is ordered or read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the replica has stopped")]
pub struct Stopped;

/// Why the ordering ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The trusted log failed.
    #[error(transparent)]
    TrustedLog(#[from] LogError),
    /// The only replica of its cluster has lost what it said before, or its trusted log has.
    #[error(
        "the trusted log and the records in the replica's directory do not belong together, and there is no other \
         replica to learn from: restore the whole directory from a copy"
    )]
    Forgotten,
    /// The thread panicked: a bug, which it has printed.
    #[error("the agreement panicked; what the replica wrote to its disk is intact")]
    Panicked,
}

/// A handle to the order. Clones are alike.
#[derive(Clone)]
pub(crate) struct Order {
    inbox: SyncSender<Event>,
    budget: Arc<Semaphore>,
    state: Shared,
    histories: Arc<Histories>,
    executed: watch::Receiver<u64>,
    view: Arc<AtomicU64>,
}

/// A request that waits to be executed.
pub(crate) struct Queued {
    pub(crate) id: RequestId,
    pub(crate) request: Payload,
    pub(crate) waiter: Waiter,
}

/// Whoever waits for a request. Gives its share of the budget back when it is answered or gone.
pub(crate) struct Waiter {
    pub(crate) answer: oneshot::Sender<Outcome>,
    _share: OwnedSemaphorePermit,
}

/// What became of a submitted request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Submitted {
    /// It was executed with this answer, in the last batch of this history.
    Executed(History, Answer),
    /// Too much waits already, and it was not taken.
    Busy,
}

/// Milliseconds since the Unix epoch by this machine's clock.
pub(crate) fn wall_clock() -> OrderedTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    OrderedTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Order {
    pub(crate) fn new(
        inbox: SyncSender<Event>,
        state: Shared,
        histories: Arc<Histories>,
        executed: watch::Receiver<u64>,
        view: Arc<AtomicU64>,
    ) -> Self {
        let budget = Arc::new(Semaphore::new(WAITING_BYTES_MAX / BUDGET_UNIT_BYTES));
        Self { inbox, budget, state, histories, executed, view }
    }

    /// Has a request, which the door let in, ordered and executed.
    pub(crate) async fn submit(&self, id: RequestId, request: &[u8]) -> Result<Submitted, Stopped> {
        let units = (request.len() / BUDGET_UNIT_BYTES + 1) as u32;
        let share = Arc::clone(&self.budget).acquire_many_owned(units).await.map_err(|_| Stopped)?;
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter { answer, _share: share };
        self.tell(Event::Request(Queued { id, request: request.into(), waiter })).await?;
        Ok(match answered.await.map_err(|_| Stopped)? {
            Outcome::Executed(history, reply) => {
                let answer = canonical::decode(&reply, REPLY_BYTES_MAX).expect("replies are this program's answers");
                Submitted::Executed(crate::histories::to_wire(history), answer)
            }
            Outcome::Stale => Submitted::Executed(self.histories.newest(), Answer::Refused(Refusal::Stale)),
            Outcome::Busy => Submitted::Busy,
        })
    }

    async fn tell(&self, event: Event) -> Result<(), Stopped> {
        match self.inbox.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(event)) => {
                let inbox = self.inbox.clone();
                let sent = tokio::task::spawn_blocking(move || inbox.send(event).is_ok()).await;
                if sent.is_ok_and(|sent| sent) { Ok(()) } else { Err(Stopped) }
            }
        }
    }

    /// Looks at the executed state. Does not hold up the runtime when a long command is being executed.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Application) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        match self.state.read_now(look) {
            Ok(result) => result.ok_or(Stopped),
            Err(look) => {
                let state = self.state.clone();
                tokio::task::spawn_blocking(move || state.read(look)).await.ok().flatten().ok_or(Stopped)
            }
        }
    }

    /// What was executed last.
    pub(crate) fn history(&self) -> History {
        self.histories.newest()
    }

    /// The history at a place, when it is one of the newest.
    pub(crate) fn history_at(&self, ordered: u64) -> Option<History> {
        self.histories.at(ordered)
    }

    /// From now on it is kept who is suspected at each place.
    pub(crate) async fn watch(&self) {
        let state = self.state.clone();
        // A panic would be of the thread that executes, which printed it.
        let _ = tokio::task::spawn_blocking(move || state.watch()).await;
    }

    /// Compares the history here with one that somebody has seen, and gives the replica a moment to catch up with it.
    pub(crate) async fn judge(&self, seen: Option<History>) -> Judgement {
        let judgement = self.histories.judge(seen);
        let (Judgement::Ahead, Some(seen)) = (judgement, seen) else { return judgement };
        let mut executed = self.executed.clone();
        // Whether it caught up, stopped, or took too long, the comparison says what is so.
        let _ = tokio::time::timeout(CATCH_UP_MAX, executed.wait_for(|executed| *executed >= seen.ordered)).await;
        self.histories.judge(Some(seen))
    }

    /// Compares the history here with one that somebody has seen.
    pub(crate) fn judge_now(&self, seen: Option<History>) -> Judgement {
        self.histories.judge(seen)
    }

    /// Counts executed batches: wakes whoever follows the state.
    pub(crate) fn executed(&self) -> watch::Receiver<u64> {
        self.executed.clone()
    }

    /// The number of the view that the replica is in.
    pub(crate) fn view(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.view)
    }

    /// How the replica stands.
    pub(crate) async fn report(&self) -> Result<ReplicaView, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.tell(Event::Report(answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// What was executed, and where the trusted log stands. All that was read of the state before is a part of it.
    pub(crate) async fn standing(&self) -> Result<(History, Log), Stopped> {
        let (answer, answered) = oneshot::channel();
        self.tell(Event::Standing(answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// What was executed, and the digest of the state that it led to.
    pub(crate) async fn digest(&self) -> Result<(History, Digest), Stopped> {
        let (answer, answered) = oneshot::channel();
        self.tell(Event::Digest(answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// Tells the owner to finish what it has begun, and to end.
    pub(crate) async fn stop(&self) {
        // An error says that it has ended already.
        let _ = self.tell(Event::Stop).await;
    }
    /// Tells the owner to end, without waiting.
    pub(crate) fn abandon(&self) {
        // A full inbox ends too, once the last handle is gone.
        let _ = self.inbox.try_send(Event::Stop);
    }
}
