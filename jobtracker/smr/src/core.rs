//! The core: one replica's side of the agreement.

use crate::{
    action::{Action, Fault, Input, Record},
    config::Config,
    machine::StateMachine,
    types::{History, Payload, Seq, View},
};
use quorate_counter::{Epoch, EpochRecord, Head, Position};
use quorate_protocol::{
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};

/// One replica's side of the agreement.
pub struct Core<M> {
    machine: M,
}

/// Why a core cannot start from what was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It is not what this program kept.
    #[error("what was kept of the agreement cannot be used: {0}")]
    Damaged(String),
}

/// How a replica stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which replica.
    pub me: ReplicaId,
    /// The last view that it saw begin.
    pub view: View,
    /// The view that it wants or waits for instead.
    pub changing_to: Option<View>,
    /// The primary of its view.
    pub primary: ReplicaId,
    /// What it has executed.
    pub executed: History,
    /// The last committed batch.
    pub committed: Seq,
    /// The last stable checkpoint.
    pub stable: Seq,
    /// The epoch of its own trusted log.
    pub epoch: Epoch,
    /// Whether the cluster counts that epoch, and the replica may vote.
    pub voting: bool,
    /// The others.
    pub peers: Vec<PeerReport>,
    /// Who is faulty.
    pub faults: Vec<Fault>,
    /// Requests that wait to be ordered.
    pub pending: usize,
}

/// How another replica looks from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Which.
    pub replica: ReplicaId,
    /// What it said that it has executed.
    pub decided: Option<History>,
    /// The admitted epoch of its trusted log.
    pub epoch: Epoch,
    /// How far its log was read.
    pub position: Position,
    /// Statements of its log that wait for something.
    pub waiting: usize,
}

impl<M: StateMachine> Core<M> {
    /// A core without a past, whose trusted log is in this epoch and at this head.
    pub fn new(_config: Config, _now: OrderedTime, machine: M, _device: (EpochRecord, Head)) -> Self {
        Self { machine }
    }

    /// A core with a past: the state and ledger of the last compaction, and what was persisted since, in order. What is
    /// to be done first comes out.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        _config: Config,
        _now: OrderedTime,
        machine: M,
        _device: (EpochRecord, Head),
        _compaction: Option<(Payload, Vec<u8>)>,
        _records: Vec<Record>,
        _out: &mut Vec<Action>,
    ) -> Result<Self, RestoreError> {
        Ok(Self { machine })
    }

    /// Takes an input, at a time of the local clock in milliseconds, and says what is to be done.
    pub fn step(&mut self, _now: OrderedTime, _input: Input, _out: &mut Vec<Action>) {
        todo!()
    }

    /// When it wants [`Input::Tick`] at the latest.
    pub fn wakeup(&self) -> OrderedTime {
        todo!()
    }
    /// The replicated state machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }
    /// What was executed.
    pub fn executed(&self) -> History {
        todo!()
    }
    /// The last view that began.
    pub fn view(&self) -> View {
        todo!()
    }
    /// The digest of the history after a batch, for the last few thousand of them.
    pub fn history_at(&self, _seq: Seq) -> Option<Digest> {
        todo!()
    }
    /// How the replica stands.
    pub fn report(&self) -> Report {
        todo!()
    }
    /// A digest of all that the core knows.
    pub fn digest(&self) -> Digest {
        todo!()
    }
}
