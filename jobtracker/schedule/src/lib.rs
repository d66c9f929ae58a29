//! The scheduler: jobs, attempts, votes, verdicts and blame, as a pure state machine.
//!
//! Every replica of the job tracker runs [`Scheduler::apply`] on the same commands in the same order, with the time that
//! was ordered with them, and so comes to the same state: there is no clock, no randomness and no I/O here, and
//! everything iterates in order. Whoever runs it checks sessions and signatures before: those of the requests, and with
//! [`Report::verify_votes`] those of the votes in them, which cost more than all that is done here.
//!
//! A command first lets time pass (`deadlines`), then changes what it names, and last gives free slots to
//! tasks that want attempts (`assign`). What must hold in between is in [`invariants`], and quoted in the module
//! texts: T-1 to T-4 in `task`, B-1 and B-2 in `blame`, B-3 and B-6 in `probation`, B-4 and B-5 in `repeats`.
//!
//! The job tracker's bound on lies is the job's f for each task. Beyond it a job ends as undecidable, or waits: it
//! never takes a wrong answer as agreed while at most f of the domains that ran the task lie.

mod assign;
mod ballots;
mod bits;
mod blame;
mod bounds;
mod deadlines;
mod ended;
pub mod events;
pub mod invariants;
mod job;
mod log;
mod pool;
mod probation;
mod repeats;
pub mod storage;
mod submit;
mod table;
mod task;
mod tracker;
mod views;
mod wants;
mod workforce;

use crate::{
    bounds::{
        ADDRESS_BYTES_MAX, CHECKS_PER_REPORT_MAX, CHUNKS_PER_DIRECTIVE_MAX, OUTAGE_MS, SLOTS_MAX, TARGET_BYTES_MAX, cut,
    },
    ended::Ended,
    job::{Ending, Job},
    task::AttemptState,
    workforce::Workforce,
};
use quorate_namespace::Namespace;
use quorate_protocol::{
    cluster::Cluster,
    command::{AttemptReport, Command, Refusal, Registration, Report, Request, Sender},
    digest::Digest,
    file::{File, Path},
    ids::{AttemptId, JobId, OrderedTime, ReplicaId, TrackerId},
    job::{Directive, MapVerdict},
    limits,
    query::Answer,
    sign::Signed,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The replicated application: files, trackers and jobs of one cluster.
///
/// ```
/// use quorate_protocol::{cluster::Cluster, file::Path, query::{Answer, Question}};
/// # let cluster = Cluster { name: "c".into(), f: 0, agreement: Default::default(), allow_liars: false, clients: vec![], authority: None, replicas: vec![], trackers: vec![] };
/// let scheduler = quorate_schedule::Scheduler::new(cluster);
/// assert_eq!(scheduler.ask(&Question::List(Path::parse("/").unwrap())), Answer::List(vec![]));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scheduler {
    cluster: Cluster,
    /// The configuration's digest, kept because it takes time to compute.
    cluster_id: Digest,
    namespace: Namespace,
    workforce: Workforce,
    jobs: BTreeMap<JobId, Job>,
    ended: BTreeMap<JobId, Ended>,
    /// Jobs submitted so far.
    submitted: u64,
}

impl Scheduler {
    /// The state in which every replica of a cluster starts.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster_id: cluster.id(),
            workforce: Workforce::new(&cluster),
            cluster,
            namespace: Namespace::new(),
            jobs: BTreeMap::new(),
            ended: BTreeMap::new(),
            submitted: 0,
        }
    }

    /// Executes one ordered command. `signed` is the request that it came in: a report that complains is kept as
    /// evidence. The sender is authenticated already; whether it may do this is checked here.
    pub fn apply(&mut self, now: OrderedTime, sender: Sender, signed: &Signed<Request>, command: &Command) -> Answer {
        self.ring_alarms(now);
        let answer = self.execute(sender, signed, command).unwrap_or_else(Answer::Refused);
        self.settle();
        answer
    }

    /// Lets ordered time pass: deadlines up to `now` are over. Each command does so too.
    pub fn advance(&mut self, now: OrderedTime) {
        self.ring_alarms(now);
        self.settle();
    }

    /// When [`Scheduler::advance`] is needed, unless a command comes before.
    pub fn next_deadline(&self) -> Option<OrderedTime> {
        self.workforce.next_alarm_time()
    }

    /// A tracker's directives that it did not acknowledge, from a number on, at most `max` of them. None for a process
    /// of it that is not the registered one.
    pub fn directives(&self, tracker: TrackerId, incarnation: u64, from: u64, max: usize) -> Vec<(u64, Directive)> {
        let tracker = self.workforce.tracker(tracker).filter(|tracker| tracker.incarnation() == Some(incarnation));
        tracker.map_or(Vec::new(), |tracker| tracker.directives.from(from, max))
    }

    /// A live job's map verdicts from a position on, at most `max` of them; `None` when no such job lives.
    pub fn verdicts(&self, job: JobId, from: u64, max: usize) -> Option<Vec<(u64, MapVerdict)>> {
        let job = self.jobs.get(&job)?;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let positions = (from..job.verdicts.len()).take(max);
        Some(positions.filter_map(|at| Some((at as u64, job.verdict(at)?))).collect())
    }

    /// The configuration.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Moves on to a command's time. A deadline missed by more than [`OUTAGE_MS`] says that nobody ordered anything:
    /// what was said in the meantime must be heard before anybody is called late.
    fn pass_time(&mut self, now: OrderedTime) {
        let before = self.workforce.now;
        self.workforce.now = before.max(now);
        let missed = self.workforce.next_alarm_time().map_or(0, |time| now.since(time));
        if missed <= OUTAGE_MS {
            return;
        }
        for attempt in self.workforce.alarmed() {
            let job = self.jobs.get_mut(&attempt.task.job).expect("only attempts of live jobs have alarms");
            job.restart_clock(&mut self.workforce, attempt, now.since(before));
        }
    }

    /// Starts clocks, gives free slots away, and ends what has ended by that.
    fn settle(&mut self) {
        self.jobs.values_mut().for_each(|job| job.start_clocks(&mut self.workforce));
        assign::assign(&mut self.jobs, &mut self.workforce);
        // Placing may end a job that has no attempts left, which frees slots.
        while self.close_ended() {
            assign::assign(&mut self.jobs, &mut self.workforce);
        }
        if cfg!(debug_assertions) {
            let broken = invariants::broken_in_small(self);
            assert!(broken.is_empty(), "{broken:#?}");
        }
    }

    fn ring_alarms(&mut self, now: OrderedTime) {
        self.pass_time(now);
        while self.workforce.next_alarm_time().is_some_and(|time| time <= self.workforce.now) {
            let Some((time, attempt)) = self.workforce.next_alarm() else { return };
            let job = self.jobs.get_mut(&attempt.task.job).expect("only attempts of live jobs have alarms");
            job.alarm(&mut self.workforce, attempt);
            self.close(attempt.task.job);
            assert_ne!(self.workforce.next_alarm(), Some((time, attempt)), "an alarm that rang was moved");
        }
    }

    fn execute(&mut self, sender: Sender, signed: &Signed<Request>, command: &Command) -> Result<Answer, Refusal> {
        match (command, sender) {
            (Command::CreateFiles(files), Sender::Client(_)) => {
                self.check_client(&sender)?;
                self.create_files(files)
            }
            (Command::Remove { path, recursive }, Sender::Client(_)) => {
                self.check_client(&sender)?;
                self.remove(path, *recursive)
            }
            (Command::SubmitJob(specification), Sender::Client(_)) => {
                self.check_client(&sender)?;
                self.submit(specification).map(Answer::Submitted)
            }
            (Command::KillJob(id), Sender::Client(_)) => {
                self.check_client(&sender)?;
                self.kill(*id)
            }
            (Command::Quarantine { tracker, reason }, Sender::Client(_)) => {
                self.check_client(&sender)?;
                self.order_quarantine(*tracker, reason)
            }
            (Command::Readmit(tracker), Sender::Client(_)) => {
                self.check_client(&sender)?;
                self.readmit(*tracker)
            }
            (Command::Register(registration), Sender::Tracker(tracker)) => self.register(tracker, registration),
            (Command::Report(report), Sender::Tracker(tracker)) => self.report(tracker, signed, report),
            (Command::Absent(tracker), Sender::Replica(replica)) => self.absent(replica, *tracker),
            (Command::CreateFiles(_) | Command::Remove { .. } | Command::SubmitJob(_) | Command::KillJob(_), _) => {
                Err(Refusal::NotAllowed("only clients change files and jobs".to_owned()))
            }
            (Command::Quarantine { .. } | Command::Readmit(_), _) => {
                Err(Refusal::NotAllowed("only clients put trackers in quarantine and readmit them".to_owned()))
            }
            (Command::Register(_) | Command::Report(_), _) => {
                Err(Refusal::NotAllowed("only trackers register and report".to_owned()))
            }
            (Command::Absent(_), _) => Err(Refusal::NotAllowed("only replicas watch trackers".to_owned())),
        }
    }

    fn check_client(&self, sender: &Sender) -> Result<(), Refusal> {
        match sender {
            Sender::Client(key) if self.cluster.clients.contains(key) => Ok(()),
            Sender::Client(key) => Err(Refusal::NotAllowed(format!("{key} is not a client of this cluster"))),
            Sender::Tracker(_) | Sender::Replica(_) => Err(Refusal::NotAllowed("only clients may".to_owned())),
        }
    }

    fn check_replica(&self, replica: ReplicaId) -> Result<(), Refusal> {
        let member = self.cluster.replica(replica).map(|_| ());
        member.ok_or_else(|| Refusal::NotAllowed(format!("{replica} is not of this cluster")))
    }

    fn create_files(&mut self, files: &[(Path, File)]) -> Result<Answer, Refusal> {
        let servers = files.iter().flat_map(|(path, file)| file.placements.iter().map(move |run| (path, &run.servers)));
        for (path, servers) in servers {
            if let Some(stranger) = servers.iter().find(|id| self.workforce.tracker(**id).is_none()) {
                return Err(Refusal::Invalid(format!("{path}: {stranger} is not of this cluster")));
            }
        }
        self.namespace.create(files.to_vec()).map(|()| Answer::Done)
    }

    fn remove(&mut self, path: &Path, recursive: bool) -> Result<Answer, Refusal> {
        for (server, chunks) in self.namespace.remove(path, recursive)? {
            for some in chunks.chunks(CHUNKS_PER_DIRECTIVE_MAX) {
                self.workforce.direct(server, Directive::DropChunks(some.to_vec()));
            }
        }
        Ok(Answer::Done)
    }

    fn kill(&mut self, id: JobId) -> Result<Answer, Refusal> {
        match self.jobs.get_mut(&id) {
            Some(job) => job.end(Ending::Killed),
            None if self.ended.contains_key(&id) => {
                return Err(Refusal::Invalid(format!("{id} has ended already")));
            }
            None => return Err(Refusal::NotFound(id.to_string())),
        }
        self.close(id);
        Ok(Answer::Done)
    }

    fn register(&mut self, id: TrackerId, registration: &Registration) -> Result<Answer, Refusal> {
        let tracker = self.workforce.tracker(id);
        let tracker = tracker.ok_or_else(|| Refusal::NotAllowed(format!("{id} is not of this cluster")))?;
        if registration.address.len() > ADDRESS_BYTES_MAX || registration.target.len() > TARGET_BYTES_MAX {
            return Err(Refusal::Invalid("the tracker's address or target is too long".to_owned()));
        }
        if registration.map_slots.max(registration.reduce_slots) > SLOTS_MAX {
            return Err(Refusal::Invalid(format!("a tracker has at most {SLOTS_MAX} slots for a stage")));
        }
        if tracker.incarnation() != Some(registration.incarnation) {
            self.lose_work(id, "its tracker restarted", false);
        }
        self.workforce.register(id, registration);
        self.check_served_by(id);
        Ok(Answer::Done)
    }

    /// A replica no longer hears from a tracker. With cluster.f + 1 of them at least one is honest.
    fn absent(&mut self, replica: ReplicaId, id: TrackerId) -> Result<Answer, Refusal> {
        self.check_replica(replica)?;
        let tracker = self.workforce.tracker(id).ok_or_else(|| Refusal::NotFound(id.to_string()))?;
        if !tracker.live {
            return Ok(Answer::Done);
        }
        let mut missed_by = tracker.absent.clone();
        missed_by.insert(replica);
        let is_gone = missed_by.len() as u64 > u64::from(self.cluster.f);
        self.workforce.change(id, |tracker| {
            tracker.absent = missed_by;
            tracker.live = !is_gone;
        });
        if is_gone {
            self.lose_work(id, "its tracker went away", true);
            self.check_served_by(id);
        }
        Ok(Answer::Done)
    }

    fn report(&mut self, id: TrackerId, signed: &Signed<Request>, report: &Report) -> Result<Answer, Refusal> {
        let tracker = self.workforce.tracker(id).filter(|t| t.incarnation() == Some(report.incarnation));
        let tracker = tracker
            .ok_or_else(|| Refusal::NotAllowed(format!("{id} did not register as this process, or did so again")))?;
        if report.attempts.len().saturating_add(report.accusations.len()) > limits::REPORT_ENTRIES_MAX {
            return Err(Refusal::Invalid(format!("a report has at most {} entries", limits::REPORT_ENTRIES_MAX)));
        }
        let was_live = tracker.live;
        self.workforce.change(id, |tracker| {
            tracker.directives.acknowledge(report.acknowledged);
            tracker.is_back();
        });
        if !was_live {
            self.check_served_by(id);
        }
        report.attempts.iter().for_each(|news| self.hear(id, news));
        let mut checks = CHECKS_PER_REPORT_MAX;
        report.accusations.iter().for_each(|accusation| self.accuse(id, signed, accusation, &mut checks));
        Ok(Answer::Done)
    }

    /// Takes over a tracker's news of one attempt. News of attempts that are not its own are ignored.
    fn hear(&mut self, id: TrackerId, news: &AttemptReport) {
        let now = self.workforce.now;
        match news {
            AttemptReport::Progress { attempt, units } => {
                if let Some(job) = self.job_of(id, *attempt) {
                    job.progress(now, *attempt, *units);
                }
            }
            AttemptReport::Declined { attempt, reason } => {
                let why = AttemptState::Declined(cut(reason));
                // Two fields at once: the job acts on the trackers.
                let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
                if job.attempt(*attempt).is_some_and(|attempt| attempt.tracker == id) {
                    job.lose(&mut self.workforce, *attempt, why);
                    self.close(attempt.task.job);
                }
            }
            AttemptReport::Voted { vote, cost, message } => {
                let Some(heard) = self.read_vote(vote, message).filter(|heard| heard.vote.tracker == id) else {
                    return;
                };
                let mut charges = Vec::new();
                let Some(job) = self.jobs.get_mut(&heard.vote.attempt.task.job) else { return };
                job.vote(&mut self.workforce, &heard, cost, &mut charges);
                self.close(heard.vote.attempt.task.job);
                charges.into_iter().for_each(|charge| self.charge(charge));
            }
        }
    }

    fn job_of(&mut self, tracker: TrackerId, attempt: AttemptId) -> Option<&mut Job> {
        let job = self.jobs.get_mut(&attempt.task.job)?;
        job.attempt(attempt).is_some_and(|attempt| attempt.tracker == tracker).then_some(job)
    }
}
