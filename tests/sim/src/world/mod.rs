//! One run: a queue of (tick, tie, node, event), and everybody who takes part. Nothing else decides what happens.
//!
//! A run has three phases. First faults happen, and only safety is looked at. Then everything heals, except liars, who may
//! go on, and all that was wanted must be done. Last, as many honest replicas stop as the bound still allows, and the
//! others must go on without them: who came back must really be back.

mod clients;
mod ending;
mod liars;
mod network;
mod replicas;
mod witnesses;

use crate::{
    actors::{Actor, Hands},
    client::Client,
    coverage::Coverage,
    fault::{DiskFate, Fault},
    journal::Journal,
    keys::{SimulatedKeys, identify},
    oracle::{Oracle, Violation},
    rng::Rng,
    scenario::Scenario,
};
use ending::Phase;
use network::Parcel;
use quorate_counter::{Considered, Epoch, EpochRecord, LogKey, Position, Simulated};
use quorate_protocol::{
    cluster::Agreement,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use quorate_smr::{Action, Config, Input, Outcome, Payload, RequestId, Verifier};
use replicas::{Brain, Device, Job};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

pub(crate) use witnesses::Witnesses;
use witnesses::{Asking, Word};

/// The slowest clock at tick 0.
const CLOCK_START: u64 = 1_000_000;
/// Events of a run, so that one that never ends does.
const EVENTS_MAX: u64 = 400_000;
/// Events between two looks at a replica's queues.
const LOOK_INTERVAL: u64 = 16;

/// Something that happens to somebody.
pub(crate) enum Event {
    /// A message arrives.
    Deliver { from: usize, to: usize, parcel: Rc<Parcel> },
    /// A request arrives.
    Request { to: usize, id: RequestId, bytes: Payload },
    /// An answer arrives.
    Answer { client: usize, from: usize, id: RequestId, outcome: Outcome },
    /// A core wanted to be woken.
    Wake(Place),
    /// A trusted log does what it was asked.
    Device(Place, Job),
    /// A trusted log says that it has.
    Done(Place, Input),
    /// Replicas speak as witnesses.
    Word { from: usize, to: usize, word: Rc<Word> },
    /// A witness has kept what it considered.
    Considered { place: Place, of: usize, considered: Considered },
    /// Not enough witnesses have answered yet to what was asked for so often.
    Ask(Place, u64),
    /// A client looks at the clock, unless it has made other plans since.
    Client(usize, u64),
    /// A fault's disk is remembered.
    Photograph(usize),
    /// A fault begins.
    Begin(usize),
    /// A fault ends.
    End(usize),
    /// A liar looks at the clock.
    Liar(usize),
    /// What was held back is sent.
    Release { from: usize, to: Option<ReplicaId>, parcel: Rc<Parcel> },
    /// Is it over?
    Look,
}

/// One life of one instance of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    node: usize,
    brain: usize,
    life: u32,
}

/// An event in the queue.
struct Entry {
    tick: u64,
    /// Random, so that what happens at one tick happens in any order.
    tie: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.tick, self.tie) == (other.tick, other.tie)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.tick, self.tie).cmp(&(other.tick, other.tie))
    }
}

/// A liar's mind.
struct Liar {
    actor: Box<dyn Actor>,
    hands: Hands,
    /// It is honest before this tick.
    from: u64,
    /// How much of each instance's shadow log was drafted.
    drafted: Vec<(Epoch, Position)>,
    /// Its real log is not the one that its core believes in.
    diverged: bool,
}

/// A replica.
struct Node {
    brains: Vec<Brain>,
    liar: Option<Liar>,
    config: Config,
    /// Milliseconds by which its clock is ahead.
    skew: u64,
    /// Milliseconds of an attestation.
    latency: u64,
    down: bool,
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunReport {
    /// Of all events and of what everybody knows at the end.
    pub digest: Digest,
    /// What was reached.
    pub coverage: Coverage,
    /// What must not be, and was.
    pub violation: Option<Violation>,
    /// How many events.
    pub events: u64,
}

/// A run.
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    tick: u64,
    events: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    witnesses: Witnesses,
    verifier: Verifier,
    /// Indices of the faults that are going on.
    active: Vec<usize>,
    phase: Phase,
    oracle: Oracle,
    coverage: Coverage,
    journal: Journal,
}

/// Runs a scenario. With `trace`, prints what happens.
pub(crate) fn run(scenario: &Scenario, trace: bool) -> RunReport {
    let mut world = World::new(scenario, trace);
    let stopped = catch_unwind(AssertUnwindSafe(|| world.run()));
    if stopped.is_err() {
        let what = crate::panics::last();
        world.oracle.violate("PANIC", || what);
    }
    world.outcome()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, trace: bool) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x0057_4f52_4c44);
        let cluster = Digest::of(&scenario.seed.to_le_bytes());
        let genesis: Vec<_> = (0..scenario.replicas).map(|node| record(scenario, cluster, node)).collect();
        let lies = (0..scenario.replicas).map(|node| scenario.lie_of(node).is_some());
        let witnesses = Witnesses::new(&genesis, lies);
        let node = |node| Node::new(scenario, node, &genesis, &witnesses, &mut rng);
        let nodes: Vec<_> = (0..scenario.replicas).map(node).collect();
        let verifier = Verifier::new(&nodes[0].config);
        let clients = (0..scenario.workload.clients).map(|index| Client::new(index, &scenario.workload)).collect();
        Self {
            scenario,
            rng,
            tick: 0,
            events: 0,
            queue: BinaryHeap::new(),
            nodes,
            clients,
            witnesses,
            verifier,
            active: Vec::new(),
            phase: Phase::Faults,
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            journal: Journal::new(trace),
        }
    }

    fn run(&mut self) {
        self.prepare();
        while let Some(Reverse(Entry { tick, event, .. })) = self.queue.pop() {
            self.tick = tick;
            self.events += 1;
            self.happen(event);
            if self.oracle.violation().is_some() || self.phase == Phase::Over {
                break;
            }
            if self.events > EVENTS_MAX {
                self.oracle.violate("LIVENESS", || format!("{EVENTS_MAX} events, and no end"));
            }
        }
    }

    fn prepare(&mut self) {
        for node in 0..self.nodes.len() {
            for brain in 0..self.nodes[node].brains.len() {
                self.start(node, brain);
            }
            if self.nodes[node].liar.is_some() {
                self.at(10, Event::Liar(node));
            }
        }
        for client in 0..self.clients.len() {
            let begins = self.rng.below(50);
            self.plan_client(client, begins);
        }
        for (index, fault) in self.scenario.faults.iter().enumerate() {
            let (from, until) = fault.span();
            if let Fault::Crash { disk: DiskFate::Old(tick), .. } = fault {
                self.at(*tick, Event::Photograph(index));
            }
            self.at(from, Event::Begin(index));
            if until < u64::MAX {
                self.at(until, Event::End(index));
            }
        }
        self.at(self.scenario.heals + 1, Event::Look);
    }

    /// Puts an event into the queue.
    fn at(&mut self, tick: u64, event: Event) {
        let tie = self.rng.draw();
        self.queue.push(Reverse(Entry { tick, tie, event }));
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.at(self.tick + ms, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, parcel } => self.deliver(from, to, &parcel),
            Event::Request { to, id, bytes } => self.request(to, id, &bytes),
            Event::Answer { client, from, id, outcome } => self.answer(client, from, id, outcome),
            Event::Wake(place) => self.wake(place),
            Event::Device(place, job) => self.device(place, job),
            Event::Done(place, input) => self.done(place, input),
            Event::Word { from, to, word } => self.hear_word(from, to, &word),
            Event::Considered { place, of, considered } => self.considered(place, of, considered),
            Event::Ask(place, asked) => self.ask_again(place, asked),
            Event::Client(client, plan) => self.client(client, plan),
            Event::Photograph(fault) => self.photograph(fault),
            Event::Begin(fault) => self.begin(fault),
            Event::End(fault) => self.end(fault),
            Event::Liar(node) => self.liar(node),
            Event::Release { from, to, parcel } => self.post(from, to, &parcel),
            Event::Look => self.look(),
        }
    }

    /// Gives a core an input, looks at what it did, and does what it wants.
    fn step(&mut self, node: usize, brain: usize, input: Input) {
        let now = self.clock(node, brain);
        let honest = self.nodes[node].liar.is_none();
        let Some(core) = &mut self.nodes[node].brains[brain].core else { return };
        let mut actions = Vec::new();
        if honest {
            core.step(now, input, &mut actions);
        } else if catch_unwind(AssertUnwindSafe(|| core.step(now, input, &mut actions))).is_err() {
            // What a liar does to its own core is nobody's business.
            self.coverage.count("liars whose core stopped");
            self.nodes[node].brains[brain].core = None;
            return;
        }
        self.journal.note(&[self.tick, node as u64, actions.len() as u64]);
        self.examine(node, brain);
        self.perform(node, brain, actions);
        self.plan_wake(node, brain);
    }

    /// A replica's clock, which never goes back while it runs.
    fn clock(&mut self, node: usize, brain: usize) -> OrderedTime {
        let now = OrderedTime(CLOCK_START + self.nodes[node].skew + self.tick);
        let brain = &mut self.nodes[node].brains[brain];
        brain.now = brain.now.max(now);
        brain.now
    }

    fn perform(&mut self, node: usize, brain: usize, actions: Vec<Action>) {
        for action in actions {
            self.notice(node, brain, &action);
            match action {
                Action::Persist(record) => self.nodes[node].brains[brain].disk.keep(record),
                Action::Compact(compaction) => self.nodes[node].brains[brain].disk.compact(compaction),
                Action::Attest(digests) => self.ask_device(node, brain, |mark| Job::Attest(digests, mark)),
                Action::Renew(epoch) => self.ask_device(node, brain, |mark| Job::Renew(epoch, mark)),
                Action::Send(to, message) => self.say(node, brain, Some(to), message),
                Action::Broadcast(message) => self.say(node, brain, None, message),
                Action::Reply(id, outcome) => self.reply(node, id, outcome),
                Action::Executed(_) | Action::Accuse(_) => {}
            }
        }
    }

    fn outcome(mut self) -> RunReport {
        for node in &self.nodes {
            for core in node.brains.iter().filter_map(|brain| brain.core.as_ref()) {
                self.journal.note_digest(core.digest());
            }
            if let Some(liar) = &node.liar {
                self.coverage.merge(&liar.hands.coverage);
            }
        }
        RunReport {
            digest: self.journal.digest(),
            coverage: self.coverage,
            violation: self.oracle.violation().cloned(),
            events: self.events,
        }
    }
}

fn device_key(cluster: Digest, node: usize) -> [u8; 32] {
    *Digest::of(&[cluster.as_bytes().as_slice(), &(node as u64).to_le_bytes()].concat()).as_bytes()
}

fn record(scenario: &Scenario, cluster: Digest, node: usize) -> EpochRecord {
    let key = match scenario.mode {
        Agreement::Minbft => LogKey::Simulated(device_key(cluster, node)),
        Agreement::Pbft => LogKey::SimulatedWitnesses {
            key: *cluster.as_bytes(),
            witnesses: scenario.replicas as u32,
            quorum: scenario.witness_quorum as u32,
        },
    };
    EpochRecord { cluster, replica: ReplicaId::new(node as u32), epoch: first_epoch(scenario.mode, node), key }
}

/// A cluster may begin in any epochs, as one does whose trusted logs are in TPMs.
fn first_epoch(mode: Agreement, node: usize) -> Epoch {
    match mode {
        Agreement::Minbft => Epoch(node as u64 % 3),
        Agreement::Pbft => Epoch(0),
    }
}

/// A node's trusted log, in its first epoch.
fn trusted_log(genesis: &EpochRecord) -> Simulated {
    let key = device_key(genesis.cluster, genesis.replica.number() as usize);
    let mut device = Simulated::new(key, genesis.cluster, genesis.replica);
    (0..genesis.epoch.0).for_each(|_| device.restart());
    device
}

/// Where the statements of a replica's core go.
fn device(genesis: &EpochRecord, lies: bool) -> Device {
    match &genesis.key {
        LogKey::SimulatedWitnesses { .. } if lies => Device::Trusted(Simulated::unwitnessed(genesis.clone())),
        LogKey::SimulatedWitnesses { .. } => Device::Witnessed(Box::new(Asking::new(genesis.clone()))),
        LogKey::Simulated(_) | LogKey::Software(_) | LogKey::Tpm(_) | LogKey::Witnessed(_) => {
            Device::Trusted(trusted_log(genesis))
        }
    }
}

impl Node {
    fn new(scenario: &Scenario, node: usize, genesis: &[EpochRecord], witnesses: &Witnesses, rng: &mut Rng) -> Self {
        let me = ReplicaId::new(node as u32);
        let cluster = genesis[0].cluster;
        let keys = Arc::new(SimulatedKeys { me });
        let liar = scenario.lie_of(node);
        let mut limits = scenario.limits.clone();
        if liar.is_some() {
            // The log that its core believes in is certified by nobody.
            limits.flushes_kept_max = usize::MAX;
        }
        let config = Config::new(cluster, me, genesis.to_vec(), limits, keys, Arc::new(identify));
        let brains = liar.map_or(1, |(lie, _)| lie.brains());
        Self {
            brains: (0..brains).map(|_| Brain::new(device(&genesis[node], liar.is_some()))).collect(),
            liar: liar.map(|(lie, from)| Liar::new(scenario, &config, lie, from, witnesses, rng.fork())),
            config: config.with_mutant(scenario.mutant),
            skew: scenario.skew[node],
            latency: scenario.log_latency[node],
            down: false,
        }
    }
}
