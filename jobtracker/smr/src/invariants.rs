//! What must hold of a core after each step, by name. Checked in debug builds, by the simulator and by the model.

use crate::{
    config::Config, core::Core, ledger::Ledger, machine::StateMachine, pending::Pending, types::History,
    verify::CHAIN_MAX,
};

/// What the predicates look at.
pub(crate) struct Inside<'a> {
    pub(crate) config: &'a Config,
    pub(crate) ledger: &'a Ledger,
    pub(crate) executed: History,
    pub(crate) pending: &'a Pending,
    pub(crate) attesting: Option<usize>,
    pub(crate) snapshots: usize,
}

type Predicate = fn(&Inside<'_>) -> bool;

const INVARIANTS: &[(&str, Predicate)] = &[
    ("SMR-4: execution does not run ahead of the votes", |it| it.executed.seq <= it.ledger.committed.seq),
    ("SMR-4: what is executed is a part of what is committed", |it| {
        it.ledger.trunk.get(&it.executed.seq) == Some(&it.executed.digest)
    }),
    ("SMR-1: nothing is read before it is checked", |it| {
        it.ledger.streams.iter().all(|stream| stream.read.position <= stream.head.position)
    }),
    ("SMR-11: at most 3 K batches are kept", |it| {
        let interval = it.config.limits.checkpoint_interval;
        // What is learned from others may run ahead of the checkpoints by one answer.
        let learned = CHAIN_MAX as u64;
        it.ledger.trunk.len() as u64
            <= interval * 3 + 1 + learned + it.ledger.committed.seq.0.saturating_sub(it.executed.seq.0)
    }),
    ("SMR-13: the trusted log is busy with what is queued only", |it| {
        it.attesting.is_none_or(|statements| statements <= it.ledger.own.queue.len())
    }),
    ("SMR-17: the own queue is bounded", |it| it.ledger.own.queue.len() <= it.config.limits.flush_statements_max),
    ("SMR-17: what waits to be ordered is bounded", |it| it.pending.len() <= it.config.limits.pending_max),
    ("SMR-17: what waits to be read is bounded", |it| {
        it.ledger.streams.iter().all(|stream| stream.waiting() <= it.config.limits.waiting_max)
    }),
    ("SMR-17: snapshots are bounded", |it| it.snapshots <= 5),
];

/// The first invariant that does not hold.
pub fn broken<M: StateMachine>(core: &Core<M>) -> Option<&'static str> {
    let inside = core.invariant_view();
    INVARIANTS.iter().find(|(_, holds)| !holds(&inside)).map(|(name, _)| *name)
}
