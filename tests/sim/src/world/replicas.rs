//! Replicas as processes: they start, stop, write, and wait for their trusted logs.

use super::{Event, LOOK_INTERVAL, Place, World};
use crate::{
    disk::{Contents, Disk},
    fault::{DiskFate, Fault, LogFate},
    machine::{Machine, Observation, Observer},
};
use quorate_counter::{Epoch, Head, Simulated, TrustedLog};
use quorate_protocol::{digest::Digest, ids::OrderedTime};
use quorate_smr::{
    Action, Core, FaultKind, History, Input, Record, Seq,
    message::{Claim, Message, OwnMessage, Statement},
};
use std::collections::{BTreeMap, VecDeque};

/// What a trusted log is asked for, with what must be durable before.
pub(crate) enum Job {
    Attest(Vec<Digest>, u64),
    Renew(Epoch, u64),
}

/// An instance of a replica: one, unless it is a twin.
pub(crate) struct Brain {
    pub(super) core: Option<Core<Machine>>,
    pub(super) device: Simulated,
    pub(super) disk: Disk,
    /// Disk and trusted log as they once were, by the fault that brings them back.
    photographs: BTreeMap<usize, (Contents, Epoch, Head)>,
    life: u32,
    pub(super) now: OrderedTime,
    wakes_at: Option<u64>,
    jobs: VecDeque<Job>,
    busy: bool,
    pub(super) observer: Observer,
    pub(super) executed: Option<History>,
}

impl Brain {
    pub(super) fn new(device: Simulated) -> Self {
        Self {
            core: None,
            device,
            disk: Disk::default(),
            photographs: BTreeMap::new(),
            life: 0,
            now: OrderedTime(0),
            wakes_at: None,
            jobs: VecDeque::new(),
            busy: false,
            observer: Observer::default(),
            executed: None,
        }
    }

    fn stop(&mut self) {
        self.core = None;
        self.life += 1;
        self.jobs.clear();
        self.busy = false;
        self.wakes_at = None;
        self.executed = None;
        self.now = OrderedTime(0);
    }
}

impl World<'_> {
    fn place(&self, node: usize, brain: usize) -> Place {
        Place { node, brain, life: self.nodes[node].brains[brain].life }
    }

    /// The instance, if it still lives that life.
    fn living(&mut self, place: Place) -> Option<&mut Brain> {
        let brain = &mut self.nodes[place.node].brains[place.brain];
        (brain.life == place.life && brain.core.is_some()).then_some(brain)
    }

    /// A process starts, with what its disk and its trusted log have.
    pub(super) fn start(&mut self, node: usize, index: usize) {
        let now = self.clock(node, index);
        let config = self.nodes[node].config.clone();
        let brain = &mut self.nodes[node].brains[index];
        let Contents { compaction, records } = brain.disk.contents();
        let device = (brain.device.record().clone(), brain.device.head());
        let machine = Machine::new(brain.observer.clone());
        let mut actions = Vec::new();
        let core = if compaction.is_none() && records.is_empty() {
            Ok(Core::new(config, now, machine, device, &mut actions))
        } else {
            Core::restore(config, now, machine, device, compaction, records, &mut actions)
        };
        match core {
            Ok(core) => brain.core = Some(core),
            Err(cause) => return self.oracle.violate("RESTORE", || format!("replica {node}: {cause}")),
        }
        self.examine(node, index);
        self.perform(node, index, actions);
        self.plan_wake(node, index);
    }

    /// A process is killed.
    pub(super) fn stop(&mut self, node: usize) {
        let mut rng = self.rng.fork();
        self.nodes[node].down = true;
        for brain in &mut self.nodes[node].brains {
            brain.stop();
            brain.disk.crash(&mut rng);
        }
    }

    /// A process is started again.
    pub(super) fn start_again(&mut self, node: usize) {
        self.nodes[node].down = false;
        for brain in 0..self.nodes[node].brains.len() {
            self.start(node, brain);
        }
    }

    pub(super) fn plan_wake(&mut self, node: usize, index: usize) {
        let place = self.place(node, index);
        let skew = self.nodes[node].skew;
        let brain = &mut self.nodes[node].brains[index];
        let Some(core) = &brain.core else { return };
        let wanted = core.wakeup().0.saturating_sub(super::CLOCK_START + skew).max(self.tick + 1);
        if brain.wakes_at.is_none_or(|planned| wanted < planned || planned <= self.tick) {
            brain.wakes_at = Some(wanted);
            self.at(wanted, Event::Wake(place));
        }
    }

    pub(super) fn wake(&mut self, place: Place) {
        let tick = self.tick;
        let Some(brain) = self.living(place).filter(|brain| brain.wakes_at == Some(tick)) else { return };
        brain.wakes_at = None;
        self.step(place.node, place.brain, Input::Tick);
    }

    pub(super) fn ask_device(&mut self, node: usize, index: usize, job: impl FnOnce(u64) -> Job) {
        let brain = &mut self.nodes[node].brains[index];
        let job = job(brain.disk.mark());
        let attests = |job: &Job| matches!(job, Job::Attest(..));
        if attests(&job) && brain.jobs.iter().any(attests) {
            self.oracle.violate("ONE-ATTESTATION", || format!("replica {node} asks for a second one"));
            return;
        }
        brain.jobs.push_back(job);
        self.next_job(node, index);
    }

    fn next_job(&mut self, node: usize, index: usize) {
        let place = self.place(node, index);
        let brain = &mut self.nodes[node].brains[index];
        if brain.busy {
            return;
        }
        if let Some(job) = brain.jobs.pop_front() {
            brain.busy = true;
            let durable = self.rng.below(self.scenario.disk_latency + 1);
            self.after(durable, Event::Device(place, job));
        }
    }

    /// What had to be durable is; the trusted log does its work.
    pub(super) fn device(&mut self, place: Place, job: Job) {
        let latency = self.log_latency(place.node);
        let Some(brain) = self.living(place) else { return };
        let input = match job {
            Job::Attest(digests, mark) => {
                brain.disk.sync(mark);
                Input::Attested(brain.device.append(&digests).expect("a flush is no longer than it may be"))
            }
            Job::Renew(epoch, mark) => {
                brain.disk.sync(mark);
                if let Err(cause) = brain.device.renew(epoch) {
                    return self.oracle.violate("RENEW", || format!("replica {}: {cause}", place.node));
                }
                let empty = brain.device.append(&[]).expect("it appends nothing");
                Input::Renewed(brain.device.record().clone(), empty.certificate)
            }
        };
        if let Input::Renewed(record, _) = &input {
            self.renew_pen(place.node, record.epoch);
        }
        self.after(latency, Event::Done(place, input));
    }

    pub(super) fn done(&mut self, place: Place, input: Input) {
        let Some(brain) = self.living(place) else { return };
        brain.busy = false;
        self.step(place.node, place.brain, input);
        self.next_job(place.node, place.brain);
    }

    fn log_latency(&self, node: usize) -> u64 {
        for index in &self.active {
            if let Fault::SlowLog { node: slow, latency, .. } = &self.scenario.faults[*index]
                && *slow == node
            {
                return *latency;
            }
        }
        self.nodes[node].latency
    }

    pub(super) fn photograph(&mut self, fault: usize) {
        if let Fault::Crash { node, .. } = &self.scenario.faults[fault] {
            let brain = &mut self.nodes[*node].brains[0];
            let picture = (brain.disk.durable().clone(), brain.device.record().epoch, brain.device.head());
            brain.photographs.insert(fault, picture);
        }
    }

    pub(super) fn begin(&mut self, fault: usize) {
        self.active.push(fault);
        self.journal.line(self.tick, || format!("begins: {}", self.scenario.faults[fault]));
        if let Fault::Crash { node, .. } = &self.scenario.faults[fault] {
            self.coverage.count("crashes");
            self.stop(*node);
        }
    }

    pub(super) fn end(&mut self, fault: usize) {
        self.active.retain(|active| *active != fault);
        self.journal.line(self.tick, || format!("ends: {}", self.scenario.faults[fault]));
        let Fault::Crash { node, disk, log, .. } = &self.scenario.faults[fault] else { return };
        let brain = &mut self.nodes[*node].brains[0];
        let (contents, epoch, head) = brain
            .photographs
            .remove(&fault)
            .unwrap_or_else(|| (Contents::default(), brain.device.record().epoch, brain.device.head()));
        match disk {
            DiskFate::Kept => {}
            DiskFate::Old(_) => {
                self.coverage.count("starts with an old disk");
                brain.disk.replace(contents);
            }
            DiskFate::Wiped => {
                self.coverage.count("starts with an empty disk");
                brain.disk.replace(Contents::default());
            }
        }
        match log {
            LogFate::Kept => {}
            LogFate::Reset => {
                self.coverage.count("trusted logs reset");
                brain.device.restart();
            }
            LogFate::RolledBack => {
                self.coverage.count("trusted logs rolled back");
                brain.device.rollback(epoch, head);
            }
        }
        // Another crash of the same replica may have ended, or not begun to end, meanwhile.
        let still_down = self
            .active
            .iter()
            .any(|index| matches!(&self.scenario.faults[*index], Fault::Crash { node: other, .. } if other == node));
        if !still_down && self.nodes[*node].down {
            self.start_again(*node);
        }
    }

    /// Looks at what a core shows after a step.
    pub(super) fn examine(&mut self, node: usize, index: usize) {
        let honest = self.nodes[node].liar.is_none();
        let brain = &mut self.nodes[node].brains[index];
        let seen: Vec<_> = brain.observer.borrow_mut().drain(..).collect();
        let Some(core) = brain.core.as_ref().filter(|_| honest) else { return };
        for observation in seen {
            if matches!(observation, Observation::Restored) {
                self.coverage.count("states restored");
            }
            self.oracle.observe(node, observation);
        }
        let executed = core.executed();
        if brain.executed != Some(executed) {
            let before = brain.executed.replace(executed).map_or(executed.seq, |history| history.seq.next());
            for seq in (before.0..=executed.seq.0).map(Seq) {
                if let Some(digest) = core.history_at(seq) {
                    self.oracle.history(node, History { seq, digest });
                }
            }
            self.oracle.history(node, executed);
            self.oracle.state(node, executed.seq, core.machine().digest());
            self.journal.note_digest(executed.digest);
            self.journal.line(self.tick, || {
                format!("replica {node} has executed {} {}", executed.seq, executed.digest.short())
            });
        }
        if self.events.is_multiple_of(LOOK_INTERVAL) {
            let report = core.report();
            if report.peers.iter().any(|peer| peer.waiting > 0) {
                self.coverage.count("looks that found statements waiting");
            }
            self.oracle.bounds(node, &self.scenario.limits, &report);
        }
    }

    /// Counts what an honest replica does, and judges what it claims.
    pub(super) fn notice(&mut self, node: usize, index: usize, action: &Action) {
        if self.nodes[node].liar.is_some() {
            return;
        }
        match action {
            Action::Persist(Record::Learned(_) | Record::Linked(..)) => {
                self.coverage.count("batches learned from others")
            }
            Action::Persist(Record::Certified(_)) => self.coverage.count("logs certified"),
            Action::Persist(Record::Resumed(_)) => self.coverage.count("logs resumed at a later head"),
            Action::Persist(Record::Own(statement)) => self.notice_statement(node, index, statement),
            Action::Persist(Record::Flush(_) | Record::Body(_) | Record::Renewed(..)) => {}
            Action::Compact(_) => self.coverage.count("checkpoints"),
            Action::Renew(epoch) => {
                self.coverage.count("epochs given up");
                self.journal.line(self.tick, || format!("replica {node} wants epoch {}", epoch.0));
            }
            Action::Send(_, message) | Action::Broadcast(message) => self.notice_message(node, message),
            Action::Accuse(fault) => {
                let accused = fault.replica.number() as usize;
                let honest =
                    self.nodes.get(accused).is_none_or(|node| node.liar.is_none()) && !self.broken_log(accused);
                self.journal.line(self.tick, || format!("replica {node} accuses {accused}: {:?}", fault.kind));
                self.coverage.count(match fault.kind {
                    FaultKind::Forked { .. } => "proofs: forked",
                    FaultKind::Breach { .. } => "proofs: breach",
                    FaultKind::Divergent { .. } => "proofs: divergent",
                    FaultKind::Garbage(_) => "garbage noticed",
                });
                self.oracle.accused(node, accused, honest, &fault.kind);
            }
            Action::Attest(_) | Action::Reply(..) | Action::Executed(_) => {}
        }
    }

    /// Whether a replica's trusted log was rolled back: it is honest, and proven to be broken.
    fn broken_log(&self, node: usize) -> bool {
        self.scenario
            .faults
            .iter()
            .any(|fault| matches!(fault, Fault::Crash { node: of, log: LogFate::RolledBack, .. } if *of == node))
    }

    fn notice_statement(&mut self, node: usize, index: usize, statement: &Statement) {
        self.journal.line(self.tick, || format!("replica {node} states {statement:?}"));
        let Some(core) = &self.nodes[node].brains[index].core else { return };
        match statement {
            Statement::Prepare { header, .. } => {
                self.coverage.count("proposals");
                if header.seq.0 > core.executed().seq.0 + 1 {
                    self.coverage.count("proposals ahead of execution");
                }
                if header.admits.is_some() {
                    self.coverage.count("admissions proposed");
                }
            }
            Statement::Commit { .. } => self.coverage.count("commits"),
            Statement::ViewChange { .. } => self.coverage.count("views left"),
            Statement::NewView { start, .. } => {
                self.coverage.count("views begun");
                if start.seq > core.report().stable {
                    self.coverage.count("views begun with a suffix");
                }
            }
        }
    }

    fn notice_message(&mut self, node: usize, message: &OwnMessage) {
        let claims = match message {
            Message::Claim(signed) => vec![signed.as_ref()],
            Message::Status(status) => {
                [Some(&status.decided), status.checkpoint.as_ref()].into_iter().flatten().collect()
            }
            Message::FetchFlushes { .. } => return self.coverage.count("logs asked for"),
            Message::FetchBodies(_) => return self.coverage.count("batches asked for"),
            Message::FetchPosition { .. } => return self.coverage.count("positions asked for"),
            Message::FetchChain(_) => return self.coverage.count("headers asked for"),
            Message::FetchPages(_) => return self.coverage.count("states asked for"),
            Message::FetchPage(_) => return self.coverage.count("pages asked for"),
            Message::Forward(_) => return self.coverage.count("requests forwarded"),
            Message::Flush(..)
            | Message::Bodies(_)
            | Message::Chain(..)
            | Message::Stable(_)
            | Message::Gone { .. }
            | Message::Pages(..)
            | Message::Page(_) => return,
        };
        for signed in claims.into_iter().filter(|signed| signed.by.number() as usize == node) {
            match &signed.claim {
                Claim::Checkpoint { history, root } => self.oracle.checkpoint(node, *history, *root),
                Claim::Decided { history } => self.oracle.history(node, *history),
                Claim::ViewChange { .. } | Claim::Position { .. } => {}
            }
        }
    }
}
