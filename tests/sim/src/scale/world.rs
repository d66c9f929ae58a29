//! The simulated time, the trackers, and the order of commands.

use super::{
    Figures, Gauges, Scale,
    checks::Checks,
    site::{self, F, Site, TIMEOUT_MS},
    tracker::{Manner, Tracker},
};
use crate::{Rng, Violation};
use quorate_protocol::{
    canonical,
    command::{AttemptReport, Command, Cost, Envelope, History, Registration, Request, Sender},
    digest::Digest,
    ids::{AttemptId, JobId, OrderedTime, ReplicaId, Stage, TrackerId},
    job::Directive,
    query::{Answer, Question},
    sign::Signed,
    vote::{Ballot, Vote},
};
use quorate_schedule::Scheduler;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::Duration,
};

/// One batch is ordered in so many milliseconds: that is how long a report is under way.
const BATCH_MS: u64 = 50;
/// Slots of a tracker.
const MAP_SLOTS: u16 = 4;
const REDUCE_SLOTS: u16 = 3;
/// How long an attempt works, the least and the most, in milliseconds.
const MAP_MS: (u64, u64) = (10_000, 30_000);
const REDUCE_MS: (u64, u64) = (20_000, 60_000);
/// A slow tracker takes so many times as long, and so does one attempt in a thousand anywhere.
const SLOWNESS: u64 = 6;
/// One attempt in a thousand is declined.
const DECLINED_PER_MILLE: u64 = 1;
/// Progress goes along with other news after so long, and is told anyway after twice that.
const PROGRESS_MS: u64 = TIMEOUT_MS / 4;
/// Acknowledgements alone are told so long after the directives.
const ACKNOWLEDGE_MS: u64 = 30_000;
/// Replicas miss a tracker after so long.
const LEASE_MS: u64 = 10_000;
/// How long a process that crashed takes to come back, and how long when its machine does.
const RESTART_MS: u64 = 4_000;
const REPAIR_MS: u64 = 90_000;
/// A job that takes longer, for each of its tasks, never ends.
const PATIENCE_MS_PER_TASK: u64 = 60_000;

/// What happens at its time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    /// A process has done an attempt.
    Done(TrackerId, u64, AttemptId),
    /// A process works on at an attempt.
    Progress(TrackerId, u64, AttemptId),
    /// A process says what directives it took over.
    Acknowledge(TrackerId, u64),
    /// Some tracker crashes.
    Crash,
    /// Replicas miss a tracker's process.
    Missed(TrackerId, u64),
    /// A tracker comes back after this process of it.
    Return(TrackerId, u64),
}

/// A command on its way.
struct Ordered {
    sender: Sender,
    signed: Signed<Request>,
    command: Command,
}

pub(super) struct World<'a> {
    scale: Scale,
    gauges: &'a Gauges<'a>,
    site: Site,
    scheduler: Scheduler,
    trackers: Vec<Tracker>,
    rng: Rng,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Events so far: those of one time happen in the order in which they were planned.
    planned: u64,
    /// Trackers with something to tell.
    speakers: BTreeSet<TrackerId>,
    commands: Vec<(Sender, Command)>,
    job: Option<(JobId, Digest)>,
    /// Reduce attempts that wait for the maps.
    waiting: Vec<(TrackerId, u64, AttemptId)>,
    /// Whether all maps are agreed.
    is_settled: bool,
    figures: Figures,
}

impl<'a> World<'a> {
    pub(super) fn new(scale: &Scale, gauges: &'a Gauges<'a>) -> Self {
        let mut rng = Rng::new(scale.seed);
        let site = Site::new(scale);
        let manner = |id| Tracker::new(id, Manner::of(id, scale.liars, &mut rng));
        Self {
            trackers: (0..scale.trackers).map(manner).collect(),
            scheduler: Scheduler::new(site.cluster.clone()),
            scale: *scale,
            gauges,
            site,
            rng,
            now: 1_000_000,
            queue: BinaryHeap::new(),
            planned: 0,
            speakers: BTreeSet::new(),
            commands: Vec::new(),
            job: None,
            waiting: Vec::new(),
            is_settled: false,
            figures: Figures { tasks: scale.tasks, ..Figures::default() },
        }
    }

    pub(super) fn run(mut self) -> Result<Figures, Violation> {
        let partitions = site::partitions(self.scale.tasks);
        let maps = self.scale.tasks - partitions;
        self.prepare(maps)?;
        let resident = (self.gauges.resident)();
        let begun = self.now;
        let (job, digest) = self.submit(partitions)?;
        let mut checks = Checks::new(job, digest, maps, partitions);
        self.crash_later();
        while let Some(new) = self.scheduler.verdicts(job, checks.verdicts(), usize::MAX) {
            checks.hear(&self.site, new)?;
            if !self.is_settled && checks.are_maps_agreed() {
                self.figures.resident_bytes = (self.gauges.resident)().saturating_sub(resident);
                self.settle();
                checks.look_at_votes(&self.site, &self.scheduler)?;
            }
            self.step()?;
            if self.now - begun > PATIENCE_MS_PER_TASK * u64::from(self.scale.tasks) {
                return Err(Violation { name: "PROGRESS", what: "the job does not end".to_owned() });
            }
        }
        self.figures.reached.elapsed_ms = self.now - begun;
        self.figures.reached.verdicts = checks.verdicts() + u64::from(partitions);
        let is_liar = |id: TrackerId| id.number() < self.scale.liars;
        checks.end(&self.site, &self.scheduler, &is_liar, &mut self.figures.reached)?;
        Ok(self.figures)
    }

    /// The trackers register, and the input is stored.
    fn prepare(&mut self, maps: u32) -> Result<(), Violation> {
        for id in 0..self.scale.trackers {
            self.register(TrackerId::new(id));
        }
        let client = Sender::Client(self.site.client);
        for file in site::input(&self.site, maps, &mut self.rng) {
            self.commands.push((client, Command::CreateFiles(vec![file])));
        }
        self.step()?;
        self.figures = Figures { tasks: self.scale.tasks, ..Figures::default() };
        Ok(())
    }

    fn submit(&mut self, partitions: u32) -> Result<(JobId, Digest), Violation> {
        let command = Command::SubmitJob(Box::new(site::specification(partitions)));
        self.commands.push((Sender::Client(self.site.client), command));
        // The job's digest is in its plan, and votes need it: nobody votes in the batch that has the job.
        self.step()?;
        self.figures.submit = std::mem::take(&mut self.figures.end);
        let id = JobId::new(1);
        let Answer::Plan(plan) = self.scheduler.ask(&Question::Plan(id)) else {
            return Err(Violation { name: "SUBMIT", what: "there is no plan of the job".to_owned() });
        };
        self.job = Some((id, plan.digest));
        Ok((id, plan.digest))
    }

    /// All maps are agreed: the state is at its largest, and reducers have all that they need.
    fn settle(&mut self) {
        self.is_settled = true;
        let begun = (self.gauges.cpu)();
        self.figures.reached.snapshot_bytes = canonical::encode(&self.scheduler).len() as u64;
        self.figures.snapshot = (self.gauges.cpu)().saturating_sub(begun);
        for (tracker, incarnation, attempt) in std::mem::take(&mut self.waiting) {
            if self.tracker(tracker).is(incarnation) {
                self.work(tracker, attempt);
            }
        }
    }

    /// One batch: what happened meanwhile is told, ordered and executed, and trackers hear of it.
    fn step(&mut self) -> Result<(), Violation> {
        self.now += BATCH_MS;
        while let Some(Reverse((time, _, event))) = self.queue.peek().copied()
            && time <= self.now
        {
            self.queue.pop();
            self.happen(event);
        }
        let batch = self.gather();
        self.order(&batch)?;
        for index in 0..self.trackers.len() {
            self.listen(index);
        }
        Ok(())
    }

    fn gather(&mut self) -> Vec<Ordered> {
        let now = self.now;
        let mut commands = std::mem::take(&mut self.commands);
        for id in std::mem::take(&mut self.speakers) {
            if let Some(report) = self.tracker_mut(id).report(now) {
                commands.push((Sender::Tracker(id), Command::Report(report)));
            }
        }
        let planned = self.planned;
        let seal = |(sender, command): (Sender, Command)| {
            let seen = Some(History { ordered: planned, digest: self.site.id });
            let request = Request { cluster: self.site.id, sender, session: 1 << 60, sequence: planned, seen, command };
            // The door has checked the signature, and the scheduler does not look at it.
            let signed = Signed::from_parts(canonical::encode(&request), &[0; 64]);
            Ordered { sender, signed, command: request.command }
        };
        commands.into_iter().map(seal).collect()
    }

    /// Has the scheduler execute a batch, and takes its time.
    fn order(&mut self, batch: &[Ordered]) -> Result<(), Violation> {
        let now = OrderedTime(self.now);
        let mut answers = Vec::with_capacity(batch.len());
        let begun = (self.gauges.cpu)();
        for Ordered { sender, signed, command } in batch {
            answers.push(self.scheduler.apply(now, *sender, signed, command));
        }
        if self.scheduler.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.scheduler.advance(now);
        }
        let spent = (self.gauges.cpu)().saturating_sub(begun);
        self.count(batch, spent);
        for (ordered, answer) in batch.iter().zip(answers) {
            if let Answer::Refused(refusal) = answer {
                let what = format!("{refusal}: {:?} of {:?}", ordered.command, ordered.sender);
                return Err(Violation { name: "REFUSED", what });
            }
        }
        Ok(())
    }

    fn count(&mut self, batch: &[Ordered], spent: Duration) {
        let envelope = |one: &Ordered| Envelope { sender: one.sender, request: one.signed.clone() };
        let bytes: usize = batch.iter().map(|one| canonical::encode(&envelope(one)).len()).sum();
        self.figures.core += spent;
        self.figures.longest = self.figures.longest.max(self.figures.end);
        self.figures.end = spent;
        self.figures.reached.commands += batch.len() as u64;
        self.figures.reached.command_bytes += bytes as u64;
    }

    fn plan(&mut self, after: u64, event: Event) {
        self.planned += 1;
        self.queue.push(Reverse((self.now + after, self.planned, event)));
    }

    fn tracker(&self, id: TrackerId) -> &Tracker {
        &self.trackers[id.number() as usize]
    }
    fn tracker_mut(&mut self, id: TrackerId) -> &mut Tracker {
        &mut self.trackers[id.number() as usize]
    }

    fn register(&mut self, id: TrackerId) {
        let registration = Registration {
            address: format!("node-{}.cluster.internal:7070", id.number()),
            incarnation: self.tracker(id).incarnation,
            map_slots: MAP_SLOTS,
            reduce_slots: REDUCE_SLOTS,
            target: "x86_64-linux".to_owned(),
        };
        self.commands.push((Sender::Tracker(id), Command::Register(registration)));
    }

    fn crash_later(&mut self) {
        let mean = (self.scale.crash_ms / u64::from(self.scale.trackers)).max(1);
        let after = self.rng.between(1, 2 * mean);
        self.plan(after, Event::Crash);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Done(id, incarnation, attempt) => {
                if self.tracker(id).is(incarnation) && self.tracker_mut(id).running.remove(&attempt).is_some() {
                    self.finish(id, attempt);
                }
            }
            Event::Progress(id, incarnation, attempt) => {
                let tracker = self.tracker_mut(id);
                if !tracker.is(incarnation) || !tracker.running.contains_key(&attempt) {
                    return;
                }
                if tracker.progress(attempt) {
                    self.speakers.insert(id);
                }
                self.plan(PROGRESS_MS, event);
            }
            Event::Acknowledge(id, incarnation) => self.acknowledge(id, incarnation),
            Event::Crash => {
                let id = TrackerId::new(self.rng.below(u64::from(self.scale.trackers)) as u32);
                self.crash(id);
                self.crash_later();
            }
            Event::Missed(id, incarnation) => {
                if !self.tracker(id).is_up && self.tracker(id).incarnation == incarnation {
                    for replica in 0..=F {
                        self.commands.push((Sender::Replica(ReplicaId::new(replica)), Command::Absent(id)));
                    }
                }
            }
            Event::Return(id, incarnation) => {
                if !self.tracker(id).is_up && self.tracker(id).incarnation == incarnation {
                    self.tracker_mut(id).start();
                    self.register(id);
                }
            }
        }
    }

    /// A process that has said nothing for long says what directives it took over.
    fn acknowledge(&mut self, id: TrackerId, incarnation: u64) {
        let now = self.now;
        let tracker = self.tracker_mut(id);
        if !tracker.is(incarnation) || !tracker.owes_word() {
            return;
        }
        let due = tracker.told_at + ACKNOWLEDGE_MS;
        if due > now {
            return self.plan(due - now, Event::Acknowledge(id, incarnation));
        }
        tracker.tells_alone = true;
        self.speakers.insert(id);
    }

    fn crash(&mut self, id: TrackerId) {
        if !self.tracker(id).is_up {
            return;
        }
        self.figures.reached.crashes += 1;
        let incarnation = self.tracker(id).incarnation;
        self.tracker_mut(id).crash();
        let back = if self.rng.chance(500) { RESTART_MS } else { REPAIR_MS };
        self.plan(LEASE_MS, Event::Missed(id, incarnation));
        self.plan(back, Event::Return(id, incarnation));
    }

    /// A tracker takes its new directives over.
    fn listen(&mut self, index: usize) {
        let tracker = &self.trackers[index];
        if !tracker.is_up {
            return;
        }
        let (id, incarnation) = (tracker.id, tracker.incarnation);
        let new = self.scheduler.directives(id, incarnation, tracker.taken, usize::MAX);
        if !new.is_empty() && !tracker.owes_word() {
            self.plan(ACKNOWLEDGE_MS, Event::Acknowledge(id, incarnation));
        }
        for (number, directive) in new {
            self.tracker_mut(id).taken = number + 1;
            match directive {
                Directive::Start { attempt, work: _ } => self.begin(id, attempt),
                Directive::Cancel { attempt } => {
                    self.tracker_mut(id).running.remove(&attempt);
                }
                Directive::JobEnded { .. } => self.tracker_mut(id).running.clear(),
                Directive::DropChunks(_) => {}
            }
        }
    }

    fn begin(&mut self, id: TrackerId, attempt: AttemptId) {
        self.tracker_mut(id).running.insert(attempt, 0);
        if self.tracker(id).manner == Manner::Silent {
            return;
        }
        let incarnation = self.tracker(id).incarnation;
        // A reducer that waits for maps fetches what is there.
        self.plan(PROGRESS_MS, Event::Progress(id, incarnation, attempt));
        if attempt.task.stage == Stage::Reduce && !self.is_settled {
            self.waiting.push((id, incarnation, attempt));
        } else {
            self.work(id, attempt);
        }
    }

    fn work(&mut self, id: TrackerId, attempt: AttemptId) {
        let (least, most) = match attempt.task.stage {
            Stage::Map => MAP_MS,
            Stage::Reduce => REDUCE_MS,
        };
        let is_slow = self.tracker(id).manner == Manner::Slow || self.rng.chance(1);
        let factor = if is_slow { SLOWNESS } else { 1 };
        let incarnation = self.tracker(id).incarnation;
        let takes = self.rng.between(least, most) * factor;
        self.plan(takes, Event::Done(id, incarnation, attempt));
    }

    fn finish(&mut self, id: TrackerId, attempt: AttemptId) {
        self.speakers.insert(id);
        if self.rng.chance(DECLINED_PER_MILLE) {
            self.figures.reached.declined += 1;
            let reason = "No space left on device (os error 28)".to_owned();
            self.tracker_mut(id).news.push(AttemptReport::Declined { attempt, reason });
            return;
        }
        // The domain's liars agree on what they say.
        let lies: &[u32] = match self.tracker(id).manner {
            Manner::Honest | Manner::Slow | Manner::Silent => &[0],
            Manner::Lies => &[1],
            Manner::LiesAtTimes => &[u32::from(self.rng.chance(100))],
            Manner::VotesTwice => &[0, 2],
        };
        for lie in lies {
            let report = self.voted(id, attempt, site::ballot(attempt.task, *lie));
            self.tracker_mut(id).news.push(report);
        }
    }

    fn voted(&self, id: TrackerId, attempt: AttemptId, ballot: Ballot) -> AttemptReport {
        let specification = self.job.map_or(self.site.id, |(_, digest)| digest);
        let vote = Vote { cluster: self.site.id, specification, f: F, attempt, tracker: id, ballot };
        let cost = Cost { elapsed_ms: 20_000, shuffled: 8 << 20, ..Cost::default() };
        AttemptReport::Voted { vote: Signed::seal(&vote, self.site.key(id)), cost, message: String::new() }
    }
}
