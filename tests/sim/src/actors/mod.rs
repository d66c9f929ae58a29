//! Byzantine replicas, one lie a file.
//!
//! A liar has a real core inside, which is honest and does not know. The core writes to a *shadow* of the trusted log;
//! the liar decides what the real one gets ([`Pen`]) and what is said to whom. It has its own keys and its own trusted
//! log and nobody else's: what it cannot do here, it cannot do anywhere.

mod censor;
mod deaf;
mod equivocate;
mod flood_counters;
mod forge_certificate;
mod garbage_bodies;
mod hands;
mod hurry_time;
mod impatient;
mod leave_and_vote;
mod lie_in_checkpoint;
mod lie_in_transfer;
mod lie_to_clients;
mod mute;
mod old_epoch;
mod old_proposals;
mod omit_tail;
mod pen;
mod skip_votes;
mod slow_primary;
mod stale_certificate;
mod twins;
mod withhold;
mod wrong_history;
mod wrong_start;

pub(crate) use hands::{ANSWERS_MAX, Hands, Sent};
pub(crate) use pen::{Ink, Pen, Quill};
pub(crate) use twins::half;

use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    Outcome, RequestId,
    message::{Batch, Statement, WireMessage},
};
use std::{fmt, sync::Arc};

/// A way to lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lie {
    /// Tells different replicas different things about one place in the order.
    Equivocate,
    /// Two instances write to one trusted log.
    SharedTwins,
    /// Two instances have a trusted log each, with the same key: no real one can be copied.
    ClonedTwins,
    /// Says nothing to some.
    Withhold,
    /// Votes for a view after it left it.
    LeaveAndVote,
    /// Leaves places out of its votes and proposals.
    SkipVotes,
    /// Begins a view with VIEW-CHANGEs that were for another one.
    StaleCertificate,
    /// Hides the end of its log when the view changes.
    OmitTail,
    /// Shows certificates that its trusted log did not give, and puts words into other logs.
    ForgeCertificate,
    /// Claims other states and histories than it has.
    LieInCheckpoint,
    /// Answers with wrong batches, headers, pages and standings.
    LieInTransfer,
    /// Loses its trusted log's epoch and goes on with the old one's messages.
    OldEpoch,
    /// Speaks of positions, views and places far ahead.
    FloodCounters,
    /// As primary does everything as late as it can.
    SlowPrimary,
    /// As primary orders nothing of one client.
    Censor,
    /// Proposes batches that nobody can read, under digests that are right.
    GarbageBodies,
    /// As primary is ahead of time, or behind.
    HurryTime,
    /// Votes for histories that nobody proposed.
    WrongHistory,
    /// Begins a view from another history than it must.
    WrongStart,
    /// Wants another view, always.
    Impatient,
    /// Gives clients other answers than its machine gave.
    LieToClients,
    /// Begins a view with what it proposed itself in an earlier one.
    OldProposals,
    /// Does not hear that views begin.
    Deaf,
    /// Says nothing to anybody.
    Mute,
}

impl Lie {
    /// What liars with a sound trusted log can do. With a cloned one safety is not promised: see
    /// [`crate::scenario::Plan::ClonedLog`].
    pub const ALL: [Self; 23] = [
        Self::Equivocate,
        Self::SharedTwins,
        Self::Withhold,
        Self::LeaveAndVote,
        Self::SkipVotes,
        Self::StaleCertificate,
        Self::OmitTail,
        Self::ForgeCertificate,
        Self::LieInCheckpoint,
        Self::LieInTransfer,
        Self::OldEpoch,
        Self::FloodCounters,
        Self::SlowPrimary,
        Self::Censor,
        Self::GarbageBodies,
        Self::HurryTime,
        Self::WrongHistory,
        Self::WrongStart,
        Self::Impatient,
        Self::LieToClients,
        Self::OldProposals,
        Self::Deaf,
        Self::Mute,
    ];

    /// The name of its counter in [`crate::Coverage`].
    pub fn counter(self) -> &'static str {
        match self {
            Lie::Equivocate => "lie: equivocate",
            Lie::SharedTwins => "lie: twins with a shared log",
            Lie::ClonedTwins => "lie: twins with a cloned log",
            Lie::Withhold => "lie: withhold from some",
            Lie::LeaveAndVote => "lie: vote after leaving the view",
            Lie::SkipVotes => "lie: skip votes",
            Lie::StaleCertificate => "lie: stale view-change certificate",
            Lie::OmitTail => "lie: omit the tail of the log",
            Lie::ForgeCertificate => "lie: forged certificate",
            Lie::LieInCheckpoint => "lie: in a checkpoint",
            Lie::LieInTransfer => "lie: in state transfer",
            Lie::OldEpoch => "lie: replay an old epoch",
            Lie::FloodCounters => "lie: flood future counters",
            Lie::SlowPrimary => "lie: slow primary",
            Lie::Censor => "lie: censoring primary",
            Lie::GarbageBodies => "lie: garbage bodies",
            Lie::HurryTime => "lie: wrong time",
            Lie::WrongHistory => "lie: vote for a wrong history",
            Lie::WrongStart => "lie: NEW-VIEW with a wrong start",
            Lie::Impatient => "lie: wants other views",
            Lie::LieToClients => "lie: to clients",
            Lie::OldProposals => "lie: NEW-VIEW with its old proposals",
            Lie::Deaf => "lie: deaf to new views",
            Lie::Mute => "lie: mute",
        }
    }

    /// Instances of the replica that run at the same time.
    pub(crate) fn brains(self) -> usize {
        if matches!(self, Lie::SharedTwins | Lie::ClonedTwins) { 2 } else { 1 }
    }

    pub(crate) fn actor(self) -> Box<dyn Actor> {
        match self {
            Lie::Equivocate => Box::<equivocate::Equivocate>::default(),
            Lie::SharedTwins => Box::new(twins::Twins { cloned: false }),
            Lie::ClonedTwins => Box::new(twins::Twins { cloned: true }),
            Lie::Withhold => Box::<withhold::Withhold>::default(),
            Lie::LeaveAndVote => Box::<leave_and_vote::LeaveAndVote>::default(),
            Lie::SkipVotes => Box::new(skip_votes::SkipVotes),
            Lie::StaleCertificate => Box::<stale_certificate::StaleCertificate>::default(),
            Lie::OmitTail => Box::<omit_tail::OmitTail>::default(),
            Lie::ForgeCertificate => Box::new(forge_certificate::ForgeCertificate),
            Lie::LieInCheckpoint => Box::new(lie_in_checkpoint::LieInCheckpoint),
            Lie::LieInTransfer => Box::new(lie_in_transfer::LieInTransfer),
            Lie::OldEpoch => Box::<old_epoch::OldEpoch>::default(),
            Lie::FloodCounters => Box::new(flood_counters::FloodCounters),
            Lie::SlowPrimary => Box::new(slow_primary::SlowPrimary),
            Lie::Censor => Box::new(censor::Censor),
            Lie::GarbageBodies => Box::new(garbage_bodies::GarbageBodies),
            Lie::HurryTime => Box::new(hurry_time::HurryTime),
            Lie::WrongHistory => Box::new(wrong_history::WrongHistory),
            Lie::WrongStart => Box::new(wrong_start::WrongStart),
            Lie::Impatient => Box::<impatient::Impatient>::default(),
            Lie::LieToClients => Box::new(lie_to_clients::LieToClients),
            Lie::OldProposals => Box::<old_proposals::OldProposals>::default(),
            Lie::Deaf => Box::new(deaf::Deaf),
            Lie::Mute => Box::new(mute::Mute),
        }
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.counter())
    }
}

/// Statements that the core inside wants to make, and the batches that go with them.
pub(crate) struct Draft {
    /// Which instance wants to.
    pub(crate) brain: usize,
    pub(crate) statements: Vec<Statement>,
    pub(crate) bodies: Vec<Arc<Batch>>,
}

/// To whom: one replica, or all others.
pub(crate) type To = Option<ReplicaId>;

/// A liar. What is not overridden is honest.
pub(crate) trait Actor {
    /// The core inside makes statements.
    fn draft(&mut self, hands: &mut Hands, draft: Draft) {
        hands.publish(draft.brain, draft.statements, draft.bodies);
    }

    /// An instance of the core says something that is not its own log.
    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        hands.send(to, message);
    }

    /// Something comes in. Gives what an instance of the core gets to hear.
    fn hear(
        &mut self,
        _hands: &mut Hands,
        _brain: usize,
        _from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        Some(message.clone())
    }

    /// Whether an instance of the core gets to hear of a client's request.
    fn serves(&mut self, _hands: &mut Hands, _brain: usize, _id: &RequestId) -> bool {
        true
    }

    /// What a client is told.
    fn reply(&mut self, _hands: &mut Hands, outcome: Outcome) -> Outcome {
        outcome
    }

    /// From time to time.
    fn tick(&mut self, _hands: &mut Hands) {}
}

/// Somebody who does not lie yet.
pub(crate) struct Honest;

impl Actor for Honest {}
