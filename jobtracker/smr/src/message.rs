//! What replicas say to each other.
//!
//! Four statements take a position in the speaker's trusted log ([`Statement`]): they are what safety rests on. Claims are
//! signed with the replica's ordinary key ([`Claim`]). Everything else needs neither: it is a question, or an answer
//! that is checked against a digest.

use crate::types::{History, Payload, RequestId, Seq, View};
use quorate_counter::{Certificate, Epoch, EpochRecord, Head, Position};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A batch as it is ordered, without its requests and without the view it was proposed in: it is the same batch in the
/// next one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Its place.
    pub seq: Seq,
    /// The ordered time [SMR-15].
    pub time: OrderedTime,
    /// [`Batch::digest`].
    pub batch: Digest,
    /// The epoch that the batch admits, as in the batch: votes are counted by it, so it must be known without the batch.
    pub admits: Option<Admits>,
}

/// From this batch on a replica's votes count in a new epoch only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admits {
    /// The epoch.
    pub record: EpochRecord,
    /// It has left all views before this one, which comes after the one it was proposed in: who may have forgotten its
    /// votes in a view does not vote there again [SMR-12].
    pub left: View,
}

impl Header {
    /// The history with this batch as its last.
    pub fn follow(&self, before: History) -> History {
        History { seq: self.seq, digest: canonical::digest(&("quorate history", before.digest, self)) }
    }
}

/// The requests of one place in the order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// What clients sent, as they sent it.
    pub requests: Vec<Payload>,
    /// A replica's new epoch. Such a batch has no requests.
    pub admission: Option<Admission>,
}

impl Batch {
    /// What PREPARE carries in its trusted log.
    pub fn digest(&self) -> Digest {
        canonical::digest(&("quorate batch", self))
    }
}

/// A replica asks for its trusted log's new epoch to be counted from now on [SMR-14].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admission {
    /// The epoch.
    pub record: EpochRecord,
    /// The device attests the empty chain: it is there, and fresh.
    pub certificate: Certificate,
    /// By the replica's ordinary key, over the record.
    pub signature: Signature,
}

/// An ordinary signature: R and s of Ed25519.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Signature(pub [u8; 32], pub [u8; 32]);

/// What takes a position in the speaker's trusted log. Nothing else does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Statement {
    /// PREPARE: the primary proposes a batch, and votes for it.
    Prepare {
        /// The primary's view.
        view: View,
        /// The batch.
        header: Header,
    },
    /// COMMIT: a backup votes for everything up to a place. The first one in a view votes for its NEW-VIEW [SMR-10].
    Commit {
        /// The view.
        view: View,
        /// Everything up to here [SMR-3].
        upto: History,
    },
    /// VIEW-CHANGE: the speaker leaves all views before the target [SMR-2].
    ViewChange {
        /// The view it wants.
        target: View,
        /// f + 1 claims of distinct replicas that asked for the target or a later view [SMR-7].
        requests: Vec<Signed>,
    },
    /// NEW-VIEW: the target's primary shows from where it goes on [SMR-9].
    NewView {
        /// The view, which begins with this statement.
        view: View,
        /// A quorum of VIEW-CHANGEs for exactly this view, by their places in their speakers' logs.
        changes: Vec<Change>,
        /// What they make the view start with. Everybody computes it too.
        start: History,
    },
}

/// Names a VIEW-CHANGE.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Whose.
    pub replica: ReplicaId,
    /// In which epoch.
    pub epoch: Epoch,
    /// At which position of its log.
    pub position: Position,
}

impl Statement {
    /// What the trusted log binds.
    pub fn digest(&self) -> Digest {
        canonical::digest(&("quorate statement", self))
    }
    /// The batch that it proposes.
    pub(crate) fn proposed_batch(&self) -> Option<Digest> {
        match self {
            Statement::Prepare { header, .. } => Some(header.batch),
            Statement::Commit { .. } | Statement::ViewChange { .. } | Statement::NewView { .. } => None,
        }
    }
    /// Its view; for a VIEW-CHANGE the target.
    pub fn view(&self) -> View {
        match self {
            Statement::Prepare { view, .. } | Statement::Commit { view, .. } | Statement::NewView { view, .. } => *view,
            Statement::ViewChange { target, .. } => *target,
        }
    }
}

/// Consecutive statements of one replica under one certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flush {
    /// Whose.
    pub replica: ReplicaId,
    /// In which epoch.
    pub epoch: Epoch,
    /// The position before the first statement.
    pub after: Position,
    /// At least one.
    pub statements: Vec<Statement>,
    /// Attests the head after the last statement.
    pub certificate: Certificate,
}

impl Flush {
    /// The position of the last statement.
    pub fn end(&self) -> Position {
        self.after.after(self.statements.len())
    }
}

/// What a replica has shown of itself by its log so far: the same for everybody who has read the log up to there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// It left all views before this one.
    pub left: View,
    /// The last view in which it voted.
    pub entered: Option<View>,
    /// What it voted for there.
    pub upto: History,
    /// Where the last view that it began as its primary starts.
    pub began: Seq,
    /// It was admitted and has said nothing yet.
    pub fresh: bool,
}

/// A VIEW-CHANGE that was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Left {
    /// The view that its speaker wanted.
    pub target: View,
    /// Where it is in its speaker's log.
    pub position: Position,
    /// What its speaker had shown of itself, this VIEW-CHANGE included.
    pub standing: Standing,
}

/// What a replica says with its ordinary key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Claim {
    /// REQ-VIEW-CHANGE: it wants to leave all views before the target. No word of the view it is in [SMR-7].
    ViewChange {
        /// The view it wants.
        target: View,
    },
    /// CHECKPOINT: the state after a place [SMR-11].
    Checkpoint {
        /// After which history.
        history: History,
        /// Over the pages of application, client table and membership.
        root: Digest,
    },
    /// DECIDED: it has executed this history [SMR-12].
    Decided {
        /// All of it.
        history: History,
    },
    /// It has read another's log up to a head, and this is what it shows [SMR-12].
    Position {
        /// Whose log.
        of: ReplicaId,
        /// In which epoch.
        epoch: Epoch,
        /// Up to where.
        head: Head,
        /// What it shows.
        standing: Standing,
        /// The last VIEW-CHANGEs in it, by target: a NEW-VIEW may name them.
        changes: Vec<Left>,
    },
}

/// A claim with its signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signed {
    /// Who.
    pub by: ReplicaId,
    /// What.
    pub claim: Claim,
    /// By the replica's ordinary key.
    pub signature: Signature,
}

/// Where a replica is. Sent from time to time: whatever was lost is noticed by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// A [`Claim::Decided`].
    pub decided: Signed,
    /// The last view that it saw begin.
    pub view: View,
    /// How far it has each replica's log, in the order of replicas.
    pub heads: Vec<(Epoch, Position)>,
    /// The same of the epochs before those, which others' logs may depend on.
    pub retired: Vec<(ReplicaId, Epoch, Position)>,
    /// Its [`Claim::ViewChange`], while it wants one.
    pub wants: Option<Signed>,
    /// Its [`Claim::Checkpoint`] of the last checkpoint.
    pub checkpoint: Option<Signed>,
    /// Its new epoch, while that is not admitted, or another's that it was told of.
    pub admission: Option<Box<Admission>>,
}

/// A message. `B` is a batch: unchecked on the wire, [`Body`] once it was checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message<B> {
    /// A part of somebody's trusted log, and the batches that it proposes, when the primary itself sends it.
    Flush(Arc<Flush>, Vec<B>),
    /// Where the sender is.
    Status(Box<Status>),
    /// A claim by itself.
    Claim(Box<Signed>),
    /// Requests that the primary should order.
    Forward(B),
    /// Wants the log of a replica after a position.
    FetchFlushes {
        /// Whose.
        of: ReplicaId,
        /// In which epoch.
        epoch: Epoch,
        /// The last position that the asker has.
        after: Position,
    },
    /// What follows a position of a log is no longer kept by the sender. The claims that come with it are the way on.
    Gone {
        /// Whose.
        of: ReplicaId,
        /// In which epoch.
        epoch: Epoch,
        /// The last position that the asker has.
        after: Position,
    },
    /// Wants to know what a log has shown up to where the asked one has read it, since the asker cannot read on.
    FetchPosition {
        /// Whose.
        of: ReplicaId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Wants batches.
    FetchBodies(Vec<Digest>),
    /// Batches that were asked for.
    Bodies(Vec<B>),
    /// Wants the headers that follow a history.
    FetchChain(History),
    /// Headers in order, the first one following the history that was asked for.
    Chain(History, Vec<Header>),
    /// The f + 1 checkpoint claims of a stable checkpoint: to whoever asks for headers or logs that are gone.
    Stable(Vec<Signed>),
    /// Wants the page digests of a state.
    FetchPages(Digest),
    /// The page digests of a state, by its root.
    Pages(Digest, Manifest),
    /// Wants pages.
    FetchPage(Vec<Digest>),
    /// A page that was asked for.
    Page(Payload),
}

/// A state in pages of [`crate::PAGE_BYTES`], the last one shorter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Bytes of the state.
    pub length: u64,
    /// The pages' digests.
    pub pages: Vec<Digest>,
}

impl Manifest {
    /// What checkpoints claim.
    pub fn root(&self) -> Digest {
        canonical::digest(&("quorate state", self))
    }
}

/// A batch that was checked: it is within the limits, each request is authentic, and none is twice in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    pub(crate) batch: Arc<Batch>,
    pub(crate) ids: Vec<RequestId>,
    pub(crate) digest: Digest,
    pub(crate) bytes: usize,
}

impl Body {
    /// The batch itself.
    pub fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }
    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.batch.serialize(to)
    }
}

/// A message as it comes from the wire.
pub type WireMessage = Message<Arc<Batch>>;
/// A message as the core makes it.
pub type OwnMessage = Message<Arc<Body>>;

impl OwnMessage {
    /// As another replica gets it.
    pub fn to_wire(&self) -> WireMessage {
        let batches = |bodies: &[Arc<Body>]| bodies.iter().map(|body| Arc::clone(&body.batch)).collect();
        match self {
            Message::Flush(flush, bodies) => Message::Flush(Arc::clone(flush), batches(bodies)),
            Message::Status(status) => Message::Status(status.clone()),
            Message::Claim(claim) => Message::Claim(claim.clone()),
            Message::Forward(body) => Message::Forward(Arc::clone(&body.batch)),
            Message::FetchFlushes { of, epoch, after } => {
                Message::FetchFlushes { of: *of, epoch: *epoch, after: *after }
            }
            Message::Gone { of, epoch, after } => Message::Gone { of: *of, epoch: *epoch, after: *after },
            Message::FetchPosition { of, epoch } => Message::FetchPosition { of: *of, epoch: *epoch },
            Message::FetchBodies(digests) => Message::FetchBodies(digests.clone()),
            Message::Bodies(bodies) => Message::Bodies(batches(bodies)),
            Message::FetchChain(history) => Message::FetchChain(*history),
            Message::Chain(history, headers) => Message::Chain(*history, headers.clone()),
            Message::Stable(claims) => Message::Stable(claims.clone()),
            Message::FetchPages(root) => Message::FetchPages(*root),
            Message::Pages(root, manifest) => Message::Pages(*root, manifest.clone()),
            Message::FetchPage(digests) => Message::FetchPage(digests.clone()),
            Message::Page(page) => Message::Page(page.clone()),
        }
    }
}
