//! As primary proposes batches that nobody will accept, under the digests that they really have, or batches that it
//! never shows to anybody; answers with others than were asked for.

use crate::{
    actors::{Actor, Draft, Hands, To},
    keys::Request,
};
use quorate_protocol::canonical;
use quorate_smr::{
    Payload,
    message::{Batch, Message, Statement, WireMessage},
};
use std::sync::Arc;

/// Proposes garbage.
pub(crate) struct GarbageBodies;

fn garbage(hands: &mut Hands) -> Arc<Batch> {
    let request = match hands.rng.below(3) {
        0 => hands.noise().as_bytes().to_vec(),
        1 => canonical::encode(&Request::forged(0, 1, hands.rng.between(1, 20))),
        _ => Vec::new(),
    };
    Arc::new(Batch { requests: vec![Payload::from(request)], admission: None })
}

impl Actor for GarbageBodies {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        for statement in &mut draft.statements {
            if let Statement::Prepare { header, .. } = statement
                && hands.rng.chance(400)
            {
                let batch = garbage(hands);
                header.batch = batch.digest();
                draft.bodies = if hands.rng.chance(700) { vec![batch] } else { Vec::new() };
                hands.lied();
            }
        }
        hands.publish(draft.brain, draft.statements, draft.bodies);
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        match message {
            Message::Bodies(bodies) if hands.rng.chance(500) => {
                hands.lied();
                let bodies = bodies.iter().map(|_| garbage(hands)).collect();
                hands.send(to, Message::Bodies(bodies));
            }
            other => hands.send(to, other),
        }
    }
}
