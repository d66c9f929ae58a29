//! Leaves places out: PREPAREs and COMMITs of its core that its log never gets, and proposals that jump ahead [SMR-3].

use crate::actors::{Actor, Draft, Hands};
use quorate_smr::message::Statement;

/// Skips some of its votes.
pub(crate) struct SkipVotes;

impl Actor for SkipVotes {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        let before = draft.statements.len();
        draft.statements.retain(|statement| match statement {
            Statement::Prepare { .. } | Statement::Commit { .. } => !hands.rng.chance(150),
            Statement::ViewChange { .. } | Statement::NewView { .. } => true,
        });
        if draft.statements.len() < before {
            hands.lied();
        }
        draft.bodies.truncate(draft.statements.len());
        hands.publish(draft.brain, draft.statements, draft.bodies);
    }
}
