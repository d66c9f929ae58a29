//! Begins a view with its own proposals from when it was primary before, which nobody voted for since it kept the batches
//! back, and not with what was committed in a later view: whoever only counts takes that for more [SMR-9].

use crate::actors::{Actor, Draft, Hands, To};
use quorate_smr::{
    View,
    message::{Claim, Message, Statement, WireMessage},
};

/// Begins with what it proposed once.
#[derive(Default)]
pub(crate) struct OldProposals {
    /// The first view that it proposed in.
    proposed: Option<View>,
}

impl Actor for OldProposals {
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
                    if let Some(tip) = own.filter(|tip| tip != start) {
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
