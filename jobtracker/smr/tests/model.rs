//! A small model around the real core: three replicas, two views, two requests, and every order in which messages arrive
//! and clocks run out.
//!
//! Messages stay in flight until they are delivered, and none must be: that is delay, reordering, loss and a crash in one.
//! What heals losses (statuses, questions and their answers) is left out, so that what remains are logs and wishes for
//! another view, on which safety rests. Trusted logs answer at once.

#[path = "rules/fixture.rs"]
mod fixture;

use fixture::{Log, cluster, config, record, replica, request, small};
use quorate_counter::{Simulated, TrustedLog};
use quorate_protocol::{canonical, digest::Digest, ids::OrderedTime};
use quorate_smr::{
    Action, Core, Input, Limits, Seq, Verified, Verifier, View,
    message::{Claim, Message, OwnMessage},
};
use stateright::{Checker, Model, Property};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

const REPLICAS: u32 = 3;

/// One replica with its trusted log and its clock.
#[derive(Clone)]
struct Node {
    core: Core<Log>,
    head: quorate_counter::Head,
    clock: u64,
    timeouts: u8,
    accuses: bool,
    digest: Digest,
}

/// A message in flight, by sender, receiver and digest.
type Letter = (u32, u32, Digest);

#[derive(Clone)]
struct State {
    nodes: Vec<Arc<Node>>,
    wire: BTreeMap<Letter, Verified>,
    /// The second request was given.
    asked: bool,
}

impl State {
    fn identity(&self) -> impl Iterator<Item = (Digest, u8, bool)> {
        self.nodes.iter().map(|node| (node.digest, node.timeouts, node.accuses))
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.identity().for_each(|node| node.hash(to));
        self.wire.keys().for_each(|letter| letter.hash(to));
        self.asked.hash(to);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.identity().eq(other.identity()) && self.wire.keys().eq(other.wire.keys()) && self.asked == other.asked
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            writeln!(f, "{} in view {}, {:?}", node.core.report().me, node.core.view(), node.core.executed())?;
        }
        self.wire.iter().try_for_each(|((from, to, _), message)| writeln!(f, "{from} -> {to}: {:?}", message.message()))
    }
}

/// What may happen next.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Arrives(Letter),
    RunsOut(u32),
    Asked,
}

struct Cluster {
    limits: Limits,
    verifier: Verifier,
    /// It has done its part of the start, and does nothing more.
    crashed: Option<u32>,
    /// How often each clock runs out: one less than there are views.
    timeouts_max: u8,
    start: State,
}

/// What safety rests on; everything else is lost.
fn matters(message: &OwnMessage) -> bool {
    match message {
        Message::Flush(..) => true,
        Message::Claim(signed) => matches!(signed.claim, Claim::ViewChange { .. }),
        _ => false,
    }
}

impl Cluster {
    fn new(crashed: Option<u32>, timeouts_max: u8) -> Self {
        let limits = Limits { batch_requests_max: 1, status_interval: 500, ..small() };
        let verifier = Verifier::new(&config(0, REPLICAS, limits.clone()));
        let start = State { nodes: Vec::new(), wire: BTreeMap::new(), asked: false };
        let mut cluster = Self { limits, verifier, crashed, timeouts_max, start };
        cluster.start = cluster.started();
        cluster
    }

    /// All have heard of each other and have the first request, which its primary has proposed.
    fn started(&self) -> State {
        let mut nodes = Vec::new();
        let mut statuses = Vec::new();
        for number in 0..REPLICAS {
            let (mut out, head) = (Vec::new(), record(number, 0).genesis());
            let config = config(number, REPLICAS, self.limits.clone());
            let device = (record(number, 0), head);
            let mut core = Core::new(config, OrderedTime(10_000), Log::default(), device, &mut out);
            core.step(OrderedTime(10_000), Input::Tick, &mut out);
            for action in out {
                if let Action::Broadcast(message) = action {
                    statuses.push((number, message));
                }
            }
            let digest = core.digest();
            nodes.push(Arc::new(Node { core, head, clock: 10_000, timeouts: 0, accuses: false, digest }));
        }
        let mut state = State { nodes, wire: BTreeMap::new(), asked: false };
        for (from, message) in statuses {
            let verified = self.verifier.verify(message.to_wire()).expect("well-formed");
            for to in (0..REPLICAS).filter(|to| *to != from) {
                self.step(&mut state, to, Input::Message(replica(from), verified.clone()));
            }
        }
        let (id, payload) = request(1, 1, 1, "work");
        for number in 0..REPLICAS {
            self.step(&mut state, number, Input::Request(id, payload.clone()));
        }
        state
    }

    fn running(&self) -> impl Iterator<Item = u32> {
        (0..REPLICAS).filter(|number| Some(*number) != self.crashed)
    }

    fn ask_again(&self, state: &mut State) {
        let (id, payload) = request(2, 1, 1, "work");
        for number in self.running() {
            self.step(state, number, Input::Request(id, payload.clone()));
        }
    }

    fn step(&self, state: &mut State, number: u32, input: Input) {
        let mut node = Node::clone(&state.nodes[number as usize]);
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            node.core.step(OrderedTime(node.clock), input, &mut out);
            for action in out {
                match action {
                    Action::Attest(digests) => {
                        let mut device = Simulated::new([number as u8; 32], cluster(), replica(number));
                        device.rollback(record(number, 0).epoch, node.head);
                        let attestation = device.append(&digests).expect("it works");
                        node.head = attestation.head;
                        inputs.push_back(Input::Attested(attestation));
                    }
                    Action::Broadcast(message) => {
                        (0..REPLICAS).filter(|to| *to != number).for_each(|to| self.post(state, number, to, &message));
                    }
                    Action::Send(to, message) => self.post(state, number, to.number(), &message),
                    Action::Accuse(_) => node.accuses = true,
                    Action::Renew(_) => panic!("nobody forgot anything"),
                    Action::Persist(_) | Action::Reply(..) | Action::Executed(_) | Action::Compact(_) => {}
                }
            }
        }
        node.digest = node.core.digest();
        state.nodes[number as usize] = Arc::new(node);
    }

    fn post(&self, state: &mut State, from: u32, to: u32, message: &OwnMessage) {
        if matters(message) && self.crashed != Some(to) {
            let wire = message.to_wire();
            let letter = (from, to, canonical::digest(&wire));
            state.wire.insert(letter, self.verifier.verify(wire).expect("honest replicas speak well"));
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Event>) {
        actions.extend(state.wire.keys().copied().map(Event::Arrives));
        let late = self.running().filter(|number| state.nodes[*number as usize].timeouts < self.timeouts_max);
        actions.extend(late.map(Event::RunsOut));
        if !state.asked {
            actions.push(Event::Asked);
        }
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        let mut state = last.clone();
        match event {
            Event::Arrives(letter) => {
                let message = state.wire.remove(&letter)?;
                self.step(&mut state, letter.1, Input::Message(replica(letter.0), message));
            }
            Event::RunsOut(number) => {
                let node = Arc::make_mut(state.nodes.get_mut(number as usize)?);
                node.timeouts += 1;
                // The second time it waits for twice as long.
                node.clock += self.limits.view_timeout << (node.timeouts - 1);
                self.step(&mut state, number, Input::Tick);
            }
            Event::Asked => {
                state.asked = true;
                self.ask_again(&mut state);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("SMR-4: all execute the same", |_, state: &State| agree(state)),
            Property::always("no honest replica is accused", |_, state: &State| {
                state.nodes.iter().all(|node| !node.accuses)
            }),
            Property::always("SMR-16: nothing is executed twice", |_, state: &State| {
                (0..REPLICAS).all(|number| requests(state, number) <= 1 + usize::from(state.asked))
            }),
        ];
        // What shows that the model reaches what it is for.
        properties.extend(match self.crashed {
            None => Some(Property::sometimes("SMR-9: what 0 had committed is in the next view", |_, state: &State| {
                is_in(state, 0, 0) && requests(state, 0) > 0 && is_in(state, 1, 1) && requests(state, 1) > 0
            })),
            Some(0) => Some(Property::sometimes("SMR-10: the next view executes both", |_, state: &State| {
                [1, 2].iter().all(|number| is_in(state, *number, 1) && requests(state, *number) == 2)
            })),
            Some(1) => Some(Property::sometimes("SMR-2: both have left view 0", |_, state: &State| {
                [0, 2].iter().all(|number| changing_to(state, *number) == Some(View(1)))
            })),
            Some(_) => Some(Property::sometimes("SMR-10: the next view executes both", |_, state: &State| {
                [0, 1].iter().all(|number| is_in(state, *number, 1) && requests(state, *number) == 2)
            })),
        });
        properties
    }
}

fn is_in(state: &State, number: u32, view: u64) -> bool {
    state.nodes[number as usize].core.view() == View(view)
}

fn changing_to(state: &State, number: u32) -> Option<View> {
    state.nodes[number as usize].core.report().changing_to
}

fn requests(state: &State, number: u32) -> usize {
    state.nodes[number as usize].core.machine().requests.len()
}

fn agree(state: &State) -> bool {
    let last = state.nodes.iter().map(|node| node.core.executed().seq).max().unwrap_or_default();
    (1..=last.0).map(Seq).all(|seq| {
        let mut histories = state.nodes.iter().filter_map(|node| node.core.history_at(seq));
        let first = histories.next();
        histories.all(|history| Some(history) == first)
    })
}

/// Says how far the exploration came, and whether that was everything.
fn report(crashed: Option<u32>, states_max: usize, checker: &impl Checker<Cluster>) -> bool {
    let (all, distinct, depth) = (checker.state_count(), checker.unique_state_count(), checker.max_depth());
    println!("crashed: {crashed:?}; {all} states, {distinct} of them distinct, up to {depth} events deep");
    checker.assert_properties();
    all < states_max
}

/// Explores breadth first: every order of the first events.
fn explore(crashed: Option<u32>, states_max: usize) -> bool {
    let builder = Cluster::new(crashed, 1).checker().threads(2).target_state_count(states_max);
    report(crashed, states_max, &builder.spawn_bfs().join())
}

#[test]
fn every_order_of_the_first_events_keeps_three_replicas_alike() {
    explore(None, 150_000);
}

#[test]
fn every_order_of_all_events_keeps_two_replicas_alike_when_one_crashed() {
    for crashed in 0..REPLICAS {
        assert!(explore(Some(crashed), 100_000), "these are all states that there are");
    }
}

#[test]
fn orders_of_all_events_of_three_views_keep_two_replicas_alike() {
    for crashed in 0..REPLICAS {
        let builder = Cluster::new(Some(crashed), 2).checker().threads(2).target_state_count(50_000);
        report(Some(crashed), 50_000, &builder.spawn_dfs().join());
    }
}
