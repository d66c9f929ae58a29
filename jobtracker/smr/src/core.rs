//! The core: one replica's side of the agreement. [`Core::step`] takes an input and says what is to be done.
//!
//! The way of a request: the primary puts it into a batch and says PREPARE (`speak`); every replica reads every other's
//! log in order (`read`); backups say COMMIT for all that is sound up to a place (`speak`); what a quorum voted for is
//! committed and executed (`order`). When that takes too long, replicas move to another view (`change`). Whatever
//! was missed is noticed by the statuses and fetched (`learn`), or, when it is gone, replaced by a checkpoint
//! (`checkpoint`, `transfer`).
//!
//! A core's own statements take the same path as others': they count once the trusted log has attested them.

mod change;
mod checkpoint;
mod learn;
mod order;
mod read;
mod restore;
mod speak;
mod transfer;

pub use restore::RestoreError;

use crate::{
    action::{Action, Fault, FaultKind, Input, Outcome, Record},
    config::Config,
    invariants,
    ledger::Ledger,
    machine::StateMachine,
    message::{Admission, Body, Claim, Header, Message, OwnMessage, Signed, Standing, Status},
    pending::Pending,
    table::{ClientTable, Turn},
    types::{History, Payload, RequestId, Seq, View},
    verify::{Verified, Verifier, claim_bytes},
};
use checkpoint::Snapshot;
use quorate_counter::{Epoch, EpochRecord, Head, Position};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use transfer::Transfer;

/// Faults that are remembered.
const FAULTS_MAX: usize = 64;
/// Decided claims of one replica that are remembered: a chain that was fetched a moment ago meets one of them.
const DECIDED_MAX: usize = 8;
/// Batches that came before what proposes them.
const STASH_MAX: usize = 256;
/// Answers to one replica's questions between two statuses.
const ANSWERS_MAX: u32 = 64;

/// The epoch that a replica executes with, and from where its votes count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    record: EpochRecord,
    standing: Standing,
}

/// What this replica knows of another by its messages. Lost at a restart.
#[derive(Clone, Debug, Default, Serialize)]
struct Peer {
    /// Its last decided claims, oldest first.
    decided: VecDeque<Signed>,
    /// Its last checkpoint claims, oldest first.
    checkpoints: VecDeque<Signed>,
    /// Its last position claims, oldest first.
    positions: VecDeque<Signed>,
    /// Its wish for another view.
    wants: Option<Signed>,
    /// Its epoch that is not admitted yet, and since when that is known.
    admission: Option<(Admission, OrderedTime)>,
    /// When its last epoch was admitted.
    admitted: OrderedTime,
    /// It was heard of since the start, and knows no more of this replica's log than this replica.
    agrees_on_me: bool,
    /// The headers that it says follow the committed history.
    chain: Vec<(History, Header)>,
    /// Questions answered since the last status.
    answers: u32,
}

/// One replica's side of the agreement.
#[derive(Clone)]
pub struct Core<M> {
    config: Config,
    verifier: Verifier,
    now: OrderedTime,
    machine: M,
    table: ClientTable,
    members: Vec<Member>,
    executed: History,
    ledger: Ledger,
    bodies: BTreeMap<Digest, Arc<Body>>,
    /// Those that are on disk.
    kept_bodies: BTreeSet<Digest>,
    /// Batches of headers that are known, and that are not here.
    missing: BTreeMap<Digest, Seq>,
    stash: VecDeque<Arc<Body>>,
    pending: Pending,
    /// How many statements of the own queue the trusted log is busy with.
    attesting: Option<usize>,
    renewing: bool,
    /// The own epoch, until it is admitted.
    admission: Option<Admission>,
    /// The time of the last batch that was proposed here.
    proposed_time: OrderedTime,
    /// Epochs that were proposed in this view.
    proposed_admissions: BTreeSet<(ReplicaId, Epoch)>,
    peers: BTreeMap<ReplicaId, Peer>,
    /// Position claims of this replica that others gave back.
    own_positions: VecDeque<Signed>,
    /// The own wish for another view.
    wants: Option<Signed>,
    snapshots: BTreeMap<Seq, Snapshot>,
    transfer: Option<Transfer>,
    timers: Timers,
    faults: Vec<Fault>,
    /// More than f replicas contradict what was executed here: it says and counts nothing more.
    halted: bool,
    /// It may have forgotten what it said, until the others were heard.
    recovering: bool,
    /// It reads what was kept: nothing new is said.
    replaying: bool,
}

/// When things happened, by the local clock.
#[derive(Clone, Debug, Serialize)]
struct Timers {
    started: OrderedTime,
    status: OrderedTime,
    /// The last view began.
    view: OrderedTime,
    /// The last view was left.
    left: OrderedTime,
    /// The last batch was committed.
    progress: OrderedTime,
    /// Views asked for in vain since the last progress.
    backoff: u32,
    /// The committed history at the last status: whoever has not moved since asks others.
    committed_at_status: Seq,
    /// Headers were asked for.
    chain: OrderedTime,
    /// Rotates whom questions go to.
    turn: u64,
}

/// How a replica stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which replica.
    pub me: ReplicaId,
    /// The last view that it saw begin.
    pub view: View,
    /// The view that it wants or waits for instead.
    pub changing_to: Option<View>,
    /// The primary of its view.
    pub primary: ReplicaId,
    /// What it has executed.
    pub executed: History,
    /// The last committed batch.
    pub committed: Seq,
    /// The last stable checkpoint.
    pub stable: Seq,
    /// The epoch of its own trusted log.
    pub epoch: Epoch,
    /// Whether it votes: the cluster counts its epoch, and it knows what it said before.
    pub voting: bool,
    /// The others.
    pub peers: Vec<PeerReport>,
    /// Who is faulty.
    pub faults: Vec<Fault>,
    /// Whether more than f replicas contradict what was executed here.
    pub halted: bool,
    /// Requests that wait to be ordered.
    pub pending: usize,
}

/// How another replica looks from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Which.
    pub replica: ReplicaId,
    /// What it said that it has executed.
    pub decided: Option<History>,
    /// The admitted epoch of its trusted log.
    pub epoch: Epoch,
    /// How far its log was read.
    pub position: Position,
    /// Statements of its log that wait for something.
    pub waiting: usize,
}

impl<M: StateMachine> Core<M> {
    /// A core without a past, whose trusted log is in this epoch and at this head.
    pub fn new(
        config: Config,
        now: OrderedTime,
        machine: M,
        device: (EpochRecord, Head),
        out: &mut Vec<Action>,
    ) -> Self {
        let mut core = Self::blank(config, now, machine);
        core.compare_device(device, out);
        core
    }

    fn blank(config: Config, now: OrderedTime, machine: M) -> Self {
        assert_eq!(config.senseless(), None, "a cluster is what its configuration promises");
        let limits = &config.limits;
        assert!(
            limits.flushes_kept_max as u64 >= limits.vouch_interval * 3,
            "what is not vouched for yet fits in what is kept"
        );
        assert!((config.me.number() as usize) < config.genesis.len(), "a replica is of its cluster");
        let ledger = Ledger::new(&config);
        let members =
            ledger.streams.iter().map(|s| Member { record: s.record.clone(), standing: s.standing }).collect();
        let others = (0..config.replicas() as u32).map(ReplicaId::new).filter(|replica| *replica != config.me);
        Self {
            verifier: Verifier::new(&config),
            now,
            machine,
            table: ClientTable::default(),
            members,
            executed: ledger.committed,
            ledger,
            bodies: BTreeMap::new(),
            kept_bodies: BTreeSet::new(),
            missing: BTreeMap::new(),
            stash: VecDeque::new(),
            pending: Pending::default(),
            attesting: None,
            renewing: false,
            admission: None,
            proposed_time: OrderedTime::default(),
            proposed_admissions: BTreeSet::new(),
            peers: others.map(|replica| (replica, Peer::default())).collect(),
            own_positions: VecDeque::new(),
            wants: None,
            snapshots: BTreeMap::new(),
            transfer: None,
            timers: Timers {
                started: now,
                status: OrderedTime::default(),
                view: now,
                left: now,
                progress: now,
                backoff: 0,
                committed_at_status: Seq(0),
                chain: OrderedTime::default(),
                turn: u64::from(config.me.number()),
            },
            faults: Vec::new(),
            halted: false,
            recovering: config.replicas() > 1,
            replaying: false,
            config,
        }
    }

    /// Takes an input, at a time of the local clock in milliseconds, and says what is to be done.
    pub fn step(&mut self, now: OrderedTime, input: Input, out: &mut Vec<Action>) {
        self.step_all(now, [input], out);
    }

    /// Takes inputs that have come together, so that they can share batches and attestations.
    pub fn step_all(&mut self, now: OrderedTime, inputs: impl IntoIterator<Item = Input>, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        for input in inputs {
            match input {
                Input::Tick => {}
                Input::Message(from, message) => self.on_message(from, message, out),
                Input::Request(id, request) => self.on_request(id, request, out),
                Input::Attested(attestation) => self.on_attested(attestation, out),
                Input::Renewed(record, certificate) => self.on_renewed(record, certificate, out),
                Input::Lost => self.on_lost(out),
            }
        }
        self.settle(out);
        self.on_time(out);
        debug_assert_eq!(invariants::broken(self), None);
    }

    /// Does all that has become possible.
    fn settle(&mut self, out: &mut Vec<Action>) {
        let before = self.executed;
        while self.read_streams(out) | self.commit(out) | self.learn(out) | self.execute(out) {}
        if self.executed != before {
            out.push(Action::Executed(self.executed));
        }
        self.recover(out);
        self.join(out);
        self.begin_view(out);
        self.vote(out);
        self.propose(out);
        self.attest(out);
    }

    fn on_message(&mut self, from: ReplicaId, message: Verified, out: &mut Vec<Action>) {
        if !self.peers.contains_key(&from) {
            return;
        }
        match message.0 {
            Message::Flush(flush, bodies) => self.on_flush(from, flush, bodies, out),
            Message::Status(status) => self.on_status(from, *status, out),
            Message::Claim(signed) => self.on_claim(*signed, out),
            Message::Forward(body) => {
                for (id, request) in body.ids.iter().zip(&body.batch.requests) {
                    if self.table.turn(id) == Turn::Execute {
                        self.take_request(*id, request.clone());
                    }
                }
            }
            Message::FetchFlushes { of, epoch, after } => self.give_flushes(from, of, epoch, after, out),
            Message::Gone { of, epoch, after } => {
                if let Some(log) = self.ledger.log_mut(of, epoch).filter(|log| log.head.position == after) {
                    log.gone = true;
                }
            }
            Message::FetchPosition { of, epoch } => self.give_position(from, of, epoch, out),
            Message::FetchBodies(digests) => self.give_bodies(from, &digests, out),
            Message::Bodies(bodies) => bodies.into_iter().for_each(|body| self.take_missing(body, out)),
            Message::FetchChain(history) => self.give_chain(from, history, out),
            Message::Chain(after, headers) => self.take_chain(from, after, headers),
            Message::Stable(claims) => self.take_stable(claims, out),
            Message::FetchPages(root) => self.give_manifest(from, root, out),
            Message::Pages(root, manifest) => self.take_manifest(from, root, manifest, out),
            Message::FetchPage(digests) => self.give_pages(from, &digests, out),
            Message::Page(page) => self.take_page(from, page, out),
        }
    }

    /// [SMR-16]
    fn on_request(&mut self, id: RequestId, request: Payload, out: &mut Vec<Action>) {
        match self.table.turn(&id) {
            Turn::Execute => {
                if !self.take_request(id, request) {
                    out.push(Action::Reply(id, Outcome::Busy));
                }
            }
            Turn::Executed(history, reply) => out.push(Action::Reply(id, Outcome::Executed(history, reply))),
            Turn::Stale => out.push(Action::Reply(id, Outcome::Stale)),
        }
    }

    /// Keeps a request that is not executed, unless there is no room for it [SMR-17].
    fn take_request(&mut self, id: RequestId, request: Payload) -> bool {
        let limits = &self.config.limits;
        let room = self.pending.len() < limits.pending_max
            && self.pending.bytes() + request.len() <= limits.pending_bytes_max.max(limits.request_bytes_max);
        if room {
            self.pending.insert(id, request, self.now);
        }
        room || self.pending.contains(&id)
    }

    /// Whether this replica may take positions in its log.
    fn may_speak(&self) -> bool {
        let mine = &self.ledger.streams[self.config.me.number() as usize];
        !self.halted
            && !self.recovering
            && !self.replaying
            && !self.renewing
            && mine.record == self.ledger.own.record
            && mine.broken.is_none()
    }

    /// Once all others were heard and none knows more of this replica's log than itself, it has forgotten nothing. When
    /// some stay silent, f of them must do: the trusted log covers the rest, unless it was rolled back too; so do witnesses,
    /// who sign nothing else at a position that was certified [SMR-13].
    fn recover(&mut self, out: &mut Vec<Action>) {
        if self.replaying {
            return;
        }
        if self.recovering {
            let agreeing = self.peers.values().filter(|peer| peer.agrees_on_me).count();
            let waited = self.now.since(self.timers.started) >= self.config.limits.view_timeout;
            let careless = self.config.mutated(crate::config::Mutant::CounterFromDisk);
            if agreeing == self.peers.len() || (waited && agreeing >= self.config.faults()) || careless {
                self.recovering = false;
                self.timers.view = self.now;
            }
        }
        let admitted = &self.ledger.streams[self.config.me.number() as usize].record;
        if self.ledger.own.record.epoch < admitted.epoch && !self.renewing {
            self.renew(out);
        }
        if self.ledger.own.record == *admitted_record(&self.ledger, self.config.me) {
            self.admission = None;
        }
    }

    fn sign(&self, claim: Claim) -> Signed {
        let signature = self.config.keys.sign(&claim_bytes(self.config.cluster, self.config.me, &claim));
        Signed { by: self.config.me, claim, signature }
    }

    fn accuse(&mut self, replica: ReplicaId, kind: FaultKind, out: &mut Vec<Action>) {
        let same = |fault: &Fault| {
            fault.replica == replica && std::mem::discriminant(&fault.kind) == std::mem::discriminant(&kind)
        };
        if self.faults.len() < FAULTS_MAX && !self.faults.iter().any(same) {
            let fault = Fault { replica, kind };
            self.faults.push(fault.clone());
            out.push(Action::Accuse(fault));
        }
    }

    /// The assumptions do not hold: saying nothing is all that is safe.
    fn halt(&mut self) {
        self.halted = true;
    }

    fn keep_body(&mut self, body: Arc<Body>, out: &mut Vec<Action>) {
        self.missing.remove(&body.digest);
        if self.kept_bodies.insert(body.digest) {
            out.push(Action::Persist(Record::Body(canonical::encode(&*body.batch).into())));
        }
        self.bodies.insert(body.digest, body);
    }

    /// A header has become known: its batch is wanted.
    fn want_body(&mut self, header: &Header, out: &mut Vec<Action>) {
        let batch = header.batch;
        if let Some(body) = self.bodies.get(&batch).cloned() {
            // An equal batch was ordered before, and may be off the disk by now.
            return self.keep_body(body, out);
        }
        match self.stash.iter().position(|body| body.digest == batch).and_then(|at| self.stash.remove(at)) {
            Some(body) => self.keep_body(body, out),
            // What is executed needs it no more.
            None if header.seq <= self.executed.seq => {}
            None => {
                self.missing.insert(batch, header.seq);
            }
        }
    }

    fn take_missing(&mut self, body: Arc<Body>, out: &mut Vec<Action>) {
        if self.missing.contains_key(&body.digest) {
            self.keep_body(body, out);
        }
    }

    fn stash(&mut self, bodies: Vec<Arc<Body>>) {
        self.stash.extend(bodies);
        while self.stash.len() > STASH_MAX
            || (self.stash.len() > 1
                && self.stash.iter().map(|body| body.bytes).sum::<usize>() > self.config.limits.pending_bytes_max)
        {
            self.stash.pop_front();
        }
    }

    /// Another replica, after each status the next one: whoever is asked in vain is not asked again at once, whatever else
    /// is asked.
    fn somebody(&self) -> Option<ReplicaId> {
        let others = self.peers.len();
        if others == 0 { None } else { self.peers.keys().nth(self.timers.turn as usize % others).copied() }
    }

    /// Whether another replica may have one more answer before the next status: questions are cheap, answers are not.
    fn may_answer(&mut self, to: ReplicaId) -> bool {
        let Some(peer) = self.peers.get_mut(&to) else { return false };
        peer.answers += 1;
        peer.answers <= ANSWERS_MAX
    }

    /// When it wants [`Input::Tick`] at the latest.
    pub fn wakeup(&self) -> OrderedTime {
        let status = self.timers.status.after(self.config.limits.status_interval);
        let primary = self.ledger.view().primary(self.config.replicas()) == self.config.me;
        match self.machine.deadline() {
            Some(deadline) if primary && deadline > self.now => status.min(deadline),
            _ => status,
        }
    }
    /// The replicated state machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }
    /// What was executed.
    pub fn executed(&self) -> History {
        self.executed
    }
    /// The last view that began.
    pub fn view(&self) -> View {
        self.ledger.view()
    }
    /// The digest of the history after a batch, for the last few thousand of them.
    pub fn history_at(&self, seq: Seq) -> Option<Digest> {
        if seq > self.executed.seq { None } else { self.ledger.trunk.get(&seq).copied() }
    }

    /// How the replica stands.
    pub fn report(&self) -> Report {
        let view = self.ledger.view();
        let wanted = self.wants.iter().filter_map(|signed| match signed.claim {
            Claim::ViewChange { target } => Some(target),
            _ => None,
        });
        let peers = self.peers.iter().filter_map(|(replica, peer)| {
            let stream = self.ledger.stream(*replica)?;
            Some(PeerReport {
                replica: *replica,
                decided: peer.decided.back().and_then(|signed| signed.claim.history()),
                epoch: stream.record.epoch,
                position: stream.read.position,
                waiting: stream.waiting(),
            })
        });
        Report {
            me: self.config.me,
            view,
            changing_to: wanted
                .chain([self.ledger.own.standing.left])
                .max()
                .filter(|target| *target > view && self.may_speak()),
            primary: view.primary(self.config.replicas()),
            executed: self.executed,
            committed: self.ledger.committed.seq,
            stable: self.ledger.stable_seq(),
            epoch: self.ledger.own.record.epoch,
            voting: self.may_speak(),
            peers: peers.collect(),
            faults: self.faults.clone(),
            halted: self.halted,
            pending: self.pending.len(),
        }
    }

    /// A digest of all that the core knows.
    pub fn digest(&self) -> Digest {
        let bodies: Vec<&Digest> = self.bodies.keys().collect();
        let state = (self.machine.snapshot(), &self.table, &self.members, self.executed, &self.ledger, bodies);
        let rest = (&self.missing, &self.pending, self.attesting, self.renewing, &self.admission, &self.peers);
        let more = (&self.wants, &self.timers, &self.faults, self.halted, self.recovering, &self.proposed_admissions);
        canonical::digest(&(state, rest, more))
    }

    fn status(&self) -> OwnMessage {
        let heads = self.ledger.streams.iter().map(|stream| (stream.record.epoch, stream.head.position)).collect();
        let retired = self.ledger.retired.iter().flatten();
        let retired = retired.map(|log| (log.record.replica, log.record.epoch, log.head.position)).collect();
        let newest = self.snapshots.values().next_back();
        Message::Status(Box::new(Status {
            decided: self.sign(Claim::Decided { history: self.executed }),
            view: self.ledger.view(),
            heads,
            retired,
            wants: self.wants.clone(),
            checkpoint: newest.map(|snapshot| snapshot.claim.clone()),
            admission: self.known_admission().map(Box::new),
        }))
    }

    /// The own epoch, or another's that waits too: who tells only some must not make them suspect a primary that was not told.
    fn known_admission(&self) -> Option<Admission> {
        let others = self.peers.values().filter_map(|peer| peer.admission.as_ref());
        self.admission.clone().or_else(|| others.map(|(admission, _)| admission).next().cloned())
    }

    pub(crate) fn invariant_view(&self) -> invariants::Inside<'_> {
        invariants::Inside {
            config: &self.config,
            ledger: &self.ledger,
            executed: self.executed,
            pending: &self.pending,
            attesting: self.attesting,
            snapshots: self.snapshots.len(),
        }
    }
}

fn admitted_record(ledger: &Ledger, replica: ReplicaId) -> &EpochRecord {
    &ledger.streams[replica.number() as usize].record
}
