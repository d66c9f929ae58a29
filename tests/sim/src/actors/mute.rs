//! Says nothing to anybody: stopped for ever, as far as the others can tell.

use crate::actors::{Actor, Draft, Hands, To};
use quorate_smr::message::WireMessage;

/// Is mute.
pub(crate) struct Mute;

impl Actor for Mute {
    fn draft(&mut self, hands: &mut Hands, _draft: Draft) {
        hands.lied();
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, _to: To, _message: WireMessage) {
        hands.lied();
    }
}
