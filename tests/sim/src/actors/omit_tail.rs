//! Hides the end of its log: it votes where one replica sees it, and sends the others its VIEW-CHANGE without the votes
//! before it, or says nothing of them when asked [SMR-8].

use crate::actors::{Actor, Draft, Hands, To};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::message::{Message, Statement, WireMessage};

/// Omits what it voted for.
#[derive(Default)]
pub(crate) struct OmitTail {
    votes: u64,
}

impl Actor for OmitTail {
    fn draft(&mut self, hands: &mut Hands, draft: Draft) {
        let votes = |statement: &Statement| matches!(statement, Statement::Prepare { .. } | Statement::Commit { .. });
        if !draft.statements.iter().all(votes) {
            return hands.publish(draft.brain, draft.statements, draft.bodies);
        }
        let Some(flush) = hands.write(draft.brain, draft.statements) else { return };
        self.votes += 1;
        // The confidant changes, so that everybody has holes in what it knows of this log.
        let peers = hands.peers();
        let confidant = peers[(self.votes / 4) as usize % peers.len()];
        hands.lied();
        hands.send(Some(confidant), Message::Flush(flush, draft.bodies));
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, mut message: WireMessage) {
        // Its log is no longer than what the listener has: so it says.
        if let Message::Status(status) = &mut message
            && let Some((_, position)) = status.heads.get_mut(hands.me.number() as usize)
        {
            position.0 = position.0.saturating_sub(4);
        }
        hands.send(to, message);
    }

    fn hear(
        &mut self,
        hands: &mut Hands,
        _brain: usize,
        _from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        match message {
            Message::FetchFlushes { of, .. } if *of == hands.me => None,
            other => Some(other.clone()),
        }
    }
}
