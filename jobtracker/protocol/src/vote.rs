//! Votes: what a tracker signs about an attempt's output.

use crate::{
    canonical,
    digest::{ChunkId, Digest},
    file::Manifest,
    ids::{AttemptId, TrackerId},
    limits,
    sign::Statement,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A job's counters by name: deterministic sums, part of what is voted on.
pub type Counters = BTreeMap<String, u64>;

/// A segment: one map attempt's sorted output for one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// Digest of its canonical, uncompressed bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// Its records.
    pub records: u64,
}

/// The digest that a map ballot names: of the list of all its segments, one for each partition.
pub fn segments_digest(segments: &[Segment]) -> Digest {
    canonical::digest(segments)
}

/// What kind of failure of the user's program an attempt met. Trackers vote on it, so it must be the same on each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum FailureKind {
    /// The user's code returned an error.
    UserError,
    /// The user's code panicked.
    UserPanic,
    /// The input is not what the job's format says.
    BadInput,
    /// The process ended without an answer: killed by a signal, out of memory, or it called `exit`.
    Died,
}

/// What an attempt came to. Two votes agree when their ballots are equal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ballot {
    /// A map attempt's output.
    Map {
        /// [`segments_digest`] of its segments.
        segments: Digest,
        /// The user's counters.
        counters: Counters,
    },
    /// A reduce attempt's output.
    Reduce {
        /// The chunks of the part file. The voter's own chunk server holds them.
        manifest: Manifest,
        /// The user's counters.
        counters: Counters,
    },
    /// The user's program failed.
    Failed {
        /// How.
        kind: FailureKind,
        /// At which record of the task's input, from 0, when it was at one.
        record: Option<u64>,
    },
}

impl Ballot {
    /// The ballot's own digest, by which people and compact records name it.
    pub fn digest(&self) -> Digest {
        canonical::digest(self)
    }
    /// Checks the bounds that a peer's ballot must keep.
    ///
    /// # Errors
    /// A sentence that says which bound is broken.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Ballot::Map { counters, .. } => check_counters(counters),
            Ballot::Reduce { manifest, counters } => manifest.check().and_then(|()| check_counters(counters)),
            Ballot::Failed { .. } => Ok(()),
        }
    }
}

fn check_counters(counters: &Counters) -> Result<(), String> {
    if counters.len() > limits::COUNTERS_MAX {
        return Err(format!("a job has at most {} counters", limits::COUNTERS_MAX));
    }
    match counters.keys().find(|name| name.len() > limits::COUNTER_NAME_BYTES_MAX) {
        Some(_) => Err(format!("a counter's name is at most {} bytes long", limits::COUNTER_NAME_BYTES_MAX)),
        None => Ok(()),
    }
}

/// A vote: "attempt A gave this". Signed by its tracker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vote {
    /// The cluster, so that no vote passes from one to another.
    pub cluster: Digest,
    /// [`crate::job::JobPlan::digest`], so that a vote says what it is about.
    pub specification: Digest,
    /// The job's f: how many votes must contradict this one before it counts as outvoted.
    pub f: u32,
    /// The attempt.
    pub attempt: AttemptId,
    /// The voter.
    pub tracker: TrackerId,
    /// What the attempt came to.
    pub ballot: Ballot,
}

impl Statement for Vote {
    const CONTEXT: &'static str = "quorate 2026 vote v1";
    const BYTES_MAX: usize = limits::VOTE_BYTES_MAX;
}

/// What a server served, by its own word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Subject {
    /// A shuffle segment.
    Segment {
        /// The map attempt.
        attempt: AttemptId,
        /// The partition.
        partition: u32,
    },
    /// A chunk.
    Chunk(ChunkId),
}

/// A server's statement of the bytes that it sent, made when a reader asks for proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Served {
    /// The cluster.
    pub cluster: Digest,
    /// The server.
    pub tracker: TrackerId,
    /// What was asked for.
    pub subject: Subject,
    /// For a segment, the digest of the server's own signed vote that the reader showed: a server that has not voted yet
    /// owes nobody anything, and what it said then must not be held against its later vote.
    pub vote: Option<Digest>,
    /// Digest and length of the bytes sent; `None` says that it has nothing to send.
    pub sent: Option<(Digest, u64)>,
}

impl Statement for Served {
    const CONTEXT: &'static str = "quorate 2026 served v1";
    const BYTES_MAX: usize = 512;
}
