//! As primary gives batches times far ahead, or earlier than the batch before [SMR-15].

use crate::actors::{Actor, Draft, Hands};
use quorate_protocol::ids::OrderedTime;
use quorate_smr::message::Statement;

/// Is ahead of time, or behind.
pub(crate) struct HurryTime;

impl Actor for HurryTime {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        for statement in &mut draft.statements {
            if let Statement::Prepare { header, .. } = statement
                && hands.rng.chance(300)
            {
                header.time = match hands.rng.below(4) {
                    0 => OrderedTime(u64::MAX),
                    1 => header.time.after(3_600_000),
                    2 => header.time.after(hands.rng.between(100, 5_000)),
                    _ => OrderedTime(header.time.0.saturating_sub(1_000)),
                };
                hands.lied();
            }
        }
        hands.publish(draft.brain, draft.statements, draft.bodies);
    }
}
