//! Three replicas in one thread: one queue of what is to be given to which core, first come, first served.

use crate::{
    Log,
    clients::{Clients, Wrong, identify},
};
use quorate_counter::{DeviceError, Epoch, Simulated, Software, TrustedLog};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
    sign::{PublicKey, SecretKey, Signed, Statement},
};
use quorate_smr::{
    Action, Config, Core, Input, Keys, Limits, Outcome, Payload, Rejection, RequestId, StateMachine, Unreadable, Verifier,
    message::{OwnMessage, Signature, WireMessage},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

const REPLICAS: u32 = 3;
const QUORUM: usize = 2;
/// Events between two looks at the clock.
const EVENTS_PER_LOOK: usize = 64;
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

/// What was measured.
pub(crate) struct Figures {
    /// In order.
    latencies: Vec<Duration>,
    duration: Duration,
}

impl Figures {
    /// Operations per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.duration.as_secs_f64()
    }
    /// The latency that this share of the operations did not exceed.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let index = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(index).or(self.latencies.last()).copied().unwrap_or_default()
    }
}

/// Why there is nothing to be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0} seconds are no duration")]
    Seconds(f64),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("a core refused another one's message")]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Client(#[from] Wrong),
    #[error("the cores did what they do only when something is wrong: {0}")]
    Trouble(String),
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
}

enum Event {
    Request(RequestId, Payload),
    Message(ReplicaId, WireMessage),
    /// Of the replica itself: what was attested, or that time has passed.
    Own(Input),
}

/// Replicas, clients, and what is on its way between them.
pub(crate) struct World {
    replicas: Vec<Replica>,
    clients: Clients,
    events: VecDeque<(usize, Event)>,
    start: Instant,
    now: OrderedTime,
    /// When an operation ended last.
    progress: Instant,
    /// Bytes between replicas so far, when they are counted.
    wire: Option<usize>,
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
        let now = OrderedTime::default();
        let (mut replicas, mut first) = (Vec::new(), Vec::new());
        for (replica, mut log) in (0..REPLICAS).zip(logs.drain(..)) {
            let keys = Arc::new(Identities { own: secret(replica), all: all.clone() });
            let me = ReplicaId::new(replica);
            let config = Config::new(cluster, me, genesis.clone(), limits.clone(), keys, Arc::new(identify));
            let (verifier, place) = (Verifier::new(&config), (log.record().clone(), log.append(&[])?.head));
            let mut out = Vec::new();
            replicas.push(Replica { core: Core::new(config, now, Nothing, place, &mut out), log, verifier });
            first.push(out);
        }
        let clients = Clients::new(setup.clients, setup.payload, QUORUM);
        let (events, start) = (VecDeque::new(), Instant::now());
        let mut world = Self { replicas, clients, events, start, now, progress: start, wire: None };
        for (replica, actions) in first.into_iter().enumerate() {
            actions.into_iter().try_for_each(|action| world.perform(replica, action))?;
        }
        (0..world.clients.count()).for_each(|client| world.send(client));
        Ok(world)
    }

    /// Runs for so long, after a warm-up.
    pub(crate) fn measure(mut self, duration: Duration) -> Result<Figures, Failure> {
        self.run_until(duration / WARM_UP)?;
        let (before, done) = (self.start.elapsed(), self.clients.latencies.len());
        self.run_until(before + duration)?;
        let duration = self.start.elapsed() - before;
        let mut latencies = self.clients.latencies.split_off(done);
        latencies.sort_unstable();
        Ok(Figures { latencies, duration })
    }

    /// Bytes on the wire between replicas, per operation.
    pub(crate) fn count(mut self) -> Result<f64, Failure> {
        self.wire = Some(0);
        let operations = COUNTED.max(self.clients.count() * 4);
        while self.clients.latencies.len() < operations {
            self.look()?;
        }
        Ok(self.wire.unwrap_or(0) as f64 / self.clients.latencies.len() as f64)
    }

    fn run_until(&mut self, elapsed: Duration) -> Result<(), Failure> {
        while self.start.elapsed() < elapsed {
            self.look()?;
        }
        Ok(())
    }

    /// Looks at the clock, and lets some events happen.
    fn look(&mut self) -> Result<(), Failure> {
        self.now = OrderedTime(self.start.elapsed().as_millis() as u64);
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].core.wakeup() <= self.now {
                self.events.push_back((replica, Event::Own(Input::Tick)));
            }
        }
        for _ in 0..EVENTS_PER_LOOK {
            let Some((replica, event)) = self.events.pop_front() else { return self.idle() };
            self.happen(replica, event)?;
        }
        Ok(())
    }

    /// All waits for time to pass.
    fn idle(&self) -> Result<(), Failure> {
        if self.progress.elapsed() < PATIENCE { Ok(()) } else { Err(Failure::Stuck) }
    }

    fn happen(&mut self, to: usize, event: Event) -> Result<(), Failure> {
        let replica = &mut self.replicas[to];
        let input = match event {
            Event::Request(id, request) => Input::Request(id, request),
            Event::Message(from, message) => Input::Message(from, replica.verifier.verify(message)?),
            Event::Own(input) => input,
        };
        let mut out = Vec::new();
        replica.core.step(self.now, input, &mut out);
        out.into_iter().try_for_each(|action| self.perform(to, action))
    }

    fn perform(&mut self, at: usize, action: Action) -> Result<(), Failure> {
        match action {
            // Disks are not measured here.
            Action::Persist(_) | Action::Compact(_) | Action::Executed(_) => {}
            Action::Attest(digests) => {
                let attestation = self.replicas[at].log.append(&digests)?;
                self.events.push_back((at, Event::Own(Input::Attested(attestation))));
            }
            Action::Send(to, message) => self.post(at, to.number() as usize, &message),
            Action::Broadcast(message) => {
                (0..self.replicas.len()).filter(|to| *to != at).for_each(|to| self.post(at, to, &message));
            }
            Action::Reply(id, Outcome::Executed(history, _)) => {
                if let Some(client) = self.clients.reply(&id, history)? {
                    self.progress = Instant::now();
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
        self.events.push_back((to, Event::Message(ReplicaId::new(from as u32), message)));
    }

    /// Clients send to the primary, which is the first replica: nothing fails here.
    fn send(&mut self, client: usize) {
        let (id, request) = self.clients.next(client);
        self.events.push_back((0, Event::Request(id, request)));
    }
}
