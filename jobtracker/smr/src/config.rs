//! What a core is told when it starts, and the bounds of everything it keeps.

use crate::{message::Signature, types::RequestId};
use quorate_counter::{EpochRecord, LogKey};
use quorate_protocol::{
    cluster::{Agreement, WITNESSES_MAX},
    digest::Digest,
    ids::ReplicaId,
};
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
    /// The first epoch of each replica's trusted log, in the order of replicas. Their kind is the cluster's [`Agreement`].
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
    /// What keeps them from saying two things. It follows from what their logs are checked with.
    pub fn agreement(&self) -> Agreement {
        self.genesis.first().map_or(Agreement::Minbft, |record| agreement(&record.key))
    }
    /// How many of them may lie: f.
    pub fn faults(&self) -> usize {
        self.agreement().faults(self.replicas())
    }
    /// How many make a quorum, n - f: what f silent ones cannot prevent. Any two quorums share a replica whose log shows
    /// to the second what it said to the first.
    pub fn quorum(&self) -> usize {
        self.replicas() - self.faults()
    }
    /// How many vouch for something that anybody honest knows to be true, f + 1: one of them is honest.
    pub fn vouching(&self) -> usize {
        self.faults() + 1
    }
    /// Why no cluster can be like this.
    pub(crate) fn senseless(&self) -> Option<&'static str> {
        let kind = self.agreement();
        let alike = |record: &EpochRecord| agreement(&record.key) == kind;
        let same = |record: &EpochRecord| Some(&record.key) == self.genesis.first().map(|first| &first.key);
        if self.replicas() != kind.replicas(self.faults()) {
            return Some("a cluster has 2f + 1 replicas with trusted logs, or 3f + 1 that witness each other");
        }
        if !self.genesis.iter().all(alike) {
            return Some("trusted logs and witnessed ones do not mix");
        }
        if kind == Agreement::Pbft && !(self.genesis.iter().all(same) && self.replicas() <= WITNESSES_MAX) {
            return Some("all logs have the same witnesses, and not too many");
        }
        None
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

fn agreement(key: &LogKey) -> Agreement {
    if key.witnesses().is_some() { Agreement::Pbft } else { Agreement::Minbft }
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

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_counter::Epoch;
    use quorate_protocol::sign::{PublicKey, SecretKey};

    struct Nobody;
    impl Keys for Nobody {
        fn sign(&self, _: &[u8]) -> Signature {
            Signature([0; 32], [0; 32])
        }
        fn verify(&self, _: ReplicaId, _: &[u8], _: &Signature) -> bool {
            false
        }
    }

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }
    fn witnesses(number: u8) -> LogKey {
        LogKey::Witnessed((0..number).map(key).collect())
    }
    fn config(keys: impl IntoIterator<Item = LogKey>) -> Config {
        let cluster = Digest::of(b"a cluster");
        let record = |(number, key)| EpochRecord { cluster, replica: ReplicaId::new(number), epoch: Epoch(0), key };
        let genesis = (0..).zip(keys).map(record).collect();
        Config::new(cluster, ReplicaId::new(0), genesis, Limits::default(), Arc::new(Nobody), Arc::new(|_| None))
    }

    #[test]
    fn quorums_follow_from_the_mode() {
        let numbers = |config: &Config| (config.faults(), config.quorum(), config.vouching());
        for (replicas, expected) in [(1, (0, 1, 1)), (3, (1, 2, 2)), (5, (2, 3, 3)), (7, (3, 4, 4))] {
            let logs = config((0..replicas).map(|number| LogKey::Software(key(number))));
            assert_eq!((logs.agreement(), numbers(&logs), logs.senseless()), (Agreement::Minbft, expected, None));
        }
        for (replicas, expected) in [(1, (0, 1, 1)), (4, (1, 3, 2)), (7, (2, 5, 3)), (16, (5, 11, 6))] {
            let logs = config((0..replicas).map(|_| witnesses(replicas)));
            assert_eq!((logs.agreement(), numbers(&logs), logs.senseless()), (Agreement::Pbft, expected, None));
        }
    }

    #[test]
    fn a_cluster_of_another_size_or_of_two_kinds_is_refused() {
        for replicas in [0, 2, 4] {
            assert!(config((0..replicas).map(|number| LogKey::Software(key(number)))).senseless().is_some());
        }
        for replicas in [3, 5, 6, 19] {
            assert!(config((0..replicas).map(|_| witnesses(replicas))).senseless().is_some(), "{replicas}");
        }
        let mut keys: Vec<_> = (0..4).map(|_| witnesses(4)).collect();
        keys[2] = LogKey::Software(key(2));
        assert!(config(keys.clone()).senseless().is_some(), "two kinds");
        keys[2] = LogKey::Witnessed((1..5).map(key).collect());
        assert!(config(keys).senseless().is_some(), "other witnesses");
    }
}
