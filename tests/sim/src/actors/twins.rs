//! Two instances of one replica. One speaks with the first half of the others and hears them only, one with the second
//! half: each could lead its half into another history. With one trusted log between them they cannot. With a log each,
//! they can [Bano et al., *Twins: BFT Systems Made Robust*, OPODIS 2021].

use crate::actors::{Actor, Draft, Hands, To};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    RequestId,
    message::{Message, WireMessage},
};

/// Twins.
pub(crate) struct Twins {
    /// Whether each has a trusted log.
    pub(crate) cloned: bool,
}

/// The half of the others that an instance speaks with.
pub(crate) fn half(me: ReplicaId, replicas: usize, brain: usize) -> Vec<ReplicaId> {
    let others = (0..replicas as u32).map(ReplicaId::new).filter(|peer| *peer != me);
    others.enumerate().filter(|(place, _)| place * 2 / (replicas - 1) == brain).map(|(_, peer)| peer).collect()
}

impl Actor for Twins {
    fn draft(&mut self, hands: &mut Hands, draft: Draft) {
        let Draft { brain, statements, bodies } = draft;
        if brain == 1 {
            hands.lied();
        }
        let Some(flush) = hands.write(brain, statements) else { return };
        for peer in half(hands.me, hands.replicas, brain) {
            hands.send(Some(peer), Message::Flush(flush.clone(), bodies.clone()));
        }
    }

    fn say(&mut self, hands: &mut Hands, brain: usize, to: To, message: WireMessage) {
        for peer in half(hands.me, hands.replicas, brain) {
            if to.is_none_or(|to| to == peer) {
                hands.send(Some(peer), message.clone());
            }
        }
    }

    fn hear(&mut self, hands: &mut Hands, brain: usize, from: ReplicaId, message: &WireMessage) -> Option<WireMessage> {
        half(hands.me, hands.replicas, brain).contains(&from).then(|| message.clone())
    }

    fn serves(&mut self, hands: &mut Hands, brain: usize, id: &RequestId) -> bool {
        // The clones order different requests; with a shared log both order whatever they hear of, in their own order.
        if self.cloned { (id.sequence + id.session) % 2 == brain as u64 } else { hands.rng.chance(700) }
    }
}
