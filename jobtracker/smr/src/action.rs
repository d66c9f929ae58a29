//! What goes into a core and what comes out.

use crate::{
    message::{Claim, Flush, Header, OwnMessage, Signed, Statement},
    types::{History, Payload, RequestId},
    verify::Verified,
};
use quorate_counter::{Attestation, Certificate, Epoch, EpochRecord, Head};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everything that a core may learn.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A message from another replica, by an authenticated link.
    Message(ReplicaId, Verified),
    /// A client's request that came here. It was checked by [`crate::verify::Verifier::request`].
    Request(RequestId, Payload),
    /// The trusted log has done all that [`Action::Attest`] asked of it up to this head.
    Attested(Attestation),
    /// The trusted log is in a new epoch, as [`Action::Renew`] asked; the attestation is of its empty chain.
    Renewed(EpochRecord, Certificate),
    /// The trusted log cannot go on in its epoch, and does not do what was asked of it.
    Lost,
}

/// What a core wants done. Actions are done in order.
#[derive(Debug, Clone)]
pub enum Action {
    /// Keep this. It is durable before any later [`Action::Attest`] is begun [SMR-13].
    Persist(Record),
    /// Append these digests to the trusted log, and tell when it has attested them.
    Attest(Vec<Digest>),
    /// Send a message to one replica.
    Send(ReplicaId, OwnMessage),
    /// Send a message to all other replicas.
    Broadcast(OwnMessage),
    /// Answer a client, if it is here.
    Reply(RequestId, Outcome),
    /// The executed state has changed: it is now this.
    Executed(History),
    /// Replace all that was kept by this [SMR-11].
    Compact(Compaction),
    /// Give the trusted log's epoch up and begin this one.
    Renew(Epoch),
    /// Somebody is proven or seen to be faulty. Told once for each kind and replica.
    Accuse(Fault),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was executed as a part of the last batch of this history, with this reply.
    Executed(History, Payload),
    /// A later one of its session was executed, or its session was forgotten: whether this one was is unknown.
    Stale,
    /// Too much waits already: try later.
    Busy,
}

/// What a replica keeps on its disk, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The replica's own statement, before it is attested [SMR-13].
    Own(Statement),
    /// A part of a replica's log, its own too, that was read.
    Flush(Arc<Flush>),
    /// A batch, encoded.
    Body(Payload),
    /// Headers that f + 1 replicas have executed, learned from others. They follow the committed history.
    Learned(Vec<Header>),
    /// Headers that follow a history, whether they are committed or not.
    Linked(History, Vec<Header>),
    /// The f + 1 claims by which a replica's log was resumed at a later head.
    Resumed(Vec<Signed>),
    /// f + 1 claims of what a log has shown: without them nobody could pass on a log whose beginning is forgotten.
    Certified(Vec<Signed>),
    /// The trusted log's new epoch, before it is used.
    Renewed(EpochRecord, Certificate),
}

/// What is left of the past at a stable checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// The replicated state at the checkpoint, application, client table and membership.
    pub state: Payload,
    /// What the core must know beside it, encoded.
    pub ledger: Vec<u8>,
    /// What follows them, as if it had been persisted after them.
    pub records: Vec<Record>,
}

/// What a replica did that it must not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Who.
    pub replica: ReplicaId,
    /// What.
    pub kind: FaultKind,
}

/// A trusted log that goes on in two ways from one head: the digests of both ways, which differ at some position that both
/// have, and the certificates of their ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The last head that both have.
    pub from: Head,
    /// One way.
    pub one: (Vec<Digest>, Certificate),
    /// The other.
    pub other: (Vec<Digest>, Certificate),
}

/// Kinds of faults. The first three are proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// Its trusted log attested two histories: the log is broken, or was cloned or rolled back.
    Forked {
        /// In which epoch.
        epoch: Epoch,
        /// The proof.
        fork: Box<Fork>,
    },
    /// It said by its trusted log what it must not say after what it said before.
    Breach {
        /// In which epoch.
        epoch: Epoch,
        /// What, and which rule it breaks.
        what: String,
        /// The statement.
        statement: Box<Statement>,
    },
    /// It claims a history that is not the one that was executed here.
    Divergent {
        /// Its claim.
        claim: Box<Signed>,
        /// The history here.
        here: History,
    },
    /// It sent something that cannot be read or is not authentic. The link is authenticated, so it was it.
    Garbage(String),
}

impl Claim {
    /// The history that it is about.
    pub fn history(&self) -> Option<History> {
        match self {
            Claim::Checkpoint { history, .. } | Claim::Decided { history } => Some(*history),
            Claim::ViewChange { .. } | Claim::Position { .. } => None,
        }
    }
}
