//! Wants another view, always: claims for the next ones, and VIEW-CHANGEs without f + 1 claims [SMR-7].

use crate::actors::{Actor, Hands};
use quorate_smr::{
    View,
    message::{Claim, Message, Statement},
};

/// Is impatient.
#[derive(Default)]
pub(crate) struct Impatient {
    left: View,
    ticks: u64,
}

impl Actor for Impatient {
    fn tick(&mut self, hands: &mut Hands) {
        self.ticks += 1;
        let target = View(hands.view.0 + hands.rng.between(1, 3));
        let wish = hands.sign(Claim::ViewChange { target });
        hands.lied();
        hands.send(None, Message::Claim(Box::new(wish.clone())));
        if self.ticks.is_multiple_of(30) && target > self.left {
            self.left = target;
            let requests = vec![wish; hands.rng.between(1, 2) as usize];
            hands.publish(0, vec![Statement::ViewChange { target, requests }], Vec::new());
        }
    }
}
