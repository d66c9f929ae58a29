//! Begins a view with the longest sequence of proposals, whatever view they are of: its own from when it was primary,
//! which nobody voted for since it kept the batches back, and not the shorter one that was committed in a later view
//! [SMR-9].

use crate::actors::{Actor, Draft, Hands, To};
use quorate_smr::{
    View,
    message::{Claim, Message, Statement, WireMessage},
};

/// Compares counters of different views.
#[derive(Default)]
pub(crate) struct LongestLog {
    /// The first view that it proposed in.
    proposed: Option<View>,
}

impl Actor for LongestLog {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        // It votes for nobody else, so that its log stands for what it proposed.
        draft.statements.retain(|statement| !matches!(statement, Statement::Commit { .. }));
        for statement in &mut draft.statements {
            match statement {
                Statement::Prepare { view, .. } => {
                    self.proposed.get_or_insert(*view);
                }
                Statement::NewView { start, .. } => {
                    let own = self.proposed.and_then(|view| hands.tip(view));
                    if let Some(tip) = own.filter(|tip| tip.seq > start.seq) {
                        *start = tip;
                        hands.lied();
                    }
                }
                Statement::Commit { .. } | Statement::ViewChange { .. } => {}
            }
        }
        hands.publish(draft.brain, draft.statements, Vec::new());
    }

    fn tick(&mut self, hands: &mut Hands) {
        // It likes views to change.
        if hands.rng.chance(100) {
            let target = hands.view.next();
            let wish = hands.sign(Claim::ViewChange { target });
            hands.send(None, Message::Claim(Box::new(wish)));
        }
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        if !matches!(message, Message::Bodies(_)) {
            hands.send(to, message);
        }
    }
}
