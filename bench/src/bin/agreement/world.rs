//! Three replicas in one thread. Each has an inbox; in turn, each takes all that is in it at once, as the thread of a real one
//! does. What comes of it is in the others' inboxes when it is their turn.

use crate::{
    Log,
    clients::{Clients, Wrong, identify},
    figures::Figures,
};
use quorate_counter::{Attestation, DeviceError, Epoch, Simulated, Software, TrustedLog};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
    sign::{PublicKey, SecretKey, Signed, Statement},
};
use quorate_smr::{
    Action, Config, Core, Input, Keys, Limits, Outcome, Payload, Rejection, RequestId, StateMachine, Unreadable,
    Verifier, View,
    message::{OwnMessage, Signature, WireMessage},
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

const REPLICAS: u32 = 3;
const QUORUM: usize = 2;
/// Of the first view, which is the only one.
const PRIMARY: usize = 0;
/// What a replica takes from its inbox at once, at most.
const EVENTS_PER_TURN: usize = 512;
/// Of the duration of a measurement: what is done before it starts.
const WARM_UP: u32 = 4;
/// Without an operation that ends, the cores are stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// Operations in whose course bytes are counted, at least.
const COUNTED: usize = 2_000;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) log: Log,
    pub(crate) payload: usize,
    pub(crate) batch: usize,
    pub(crate) clients: usize,
}

/// Why there is nothing to be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("a core refused another one's message: {0}")]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Client(#[from] Wrong),
    #[error("the cores did what they do only when something is wrong: {0}")]
    Trouble(String),
    #[error("the replicas moved to view {0}, although their primary works")]
    View(View),
    #[error("nothing is left to do, and clients wait")]
    Stuck,
}

/// Has no state and answers with nothing.
struct Nothing;

impl StateMachine for Nothing {
    fn advance(&mut self, _: OrderedTime) {}
    fn apply(&mut self, _: OrderedTime, _: &RequestId, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
    fn deadline(&self) -> Option<OrderedTime> {
        None
    }
    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
    fn restore(&mut self, _: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// What a replica says without its trusted log.
#[derive(Serialize, Deserialize)]
struct Said;

impl Statement for Said {
    const CONTEXT: &'static str = "quorate 2026 agreement bench v1";
    const BYTES_MAX: usize = 1 << 20;
}

struct Identities {
    own: SecretKey,
    all: Vec<PublicKey>,
}

impl Keys for Identities {
    fn sign(&self, bytes: &[u8]) -> Signature {
        let (mut r, mut s) = ([0; 32], [0; 32]);
        let signature = Signed::<Said>::seal_bytes(bytes.to_vec(), &self.own).signature();
        r.copy_from_slice(&signature[..32]);
        s.copy_from_slice(&signature[32..]);
        Signature(r, s)
    }
    fn verify(&self, by: ReplicaId, bytes: &[u8], signature: &Signature) -> bool {
        let mut halves = [0; 64];
        halves[..32].copy_from_slice(&signature.0);
        halves[32..].copy_from_slice(&signature.1);
        let signed = Signed::<Said>::from_parts(bytes.to_vec(), &halves);
        self.all.get(by.number() as usize).is_some_and(|key| signed.verify_signature(key).is_ok())
    }
}

struct Replica {
    core: Core<Nothing>,
    log: Box<dyn TrustedLog>,
    verifier: Verifier,
    inbox: VecDeque<Event>,
}

enum Event {
    Request(RequestId, Payload),
    Message(ReplicaId, WireMessage),
    Attested(Attestation),
}

/// Replicas, clients, and what is on its way between them.
pub(crate) struct World {
    replicas: Vec<Replica>,
    clients: Clients,
    start: Instant,
    /// As it was when the present round began.
    clock: Instant,
    /// When an operation ended last.
    progress: Instant,
    /// Bytes between replicas so far, when they are counted.
    wire: Option<usize>,
}

/// Of this thread, so far.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("CPU time is not negative")
}

fn secret(replica: u32) -> SecretKey {
    SecretKey::from_seed(*Digest::of(&replica.to_le_bytes()).as_bytes())
}

fn device(log: Log, cluster: Digest, replica: u32) -> Box<dyn TrustedLog> {
    let (key, id) = (secret(replica), ReplicaId::new(replica));
    match log {
        Log::None => Box::new(Simulated::new(*Digest::of(&replica.to_le_bytes()).as_bytes(), cluster, id)),
        Log::Ed25519 => Box::new(Software::new(key, cluster, id, Epoch(0))),
    }
}

impl World {
    pub(crate) fn new(setup: &Setup) -> Result<Self, Failure> {
        let cluster = Digest::of(b"the agreement's bench");
        let mut logs: Vec<_> = (0..REPLICAS).map(|replica| device(setup.log, cluster, replica)).collect();
        let genesis: Vec<_> = logs.iter().map(|log| log.record().clone()).collect();
        let limits = Limits {
            batch_requests_max: setup.batch,
            pending_max: Limits::default().pending_max.max(setup.clients),
            ..Limits::default()
        };
        let all: Vec<_> = (0..REPLICAS).map(|replica| secret(replica).public()).collect();
        let (mut replicas, mut first) = (Vec::new(), Vec::new());
        for (replica, mut log) in (0..REPLICAS).zip(logs.drain(..)) {
            let keys = Arc::new(Identities { own: secret(replica), all: all.clone() });
            let me = ReplicaId::new(replica);
            let config = Config::new(cluster, me, genesis.clone(), limits.clone(), keys, Arc::new(identify));
            let (verifier, place) = (Verifier::new(&config), (log.record().clone(), log.append(&[])?.head));
            let mut out = Vec::new();
            let core = Core::new(config, OrderedTime::default(), Nothing, place, &mut out);
            replicas.push(Replica { core, log, verifier, inbox: VecDeque::new() });
            first.push(out);
        }
        let clients = Clients::new(setup.clients, setup.payload, QUORUM);
        let start = Instant::now();
        let mut world = Self { replicas, clients, start, clock: start, progress: start, wire: None };
        for (replica, actions) in first.into_iter().enumerate() {
            actions.into_iter().try_for_each(|action| world.perform(replica, action))?;
        }
        (0..world.clients.count()).for_each(|client| world.send(client));
        Ok(world)
    }

    /// Runs for so long, after a warm-up.
    pub(crate) fn measure(mut self, duration: Duration) -> Result<Figures, Failure> {
        self.run_until(self.start + duration / WARM_UP)?;
        let (before, cpu, done) = (self.clock, cpu_time(), self.clients.latencies.len());
        self.run_until(before + duration)?;
        let (wall, cpu) = (self.clock - before, cpu_time().saturating_sub(cpu));
        Ok(Figures::new(self.clients.latencies.split_off(done), wall, cpu))
    }

    /// Bytes on the wire between replicas, per operation.
    pub(crate) fn count(mut self) -> Result<f64, Failure> {
        self.wire = Some(0);
        let operations = COUNTED.max(self.clients.count() * 4);
        while self.clients.latencies.len() < operations {
            self.round()?;
        }
        Ok(self.wire.unwrap_or(0) as f64 / self.clients.latencies.len() as f64)
    }

    fn run_until(&mut self, end: Instant) -> Result<(), Failure> {
        while self.clock < end {
            self.round()?;
        }
        Ok(())
    }

    /// Each replica's turn.
    fn round(&mut self) -> Result<(), Failure> {
        self.clock = Instant::now();
        (0..self.replicas.len()).try_for_each(|replica| self.turn(replica))?;
        let view = self.replicas.iter().map(|replica| replica.core.view()).max().unwrap_or_default();
        if view != View(0) {
            return Err(Failure::View(view));
        }
        if self.clock - self.progress < PATIENCE { Ok(()) } else { Err(Failure::Stuck) }
    }

    fn turn(&mut self, at: usize) -> Result<(), Failure> {
        let now = OrderedTime((self.clock - self.start).as_millis() as u64);
        let replica = &mut self.replicas[at];
        let mut inputs = Vec::with_capacity(replica.inbox.len().min(EVENTS_PER_TURN));
        for event in replica.inbox.drain(..replica.inbox.len().min(EVENTS_PER_TURN)) {
            inputs.push(match event {
                Event::Request(id, request) => Input::Request(id, request),
                Event::Message(from, message) => Input::Message(from, replica.verifier.verify(message)?),
                Event::Attested(attestation) => Input::Attested(attestation),
            });
        }
        let mut out = Vec::new();
        if !inputs.is_empty() || replica.core.wakeup() <= now {
            replica.core.step_all(now, inputs, &mut out);
        }
        out.into_iter().try_for_each(|action| self.perform(at, action))
    }

    fn perform(&mut self, at: usize, action: Action) -> Result<(), Failure> {
        match action {
            // Disks are not measured here.
            Action::Persist(_) | Action::Compact(_) | Action::Executed(_) => {}
            Action::Attest(digests) => {
                let attestation = self.replicas[at].log.append(&digests)?;
                self.replicas[at].inbox.push_back(Event::Attested(attestation));
            }
            Action::Send(to, message) => self.post(at, to.number() as usize, &message),
            Action::Broadcast(message) => {
                (0..self.replicas.len()).filter(|to| *to != at).for_each(|to| self.post(at, to, &message));
            }
            Action::Reply(id, Outcome::Executed(history, _)) => {
                if let Some(client) = self.clients.reply(&id, history, self.clock)? {
                    self.progress = self.clock;
                    self.send(client);
                }
            }
            Action::Reply(_, outcome @ (Outcome::Stale | Outcome::Busy)) => {
                return Err(Failure::Trouble(format!("a request was answered by {outcome:?}")));
            }
            Action::Renew(epoch) => return Err(Failure::Trouble(format!("replica {at} wants {epoch:?}"))),
            Action::Accuse(fault) => return Err(Failure::Trouble(format!("replica {at} accuses: {fault:?}"))),
        }
        Ok(())
    }

    fn post(&mut self, from: usize, to: usize, message: &OwnMessage) {
        let message = message.to_wire();
        if let Some(wire) = &mut self.wire {
            *wire += canonical::encode(&message).len();
        }
        self.replicas[to].inbox.push_back(Event::Message(ReplicaId::new(from as u32), message));
    }

    /// Clients send to the primary alone: nothing fails here.
    fn send(&mut self, client: usize) {
        let (id, request) = self.clients.next(client, self.clock);
        self.replicas[PRIMARY].inbox.push_back(Event::Request(id, request));
    }
}
