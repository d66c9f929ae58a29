//! A cluster in a test: one scheduler, the keys of everybody, and trackers that do what each test says.

use quorate_protocol::{
    certificate::verdicts_digest,
    cluster::{Cluster, ReplicaMember, TrackerMember},
    command::{Accusation, AttemptReport, Command, Cost, Refusal, Registration, Report, Request, Sender},
    digest::{ChunkId, Digest},
    evidence::Evidence,
    file::{File, Manifest, Path, Placement},
    ids::{AttemptId, Domain, JobId, OrderedTime, ReplicaId, Stage, TaskId, TrackerId},
    job::{Directive, InputKind, MapVerdict, Partitioning, Program, Specification, Work},
    query::{Answer, Blame, JobState, JobView, Question, Standing, TrackerView},
    sign::{SecretKey, Signed},
    vote::{Ballot, Counters, Vote},
};
use quorate_schedule::{Scheduler, invariants};
use std::collections::{BTreeMap, BTreeSet};

/// The progress timeout of all jobs.
pub(crate) const TIMEOUT: u64 = 1000;

/// A fake tracker's process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) incarnation: u64,
    /// Directives taken over.
    pub(crate) taken: u64,
    /// Attempts started, and not ended by a vote, a cancellation or the job's end.
    pub(crate) running: BTreeMap<AttemptId, Work>,
    /// Jobs that ended, with what to publish and of which attempts to keep the bytes.
    pub(crate) ended: BTreeMap<JobId, (Vec<AttemptId>, Vec<AttemptId>)>,
    /// Chunks it was told to drop.
    pub(crate) dropped: Vec<ChunkId>,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    pub(crate) cluster: Cluster,
    pub(crate) now: u64,
    pub(crate) processes: BTreeMap<u32, Process>,
    /// Every map verdict that was ever seen, by job.
    pub(crate) seen: BTreeMap<JobId, Vec<MapVerdict>>,
    /// What votes name the jobs by.
    pub(crate) digests: BTreeMap<JobId, Digest>,
    pub(crate) fs: BTreeMap<JobId, u32>,
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).expect(text)
}

pub(crate) fn client() -> SecretKey {
    SecretKey::from_seed([255; 32])
}

pub(crate) fn tracker_key(id: u32) -> SecretKey {
    SecretKey::from_seed([id as u8 + 1; 32])
}

fn replica_key(id: u32) -> SecretKey {
    SecretKey::from_seed([id as u8 + 200; 32])
}

/// A file of chunks of 100 bytes, all on the same servers.
pub(crate) fn file(name: &str, chunks: u32, servers: &[u32]) -> File {
    let chunk = |n| (ChunkId(Digest::of(format!("{name} {n}").as_bytes())), 100);
    let servers = servers.iter().copied().map(TrackerId::new).collect();
    let placements = if chunks == 0 { Vec::new() } else { vec![Placement { chunks, servers }] };
    File { manifest: Manifest { chunks: (0..chunks).map(chunk).collect() }, placements }
}

pub(crate) fn specification(f: u32, partitions: u32) -> Specification {
    Specification {
        name: "test".to_owned(),
        program: Program::Embedded { digest: Digest::of(b"program") },
        entry: "main".to_owned(),
        arguments: "{}".to_owned(),
        inputs: vec![path("/in")],
        input_kind: InputKind::Lines,
        split_bytes: 100,
        output: path("/out"),
        partitions,
        partitioning: Partitioning::Hash,
        f,
        memory: 16 << 20,
        progress_timeout_ms: TIMEOUT,
    }
}

/// What an honest tracker votes; `lie` makes another ballot of it.
pub(crate) fn ballot(task: TaskId, lie: &str) -> Ballot {
    let digest = Digest::of(format!("{task} {lie}").as_bytes());
    let counters = Counters::from([("records".to_owned(), 1)]);
    match task.stage {
        Stage::Map => Ballot::Map { segments: digest, counters },
        Stage::Reduce => Ballot::Reduce { manifest: Manifest { chunks: vec![(ChunkId(digest), 7)] }, counters },
    }
}

impl World {
    /// A cluster with trackers in these domains, all of them there, and the input `/in` of `maps` splits.
    pub(crate) fn new(domains: &[&str], maps: u32) -> Self {
        let mut world = Self::empty(domains, 0);
        for id in 0..domains.len() as u32 {
            world.register(id, 1);
        }
        world.create("/in", file("in", maps, &[0]));
        world
    }

    /// A cluster where nobody is there yet.
    pub(crate) fn empty(domains: &[&str], cluster_f: u32) -> Self {
        let trackers = (0..).zip(domains).map(|(id, domain)| TrackerMember {
            id: TrackerId::new(id),
            domain: Domain((*domain).to_owned()),
            key: tracker_key(id).public(),
        });
        let replicas = (0..2 * cluster_f + 1).map(|id| ReplicaMember {
            id: ReplicaId::new(id),
            address: String::new(),
            key: replica_key(id).public(),
            log: None,
            tpm: None,
            page: None,
        });
        let cluster = Cluster {
            name: "test".to_owned(),
            f: cluster_f,
            agreement: Default::default(),
            allow_liars: true,
            clients: vec![client().public()],
            authority: None,
            replicas: replicas.collect(),
            trackers: trackers.collect(),
        };
        Self {
            scheduler: Scheduler::new(cluster.clone()),
            cluster,
            now: 1000,
            processes: BTreeMap::new(),
            seen: BTreeMap::new(),
            digests: BTreeMap::new(),
            fs: BTreeMap::new(),
        }
    }

    pub(crate) fn seal(&self, sender: Sender, command: Command) -> Signed<Request> {
        let key = match sender {
            Sender::Client(_) => client(),
            Sender::Tracker(id) => tracker_key(id.number()),
            Sender::Replica(id) => replica_key(id.number()),
        };
        Signed::seal(
            &Request { cluster: self.cluster.id(), sender, session: 0, sequence: 0, seen: None, command },
            &key,
        )
    }

    /// Orders a command as the door lets it in, and checks all invariants after it.
    pub(crate) fn send(&mut self, sender: Sender, command: Command) -> Answer {
        if let (Sender::Tracker(id), Command::Report(report)) = (sender, &command)
            && let Err(forged) = report.verify_votes(&tracker_key(id.number()).public())
        {
            return Answer::Refused(Refusal::NotAllowed(forged.to_string()));
        }
        let signed = self.seal(sender, command.clone());
        let answer = self.scheduler.apply(OrderedTime(self.now), sender, &signed, &command);
        assert_eq!(invariants::broken(&self.scheduler), Vec::<String>::new());
        self.watch_verdicts();
        answer
    }

    fn watch_verdicts(&mut self) {
        for (job, seen) in &mut self.seen {
            let new = self.scheduler.verdicts(*job, seen.len() as u64, usize::MAX).unwrap_or_default();
            seen.extend(new.into_iter().map(|(_, verdict)| verdict));
        }
    }

    pub(crate) fn order(&mut self, command: Command) -> Answer {
        self.send(Sender::Client(client().public()), command)
    }
    pub(crate) fn create(&mut self, name: &str, file: File) {
        assert_eq!(self.order(Command::CreateFiles(vec![(path(name), file)])), Answer::Done);
    }
    pub(crate) fn submit(&mut self, specification: Specification) -> JobId {
        let f = specification.f;
        match self.order(Command::SubmitJob(Box::new(specification))) {
            Answer::Submitted(job) => {
                self.seen.insert(job, Vec::new());
                let Answer::Plan(plan) = self.scheduler.ask(&Question::Plan(job)) else { panic!("it lives") };
                self.digests.insert(job, plan.digest);
                self.fs.insert(job, f);
                self.watch_verdicts();
                job
            }
            other => panic!("not submitted: {other:?}"),
        }
    }

    /// Starts a new process of a tracker.
    pub(crate) fn register(&mut self, id: u32, slots: u16) {
        self.register_for(id, slots, "");
    }
    pub(crate) fn register_for(&mut self, id: u32, slots: u16, target: &str) {
        let incarnation = self.processes.get(&id).map_or(1, |process| process.incarnation + 1);
        let registration = Registration {
            address: format!("127.0.0.1:{id}"),
            incarnation,
            map_slots: slots,
            reduce_slots: slots,
            target: target.to_owned(),
        };
        self.processes.insert(id, Process { incarnation, ..Process::default() });
        let answer = self.send(Sender::Tracker(TrackerId::new(id)), Command::Register(registration));
        assert_eq!(answer, Answer::Done);
    }

    /// Replica 0 misses a tracker.
    pub(crate) fn absent(&mut self, id: u32) {
        self.absent_for(0, id);
    }
    pub(crate) fn absent_for(&mut self, replica: u32, id: u32) {
        let command = Command::Absent(TrackerId::new(id));
        assert_eq!(self.send(Sender::Replica(ReplicaId::new(replica)), command), Answer::Done);
    }

    /// Lets ordered time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.scheduler.advance(OrderedTime(self.now));
        assert_eq!(invariants::broken(&self.scheduler), Vec::<String>::new());
        self.watch_verdicts();
    }

    /// Takes a tracker's new directives over.
    pub(crate) fn listen(&mut self, id: u32) {
        let process = self.processes.get_mut(&id).expect("it registered");
        let new = self.scheduler.directives(TrackerId::new(id), process.incarnation, process.taken, usize::MAX);
        for (number, directive) in new {
            assert_eq!(number, process.taken, "directives are numbered without gaps");
            process.taken += 1;
            match directive {
                Directive::Start { attempt, work } => {
                    assert!(process.running.insert(attempt, work).is_none(), "{attempt} started twice");
                }
                Directive::Cancel { attempt } => {
                    process.running.remove(&attempt);
                }
                Directive::JobEnded { job, publish, keep } => {
                    process.running.retain(|attempt, _| attempt.task.job != job);
                    process.ended.insert(job, (publish, keep));
                }
                Directive::DropChunks(chunks) => process.dropped.extend(chunks),
            }
        }
    }
    pub(crate) fn listen_all(&mut self) {
        let ids: Vec<u32> = self.processes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.listen(id));
    }

    /// What a tracker runs.
    pub(crate) fn running(&mut self, id: u32) -> Vec<AttemptId> {
        self.listen(id);
        self.processes[&id].running.keys().copied().collect()
    }
    /// Which trackers run a task, and as which attempt.
    pub(crate) fn runners(&mut self, task: TaskId) -> Vec<(u32, AttemptId)> {
        self.listen_all();
        let all = self.processes.iter().flat_map(|(id, process)| process.running.keys().map(|attempt| (*id, *attempt)));
        all.filter(|(_, attempt)| attempt.task == task).collect()
    }

    pub(crate) fn report(&mut self, id: u32, attempts: Vec<AttemptReport>, accusations: Vec<Accusation>) -> Answer {
        let process = &self.processes[&id];
        let report = Report { incarnation: process.incarnation, acknowledged: process.taken, attempts, accusations };
        self.send(Sender::Tracker(TrackerId::new(id)), Command::Report(report))
    }
    pub(crate) fn accuse(&mut self, id: u32, accusation: Accusation) {
        assert_eq!(self.report(id, Vec::new(), vec![accusation]), Answer::Done);
    }

    /// A tracker's signed vote.
    pub(crate) fn sign(&self, id: u32, attempt: AttemptId, ballot: Ballot) -> Signed<Vote> {
        let specification = self.digests.get(&attempt.task.job).copied().unwrap_or(Digest::of(b""));
        let f = self.fs.get(&attempt.task.job).copied().unwrap_or_default();
        let vote = Vote { cluster: self.cluster.id(), specification, f, attempt, tracker: TrackerId::new(id), ballot };
        Signed::seal(&vote, &tracker_key(id))
    }
    pub(crate) fn vote(&mut self, id: u32, attempt: AttemptId, ballot: Ballot) -> Signed<Vote> {
        let vote = self.sign(id, attempt, ballot);
        self.send_vote(id, vote.clone());
        vote
    }
    pub(crate) fn send_vote(&mut self, id: u32, vote: Signed<Vote>) {
        let attempt = vote.peek().expect("made here").attempt;
        self.processes.get_mut(&id).expect("it registered").running.remove(&attempt);
        assert_eq!(self.report_vote(id, vote), Answer::Done);
    }
    pub(crate) fn report_vote(&mut self, id: u32, vote: Signed<Vote>) -> Answer {
        let cost = Cost { elapsed_ms: 1, ..Cost::default() };
        let news = AttemptReport::Voted { vote, cost, message: format!("message of {id}") };
        self.report(id, vec![news], Vec::new())
    }
    pub(crate) fn vote_right(&mut self, id: u32, attempt: AttemptId) -> Signed<Vote> {
        self.vote(id, attempt, ballot(attempt.task, ""))
    }
    pub(crate) fn decline(&mut self, id: u32, attempt: AttemptId) {
        self.processes.get_mut(&id).expect("it registered").running.remove(&attempt);
        let news = AttemptReport::Declined { attempt, reason: "disk full".to_owned() };
        assert_eq!(self.report(id, vec![news], Vec::new()), Answer::Done);
    }
    pub(crate) fn progress(&mut self, id: u32, attempt: AttemptId, units: u64) {
        let news = AttemptReport::Progress { attempt, units };
        assert_eq!(self.report(id, vec![news], Vec::new()), Answer::Done);
    }

    /// Whether a reducer of this job has all that it needs.
    pub(crate) fn maps_are_agreed(&self, job: JobId) -> bool {
        let (agreed, all) = self.job(job).summary.maps;
        agreed == all
    }

    /// Lets all trackers but the `silent` ones vote rightly on all they run, until nothing more happens.
    pub(crate) fn work_without(&mut self, silent: &[u32]) {
        loop {
            let mut voted = false;
            for id in self.processes.keys().copied().collect::<Vec<_>>() {
                for attempt in self.running(id) {
                    let is_ready = attempt.task.stage == Stage::Map || self.maps_are_agreed(attempt.task.job);
                    if silent.contains(&id) || !is_ready || !self.processes[&id].running.contains_key(&attempt) {
                        continue;
                    }
                    self.vote_right(id, attempt);
                    self.listen_all();
                    voted = true;
                }
            }
            if !voted {
                return;
            }
        }
    }
    pub(crate) fn work(&mut self) {
        self.work_without(&[]);
    }

    pub(crate) fn job(&self, job: JobId) -> JobView {
        match self.scheduler.ask(&Question::Job(job)) {
            Answer::Job(view) => *view,
            other => panic!("{other:?}"),
        }
    }
    pub(crate) fn state(&self, job: JobId) -> JobState {
        self.job(job).summary.state
    }
    pub(crate) fn trackers(&self) -> Vec<TrackerView> {
        match self.scheduler.ask(&Question::Trackers) {
            Answer::Trackers(views) => views,
            other => panic!("{other:?}"),
        }
    }
    pub(crate) fn tracker(&self, id: u32) -> TrackerView {
        self.trackers().swap_remove(id as usize)
    }
    /// Who is blamed, and how much. All evidence must hold for a third party, and show just that.
    pub(crate) fn blamed(&self) -> BTreeMap<u32, Blame> {
        let mut blamed = BTreeMap::new();
        for view in self.trackers() {
            let shown = self.evidence(view.id.number()).into_iter().map(|evidence| {
                let (about, blame) = evidence.check(&self.cluster).expect("evidence that anybody can check");
                assert_eq!(about, view.id);
                blame
            });
            assert_eq!(shown.max().unwrap_or_default(), view.blame, "{}", view.id);
            if view.blame != Blame::None {
                blamed.insert(view.id.number(), view.blame);
            }
        }
        blamed
    }
    pub(crate) fn evidence(&self, id: u32) -> Vec<Evidence> {
        match self.scheduler.ask(&Question::Evidence(TrackerId::new(id))) {
            Answer::Evidence(evidence) => evidence,
            other => panic!("{other:?}"),
        }
    }
    pub(crate) fn votes(&self, task: TaskId) -> Vec<Signed<Vote>> {
        match self.scheduler.ask(&Question::Votes(task)) {
            Answer::Votes(votes) => votes,
            other => panic!("{other:?}"),
        }
    }
    pub(crate) fn output(&self, output: &str) -> Vec<(Path, File)> {
        match self.scheduler.ask(&Question::Files(path(output))) {
            Answer::Files(files) => files,
            other => panic!("{other:?}"),
        }
    }

    /// The job succeeded, its map verdicts and its output are the honest ones.
    pub(crate) fn assert_right(&self, job: JobId, output: &str, partitions: u32) {
        assert_eq!(self.state(job), JobState::Succeeded, "{:#?}", self.job(job));
        for verdict in &self.seen[&job] {
            let right = ballot(map(job, verdict.map), "");
            assert_eq!(verdict.ballot, right.digest());
            assert!(matches!(right, Ballot::Map { segments, .. } if segments == verdict.segments));
        }
        let files = self.output(output);
        assert_eq!(files.len(), partitions as usize);
        for (index, (name, file)) in (0..).zip(&files) {
            assert_eq!(*name, path(&format!("{output}/part-r-{index:05}")));
            let right = ballot(reduce(job, index), "");
            assert!(matches!(right, Ballot::Reduce { manifest, .. } if manifest == file.manifest));
        }
        self.assert_certified(job, &files);
    }

    /// What is kept for the job's certificate is its output, with votes that hold for a third party.
    fn assert_certified(&self, job: JobId, files: &[(Path, File)]) {
        let completion = self.scheduler.completion(job).expect("it succeeded");
        assert_eq!(completion.check_votes(&self.cluster), Ok(()));
        assert_eq!((completion.job, completion.job_digest()), (job, self.digests[&job]));
        assert!(completion.parts.iter().map(|part| &part.manifest).eq(files.iter().map(|(_, file)| &file.manifest)));
        let mut verdicts = self.seen[&job].clone();
        verdicts.sort_by_key(|verdict| verdict.map);
        verdicts.dedup_by_key(|verdict| verdict.map);
        let ballots: Vec<Digest> = verdicts.iter().map(|verdict| verdict.ballot).collect();
        assert_eq!(completion.maps as usize, ballots.len());
        assert_eq!(completion.map_verdicts, verdicts_digest(&ballots));
    }
    /// The standings of a disputed task.
    pub(crate) fn standings(&self, job: JobId, task: TaskId) -> Vec<(u32, Standing)> {
        let disputes = self.job(job).disputes;
        let dispute = disputes.iter().find(|dispute| dispute.task == task);
        let attempts = dispute.map(|dispute| dispute.attempts.clone()).unwrap_or_default();
        attempts.into_iter().map(|(_, tracker, standing)| (tracker.number(), standing)).collect()
    }
}

pub(crate) fn map(job: JobId, index: u32) -> TaskId {
    TaskId { job, stage: Stage::Map, index }
}
pub(crate) fn reduce(job: JobId, index: u32) -> TaskId {
    TaskId { job, stage: Stage::Reduce, index }
}
pub(crate) fn ids(runners: &[(u32, AttemptId)]) -> BTreeSet<u32> {
    runners.iter().map(|(id, _)| *id).collect()
}
