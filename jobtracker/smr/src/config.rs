//! What a core is told when it starts, and the bounds of everything it keeps.

use crate::{message::Signature, types::RequestId};
use quorate_counter::EpochRecord;
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use std::sync::Arc;

/// Bytes of a page of state.
pub const PAGE_BYTES: usize = 64 << 10;

/// The replicas' ordinary keys.
pub trait Keys: Send + Sync {
    /// Signs as this replica.
    fn sign(&self, bytes: &[u8]) -> Signature;
    /// Whether a replica signed these bytes.
    fn verify(&self, by: ReplicaId, bytes: &[u8], signature: &Signature) -> bool;
}

/// Tells whose request it is and which; `None` when it is not authentic. Pure: every replica says the same.
pub type Identify = dyn Fn(&[u8]) -> Option<RequestId> + Send + Sync;

/// The bounds [SMR-17]. All replicas have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests of a batch.
    pub batch_requests_max: usize,
    /// Bytes of a batch. One request always fits.
    pub batch_bytes_max: usize,
    /// Bytes of a request.
    pub request_bytes_max: usize,
    /// Batches proposed and not yet executed.
    pub pipeline_max: u64,
    /// Batches between two checkpoints: K. At most 2 K are kept.
    pub checkpoint_interval: u64,
    /// Statements of one flush.
    pub flush_statements_max: usize,
    /// Flushes of one replica that are kept for others.
    pub flushes_kept_max: usize,
    /// Statements of one replica that wait for what they depend on.
    pub waiting_max: usize,
    /// Requests that wait to be ordered.
    pub pending_max: usize,
    /// Bytes of these.
    pub pending_bytes_max: usize,
    /// Sessions of one client that are remembered.
    pub sessions_max: usize,
    /// Positions of a log between two that replicas vouch for.
    pub vouch_interval: u64,
    /// Milliseconds that a batch's time may be ahead of a replica's clock.
    pub clock_ahead_max: u64,
    /// Milliseconds until a replica that waits in vain asks for another view. Doubles with each view that brings nothing.
    pub view_timeout: u64,
    /// Milliseconds between two statuses.
    pub status_interval: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_requests_max: 400,
            batch_bytes_max: 1 << 20,
            request_bytes_max: (2 << 20) + 1024,
            pipeline_max: 16,
            checkpoint_interval: 256,
            flush_statements_max: 64,
            flushes_kept_max: 4096,
            waiting_max: 4096,
            pending_max: 8192,
            pending_bytes_max: 64 << 20,
            sessions_max: 64,
            vouch_interval: 128,
            clock_ahead_max: 5_000,
            view_timeout: 2_000,
            status_interval: 100,
        }
    }
}

/// What a core is told when it starts.
#[derive(Clone)]
pub struct Config {
    /// The cluster.
    pub cluster: Digest,
    /// Which replica it is. Replicas are numbered from 0.
    pub me: ReplicaId,
    /// The first epoch of each replica's trusted log, in the order of replicas: 2f + 1 of them.
    pub genesis: Vec<EpochRecord>,
    /// The bounds.
    pub limits: Limits,
    /// The replicas' ordinary keys.
    pub keys: Arc<dyn Keys>,
    /// Reads requests.
    pub identify: Arc<Identify>,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Config {
    /// A configuration. `genesis` is in the order of replicas.
    pub fn new(
        cluster: Digest,
        me: ReplicaId,
        genesis: Vec<EpochRecord>,
        limits: Limits,
        keys: Arc<dyn Keys>,
        identify: Arc<Identify>,
    ) -> Self {
        Self {
            cluster,
            me,
            genesis,
            limits,
            keys,
            identify,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// Brings a bug back, for tests.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mut self, mutant: Option<Mutant>) -> Self {
        self.mutant = mutant;
        self
    }

    /// How many replicas.
    pub fn replicas(&self) -> usize {
        self.genesis.len()
    }
    /// How many of them may lie: f.
    pub fn faults(&self) -> usize {
        self.replicas().saturating_sub(1) / 2
    }
    /// How many make a quorum: f + 1.
    pub fn quorum(&self) -> usize {
        self.faults() + 1
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
    #[cfg(not(feature = "mutants"))]
    #[inline]
    pub(crate) fn mutated(&self, _: Mutant) -> bool {
        false
    }
}

/// The known bugs of such protocols. Without the feature `mutants` none can be brought back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutant {
    /// Votes for a view count although their speaker has left it. Undoes SMR-2.
    VoteAfterViewChange,
    /// NEW-VIEW takes VIEW-CHANGEs for other views. Undoes SMR-9.
    StaleCertificate,
    /// NEW-VIEW takes the longest sequence of whatever view. Undoes SMR-9.
    MixedCounters,
    /// COMMITs may leave places out. Undoes SMR-3.
    SkippedCommits,
    /// Asking for another view names the view that the asker is in, and counts for that pair only. Undoes SMR-7.
    CurrentViewInRequest,
    /// VIEW-CHANGE counts without f + 1 that asked for it. Undoes SMR-7.
    LoneViewChange,
    /// A replica goes on after its disk was rolled back, with the counter from its disk. Undoes SMR-13.
    CounterFromDisk,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::VoteAfterViewChange,
        Self::StaleCertificate,
        Self::MixedCounters,
        Self::SkippedCommits,
        Self::CurrentViewInRequest,
        Self::LoneViewChange,
        Self::CounterFromDisk,
    ];
}
