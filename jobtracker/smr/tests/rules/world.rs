//! A small cluster of cores in one thread, whose messages the test delivers, drops and changes.

use crate::fixture::{Hashed, Log, cluster, config_with, record, replica, request, small};
use quorate_counter::{Epoch, EpochRecord, Head, LogKey, Simulated, TrustedLog};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use quorate_smr::{
    Action, Core, Fault, FaultKind, History, Input, Limits, Outcome, Payload, Record, RequestId, RestoreError,
    Verifier, View,
    message::{Admission, Admits, Batch, Claim, Flush, Header, Message, Signed, Statement, WireMessage},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub(crate) struct Node {
    pub(crate) core: Core<Log>,
    pub(crate) device: Simulated,
    pub(crate) disk: Disk,
    pub(crate) replies: Vec<(RequestId, Outcome)>,
    pub(crate) faults: Vec<Fault>,
    /// Every action, in order.
    pub(crate) done: Vec<Action>,
    pub(crate) up: bool,
    /// The trusted log is busy: what it is given waits here.
    pub(crate) busy: Option<VecDeque<Vec<Digest>>>,
}

/// What outlives a crash.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) compaction: Option<(Payload, Vec<u8>)>,
    pub(crate) records: Vec<Record>,
}

type Filter = Box<dyn FnMut(ReplicaId, ReplicaId, WireMessage) -> Option<WireMessage>>;

pub(crate) struct World {
    pub(crate) limits: Limits,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) wire: VecDeque<(ReplicaId, ReplicaId, WireMessage)>,
    /// What becomes of a message: itself, another one, or nothing.
    pub(crate) filter: Filter,
    /// Replicas whose links are down.
    pub(crate) cut: BTreeSet<u32>,
    /// All that was sent, after the filter.
    pub(crate) sent: Vec<(ReplicaId, ReplicaId, WireMessage)>,
    genesis: Vec<EpochRecord>,
    verifier: Verifier,
}

/// A claim, signed as its replica does.
pub(crate) fn signed(by: u32, claim: Claim) -> Signed {
    let bytes = canonical::encode(&("quorate smr claim v1", cluster(), replica(by), &claim));
    Signed { by: replica(by), signature: Hashed::signature(replica(by), &bytes), claim }
}

pub(crate) fn wish(by: u32, target: u64) -> Signed {
    signed(by, Claim::ViewChange { target: View(target) })
}

/// VIEW-CHANGE, asked for by these.
pub(crate) fn view_change(target: u64, askers: &[u32]) -> Statement {
    Statement::ViewChange { target: View(target), requests: askers.iter().map(|by| wish(*by, target)).collect() }
}

/// A batch of one request of a client that is named by its number.
pub(crate) fn batch(client: u64, sequence: u64) -> Batch {
    Batch { requests: vec![request(client, 1, sequence, "a batch").1], admission: None }
}

impl World {
    pub(crate) fn new(replicas: u32) -> Self {
        Self::with(replicas, small())
    }

    pub(crate) fn with(replicas: u32, limits: Limits) -> Self {
        Self::of((0..replicas).map(|number| record(number, 0)).collect(), limits)
    }

    /// Replicas that witness each other's logs. Here they always do: what must not be signed is the witnesses' business.
    pub(crate) fn witnessed(replicas: u32) -> Self {
        Self::of((0..replicas).map(|number| witnessed(number, replicas, 0)).collect(), small())
    }

    fn of(genesis: Vec<EpochRecord>, limits: Limits) -> Self {
        let verifier = Verifier::new(&config_with(0, genesis.clone(), limits.clone()));
        let mut world = Self {
            limits,
            now: 10_000,
            nodes: Vec::new(),
            wire: VecDeque::new(),
            filter: Box::new(|_, _, message| Some(message)),
            cut: BTreeSet::new(),
            sent: Vec::new(),
            genesis,
            verifier,
        };
        for number in 0..world.genesis.len() as u32 {
            let device = world.fresh_device(number);
            let mut out = Vec::new();
            let start = (device.record().clone(), device.head());
            let config = config_with(number, world.genesis.clone(), world.limits.clone());
            let core = Core::new(config, OrderedTime(world.now), Log::default(), start, &mut out);
            let (replies, faults, done) = (Vec::new(), Vec::new(), Vec::new());
            let disk = Disk::default();
            world.nodes.push(Node { core, device, disk, replies, faults, done, up: true, busy: None });
            assert!(out.is_empty(), "a new replica has nothing to do");
        }
        world.run(3);
        world
    }

    fn fresh_device(&self, number: u32) -> Simulated {
        let record = &self.genesis[number as usize];
        if record.key.witnesses().is_some() { Simulated::unwitnessed(record.clone()) } else { device(number) }
    }

    pub(crate) fn replicas(&self) -> u32 {
        self.nodes.len() as u32
    }
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.verifier
    }
    pub(crate) fn node(&self, number: u32) -> &Node {
        &self.nodes[number as usize]
    }
    pub(crate) fn node_mut(&mut self, number: u32) -> &mut Node {
        &mut self.nodes[number as usize]
    }
    pub(crate) fn core(&self, number: u32) -> &Core<Log> {
        &self.node(number).core
    }
    /// How many requests a replica executed.
    pub(crate) fn executed(&self, number: u32) -> usize {
        self.core(number).machine().requests.len()
    }
    /// How far a replica read another's log.
    pub(crate) fn position(&self, number: u32, of: u32) -> u64 {
        let report = self.core(number).report();
        report.peers.iter().find(|peer| peer.replica == replica(of)).expect("a peer").position.0
    }
    /// How many statements of another's log wait.
    pub(crate) fn waiting(&self, number: u32, of: u32) -> usize {
        let report = self.core(number).report();
        report.peers.iter().find(|peer| peer.replica == replica(of)).expect("a peer").waiting
    }

    pub(crate) fn step(&mut self, number: u32, input: Input) {
        let mut out = Vec::new();
        let now = OrderedTime(self.now);
        self.node_mut(number).core.step(now, input, &mut out);
        self.perform(number, out);
    }

    fn perform(&mut self, number: u32, actions: Vec<Action>) {
        for action in actions {
            self.node_mut(number).done.push(action.clone());
            match action {
                Action::Persist(record) => self.node_mut(number).disk.records.push(record),
                Action::Attest(digests) => self.attest(number, digests),
                Action::Send(to, message) => self.send(number, to, message.to_wire()),
                Action::Broadcast(message) => {
                    for to in (0..self.replicas()).filter(|to| *to != number) {
                        self.send(number, replica(to), message.to_wire());
                    }
                }
                Action::Reply(id, outcome) => self.node_mut(number).replies.push((id, outcome)),
                Action::Executed(_) => {}
                Action::Compact(compaction) => {
                    let compacted = Some((compaction.state, compaction.ledger));
                    self.node_mut(number).disk = Disk { compaction: compacted, records: compaction.records };
                }
                Action::Renew(epoch) => {
                    let device = &mut self.node_mut(number).device;
                    device.renew(epoch).expect("a later epoch");
                    let certificate = device.append(&[]).expect("it works").certificate;
                    let renewed = Input::Renewed(device.record().clone(), certificate);
                    self.step(number, renewed);
                }
                Action::Accuse(fault) => self.node_mut(number).faults.push(fault),
            }
        }
    }

    fn attest(&mut self, number: u32, digests: Vec<Digest>) {
        let node = self.node_mut(number);
        if let Some(waiting) = &mut node.busy {
            return waiting.push_back(digests);
        }
        let attestation = node.device.append(&digests).expect("it works");
        self.step(number, Input::Attested(attestation));
    }

    /// The trusted log does what it was given, and goes on at once from now on.
    pub(crate) fn release(&mut self, number: u32) {
        for digests in self.node_mut(number).busy.take().unwrap_or_default() {
            self.attest(number, digests);
        }
        self.deliver();
    }

    fn send(&mut self, from: u32, to: ReplicaId, message: WireMessage) {
        if self.cut.contains(&from) || self.cut.contains(&to.number()) {
            return;
        }
        if let Some(message) = (self.filter)(replica(from), to, message) {
            self.sent.push((replica(from), to, message.clone()));
            self.wire.push_back((replica(from), to, message));
        }
    }

    pub(crate) fn filter(
        &mut self,
        filter: impl FnMut(ReplicaId, ReplicaId, WireMessage) -> Option<WireMessage> + 'static,
    ) {
        self.filter = Box::new(filter);
    }
    pub(crate) fn no_filter(&mut self) {
        self.filter(|_, _, message| Some(message));
    }

    /// Gives a message to a replica as if another had sent it.
    pub(crate) fn inject(&mut self, from: u32, to: u32, message: WireMessage) {
        self.wire.push_back((replica(from), replica(to), message));
        self.deliver();
    }

    /// Gives a message to all who are up.
    pub(crate) fn inject_all(&mut self, from: u32, message: &WireMessage) {
        for to in (0..self.replicas()).filter(|to| *to != from) {
            self.wire.push_back((replica(from), replica(to), message.clone()));
        }
        self.deliver();
    }

    pub(crate) fn deliver(&mut self) {
        while let Some((from, to, message)) = self.wire.pop_front() {
            self.hand_over(from, to, message);
        }
    }

    /// A message has arrived.
    pub(crate) fn hand_over(&mut self, from: ReplicaId, to: ReplicaId, message: WireMessage) {
        let up = self.nodes.get(to.number() as usize).is_some_and(|node| node.up);
        if let (true, Ok(verified)) = (up, self.verifier.verify(message)) {
            self.step(to.number(), Input::Message(from, verified));
        }
    }

    /// Lets so many statuses pass.
    pub(crate) fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.deliver();
            self.now += self.limits.status_interval;
            for number in 0..self.replicas() {
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
        for number in 0..self.replicas() {
            if self.node(number).up {
                self.ask_one(number, client, sequence, text);
            }
        }
        self.deliver();
    }

    /// A client gives its request to one replica.
    pub(crate) fn ask_one(&mut self, number: u32, client: u64, sequence: u64, text: &str) {
        let (id, payload) = request(client, 1, sequence, text);
        self.step(number, Input::Request(id, payload));
    }

    /// So many requests of one client, one after the other, each executed by `by` before the next.
    pub(crate) fn ask_many(&mut self, client: u64, sequences: std::ops::Range<u64>, by: u32) {
        for sequence in sequences {
            let before = self.executed(by);
            self.ask(client, sequence, "work");
            self.until("a request is executed", |world| world.executed(by) > before);
        }
    }

    pub(crate) fn crash(&mut self, number: u32) {
        self.node_mut(number).up = false;
    }

    /// Starts a replica again from its disk and its device.
    pub(crate) fn restart(&mut self, number: u32) {
        let disk = self.node(number).disk.clone();
        self.restart_from(number, disk).expect("what was kept can be read");
    }

    /// Starts a replica again from some disk and its device.
    pub(crate) fn restart_from(&mut self, number: u32, disk: Disk) -> Result<(), RestoreError> {
        let config = config_with(number, self.genesis.clone(), self.limits.clone());
        let device = &self.node(number).device;
        let (device, now, mut out) = ((device.record().clone(), device.head()), OrderedTime(self.now), Vec::new());
        let Disk { compaction, records } = disk.clone();
        let core = Core::restore(config, now, Log::default(), device, compaction, records, &mut out)?;
        let node = self.node_mut(number);
        (node.core, node.disk, node.up, node.busy) = (core, disk, true, None);
        self.perform(number, out);
        Ok(())
    }

    /// Starts a replica that has lost everything but its keys. Its trusted log begins with an epoch that it used before.
    pub(crate) fn restart_wiped(&mut self, number: u32) {
        self.node_mut(number).device = self.fresh_device(number);
        self.restart_from(number, Disk::default()).expect("there is nothing that cannot be read");
    }

    /// Says something by a liar's trusted log. Whoever lies is not up: the test speaks for it.
    pub(crate) fn lie(&mut self, number: u32, statements: Vec<Statement>, batches: Vec<Batch>) -> WireMessage {
        assert!(!self.node(number).up, "an honest replica is made to lie");
        say(&mut self.node_mut(number).device, statements, batches)
    }

    /// What a replica has said by its trusted log, in order, epochs after each other.
    pub(crate) fn statements(&self, of: u32) -> Vec<Statement> {
        let mut said = BTreeMap::new();
        for (_, _, message) in &self.sent {
            if let Message::Flush(flush, _) = message
                && flush.replica == replica(of)
            {
                let places = flush.statements.iter().enumerate();
                said.extend(places.map(|(at, said)| ((flush.epoch, flush.after.after(at)), said.clone())));
            }
        }
        said.into_values().collect()
    }

    /// The rules that a replica says another broke.
    pub(crate) fn breaches(&self, by: u32, of: u32) -> Vec<&str> {
        let faults = self.node(by).faults.iter().filter(|fault| fault.replica == replica(of));
        let rule = |fault: &'_ Fault| matches!(fault.kind, FaultKind::Breach { .. });
        let mut rules = Vec::new();
        for fault in faults.filter(|fault| rule(fault)) {
            if let FaultKind::Breach { what, .. } = &fault.kind {
                rules.push(what.as_str());
            }
        }
        rules
    }

    /// Nobody who is up accused anybody.
    pub(crate) fn is_peaceful(&self) -> bool {
        self.nodes.iter().filter(|node| node.up).all(|node| node.faults.is_empty())
    }

    /// All replicas that are up executed the same.
    pub(crate) fn agree(&self) -> bool {
        let up: Vec<_> = self.nodes.iter().filter(|node| node.up).collect();
        up.windows(2).all(|pair| {
            pair[0].core.executed() == pair[1].core.executed() && pair[0].core.machine() == pair[1].core.machine()
        })
    }
}

/// A log that all replicas witness.
pub(crate) fn witnessed(number: u32, replicas: u32, epoch: u64) -> EpochRecord {
    let quorum = replicas - (replicas - 1) / 3;
    let key = LogKey::SimulatedWitnesses { key: [7; 32], witnesses: replicas, quorum };
    EpochRecord { key, ..record(number, epoch) }
}

pub(crate) fn device(number: u32) -> Simulated {
    Simulated::new([number as u8; 32], cluster(), replica(number))
}

/// A replica asks for an epoch to be admitted.
pub(crate) fn admission(number: u32, epoch: u64) -> Admission {
    let mut device = device(number);
    device.renew(Epoch(epoch)).expect("a later epoch");
    let (record, certificate) = (device.record().clone(), device.append(&[]).expect("it works").certificate);
    let bytes = canonical::encode(&("quorate smr admission v1", &record, &certificate));
    Admission { signature: Hashed::signature(replica(number), &bytes), record, certificate }
}

/// Says something by a trusted log.
pub(crate) fn say(device: &mut Simulated, statements: Vec<Statement>, batches: Vec<Batch>) -> WireMessage {
    let (record, Head { position: after, .. }) = (device.record().clone(), device.head());
    let digests: Vec<Digest> = statements.iter().map(Statement::digest).collect();
    let certificate = device.append(&digests).expect("it works").certificate;
    let flush = Flush { replica: record.replica, epoch: record.epoch, after, statements, certificate };
    Message::Flush(Arc::new(flush), batches.into_iter().map(Arc::new).collect())
}

/// PREPARE, and the history with it.
pub(crate) fn prepare(view: u64, before: History, time: u64, batch: &Batch) -> (Statement, History) {
    let (seq, time) = (before.seq.next(), OrderedTime(time));
    let admits = batch.admission.as_ref().map(|it| Admits { record: it.record.clone(), left: View(view).next() });
    let header = Header { seq, time, batch: batch.digest(), admits };
    let after = header.follow(before);
    (Statement::Prepare { view: View(view), header }, after)
}

/// COMMIT.
pub(crate) fn commit(view: u64, upto: History) -> Statement {
    Statement::Commit { view: View(view), upto }
}

/// The history before everything.
pub(crate) fn empty() -> History {
    History::empty(cluster())
}
