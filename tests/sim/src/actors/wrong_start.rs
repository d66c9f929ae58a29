//! As primary of a new view begins it from another history than the VIEW-CHANGEs give, or with VIEW-CHANGEs that are
//! too few, of one replica twice, or not there [SMR-9].

use crate::actors::{Actor, Draft, Hands};
use quorate_counter::Position;
use quorate_smr::{
    History,
    message::{Claim, Message, Statement},
};

/// Begins wrongly.
pub(crate) struct WrongStart;

impl Actor for WrongStart {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        for statement in &mut draft.statements {
            if let Statement::NewView { changes, start, .. } = statement {
                hands.lied();
                match hands.rng.below(6) {
                    0 => *start = History::empty(hands.cluster),
                    1 => *start = hands.fiction(start.seq.next()),
                    2 => *start = hands.fiction(start.seq),
                    3 => changes.truncate(1),
                    4 => {
                        let one = changes.first().copied();
                        changes.iter_mut().for_each(|change| *change = one.unwrap_or(*change));
                    }
                    _ => changes.iter_mut().for_each(|change| change.position = Position(change.position.0 + 1)),
                }
            }
        }
        hands.publish(draft.brain, draft.statements, draft.bodies);
    }

    fn tick(&mut self, hands: &mut Hands) {
        // It likes views to begin.
        if hands.rng.chance(100) {
            let target = hands.view.next();
            let wish = hands.sign(Claim::ViewChange { target });
            hands.send(None, Message::Claim(Box::new(wish)));
        }
    }
}
