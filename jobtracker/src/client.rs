//! The client: how users, trackers and tools speak to the job tracker's replicas.
//!
//! A replica may lie, so an answer counts when `cluster.f + 1` distinct replicas signed the same one for the very bytes
//! that were asked. Commands carry a session and a sequence number and are executed once, so a command whose answer was
//! lost is sent again as the same bytes until the client's patience ends. Streams reconnect by themselves and go on
//! where they were.
//!
//! What f + 1 replicas executed, the client never forgets: no later answer is from before it, and a replica whose history
//! is another one is not believed. When more than f replicas are such, the client fails with [`ClientError::Fork`].

mod audit;
mod certificate;
mod choice;
mod error;
mod follow;
mod link;
mod memory;
mod round;

pub use error::ClientError;
pub use follow::Following;
pub use memory::Distrust;

use choice::Choice;
use futures::future::join_all;
use link::{Asked, Checked, Link, history};
use memory::Memory;
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::{Command, Envelope, Refusal, Request, Sender},
    digest::Digest,
    evidence::Evidence,
    file::{File, Path},
    ids::{JobId, ReplicaId, TaskId, TrackerId},
    job::{Directive, JobPlan, MapVerdict, Specification},
    limits,
    query::{Answer, Entry, JobSummary, JobView, Question, ReplicaView, TrackerView},
    sign::{SecretKey, Signed},
    spent,
    vote::Vote,
};
use round::Round;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::Mutex, time::Instant};

/// How long a client tries before it says that the job tracker is not there.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);
/// How long a replica may take to say how it stands.
pub const STATUS_PATIENCE: Duration = Duration::from_secs(3);
/// Patience beyond this is cut, so that a deadline never overflows.
const PATIENCE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Speaks to the replicas in the name of one sender. Clones share the session and the connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    patience: Duration,
}

struct Shared {
    cluster: Arc<Cluster>,
    /// [`Cluster::id`], computed once.
    id: Digest,
    sender: Sender,
    key: SecretKey,
    /// Locked while a command is in flight: a session has one at a time, so that a replica never executes a later one
    /// first and calls the earlier one stale.
    numbers: Mutex<Numbers>,
    links: Vec<Arc<Link>>,
    memory: Memory,
    choice: Choice,
}

/// The numbers of the last command.
struct Numbers {
    /// None before the first command: replicas forget old sessions for newer ones, so that one made long before it is
    /// used might be forgotten by then.
    session: Option<u64>,
    sequence: u64,
}

/// A session number above those of earlier processes of the sender, as the replicas want it, and unlike those of
/// processes that start at the same moment: nanoseconds with 16 random bits in the last place.
pub(crate) fn new_session() -> u64 {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    match getrandom::u32() {
        Ok(random) => nanoseconds & !0xffff | u64::from(random & 0xffff),
        Err(_) => nanoseconds,
    }
}

impl Shared {
    /// Replicas that must say the same.
    fn quorum(&self) -> usize {
        self.cluster.f as usize + 1
    }
}

impl Client {
    /// A client of a cluster. Connections are made when they are needed.
    pub fn new(cluster: Arc<Cluster>, sender: Sender, key: SecretKey) -> Self {
        let id = cluster.id();
        let links = cluster.replicas.iter().map(|member| Arc::new(Link::new(member.clone(), id))).collect();
        let numbers = Mutex::new(Numbers { session: None, sequence: 0 });
        let memory = Memory::new(Arc::clone(&cluster));
        // Clients take turns from different beginnings.
        let choice = Choice::new(usize::from(canonical::digest(&key.public()).as_bytes()[0]));
        let shared = Shared { cluster, id, sender, key, numbers, links, memory, choice };
        Self { shared: Arc::new(shared), patience: PATIENCE_DEFAULT }
    }

    /// The same client with another patience: how long a command or question is tried before
    /// [`ClientError::Unreachable`]. The default is 30 s.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(PATIENCE_MAX);
        self
    }

    /// The cluster's configuration.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.shared.cluster
    }
    /// In whose name it speaks.
    pub fn sender(&self) -> Sender {
        self.shared.sender
    }
    /// The key it signs with.
    pub fn key(&self) -> &SecretKey {
        &self.shared.key
    }

    /// Has a command ordered and executed, once. Returns when `f + 1` replicas say that it is.
    ///
    /// # Errors
    /// [`ClientError`]. After [`ClientError::Unreachable`] it is unknown whether the command was executed.
    pub async fn submit(&self, command: Command) -> Result<Answer, ClientError> {
        let mut numbers = self.shared.numbers.lock().await;
        // Counted before it is sent: a caller that gives up half-way must not leave the number to another command.
        numbers.sequence += 1;
        let Shared { id, sender, key, .. } = &*self.shared;
        let session = *numbers.session.get_or_insert_with(new_session);
        let sequence = numbers.sequence;
        let anchor = self.shared.memory.anchor();
        let seen = history(anchor.as_ref());
        let request = Request { cluster: *id, sender: *sender, session, sequence, seen, command };
        let encoded = canonical::encode(&request);
        within(encoded.len(), limits::COMMAND_BYTES_MAX)?;
        let envelope = Envelope { sender: *sender, request: Signed::seal_bytes(encoded, key) };
        let result = self.agreed(Asked::command(canonical::encode(&envelope), anchor)).await;
        if result.is_ok() {
            spent::ordered(envelope.request.bytes().len() as u64);
        }
        if let Err(ClientError::Refused(Refusal::Stale)) = result {
            // The replicas have forgotten this session for newer ones. Whether the command was executed before that is
            // the caller's to find out; the next one starts afresh.
            *numbers = Numbers { session: None, sequence: 0 };
        }
        result
    }

    /// Asks what the executed state is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&self, question: Question) -> Result<Answer, ClientError> {
        let bytes = canonical::encode(&question);
        within(bytes.len(), limits::QUERY_BYTES_MAX)?;
        self.agreed(Asked::question(bytes, self.shared.memory.anchor())).await
    }

    /// Asks each replica how it stands. Each answer is that replica's word alone; one that does not answer within
    /// [`STATUS_PATIENCE`] counts as not there.
    pub async fn replicas(&self) -> Vec<(ReplicaId, Result<ReplicaView, ClientError>)> {
        let asked = Asked::question(canonical::encode(&Question::Replica), None);
        let deadline = Instant::now() + self.patience.min(STATUS_PATIENCE);
        let views = self.shared.links.iter().map(|link| async {
            let view = match link.call(&asked, &self.shared.memory, deadline).await {
                Ok(Checked { answer: Answer::Replica(view), .. }) => Ok(*view),
                Ok(_) => Err(ClientError::WrongKind { expected: "Replica" }),
                Err(error) => Err(error),
            };
            (link.replica(), view)
        });
        join_all(views).await
    }

    /// Replicas some of whose replies were not believed, by this client and its clones.
    pub fn distrusted(&self) -> Vec<Distrust> {
        self.shared.memory.distrusted()
    }

    /// Follows the directives for a tracker, whose client this is, from a number on. The stream ends only with an error.
    pub fn directives(&self, tracker: TrackerId, incarnation: u64, from: u64) -> Following<Directive> {
        follow::directives(&self.shared, tracker, incarnation, from)
    }

    /// Follows the verdicts of a job's map stage from a position on. The stream ends only with an error:
    /// [`ClientError::Rejected`] when there is no such job any more.
    pub fn verdicts(&self, job: JobId, from: u64) -> Following<MapVerdict> {
        follow::verdicts(&self.shared, job, from)
    }

    /// Calls replicas until f + 1 gave the same answer.
    async fn agreed(&self, asked: Asked) -> Result<Answer, ClientError> {
        if let Some(fork) = self.shared.memory.fork() {
            return Err(fork);
        }
        match Round::new(&self.shared, &asked, Instant::now() + self.patience).agreed().await? {
            Answer::Refused(refusal) => Err(ClientError::Refused(refusal)),
            answer => Ok(answer),
        }
    }
}

fn within(got: usize, max: usize) -> Result<(), ClientError> {
    if got <= max { Ok(()) } else { Err(ClientError::TooLong { got, max }) }
}

/// Takes the answer's content when it is of the kind asked for.
macro_rules! expect {
    ($answer:expr, $kind:ident) => {
        match $answer {
            Answer::$kind(content) => Ok(content),
            _ => Err(ClientError::WrongKind { expected: stringify!($kind) }),
        }
    };
}

/// Commands and questions, one by one.
///
/// # Errors
/// All as [`Client::submit`] and [`Client::ask`]: [`ClientError::Refused`] says what the job tracker has against it.
impl Client {
    /// Runs a job.
    pub async fn submit_job(&self, specification: Specification) -> Result<JobId, ClientError> {
        expect!(self.submit(Command::SubmitJob(Box::new(specification))).await?, Submitted)
    }
    /// Ends a job.
    pub async fn kill(&self, job: JobId) -> Result<(), ClientError> {
        self.done(Command::KillJob(job)).await
    }
    /// Takes all work from a tracker, and gives it no more.
    pub async fn quarantine(&self, tracker: TrackerId, reason: String) -> Result<(), ClientError> {
        self.done(Command::Quarantine { tracker, reason }).await
    }
    /// Puts a tracker that is in quarantine on probation.
    pub async fn readmit(&self, tracker: TrackerId) -> Result<(), ClientError> {
        self.done(Command::Readmit(tracker)).await
    }
    /// Makes files, all of them or none.
    pub async fn create_files(&self, files: Vec<(Path, File)>) -> Result<(), ClientError> {
        self.done(Command::CreateFiles(files)).await
    }
    /// Removes a file or, when `recursive`, a folder with all that is in it.
    pub async fn remove(&self, path: Path, recursive: bool) -> Result<(), ClientError> {
        self.done(Command::Remove { path, recursive }).await
    }
    /// All jobs, newest first.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>, ClientError> {
        expect!(self.ask(Question::Jobs).await?, Jobs)
    }
    /// One job.
    pub async fn job(&self, job: JobId) -> Result<JobView, ClientError> {
        expect!(self.ask(Question::Job(job)).await?, Job).map(|view| *view)
    }
    /// What trackers need to run a job's tasks.
    pub async fn plan(&self, job: JobId) -> Result<JobPlan, ClientError> {
        expect!(self.ask(Question::Plan(job)).await?, Plan).map(|plan| *plan)
    }
    /// The trackers.
    pub async fn trackers(&self) -> Result<Vec<TrackerView>, ClientError> {
        expect!(self.ask(Question::Trackers).await?, Trackers)
    }
    /// A folder's entries, or the file itself.
    pub async fn list(&self, path: &Path) -> Result<Vec<Entry>, ClientError> {
        expect!(self.ask(Question::List(path.clone())).await?, List)
    }
    /// A file.
    pub async fn file(&self, path: &Path) -> Result<File, ClientError> {
        expect!(self.ask(Question::File(path.clone())).await?, File).map(|file| *file)
    }
    /// All files in a folder, or the file itself, in the order of their paths.
    pub async fn files(&self, path: &Path) -> Result<Vec<(Path, File)>, ClientError> {
        expect!(self.ask(Question::Files(path.clone())).await?, Files)
    }
    /// The votes of a task.
    pub async fn votes(&self, task: TaskId) -> Result<Vec<Signed<Vote>>, ClientError> {
        expect!(self.ask(Question::Votes(task)).await?, Votes)
    }
    /// What is held against a tracker.
    pub async fn evidence(&self, tracker: TrackerId) -> Result<Vec<Evidence>, ClientError> {
        expect!(self.ask(Question::Evidence(tracker)).await?, Evidence)
    }

    async fn done(&self, command: Command) -> Result<(), ClientError> {
        match self.submit(command).await? {
            Answer::Done => Ok(()),
            _ => Err(ClientError::WrongKind { expected: "Done" }),
        }
    }
}
