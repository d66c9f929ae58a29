//! The thread that owns the agreement: what comes in is given to the core, and what the core wants is done, in order.
//!
//! What must hold [SMR-13]: what the core persists is on the disk before a later attestation is begun, and nothing that
//! must be attested leaves before it is. So records are only staged until the core wants an attestation; then all of
//! them are written in one transaction, whose sync is what a round of the agreement waits for.
//!
//! The thread takes whatever has come meanwhile before it does what the core wants, up to a bound, so that all that
//! queued up behind one sync shares the next one.

use crate::{
    application::Shared,
    device::{Clerk, Device, LogError, completed},
    histories::{Histories, to_wire},
    liars::Lie,
    links::Outbox,
    order::{Order, OrderError, Queued, Waiter, wall_clock},
    report,
    store::{Kept, Store, StoreError},
};
use quorate_counter::{Completion, Epoch};
use quorate_protocol::{
    command::History,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
    query::ReplicaView,
};
use quorate_smr::{
    Action, Config, Core, Fault, FaultKind, Input, Outcome, Record, RequestId, StateMachine, Verified,
    core::RestoreError,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// Events that wait for the thread. Messages are also bounded by bytes, where they come in; requests by [`Order`].
const INBOX_MAX: usize = 8192;
/// Events that are taken before anything is done.
const DRAIN_MAX: usize = 512;
/// Bytes of records that wait for an attestation: more are written without one.
const STAGED_BYTES_MAX: usize = 4 << 20;
/// Those who wait for one request.
const WAITERS_MAX: usize = 8;
/// Time between two looks for waiters that have gone.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What comes in.
pub(crate) enum Event {
    /// A client's request.
    Request(Queued),
    /// Another replica's message. What it came with is dropped when it was taken.
    Message(ReplicaId, Verified, Box<dyn Send>),
    /// Another replica sent something that is no message.
    Garbage(ReplicaId, String),
    /// The trusted log has done something that took long.
    Device(Completion),
    /// Somebody wants to know how the replica stands.
    Report(oneshot::Sender<ReplicaView>),
    /// The replica is to sign for something, and needs to know what was executed and where its trusted log stands.
    Standing(oneshot::Sender<(History, report::Log)>),
    /// Somebody wants to compare the executed state.
    Digest(oneshot::Sender<(History, Digest)>),
    /// Finish what was begun, and end.
    Stop,
}

/// Why the agreement cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// What was kept cannot be used.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The trusted log cannot be used.
    #[error(transparent)]
    TrustedLog(#[from] LogError),
}

/// Inbox of a node that is not there yet, for those that will fill it.
pub(crate) struct Inbox {
    send: SyncSender<Event>,
    receive: Receiver<Event>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let (send, receive) = sync_channel(INBOX_MAX);
        Self { send, receive }
    }
    pub(crate) fn sender(&self) -> SyncSender<Event> {
        self.send.clone()
    }
}

/// What a node is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) state: Shared,
    pub(crate) store: Store,
    pub(crate) kept: Kept,
    pub(crate) device: Device,
    pub(crate) outbox: Outbox,
    pub(crate) lie: Option<Arc<dyn Lie>>,
}

/// The owner of the agreement.
pub(crate) struct Node {
    /// Dropped before the trusted log's thread is waited for, which may have something to tell.
    inbox: Receiver<Event>,
    core: Core<Shared>,
    store: Store,
    clerk: Clerk,
    outbox: Outbox,
    lie: Option<Arc<dyn Lie>>,
    /// What the core is told next, all at once, so that it shares batches and attestations.
    inputs: Vec<Input>,
    /// What came with the messages among them.
    rooms: Vec<Box<dyn Send>>,
    /// What the core wants done.
    actions: Vec<Action>,
    /// What the trusted log did at once.
    attested: Option<Input>,
    waiters: HashMap<RequestId, Vec<Waiter>>,
    swept: Instant,
    histories: Arc<Histories>,
    executed: watch::Sender<u64>,
    view: Arc<AtomicU64>,
    now: OrderedTime,
    log: report::Log,
    /// What the links saw; the core knows what it saw itself.
    garbage: Vec<Fault>,
    stopping: bool,
}

impl Node {
    /// Makes the core of what was kept. Takes as long as executing it does: not for an async task.
    pub(crate) fn new(parts: Parts, inbox: Inbox) -> Result<(Self, Order), BeginError> {
        let Parts { config, state, store, kept, device, outbox, lie } = parts;
        let now = wall_clock();
        let (place, kind) = (device.place.clone(), device.kind);
        let log = report::Log { kind, record: place.0.clone(), head: place.1, certificate: device.certificate.clone() };
        let tell = inbox.sender();
        // After the thread has ended nobody needs to know.
        let clerk =
            device.start(outbox.words(), Box::new(move |completion| drop(tell.send(Event::Device(completion)))))?;
        let mut actions = Vec::new();
        let core = if kept.base.is_none() && kept.records.is_empty() {
            Core::new(config, now, state.clone(), place, &mut actions)
        } else {
            Core::restore(config, now, state.clone(), place, kept.base, kept.records, &mut actions)?
        };
        let executed = core.executed();
        state.clone().executed(executed);
        let histories = Arc::new(Histories::new(executed, |seq| core.history_at(seq)));
        let (executed, watcher) = watch::channel(executed.seq.0);
        let view = Arc::new(AtomicU64::new(core.view().0));
        let order = Order::new(inbox.send, state, Arc::clone(&histories), watcher, Arc::clone(&view));
        let node = Self {
            inbox: inbox.receive,
            core,
            store,
            clerk,
            outbox,
            lie,
            inputs: Vec::new(),
            rooms: Vec::new(),
            actions,
            attested: None,
            waiters: HashMap::new(),
            swept: Instant::now(),
            histories,
            executed,
            view,
            now,
            log,
            garbage: Vec::new(),
            stopping: false,
        };
        Ok((node, order))
    }

    /// Runs on a thread of its own until it is stopped, all handles are gone, or the disk or trusted log fails.
    pub(crate) fn run(mut self) -> Result<(), OrderError> {
        self.perform()?;
        while !self.stopping {
            let patience = self.patience();
            match self.inbox.recv_timeout(patience) {
                Ok(event) => self.take(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for _ in 0..DRAIN_MAX {
                let Ok(event) = self.inbox.try_recv() else { break };
                self.take(event)?;
            }
            if !self.inputs.is_empty() || self.core.wakeup() <= self.clock() {
                self.step();
            }
            self.perform()?;
            self.sweep();
        }
        Ok(self.store.write()?)
    }

    /// This machine's clock, made monotone.
    fn clock(&mut self) -> OrderedTime {
        self.now = self.now.max(wall_clock());
        self.now
    }

    /// How long the core needs no tick.
    fn patience(&mut self) -> Duration {
        Duration::from_millis(self.core.wakeup().since(self.clock()))
    }

    fn step(&mut self) {
        let now = self.clock();
        self.core.step_all(now, self.inputs.drain(..), &mut self.actions);
        self.view.store(self.core.view().0, Ordering::Relaxed);
        self.rooms.clear();
    }

    fn take(&mut self, event: Event) -> Result<(), OrderError> {
        match event {
            Event::Request(queued) => self.request(queued),
            Event::Message(from, message, room) => {
                if self.lie.as_ref().is_none_or(|lie| lie.hears(message.message())) {
                    self.inputs.push(Input::Message(from, message));
                    self.rooms.push(room);
                }
            }
            Event::Garbage(from, what) => self.blame(from, what),
            Event::Device(completion) => {
                let input = completed(completion)?;
                self.note_head(&input);
                self.inputs.push(input);
            }
            Event::Report(answer) => {
                let view = report::view(&self.core.report(), &self.garbage, &self.log);
                // Whoever asked may have gone, here and below.
                let _ = answer.send(view);
            }
            Event::Standing(answer) => {
                let _ = answer.send((to_wire(self.core.executed()), self.log.clone()));
            }
            Event::Digest(answer) => {
                let state = Digest::of(&self.core.machine().snapshot());
                let _ = answer.send((to_wire(self.core.executed()), state));
            }
            Event::Stop => self.stopping = true,
        }
        Ok(())
    }

    fn request(&mut self, queued: Queued) {
        let Queued { id, request, waiter } = queued;
        if self.lie.as_ref().is_some_and(|lie| !lie.takes_requests()) {
            return;
        }
        let waiters = self.waiters.entry(id).or_default();
        // One too many is dropped, which tells it to try again.
        if waiters.len() < WAITERS_MAX {
            waiters.push(waiter);
        }
        self.inputs.push(Input::Request(id, request));
    }

    /// Does what the core wants, and what it wants after that, until it waits for others.
    fn perform(&mut self) -> Result<(), OrderError> {
        loop {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.act(action)?;
            }
            if self.actions.is_empty() {
                // The buffer is kept.
                self.actions = actions;
            }
            let Some(input) = self.attested.take() else { return Ok(()) };
            self.note_head(&input);
            self.inputs.push(input);
            self.step();
        }
    }

    fn act(&mut self, action: Action) -> Result<(), OrderError> {
        match action {
            Action::Persist(record) => self.persist(&record)?,
            Action::Attest(digests) => {
                self.store.write()?;
                self.attested = self.clerk.attest(digests)?;
            }
            Action::Send(to, message) => self.outbox.send(to, &message),
            Action::Broadcast(message) => self.outbox.broadcast(&message),
            Action::Reply(id, outcome) => self.reply(id, &outcome),
            Action::Executed(history) => {
                self.histories.note(history, |seq| self.core.history_at(seq));
                self.executed.send_replace(history.seq.0);
            }
            Action::Compact(compaction) => {
                self.clerk.sync()?;
                self.store.compact(&compaction)?;
            }
            Action::Renew(epoch) => self.renew(epoch)?,
            Action::Accuse(fault) => report::warn(&fault),
        }
        Ok(())
    }

    fn persist(&mut self, record: &Record) -> Result<(), StoreError> {
        self.store.stage(record);
        if self.store.staged() > STAGED_BYTES_MAX { self.store.write() } else { Ok(()) }
    }

    fn renew(&mut self, epoch: Epoch) -> Result<(), OrderError> {
        if self.outbox.is_alone() {
            return Err(OrderError::Forgotten);
        }
        tracing::warn!(
            epoch = epoch.0,
            "the trusted log is not where this replica's disk or the other replicas say: a new epoch of it begins"
        );
        self.store.write()?;
        self.attested = self.clerk.renew(epoch)?;
        Ok(())
    }

    fn note_head(&mut self, input: &Input) {
        match input {
            Input::Attested(attestation) => {
                self.log.head = attestation.head;
                self.log.certificate = Some(attestation.certificate.clone());
            }
            Input::Renewed(record, certificate) => {
                (self.log.record, self.log.head) = (record.clone(), record.genesis());
                self.log.certificate = Some(certificate.clone());
            }
            Input::Tick | Input::Message(..) | Input::Request(..) | Input::Lost => {}
        }
    }

    fn reply(&mut self, id: RequestId, outcome: &Outcome) {
        for waiter in self.waiters.remove(&id).unwrap_or_default() {
            let _ = waiter.answer.send(outcome.clone());
        }
    }

    /// Forgets waiters that have gone: their requests may be executed late or never.
    fn sweep(&mut self) {
        if self.swept.elapsed() < SWEEP_INTERVAL {
            return;
        }
        self.swept = Instant::now();
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.answer.is_closed());
            !waiters.is_empty()
        });
    }

    fn blame(&mut self, replica: ReplicaId, what: String) {
        if self.garbage.iter().all(|fault| fault.replica != replica) {
            let fault = Fault { replica, kind: FaultKind::Garbage(what) };
            report::warn(&fault);
            self.garbage.push(fault);
        }
    }
}
