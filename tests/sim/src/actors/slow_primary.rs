//! As primary holds back everything that its log says for nearly as long as the others would wait.

use crate::actors::{Actor, Draft, Hands};
use quorate_smr::message::Message;

/// Is slow.
pub(crate) struct SlowPrimary;

impl Actor for SlowPrimary {
    fn draft(&mut self, hands: &mut Hands, draft: Draft) {
        let Some(flush) = hands.write(draft.brain, draft.statements) else { return };
        let message = Message::Flush(flush, draft.bodies);
        if !hands.is_primary() {
            return hands.send(None, message);
        }
        hands.lied();
        let held = hands.view_timeout * hands.rng.between(60, 95) / 100;
        hands.send_later(None, held, message);
    }
}
