//! The cluster, its replicas, and what is held against whom.

use super::{Position, Tracker};
use quorate_protocol::query::{Blame, FaultView, PeerView, Suspect};
use serde::Serialize;
use utoipa::ToSchema;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// A replica of a running cluster.
    Live,
    /// Event logs, without a cluster.
    History,
}

/// The cluster, as the replica that answers sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Cluster {
    pub(crate) mode: Mode,
    pub(crate) name: String,
    /// What binds every signature to this cluster.
    pub(crate) id: String,
    /// The program's version.
    pub(crate) version: &'static str,
    /// How many replicas may lie.
    pub(crate) f: u32,
    /// `minbft` or `pbft`.
    pub(crate) agreement: String,
    /// What the cluster's safety rests on.
    pub(crate) assumption: String,
    /// Failure domains that the trackers span.
    pub(crate) domains: usize,
    /// The replica that answers.
    pub(crate) me: Option<u32>,
    pub(crate) position: Option<Position>,
    /// The ordered time of the last batch.
    pub(crate) time: u64,
    pub(crate) view: u64,
    /// The view that the replica wants or waits for instead.
    pub(crate) changing_to: Option<u64>,
    pub(crate) primary: Option<u32>,
    /// Whether the replica may vote.
    pub(crate) voting: bool,
    /// Whether the replica is up to date and votes.
    pub(crate) ready: bool,
    pub(crate) not_ready: Option<String>,
    /// The last committed batch.
    pub(crate) committed: u64,
    /// The last stable checkpoint.
    pub(crate) checkpoint: u64,
    /// Requests that wait to be ordered.
    pub(crate) pending: u64,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) trackers: Vec<Tracker>,
    pub(crate) jobs: JobCounts,
}

/// How many jobs there are in each state, of those that are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub(crate) struct JobCounts {
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) succeeded: u32,
    pub(crate) failed: u32,
    pub(crate) killed: u32,
}

/// A replica, as the one that answers sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Replica {
    pub(crate) replica: u32,
    /// Its page.
    pub(crate) page: Option<String>,
    /// Whether it is the one that answers.
    pub(crate) me: bool,
    /// Whether it is the primary of the view.
    pub(crate) primary: bool,
    /// How far it says that it has executed.
    pub(crate) executed: Option<u64>,
    /// By how many batches it is behind.
    pub(crate) lag: Option<u64>,
    /// The kind of its trusted log, which only itself knows.
    pub(crate) trusted_log: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) log_position: u64,
    /// Statements of its log that wait for something.
    pub(crate) waiting: u64,
}

/// Another replica, as the agreement sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Peer {
    pub(crate) replica: u32,
    pub(crate) executed: Option<u64>,
    pub(crate) lag: Option<u64>,
    pub(crate) epoch: u64,
    pub(crate) log_position: u64,
    pub(crate) waiting: u64,
}

impl Peer {
    pub(crate) fn new(view: &PeerView, newest: u64) -> Self {
        Self {
            replica: view.replica.number(),
            executed: view.executed,
            lag: view.executed.map(|executed| newest.saturating_sub(executed)),
            epoch: view.epoch,
            log_position: view.position,
            waiting: view.waiting,
        }
    }
}

/// What a replica was found to have done, by another one's word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Fault {
    pub(crate) replica: u32,
    /// Whether the replica that tells it has a proof.
    pub(crate) proof: bool,
    pub(crate) what: String,
}

impl From<&FaultView> for Fault {
    fn from(fault: &FaultView) -> Self {
        Self { replica: fault.replica.number(), proof: fault.proof, what: fault.what.clone() }
    }
}

/// What is held against a tracker, in a word.
pub(crate) const fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::None => "none",
        Blame::Suspected => "suspected",
        Blame::Convicted => "convicted",
    }
}

/// Who lies, as far as this replica knows.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Standing {
    pub(crate) agreed: AgreedStanding,
    pub(crate) own: OwnStanding,
}

/// What every honest replica says alike at this position.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct AgreedStanding {
    /// The cluster's id.
    pub(crate) cluster: String,
    pub(crate) position: Option<Position>,
    /// The trackers with blame or evidence, by number.
    pub(crate) trackers: Vec<SuspectedTracker>,
}

/// A tracker that something is held against.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct SuspectedTracker {
    pub(crate) tracker: u32,
    pub(crate) domain: String,
    /// `none`, `suspected` or `convicted`.
    pub(crate) blame: &'static str,
    /// Pieces of evidence.
    pub(crate) evidence: u32,
    /// Their kinds, each once.
    pub(crate) kinds: Vec<String>,
}

impl From<&Suspect> for SuspectedTracker {
    fn from(suspect: &Suspect) -> Self {
        Self {
            tracker: suspect.tracker.number(),
            domain: suspect.domain.to_string(),
            blame: blame(suspect.blame),
            evidence: suspect.evidence,
            kinds: suspect.kinds.clone(),
        }
    }
}

/// What this replica alone says.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OwnStanding {
    pub(crate) replica: Option<u32>,
    /// Replicas that it found to be faulty.
    pub(crate) faults: Vec<Fault>,
}

/// How the agreement goes on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Agreement {
    pub(crate) position: Option<Position>,
    pub(crate) committed: u64,
    pub(crate) checkpoint: u64,
    pub(crate) view: u64,
    pub(crate) changing_to: Option<u64>,
    pub(crate) primary: Option<u32>,
    pub(crate) pending: u64,
    pub(crate) voting: bool,
    /// Whether it says nothing more, since more than f replicas contradict it.
    pub(crate) halted: bool,
    pub(crate) trusted_log: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) log_position: u64,
    /// Batches executed.
    pub(crate) batches: u64,
    /// Batches executed in a second, lately.
    pub(crate) batches_per_s: f64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) faults: Vec<Fault>,
    /// The newest first.
    pub(crate) view_changes: Vec<ViewChange>,
}

/// A view that began while this process ran.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct ViewChange {
    /// By this replica's own clock.
    pub(crate) time: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) primary: u32,
    /// What was executed when it was seen.
    pub(crate) ordered: u64,
}
