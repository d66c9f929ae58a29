//! Loses its disk on purpose, has a new epoch of its trusted log admitted, and then plays back what it said in the old
//! one [SMR-14].

use crate::actors::{Actor, Hands};
use quorate_smr::message::Message;
use std::sync::Arc;

/// Replays an old epoch.
#[derive(Default)]
pub(crate) struct OldEpoch {
    ticks: u64,
}

impl Actor for OldEpoch {
    fn tick(&mut self, hands: &mut Hands) {
        self.ticks += 1;
        // Twice, so that there are several old epochs.
        if self.ticks == 20 || self.ticks == 120 {
            hands.wipe = true;
        }
        if !hands.retired.is_empty() && hands.rng.chance(200) {
            hands.lied();
            let from = hands.rng.index(hands.retired.len());
            let old: Vec<_> = hands.retired.iter().skip(from).take(4).cloned().collect();
            for flush in old {
                let mut flush = flush;
                if hands.rng.chance(200) {
                    // The same words, as if they were of the new epoch.
                    let epoch = hands.pen(0).epoch();
                    Arc::make_mut(&mut flush).epoch = epoch;
                }
                hands.send(None, Message::Flush(flush, Vec::new()));
            }
        }
    }
}
