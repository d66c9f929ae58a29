//! Questions to the job tracker and the answers to them and to commands.

use crate::{
    certificate::{Completion, Endorsement},
    command::{Cost, History, Refusal},
    digest::{ChunkId, Digest},
    evidence::Evidence,
    file::{File, Path},
    ids::{AttemptId, Domain, JobId, OrderedTime, ReplicaId, TaskId, TrackerId},
    job::{Directive, JobPlan, MapVerdict},
    limits,
    sign::Signed,
    vote::{Counters, Vote},
};
use serde::{Deserialize, Serialize};

/// A question: it changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Question {
    /// All jobs, newest first.
    Jobs,
    /// One job.
    Job(JobId),
    /// What trackers need to run a job's tasks.
    Plan(JobId),
    /// The trackers.
    Trackers,
    /// A folder's entries, or the file itself.
    List(Path),
    /// A file.
    File(Path),
    /// All files in a folder, or the file itself, in the order of their paths.
    Files(Path),
    /// Votes of a task.
    Votes(TaskId),
    /// What is held against a tracker.
    Evidence(TrackerId),
    /// Which of these chunks no file has on this server: it may drop them.
    Unreferenced(TrackerId, Vec<ChunkId>),
    /// How the replica itself stands. Each gives its own answer, and it is its word alone.
    Replica,
    /// What a job that succeeded came to.
    Completion(JobId),
    /// The replica's signature under that. Each gives its own.
    Endorsement(JobId),
}

/// The longest encoded question.
pub const QUESTION_BYTES_MAX: usize = limits::QUERY_BYTES_MAX;

/// An answer to a command or a question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done, nothing more to say.
    Done,
    /// The job's number.
    Submitted(JobId),
    /// It was not done.
    Refused(Refusal),
    /// To [`Question::Jobs`].
    Jobs(Vec<JobSummary>),
    /// To [`Question::Job`].
    Job(Box<JobView>),
    /// To [`Question::Plan`].
    Plan(Box<JobPlan>),
    /// To [`Question::Trackers`].
    Trackers(Vec<TrackerView>),
    /// To [`Question::List`].
    List(Vec<Entry>),
    /// To [`Question::File`].
    File(Box<File>),
    /// To [`Question::Files`].
    Files(Vec<(Path, File)>),
    /// To [`Question::Votes`].
    Votes(Vec<Signed<Vote>>),
    /// To [`Question::Evidence`].
    Evidence(Vec<Evidence>),
    /// To [`Question::Unreferenced`].
    Chunks(Vec<ChunkId>),
    /// In a stream of directives: the number and the directive.
    Directive(u64, Directive),
    /// In a stream of verdicts: the position and the verdict.
    MapVerdict(u64, MapVerdict),
    /// To [`Question::Replica`].
    Replica(Box<ReplicaView>),
    /// To [`Question::Completion`].
    Completion(Box<Completion>),
    /// To [`Question::Endorsement`].
    Endorsement(Box<Signed<Endorsement>>),
}

/// How a job stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JobState {
    /// Attempts run.
    Running,
    /// Nothing can run until something changes; the text says what.
    Waiting(String),
    /// The output is there.
    Succeeded,
    /// The program failed in the same way on f+1 trackers, or the job could not be run.
    Failed(JobFailure),
    /// Its client ended it.
    Killed,
}

impl JobState {
    /// Whether nothing more will happen.
    pub fn is_ended(&self) -> bool {
        match self {
            JobState::Running | JobState::Waiting(_) => false,
            JobState::Succeeded | JobState::Failed(_) | JobState::Killed => true,
        }
    }
}

/// Why a job failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JobFailure {
    /// f+1 trackers saw the program fail at the same place.
    Program {
        /// The task.
        task: TaskId,
        /// How.
        kind: crate::vote::FailureKind,
        /// The record of the task's input, from 0.
        record: Option<u64>,
        /// The message, as one of the agreeing trackers gave it.
        message: String,
    },
    /// All 2f+1 votes came and no f+1 agree: the program gives another output each time, or more than f trackers lie.
    Undecidable {
        /// The task.
        task: TaskId,
    },
    /// No tracker could run a task; the text is the last reason given.
    NotRunnable {
        /// The task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// The program gives another output when the same tracker runs it again.
    Nondeterministic {
        /// The task.
        task: TaskId,
        /// A tracker that differs from itself, by its own two votes.
        tracker: TrackerId,
    },
}

impl JobFailure {
    /// The task that failed it.
    pub fn task(&self) -> TaskId {
        match self {
            JobFailure::Program { task, .. }
            | JobFailure::Undecidable { task }
            | JobFailure::NotRunnable { task, .. }
            | JobFailure::Nondeterministic { task, .. } => *task,
        }
    }
}

/// A job in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobSummary {
    /// Its number.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: JobState,
    /// When it was submitted.
    pub submitted: OrderedTime,
    /// When it ended, or the last ordered time.
    pub until: OrderedTime,
    /// Its f.
    pub f: u32,
    /// Tasks with a verdict and all tasks, of the map stage.
    pub maps: (u32, u32),
    /// The same of the reduce stage.
    pub reduces: (u32, u32),
}

/// A job in full.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobView {
    /// The line in the list.
    pub summary: JobSummary,
    /// Where the output is, or will be.
    pub output: Path,
    /// Attempts started that tasks wanted.
    pub attempts: u64,
    /// Sum of the voted attempts' costs.
    pub cost: Cost,
    /// Agreed counters.
    pub counters: Counters,
    /// Tasks whose votes differed or whose attempts were late, the first [`limits::DISPUTES_PER_JOB_MAX`].
    pub disputes: Vec<Dispute>,
    /// How many there were in all.
    pub disputed: u64,
    /// Attempts started in slots that nobody wanted, to test trackers. They are not among [`JobView::attempts`].
    pub tests: u64,
}

/// A task that did not go smoothly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dispute {
    /// The task.
    pub task: TaskId,
    /// Each attempt and what came of it, in order of attempts.
    pub attempts: Vec<(AttemptId, TrackerId, Standing)>,
}

/// How an attempt stands to the verdict on its task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// No vote yet.
    Running,
    /// No vote yet, and its deadline is over.
    Overdue,
    /// Voted, and the task has no verdict. The text shortens the ballot's digest.
    Voted(String),
    /// Voted as f+1 did.
    Agreed(String),
    /// Voted otherwise than f+1 did.
    Outvoted(String),
    /// The tracker went away or could not run it.
    Lost(String),
    /// No longer needed.
    Cancelled,
}

/// How much is held against a tracker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Blame {
    /// Nothing.
    #[default]
    None,
    /// It was outvoted or did not deliver: a lie or an accident.
    Suspected,
    /// What it signed convicts it. It is in quarantine.
    Convicted,
}

/// What a tracker is given to do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Duty {
    /// Whatever there is.
    #[default]
    Full,
    /// Nothing, for this reason. What it stored can still be read: readers check it.
    Quarantined(String),
    /// Tasks whose answers are known: it was readmitted, and shows that it works.
    Probation {
        /// How many of them it answered rightly.
        passed: u32,
        /// How many it takes.
        needed: u32,
    },
}

/// A tracker as the scheduler sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrackerView {
    /// Its number.
    pub id: TrackerId,
    /// Its failure domain.
    pub domain: Domain,
    /// Where its services are; empty when it never registered.
    pub address: String,
    /// Whether it is there.
    pub live: bool,
    /// Map attempts it runs and could run.
    pub map_slots: (u16, u16),
    /// Reduce attempts it runs and could run.
    pub reduce_slots: (u16, u16),
    /// What is held against it.
    pub blame: Blame,
    /// Pieces of evidence, which [`Question::Evidence`] gives.
    pub evidence: u32,
    /// Attempts that were overdue: never evidence of a lie.
    pub overdue: u64,
    /// Votes that became verdicts.
    pub agreed: u64,
    /// Votes that were outvoted.
    pub outvoted: u64,
    /// What it is given to do.
    pub duty: Duty,
}

/// A tracker that something is held against, in short: what every replica says alike of the same history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suspect {
    /// Its number.
    pub tracker: TrackerId,
    /// Its failure domain.
    pub domain: Domain,
    /// What is held against it.
    pub blame: Blame,
    /// Pieces of evidence that are kept.
    pub evidence: u32,
    /// Their kinds, as [`Evidence::kind`] names them, each once and in order.
    pub kinds: Vec<String>,
}

/// An entry of a folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its full path.
    pub path: Path,
    /// Bytes in the file, or in all files below the folder.
    pub length: u64,
    /// Files below, for a folder; `None` for a file.
    pub files: Option<u64>,
    /// Copies of its chunks, the fewest that any of them has. 0 for an empty file.
    pub copies: u32,
}

/// A replica as it sees itself and the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Which.
    pub replica: ReplicaId,
    /// The last view that it saw begin.
    pub view: u64,
    /// The view that it wants or waits for instead.
    pub changing_to: Option<u64>,
    /// The primary of its view.
    pub primary: ReplicaId,
    /// What it has executed.
    pub executed: History,
    /// The last committed batch.
    pub committed: u64,
    /// The last stable checkpoint.
    pub checkpoint: u64,
    /// Requests that wait to be ordered.
    pub pending: u64,
    /// The kind of its trusted log.
    pub trusted_log: String,
    /// The epoch of its trusted log.
    pub epoch: u64,
    /// The position of its trusted log.
    pub position: u64,
    /// Whether the cluster counts that epoch, so that it may vote.
    pub voting: bool,
    /// The other replicas, as they look from here.
    pub peers: Vec<PeerView>,
    /// Who is faulty.
    pub faults: Vec<FaultView>,
}

/// A replica as another one sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// Which.
    pub replica: ReplicaId,
    /// How far it says that it has executed.
    pub executed: Option<u64>,
    /// The epoch of its trusted log that counts.
    pub epoch: u64,
    /// How far its log was read.
    pub position: u64,
    /// Statements of its log that wait for something.
    pub waiting: u64,
}

/// What a replica was found to have done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FaultView {
    /// Who.
    pub replica: ReplicaId,
    /// Whether what it signed proves it to anybody.
    pub proof: bool,
    /// What, for people.
    pub what: String,
}

/// What the [`crate::command::Reply`] to a command answers: the digest of its encoded envelope.
pub fn command_digest(envelope: &[u8]) -> Digest {
    Digest::of(envelope)
}

/// What the [`crate::command::Reply`] to a question answers: its encoding, and what its asker has seen.
pub fn question_digest(question: &[u8], seen: &[u8]) -> Digest {
    crate::canonical::digest(&("quorate question", question, seen))
}

/// What a stream's replies answer: the stream's own name.
pub fn stream_digest(what: &str, numbers: &[u64]) -> Digest {
    crate::canonical::digest(&("quorate stream", what, numbers))
}

/// Names an attempt's dispute line for people.
pub fn describe(attempt: &AttemptId, tracker: TrackerId, standing: &Standing) -> String {
    match standing {
        Standing::Running => format!("{tracker} still runs attempt {}", attempt.attempt),
        Standing::Overdue => format!("{tracker} is overdue with attempt {}", attempt.attempt),
        Standing::Voted(ballot) => format!("{tracker} said {ballot}"),
        Standing::Agreed(ballot) => format!("{tracker} said {ballot} (agreed)"),
        Standing::Outvoted(ballot) => format!("{tracker} said {ballot} (outvoted)"),
        Standing::Lost(reason) => format!("{tracker} lost attempt {}: {reason}", attempt.attempt),
        Standing::Cancelled => format!("{tracker}'s attempt {} was not needed", attempt.attempt),
    }
}
