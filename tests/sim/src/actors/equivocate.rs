//! Tells different replicas different things about one place in the order: other batches in PREPAREs, other histories in
//! COMMITs, other claims. The trusted log lets it write both, and shows everybody that it did.

use crate::actors::{Actor, Draft, Hands, To};
use quorate_smr::message::{Batch, Claim, Message, Statement, WireMessage};
use std::sync::Arc;

/// Equivocates in a part of its statements.
#[derive(Default)]
pub(crate) struct Equivocate {
    contradicted: bool,
}

impl Equivocate {
    fn contradict(&mut self, hands: &mut Hands, statement: &Statement) -> Option<Statement> {
        let other = match statement {
            Statement::Prepare { view, header } => {
                let mut header = header.clone();
                header.batch = Batch::default().digest();
                header.admits = None;
                Statement::Prepare { view: *view, header }
            }
            Statement::Commit { view, upto } => Statement::Commit { view: *view, upto: hands.fiction(upto.seq) },
            Statement::ViewChange { .. } | Statement::NewView { .. } => return None,
        };
        (other != *statement).then_some(other)
    }
}

impl Actor for Equivocate {
    fn draft(&mut self, hands: &mut Hands, draft: Draft) {
        // At first it contradicts itself once, later more often: a proven liar has nothing to lose.
        let contradicts = if self.contradicted { hands.rng.chance(300) } else { hands.rng.chance(600) };
        let other = draft.statements.last().filter(|_| contradicts).cloned();
        let Some(other) = other.and_then(|statement| self.contradict(hands, &statement)) else {
            return hands.publish(draft.brain, draft.statements, draft.bodies);
        };
        self.contradicted = true;
        hands.lied();
        let mut second = draft.statements.clone();
        second.pop();
        second.push(other);
        let orders = if hands.rng.chance(500) { [draft.statements, second] } else { [second, draft.statements] };
        let mut peers = hands.peers();
        let shift = hands.rng.index(peers.len());
        peers.rotate_left(shift);
        let half = peers.len().div_ceil(2);
        for (statements, ears) in orders.into_iter().zip([&peers[..half], &peers[half..]]) {
            let Some(flush) = hands.write(draft.brain, statements) else { continue };
            let mut bodies = draft.bodies.clone();
            bodies.push(Arc::new(Batch::default()));
            bodies.truncate(flush.statements.len());
            for peer in ears {
                hands.send(Some(*peer), Message::Flush(Arc::clone(&flush), bodies.clone()));
            }
        }
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        match message {
            Message::Status(mut status) if hands.rng.chance(200) => {
                hands.lied();
                let fiction = hands.fiction(hands.executed.seq);
                status.decided = hands.sign(Claim::Decided { history: fiction });
                let ear = *hands.peers().first().unwrap_or(&hands.me);
                hands.send(Some(ear), Message::Status(status));
            }
            other => hands.send(to, other),
        }
    }
}
