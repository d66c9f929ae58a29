//! Says nothing to some of the others, and everything to the rest; after a while to others.

use crate::actors::{Actor, Draft, Hands, To};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::message::{Message, WireMessage};
use std::collections::BTreeSet;

/// Withholds from up to half of the others.
#[derive(Default)]
pub(crate) struct Withhold {
    deaf: BTreeSet<ReplicaId>,
    ticks: u64,
}

impl Withhold {
    fn tell(&self, hands: &mut Hands, to: To, message: &WireMessage) {
        for peer in hands.peers().into_iter().filter(|peer| to.is_none_or(|to| to == *peer)) {
            if self.deaf.contains(&peer) {
                hands.lied();
            } else {
                hands.send(Some(peer), message.clone());
            }
        }
    }
}

impl Actor for Withhold {
    fn draft(&mut self, hands: &mut Hands, draft: Draft) {
        if let Some(flush) = hands.write(draft.brain, draft.statements) {
            self.tell(hands, None, &Message::Flush(flush, draft.bodies));
        }
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        self.tell(hands, to, &message);
    }

    fn hear(
        &mut self,
        _hands: &mut Hands,
        _brain: usize,
        from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        let asks = matches!(message, Message::FetchFlushes { .. });
        (!asks || !self.deaf.contains(&from)).then(|| message.clone())
    }

    fn tick(&mut self, hands: &mut Hands) {
        if self.ticks.is_multiple_of(60) {
            self.deaf.clear();
            for _ in 0..hands.replicas / 2 {
                let peers = hands.peers();
                self.deaf.insert(*hands.rng.pick(&peers));
            }
        }
        self.ticks += 1;
    }
}
