//! Ordered commands: everything that changes the job tracker's state, and nothing else.

use crate::{
    canonical::{self, DecodeError},
    digest::Digest,
    evidence::Evidence,
    file::{File, Path},
    ids::{AttemptId, JobId, ReplicaId, TrackerId},
    job::Specification,
    limits,
    sign::{PublicKey, Rejection, Signed, Statement},
    vote::Vote,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who sends a command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Sender {
    /// A client, by its key.
    Client(PublicKey),
    /// A tracker.
    Tracker(TrackerId),
    /// A replica.
    Replica(ReplicaId),
}

/// The ordered history up to a place: who states the same digest at the same place has executed the same commands at the
/// same times.
///
/// Every reply carries one, and every request shows the newest that its sender believes. So two histories, once apart, can
/// never be joined again unnoticed, however many replicas are broken (fork consistency).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct History {
    /// The place: how many batches of commands were executed.
    pub ordered: u64,
    /// The chained digest of all of them.
    pub digest: Digest,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.digest.short(), self.ordered)
    }
}

/// The longest encoding of what an asker has seen, an `Option<History>`.
const SEEN_BYTES_MAX: usize = 64;

/// What an asker has seen, as questions and streams carry it.
pub fn seen_to_wire(seen: Option<History>) -> Vec<u8> {
    canonical::encode(&seen)
}

/// Reads what an asker says that it has seen.
///
/// # Errors
/// [`DecodeError`] when the bytes are nothing that [`seen_to_wire`] writes.
pub fn seen_from_wire(bytes: &[u8]) -> Result<Option<History>, DecodeError> {
    canonical::decode(bytes, SEEN_BYTES_MAX)
}

/// A command as it is ordered. The signature covers all of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The cluster.
    pub cluster: Digest,
    /// Who sends it.
    pub sender: Sender,
    /// One process of the sender: its numbers are its own.
    pub session: u64,
    /// Counts up within the session; a command is executed once per number.
    pub sequence: u64,
    /// The newest history that the sender has seen f + 1 replicas agree on, so that a replica of another one notices.
    pub seen: Option<History>,
    /// What to do.
    pub command: Command,
}

/// A request as it travels and as it is ordered. Who sent it stands outside, so that the signature can be checked although
/// the request may not be readable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Whose signature it is.
    pub sender: Sender,
    /// The request.
    pub request: Signed<Request>,
}

impl Statement for Request {
    const CONTEXT: &'static str = "quorate 2026 request v2";
    const BYTES_MAX: usize = limits::COMMAND_BYTES_MAX;
}

/// A change to the job tracker's state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Client: makes files, all of them or none.
    CreateFiles(Vec<(Path, File)>),
    /// Client: removes a file, or a folder with all that is in it.
    Remove {
        /// Which.
        path: Path,
        /// Whether a folder may be removed.
        recursive: bool,
    },
    /// Client: runs a job.
    SubmitJob(Box<Specification>),
    /// Client: ends a job.
    KillJob(JobId),
    /// Tracker: it is there, and where.
    Register(Registration),
    /// Tracker: what happened since the last report.
    Report(Report),
    /// Replica: it no longer hears from a tracker. Counts when f+1 replicas say so.
    Absent(TrackerId),
    /// Client: takes all work from a tracker, and gives it no more.
    Quarantine {
        /// Which.
        tracker: TrackerId,
        /// Why, for people.
        reason: String,
    },
    /// Client: puts a tracker that is in quarantine on probation.
    Readmit(TrackerId),
}

/// A tracker's presence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// `host:port` of its services.
    pub address: String,
    /// A number that differs for each start of the tracker's process: what ran before is lost.
    pub incarnation: u64,
    /// Map attempts it runs at once.
    pub map_slots: u16,
    /// Reduce attempts it runs at once.
    pub reduce_slots: u16,
    /// The programs it can run, such as `x86_64-linux`; empty for none but embedded ones.
    pub target: String,
}

/// What a tracker has to say, in one command.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The tracker's incarnation.
    pub incarnation: u64,
    /// Directives below this number were taken over.
    pub acknowledged: u64,
    /// News of attempts.
    pub attempts: Vec<AttemptReport>,
    /// What it found out about others.
    pub accusations: Vec<Accusation>,
}

impl Report {
    /// Checks the signatures of its votes, which must all be the reporter's own. Those beyond
    /// [`limits::REPORT_ENTRIES_MAX`] are not looked at: so long a report is refused when it is executed.
    ///
    /// # Errors
    /// [`Rejection::Signature`] for the first vote that `key` did not sign.
    pub fn verify_votes(&self, key: &PublicKey) -> Result<(), Rejection> {
        let entries = self.attempts.iter().take(limits::REPORT_ENTRIES_MAX);
        let mut votes = entries.filter_map(|news| match news {
            AttemptReport::Voted { vote, .. } => Some(vote),
            AttemptReport::Progress { .. } | AttemptReport::Declined { .. } => None,
        });
        votes.try_for_each(|vote| vote.verify_signature(key))
    }
}

/// News of one attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AttemptReport {
    /// It goes on: `units` counts up with the work done.
    Progress {
        /// Which.
        attempt: AttemptId,
        /// Work done so far: bytes read or merged.
        units: u64,
    },
    /// It has ended, with a vote.
    Voted {
        /// The vote.
        vote: Signed<Vote>,
        /// What it cost. Not voted on: one tracker's word.
        cost: Cost,
        /// The user program's message when the ballot is a failure. One tracker's word.
        message: String,
    },
    /// The tracker could not run it, through no fault of the program: another should.
    Declined {
        /// Which.
        attempt: AttemptId,
        /// Why, for people.
        reason: String,
    },
}

/// What an attempt cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Milliseconds from start to vote.
    pub elapsed_ms: u64,
    /// Bytes fetched in the shuffle.
    pub shuffled: u64,
    /// Of these, bytes fetched again because what was fetched before turned out wrong.
    pub refetched: u64,
    /// How often a reduce started over.
    pub restarts: u32,
}

/// What a tracker found out about another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Accusation {
    /// With something that anybody can check.
    Evidence(Box<Evidence>),
    /// One tracker's word: it counts only when f+1 domains give it.
    Complaint {
        /// The accused.
        about: TrackerId,
        /// Whose output was asked for.
        attempt: AttemptId,
        /// What went wrong, for people.
        what: String,
    },
    /// A tracker that cannot be reached, by one tracker's word. It blames nobody: it says that another copy is wanted.
    Unreachable {
        /// Who.
        about: TrackerId,
        /// Whose output was asked for.
        attempt: AttemptId,
    },
    /// A signed vote received directly, unlike what the job tracker said of that attempt. With the vote that was ordered
    /// it may be proof.
    StrayVote(Box<Signed<Vote>>),
}

/// A tracker asks for its directives, and shows so that it is alive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FollowDirectives {
    /// The cluster.
    pub cluster: Digest,
    /// Who asks.
    pub tracker: TrackerId,
    /// Its incarnation, as it registered.
    pub incarnation: u64,
    /// The first directive that it wants.
    pub from: u64,
    /// As in a [`Request`].
    pub seen: Option<History>,
}

impl Statement for FollowDirectives {
    const CONTEXT: &'static str = "quorate 2026 follow directives v2";
    const BYTES_MAX: usize = 128;
}

/// The answer to a command or question, signed by the replica that gives it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The cluster.
    pub cluster: Digest,
    /// The replica.
    pub replica: ReplicaId,
    /// Digest of the command or question answered, so that no answer passes for another's.
    pub to: Digest,
    /// What the replica had executed when it answered; for an executed command, the history that ends with its batch, which
    /// is the same whoever is asked and whenever.
    pub history: History,
    /// The replica's own history at the place that the asker has seen; `None` when it was shown nothing, has not come so
    /// far, or no longer knows.
    pub confirms: Option<History>,
    /// The view that the replica is in: whoever asks next may like to begin with that view's primary.
    pub view: u64,
    /// The answer.
    pub answer: crate::query::Answer,
}

impl Statement for Reply {
    const CONTEXT: &'static str = "quorate 2026 reply v3";
    const BYTES_MAX: usize = limits::REPLY_BYTES_MAX;
}

/// Why a command or question was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Something to read does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Something to make exists.
    #[error("{0} exists already")]
    Exists(String),
    /// A folder is not removed unless asked to.
    #[error("{0} is a folder")]
    IsFolder(String),
    /// There are not enough failure domains for the job's f.
    #[error("f = {f} needs {needed} failure domains with live trackers, and there are {have}")]
    TooFewDomains {
        /// `job.f`.
        f: u32,
        /// Domains needed.
        needed: u32,
        /// Domains there.
        have: u32,
    },
    /// No tracker runs this program.
    #[error("the program is for {program}, and the cluster's trackers run {trackers}")]
    WrongTarget {
        /// The program's target.
        program: String,
        /// The trackers' targets.
        trackers: String,
    },
    /// A value is out of bounds, or makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A bound of the job tracker is reached.
    #[error("the job tracker is full: {0}")]
    Full(String),
    /// The sender may not do this.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// An older command of the same session was executed already, and its answer is gone.
    #[error("this command is older than one executed already")]
    Stale,
    /// The asker has seen another history than the replica executed: they do not belong together any more.
    #[error("the history {seen} that was seen before is not the one here, {here}: the job tracker has forked")]
    Fork {
        /// The replica's history at that place.
        here: History,
        /// What the asker showed.
        seen: History,
    },
}
