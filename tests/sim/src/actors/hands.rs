//! What a liar can do: write to its log, sign with its key, and send.

use crate::{
    actors::{Lie, Pen, To},
    coverage::Coverage,
    keys::SimulatedKeys,
    rng::Rng,
};
use quorate_counter::{Epoch, Position};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use quorate_smr::{
    History, Keys, Seq, View,
    message::{Batch, Claim, Flush, Message, Signed, Statement, WireMessage},
};
use std::{collections::BTreeMap, sync::Arc};

/// Questions that a liar answers between two looks at the clock.
pub(crate) const ANSWERS_MAX: usize = 1;

/// Something on its way out.
pub(crate) struct Sent {
    pub(crate) to: To,
    /// Milliseconds that it is held back.
    pub(crate) held: u64,
    pub(crate) message: WireMessage,
}

/// A liar's hands.
pub(crate) struct Hands {
    pub(crate) me: ReplicaId,
    pub(crate) replicas: usize,
    /// f.
    pub(crate) faults: usize,
    pub(crate) cluster: Digest,
    pub(crate) flush_statements_max: usize,
    pub(crate) view_timeout: u64,
    pub(crate) rng: Rng,
    /// By its clock.
    pub(crate) now: OrderedTime,
    /// The view that its core saw begin last.
    pub(crate) view: View,
    /// What its core has executed.
    pub(crate) executed: History,
    /// The trusted logs: one, unless it was cloned.
    pub(crate) pens: Vec<Pen>,
    /// The histories that primaries proposed, by view: what honest replicas could vote for.
    tips: BTreeMap<View, History>,
    /// Flushes of epochs that it gave up.
    pub(crate) retired: Vec<Arc<Flush>>,
    /// Where the shadow log has the VIEW-CHANGE that is drafted.
    pub(crate) leaving: Option<Position>,
    /// Questions that it will answer before it looks at the clock again.
    pub(crate) answers: usize,
    /// Its core is to lose its disk.
    pub(crate) wipe: bool,
    pub(crate) outbox: Vec<Sent>,
    pub(crate) coverage: Coverage,
    lie: Lie,
}

impl Hands {
    pub(crate) fn new(me: ReplicaId, replicas: usize, cluster: Digest, pens: Vec<Pen>, lie: Lie, rng: Rng) -> Self {
        let empty = History::empty(cluster);
        Self {
            me,
            replicas,
            faults: 0,
            cluster,
            flush_statements_max: 1,
            view_timeout: 1,
            rng,
            now: OrderedTime(0),
            view: View(0),
            executed: empty,
            pens,
            tips: BTreeMap::from([(View(0), empty)]),
            retired: Vec::new(),
            leaving: None,
            answers: ANSWERS_MAX,
            wipe: false,
            outbox: Vec::new(),
            coverage: Coverage::default(),
            lie,
        }
    }

    /// The lie has happened.
    pub(crate) fn lied(&mut self) {
        self.coverage.count(self.lie.counter());
    }

    /// The trusted log of an instance.
    pub(crate) fn pen(&mut self, brain: usize) -> &mut Pen {
        let last = self.pens.len() - 1;
        &mut self.pens[brain.min(last)]
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.view.primary(self.replicas) == self.me
    }

    /// The other replicas.
    pub(crate) fn peers(&self) -> Vec<ReplicaId> {
        (0..self.replicas as u32).map(ReplicaId::new).filter(|peer| *peer != self.me).collect()
    }

    pub(crate) fn send(&mut self, to: To, message: WireMessage) {
        self.outbox.push(Sent { to, held: 0, message });
    }

    pub(crate) fn send_later(&mut self, to: To, held: u64, message: WireMessage) {
        self.outbox.push(Sent { to, held, message });
    }

    pub(crate) fn sign(&self, claim: Claim) -> Signed {
        let bytes = canonical::encode(&("quorate smr claim v1", self.cluster, self.me, &claim));
        Signed { by: self.me, claim, signature: SimulatedKeys { me: self.me }.sign(&bytes) }
    }

    /// Writes statements to the trusted log of an instance, and sends them to all.
    pub(crate) fn publish(&mut self, brain: usize, statements: Vec<Statement>, bodies: Vec<Arc<Batch>>) {
        if let Some(flush) = self.write(brain, statements) {
            self.send(None, Message::Flush(flush, bodies));
        }
    }

    /// Writes statements to the trusted log of an instance, if it lets it.
    pub(crate) fn write(&mut self, brain: usize, statements: Vec<Statement>) -> Option<Arc<Flush>> {
        if statements.is_empty() {
            return None;
        }
        for statement in &statements {
            self.follow(statement);
        }
        let leaves = statements.iter().position(|statement| matches!(statement, Statement::ViewChange { .. }));
        if let Some(index) = leaves
            && let Some(shadow) = self.leaving.take()
        {
            self.pen(brain).map(brain, shadow, index);
        }
        let written = self.pen(brain).write(statements);
        if written.is_none() {
            self.coverage.count("liars' words that witnesses did not sign");
        }
        written
    }

    /// Answers who lacks a part of its log, a few times between two looks at the clock: a liar that floods does so on
    /// purpose.
    pub(crate) fn repeat(&mut self, brain: usize, to: ReplicaId, epoch: Epoch, after: Position) {
        let pen = self.pen(brain);
        if pen.epoch() != epoch || self.answers == 0 {
            return;
        }
        self.answers -= 1;
        let flushes: Vec<_> = self.pen(brain).after(after).take(16).cloned().collect();
        for flush in flushes {
            self.send(Some(to), Message::Flush(flush, Vec::new()));
        }
    }

    /// Remembers what primaries propose.
    pub(crate) fn follow(&mut self, statement: &Statement) {
        match statement {
            Statement::Prepare { view, header } => {
                if let Some(tip) = self.tips.get_mut(view)
                    && tip.seq.next() == header.seq
                {
                    *tip = header.follow(*tip);
                }
            }
            Statement::NewView { view, start, .. } => {
                self.tips.entry(*view).or_insert(*start);
            }
            Statement::Commit { .. } | Statement::ViewChange { .. } => {}
        }
    }

    /// The last history that a view's primary proposed.
    pub(crate) fn tip(&self, view: View) -> Option<History> {
        self.tips.get(&view).copied()
    }

    /// Some digest that means nothing.
    pub(crate) fn noise(&mut self) -> Digest {
        Digest::of(&self.rng.draw().to_le_bytes())
    }

    /// A history that nobody has.
    pub(crate) fn fiction(&mut self, seq: Seq) -> History {
        History { seq, digest: self.noise() }
    }
}
