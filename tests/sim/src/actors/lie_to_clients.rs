//! Gives clients other answers than its machine gave, and says that they must come back later, or never.

use crate::actors::{Actor, Hands};
use quorate_smr::{Outcome, Payload};

/// Lies to clients.
pub(crate) struct LieToClients;

impl Actor for LieToClients {
    fn reply(&mut self, hands: &mut Hands, outcome: Outcome) -> Outcome {
        hands.lied();
        match outcome {
            Outcome::Executed(history, _) if hands.rng.chance(500) => {
                Outcome::Executed(history, Payload::from(b"no".as_slice()))
            }
            Outcome::Executed(history, reply) if hands.rng.chance(500) => {
                Outcome::Executed(hands.fiction(history.seq), reply)
            }
            Outcome::Executed(..) => Outcome::Stale,
            Outcome::Stale | Outcome::Busy => outcome,
        }
    }
}
