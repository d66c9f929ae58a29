//! Votes for histories that nobody proposed, of the right length or far ahead.

use crate::actors::{Actor, Draft, Hands};
use quorate_smr::message::Statement;

/// Votes for fiction.
pub(crate) struct WrongHistory;

impl Actor for WrongHistory {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        for statement in &mut draft.statements {
            if let Statement::Commit { upto, .. } = statement
                && hands.rng.chance(250)
            {
                let ahead = if hands.rng.chance(500) { 0 } else { hands.rng.below(64) };
                *upto = hands.fiction(upto.seq.plus(ahead));
                hands.lied();
            }
        }
        hands.publish(draft.brain, draft.statements, draft.bodies);
    }
}
