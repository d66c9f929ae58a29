//! Claims checkpoints of states that it does not have, and histories that nobody has [SMR-11].

use crate::actors::{Actor, Hands, To};
use quorate_smr::message::{Claim, Message, Signed, WireMessage};

/// Lies about states.
pub(crate) struct LieInCheckpoint;

impl LieInCheckpoint {
    fn twist(hands: &mut Hands, signed: &Signed) -> Signed {
        let claim = match &signed.claim {
            Claim::Checkpoint { history, .. } if hands.rng.chance(500) => {
                Claim::Checkpoint { history: *history, root: hands.noise() }
            }
            Claim::Checkpoint { history, root } => {
                Claim::Checkpoint { history: hands.fiction(history.seq), root: *root }
            }
            Claim::Decided { .. } | Claim::ViewChange { .. } | Claim::Position { .. } => return signed.clone(),
        };
        hands.lied();
        hands.sign(claim)
    }
}

impl Actor for LieInCheckpoint {
    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        match message {
            Message::Claim(signed) => {
                let twisted = Self::twist(hands, &signed);
                hands.send(to, Message::Claim(Box::new(twisted)));
            }
            Message::Status(mut status) => {
                status.checkpoint = status.checkpoint.as_ref().map(|signed| Self::twist(hands, signed));
                hands.send(to, Message::Status(status));
            }
            other => hands.send(to, other),
        }
    }

    fn tick(&mut self, hands: &mut Hands) {
        if hands.rng.chance(100) {
            hands.lied();
            let ahead = hands.rng.between(1, 40);
            let history = hands.fiction(hands.executed.seq.plus(ahead));
            let root = hands.noise();
            let signed = hands.sign(Claim::Checkpoint { history, root });
            hands.send(None, Message::Claim(Box::new(signed)));
        }
    }
}
