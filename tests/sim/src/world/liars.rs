//! Liars in the world: what goes through their hands.

use super::{Event, Liar, Node, Witnesses, World, witnesses::key};
use crate::{
    actors::{ANSWERS_MAX, Actor, Draft, Hands, Honest, Ink, Lie, Pen, Quill, Sent, To, half},
    disk::Contents,
    keys::SimulatedKeys,
    rng::Rng,
    scenario::Scenario,
    world::network::Parcel,
};
use quorate_counter::{Epoch, Gather, Position};
use quorate_protocol::{canonical, cluster::Agreement, ids::ReplicaId};
use quorate_smr::{
    Config, Input, Keys, Outcome, RequestId,
    message::{Admission, Batch, Claim, Flush, Message, Statement, Status, WireMessage},
};
use std::sync::Arc;

/// Milliseconds between two looks of a liar at the clock.
const LIAR_INTERVAL: u64 = 10;

impl Liar {
    pub(super) fn new(
        scenario: &Scenario,
        config: &Config,
        lie: Lie,
        from: u64,
        witnesses: &Witnesses,
        rng: Rng,
    ) -> Self {
        let pens = pens(config, lie, witnesses);
        let mut hands = Hands::new(config.me, config.replicas(), config.cluster, pens, lie, rng);
        hands.faults = config.faults();
        hands.flush_statements_max = scenario.limits.flush_statements_max;
        hands.view_timeout = scenario.limits.view_timeout;
        Self {
            actor: lie.actor(),
            hands,
            from,
            drafted: vec![(config.genesis[config.me.number() as usize].epoch, Position(0)); lie.brains()],
            diverged: lie.brains() > 1,
        }
    }
}

/// The logs that a liar really has: one, unless it was cloned. A clone asks the witnesses of its own half first.
fn pens(config: &Config, lie: Lie, witnesses: &Witnesses) -> Vec<Pen> {
    let me = config.me;
    let genesis = config.genesis[me.number() as usize].clone();
    let all = || (0..config.replicas() as u32).map(ReplicaId::new);
    let order = |brain| {
        let ours = half(me, config.replicas(), brain);
        let others = all().filter(|peer| *peer != me && !ours.contains(peer));
        [me].into_iter().chain(ours.iter().copied()).chain(others).collect::<Vec<_>>()
    };
    let ink = match config.agreement() {
        Agreement::Minbft => Ink::Device(super::trusted_log(&genesis)),
        Agreement::Pbft => {
            let gather = Gather::new(genesis.clone(), key(&genesis, me), None);
            Ink::Witnessed(Box::new(Quill { gather, witnesses: witnesses.clone(), order: order(1) }))
        }
    };
    let pen = Pen::new(ink);
    if lie == Lie::ClonedTwins { vec![pen.cloned(order(0)), pen] } else { vec![pen] }
}

impl World<'_> {
    /// Lets a liar do something, and sends what it wants sent.
    fn with_liar<T>(&mut self, node: usize, act: impl FnOnce(&mut dyn Actor, &mut Hands) -> T) -> Option<T> {
        let now = self.clock(node, 0);
        let tick = self.tick;
        let Node { liar, brains, .. } = &mut self.nodes[node];
        let liar = liar.as_mut()?;
        liar.hands.now = now;
        if let Some(core) = &brains[0].core {
            liar.hands.view = core.view();
            liar.hands.executed = core.executed();
        }
        let mut honest = Honest;
        let actor: &mut dyn Actor = if tick < liar.from { &mut honest } else { liar.actor.as_mut() };
        let result = act(actor, &mut liar.hands);
        let outbox = std::mem::take(&mut liar.hands.outbox);
        for Sent { to, held, message } in outbox {
            let parcel = self.pack(message);
            if held == 0 {
                self.post(node, to, &parcel);
            } else {
                self.after(held, Event::Release { from: node, to, parcel });
            }
        }
        Some(result)
    }

    /// The core inside a liar says something.
    pub(super) fn liar_says(&mut self, node: usize, brain: usize, to: To, mut message: WireMessage) {
        let me = ReplicaId::new(node as u32);
        if let Message::Flush(flush, bodies) = &message
            && flush.replica == me
        {
            let (flush, bodies) = (Arc::clone(flush), bodies.clone());
            return self.liar_drafts(node, brain, &flush, bodies);
        }
        if let Message::Status(status) = &mut message
            && let Some(liar) = &mut self.nodes[node].liar
            && let Some(head) = status.heads.get_mut(node)
            && head.0 == liar.hands.pen(brain).epoch()
        {
            // It knows the log that it really has.
            head.1 = liar.hands.pen(brain).position();
        }
        if let Message::Status(status) = &mut message
            && let Some(liar) = &mut self.nodes[node].liar
            && status.admission.as_ref().is_some_and(|admission| admission.record.replica == me)
        {
            liar.hands.show_admission(brain, status);
        }
        self.with_liar(node, |actor, hands| actor.say(hands, brain, to, message));
    }

    /// The core inside has new words for its log. What it says again is left to [`Hands::repeat`].
    fn liar_drafts(&mut self, node: usize, brain: usize, flush: &Flush, bodies: Vec<Arc<Batch>>) {
        let Some(liar) = &mut self.nodes[node].liar else { return };
        let (epoch, drafted) = &mut liar.drafted[brain];
        if *epoch != flush.epoch {
            (*epoch, *drafted) = (flush.epoch, Position(0));
        }
        if flush.after < *drafted || flush.epoch != liar.hands.pen(brain).epoch() {
            return;
        }
        *drafted = flush.end();
        let mut statements = flush.statements.clone();
        liar.hands.translate(brain, flush.after, &mut statements);
        let draft = Draft { brain, statements, bodies };
        self.with_liar(node, |actor, hands| actor.draft(hands, draft));
        if let Some(liar) = &mut self.nodes[node].liar {
            let written = liar.hands.pen(brain).flushes().last();
            liar.diverged |= written.is_none_or(|written| **written != *flush);
        }
    }

    /// Something comes in for a liar.
    pub(super) fn liar_hears(&mut self, from: usize, to: usize, parcel: &Parcel) {
        let from = ReplicaId::new(from as u32);
        if parcel.checked.is_err() {
            return;
        }
        for brain in 0..self.nodes[to].brains.len() {
            let message = &parcel.message;
            if let Message::Flush(flush, _) = message {
                self.with_liar(to, |_, hands| flush.statements.iter().for_each(|statement| hands.follow(statement)));
            }
            let Some(Some(heard)) = self.with_liar(to, |actor, hands| actor.hear(hands, brain, from, message)) else {
                continue;
            };
            let Some(heard) = self.disguise(to, brain, from, heard) else { continue };
            if let Ok(verified) = self.verifier.verify(heard) {
                self.step(to, brain, Input::Message(from, verified));
            }
        }
    }

    /// Keeps from the core inside what would tell it that its log is not the one that it believes in.
    fn disguise(&mut self, node: usize, brain: usize, from: ReplicaId, message: WireMessage) -> Option<WireMessage> {
        let me = ReplicaId::new(node as u32);
        if self.nodes[node].liar.as_ref().is_some_and(|liar| !liar.diverged) {
            return Some(message);
        }
        match message {
            Message::Flush(flush, _) if flush.replica == me => None,
            Message::Claim(signed) if matches!(signed.claim, Claim::Position { of, .. } if of == me) => None,
            Message::FetchFlushes { of, epoch, after } if of == me => {
                self.with_liar(node, |_, hands| hands.repeat(brain, from, epoch, after));
                None
            }
            Message::Status(mut status) => {
                let shadow = self.nodes[node].brains[brain].device.head().position;
                if let Some((_, position)) = status.heads.get_mut(node) {
                    *position = (*position).min(shadow);
                }
                Some(Message::Status(status))
            }
            other => Some(other),
        }
    }

    pub(super) fn liar_serves(&mut self, node: usize, brain: usize, id: &RequestId) -> bool {
        self.with_liar(node, |actor, hands| actor.serves(hands, brain, id)).unwrap_or(true)
    }

    pub(super) fn liar_replies(&mut self, node: usize, outcome: Outcome) -> Outcome {
        if self.nodes[node].liar.is_none() {
            return outcome;
        }
        let honest = outcome.clone();
        self.with_liar(node, |actor, hands| actor.reply(hands, outcome)).unwrap_or(honest)
    }

    /// A liar looks at the clock.
    pub(super) fn liar(&mut self, node: usize) {
        self.with_liar(node, |actor, hands| {
            hands.answers = ANSWERS_MAX;
            actor.tick(hands);
        });
        let wipe = self.nodes[node].liar.as_mut().is_some_and(|liar| std::mem::take(&mut liar.hands.wipe));
        if wipe {
            self.stop(node);
            self.nodes[node].brains.iter_mut().for_each(|brain| brain.disk.replace(Contents::default()));
            self.start_again(node);
        }
        self.after(LIAR_INTERVAL, Event::Liar(node));
    }

    /// The real trusted log follows the shadow into another epoch.
    pub(super) fn renew_pen(&mut self, node: usize, epoch: Epoch) {
        if let Some(liar) = &mut self.nodes[node].liar {
            for index in 0..liar.hands.pens.len() {
                let old = liar.hands.pen(index).renew(epoch);
                liar.hands.retired.extend(old);
            }
        }
    }
}

impl Hands {
    /// Its core believes that an epoch has begun. What it can show of that is what its witnesses signed.
    fn show_admission(&mut self, brain: usize, status: &mut Status) {
        let me = self.me;
        let pen = self.pen(brain);
        if !pen.is_witnessed() {
            return;
        }
        let begun = pen.begun().map(|certificate| (pen.record().clone(), certificate.clone()));
        status.admission = begun.map(|(record, certificate)| {
            let bytes = canonical::encode(&("quorate smr admission v1", &record, &certificate));
            let signature = SimulatedKeys { me }.sign(&bytes);
            Box::new(Admission { record, certificate, signature })
        });
    }

    /// A NEW-VIEW of the core inside names its own VIEW-CHANGE where the shadow log has it; the real log may have it
    /// elsewhere.
    fn translate(&mut self, brain: usize, after: Position, statements: &mut [Statement]) {
        let me = self.me;
        for (index, statement) in statements.iter_mut().enumerate() {
            match statement {
                Statement::NewView { changes, .. } => {
                    for change in changes.iter_mut().filter(|change| change.replica == me) {
                        change.position = self.pen(brain).place(brain, change.position).unwrap_or(change.position);
                    }
                }
                Statement::ViewChange { .. } => self.leaving = Some(after.after(index + 1)),
                Statement::Prepare { .. } | Statement::Commit { .. } => {}
            }
        }
    }
}
