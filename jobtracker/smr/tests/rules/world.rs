//! A small cluster of cores in one thread, whose messages the test delivers, drops and changes.

use quorate_counter::{Epoch, EpochRecord, LogKey, Simulated, TrustedLog};
use quorate_protocol::{
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use quorate_smr::{
    Action, ClientId, Config, Core, Fault, Input, Keys, Limits, Outcome, Payload, Record, RequestId, StateMachine,
    Unreadable, Verifier,
    message::{Signature, WireMessage},
};
use std::{collections::VecDeque, sync::Arc};

pub(crate) fn replica(number: u32) -> ReplicaId {
    ReplicaId::new(number)
}

/// Signs by hashing a secret that only honest test code uses.
pub(crate) struct Hashed(pub(crate) ReplicaId);

impl Hashed {
    pub(crate) fn signature(by: ReplicaId, bytes: &[u8]) -> Signature {
        let mut all = by.number().to_be_bytes().to_vec();
        all.extend_from_slice(bytes);
        let digest = *Digest::of(&all).as_bytes();
        Signature(digest, digest)
    }
}

impl Keys for Hashed {
    fn sign(&self, bytes: &[u8]) -> Signature {
        Self::signature(self.0, bytes)
    }
    fn verify(&self, by: ReplicaId, bytes: &[u8], signature: &Signature) -> bool {
        Self::signature(by, bytes) == *signature
    }
}

/// Remembers what it executed, in order.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) times: Vec<u64>,
    pub(crate) deadline: Option<u64>,
    pub(crate) fired: u64,
}

impl StateMachine for Log {
    fn advance(&mut self, now: OrderedTime) {
        self.times.push(now.0);
        if self.deadline.is_some_and(|deadline| deadline <= now.0) {
            self.deadline = None;
            self.fired += 1;
        }
    }
    fn apply(&mut self, _: OrderedTime, id: &RequestId, request: &[u8]) -> Vec<u8> {
        if let Some(deadline) = request.get(24..).and_then(|text| text.strip_prefix(b"deadline ")) {
            self.deadline = std::str::from_utf8(deadline).ok().and_then(|text| text.parse().ok());
        }
        self.requests.push(request.to_vec());
        format!("{} of {}", self.requests.len(), id.sequence).into_bytes()
    }
    fn deadline(&self) -> Option<OrderedTime> {
        self.deadline.map(OrderedTime)
    }
    fn snapshot(&self) -> Vec<u8> {
        let state = (&self.requests, &self.times, self.deadline, self.fired);
        quorate_protocol::canonical::encode(&state)
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Unreadable> {
        let state = quorate_protocol::canonical::decode(snapshot, usize::MAX);
        let (requests, times, deadline, fired) = state.map_err(|error| Unreadable(error.to_string()))?;
        *self = Self { requests, times, deadline, fired };
        Ok(())
    }
}

/// `client`, `session`, `sequence` in eight bytes each, then anything.
pub(crate) fn request(client: u64, session: u64, sequence: u64, text: &str) -> (RequestId, Payload) {
    let mut bytes = Vec::new();
    [client, session, sequence].iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    bytes.extend_from_slice(text.as_bytes());
    (identify(&bytes).expect("well-formed"), bytes.into())
}

pub(crate) fn identify(bytes: &[u8]) -> Option<RequestId> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let client = ClientId(Digest::of(&number(0)?.to_be_bytes()));
    Some(RequestId { client, session: number(8)?, sequence: number(16)? })
}

pub(crate) struct Node {
    pub(crate) core: Core<Log>,
    pub(crate) device: Simulated,
    pub(crate) compaction: Option<(Payload, Vec<u8>)>,
    pub(crate) records: Vec<Record>,
    pub(crate) replies: Vec<(RequestId, Outcome)>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) up: bool,
}

type Filter = Box<dyn FnMut(ReplicaId, ReplicaId, WireMessage) -> Option<WireMessage>>;

pub(crate) struct World {
    pub(crate) limits: Limits,
    replicas: u32,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) wire: VecDeque<(ReplicaId, ReplicaId, WireMessage)>,
    /// What becomes of a message: itself, another one, or nothing.
    pub(crate) filter: Filter,
    /// All that was sent, after the filter.
    pub(crate) sent: Vec<(ReplicaId, ReplicaId, WireMessage)>,
}

pub(crate) fn cluster() -> Digest {
    Digest::of(b"a cluster of cores")
}

pub(crate) fn record(number: u32, epoch: u64) -> EpochRecord {
    let key = LogKey::Simulated([number as u8; 32]);
    EpochRecord { cluster: cluster(), replica: replica(number), epoch: Epoch(epoch), key }
}

pub(crate) fn small() -> Limits {
    Limits {
        batch_requests_max: 4,
        checkpoint_interval: 8,
        pipeline_max: 4,
        flush_statements_max: 16,
        flushes_kept_max: 64,
        waiting_max: 64,
        pending_max: 64,
        vouch_interval: 8,
        view_timeout: 1_000,
        status_interval: 50,
        ..Limits::default()
    }
}

impl World {
    pub(crate) fn new(replicas: u32) -> Self {
        Self::with(replicas, small())
    }

    pub(crate) fn with(replicas: u32, limits: Limits) -> Self {
        let mut world = Self {
            limits,
            replicas,
            now: 10_000,
            nodes: Vec::new(),
            wire: VecDeque::new(),
            filter: Box::new(|_, _, message| Some(message)),
            sent: Vec::new(),
        };
        for number in 0..replicas {
            let device = Simulated::new([number as u8; 32], cluster(), replica(number));
            let mut out = Vec::new();
            let start = (device.record().clone(), device.head());
            let config = world.config(number, replicas);
            let core = Core::new(config, OrderedTime(world.now), Log::default(), start, &mut out);
            let (compaction, records, replies, faults) = (None, Vec::new(), Vec::new(), Vec::new());
            world.nodes.push(Node { core, device, compaction, records, replies, faults, up: true });
            world.perform(number, out);
        }
        world.run(3);
        world
    }

    pub(crate) fn config(&self, number: u32, replicas: u32) -> Config {
        let genesis = (0..replicas).map(|number| record(number, 0)).collect();
        let (keys, identify) = (Arc::new(Hashed(replica(number))), Arc::new(identify));
        Config::new(cluster(), replica(number), genesis, self.limits.clone(), keys, identify)
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new(&self.config(0, self.nodes.len() as u32))
    }

    pub(crate) fn node(&self, number: u32) -> &Node {
        &self.nodes[number as usize]
    }
    pub(crate) fn core(&self, number: u32) -> &Core<Log> {
        &self.node(number).core
    }

    pub(crate) fn step(&mut self, number: u32, input: Input) {
        let mut out = Vec::new();
        let now = OrderedTime(self.now);
        self.nodes[number as usize].core.step(now, input, &mut out);
        self.perform(number, out);
    }

    pub(crate) fn perform(&mut self, number: u32, actions: Vec<Action>) {
        let replicas = self.replicas;
        for action in actions {
            match action {
                Action::Persist(record) => self.nodes[number as usize].records.push(record),
                Action::Attest(digests) => {
                    let attestation = self.nodes[number as usize].device.append(&digests).expect("it works");
                    self.step(number, Input::Attested(attestation));
                }
                Action::Send(to, message) => self.send(number, to, message.to_wire()),
                Action::Broadcast(message) => {
                    for to in (0..replicas).filter(|to| *to != number) {
                        self.send(number, replica(to), message.to_wire());
                    }
                }
                Action::Reply(id, outcome) => self.nodes[number as usize].replies.push((id, outcome)),
                Action::Executed(_) => {}
                Action::Compact(compaction) => {
                    let node = &mut self.nodes[number as usize];
                    node.compaction = Some((compaction.state, compaction.ledger));
                    node.records = compaction.records;
                }
                Action::Renew(epoch) => {
                    let device = &mut self.nodes[number as usize].device;
                    device.renew(epoch).expect("a later epoch");
                    let certificate = device.append(&[]).expect("it works").certificate;
                    let renewed = Input::Renewed(device.record().clone(), certificate);
                    self.step(number, renewed);
                }
                Action::Accuse(fault) => self.nodes[number as usize].faults.push(fault),
            }
        }
    }

    pub(crate) fn send(&mut self, from: u32, to: ReplicaId, message: WireMessage) {
        if let Some(message) = (self.filter)(replica(from), to, message) {
            self.sent.push((replica(from), to, message.clone()));
            self.wire.push_back((replica(from), to, message));
        }
    }

    /// Gives a message to a replica as if another had sent it.
    pub(crate) fn inject(&mut self, from: u32, to: u32, message: WireMessage) {
        self.wire.push_back((replica(from), replica(to), message));
        self.deliver();
    }

    pub(crate) fn deliver(&mut self) {
        let verifier = self.verifier();
        while let Some((from, to, message)) = self.wire.pop_front() {
            let up = self.nodes.get(to.number() as usize).is_some_and(|node| node.up);
            if let (true, Ok(verified)) = (up, verifier.verify(message)) {
                self.step(to.number(), Input::Message(from, verified));
            }
        }
    }

    /// Lets so many statuses pass.
    pub(crate) fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.deliver();
            self.now += self.limits.status_interval;
            for number in 0..self.nodes.len() as u32 {
                if self.node(number).up {
                    self.step(number, Input::Tick);
                }
            }
            self.deliver();
        }
    }

    /// Lets time pass until a condition holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if holds(self) {
                return;
            }
            self.run(1);
        }
        let reports: Vec<_> = self.nodes.iter().map(|node| node.core.report()).collect();
        panic!("in vain: {what}\n{reports:#?}");
    }

    /// A client gives its request to all replicas that are up.
    pub(crate) fn ask(&mut self, client: u64, sequence: u64, text: &str) {
        let (id, payload) = request(client, 1, sequence, text);
        for number in 0..self.nodes.len() as u32 {
            if self.node(number).up {
                self.step(number, Input::Request(id, payload.clone()));
            }
        }
        self.deliver();
    }

    /// So many requests of one client, one after the other, each executed by `by` before the next.
    pub(crate) fn ask_many(&mut self, client: u64, sequences: std::ops::Range<u64>, by: u32) {
        for sequence in sequences {
            let before = self.core(by).machine().requests.len();
            self.ask(client, sequence, "work");
            self.until("a request is executed", |world| world.core(by).machine().requests.len() > before);
        }
    }

    pub(crate) fn crash(&mut self, number: u32) {
        self.nodes[number as usize].up = false;
    }

    /// Starts a replica again from its disk and its device.
    pub(crate) fn restart(&mut self, number: u32) {
        let config = self.config(number, self.nodes.len() as u32);
        let node = &self.nodes[number as usize];
        let device = (node.device.record().clone(), node.device.head());
        let (compaction, records) = (node.compaction.clone(), node.records.clone());
        let (mut out, now) = (Vec::new(), OrderedTime(self.now));
        let core = Core::restore(config, now, Log::default(), device, compaction, records, &mut out);
        let node = &mut self.nodes[number as usize];
        node.core = core.expect("what was kept can be read");
        node.up = true;
        self.perform(number, out);
    }

    /// All replicas that are up executed the same, and this many batches at least.
    pub(crate) fn agree(&self) -> bool {
        let up: Vec<_> = self.nodes.iter().filter(|node| node.up).collect();
        up.windows(2).all(|pair| {
            pair[0].core.executed() == pair[1].core.executed() && pair[0].core.machine() == pair[1].core.machine()
        })
    }
}
