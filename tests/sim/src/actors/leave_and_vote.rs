//! Leaves a view, and then votes in it as if it had not: a batch that is committed with such a vote is lost in the next
//! view, which it says nothing to [SMR-2].

use crate::actors::{Actor, Draft, Hands, To};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    History, View,
    message::{Claim, Message, Statement, WireMessage},
};

/// Votes after leaving.
#[derive(Default)]
pub(crate) struct LeaveAndVote {
    /// The view that it left last, with what it voted for there so far.
    left: Option<(View, History)>,
    ticks: u64,
}

impl LeaveAndVote {
    /// Votes for everything that the view it left has proposed.
    fn vote(&mut self, hands: &mut Hands) {
        let Some((view, voted)) = self.left else { return };
        let Some(tip) = hands.tip(view).filter(|tip| tip.seq > voted.seq) else { return };
        if view.primary(hands.replicas) == hands.me {
            return;
        }
        self.left = Some((view, tip));
        hands.lied();
        hands.publish(0, vec![Statement::Commit { view, upto: tip }], Vec::new());
    }
}

impl Actor for LeaveAndVote {
    fn draft(&mut self, hands: &mut Hands, draft: Draft) {
        let voted = hands.executed;
        let leaves = draft.statements.iter().any(|statement| matches!(statement, Statement::ViewChange { .. }));
        let commits = draft.statements.iter().rev().find_map(|statement| match statement {
            Statement::Commit { view, upto } => Some((*view, *upto)),
            Statement::Prepare { .. } | Statement::ViewChange { .. } | Statement::NewView { .. } => None,
        });
        let view = hands.view;
        hands.publish(draft.brain, draft.statements, draft.bodies);
        if leaves {
            self.left = Some(commits.filter(|(of, _)| *of == view).unwrap_or((view, voted)));
        }
        self.vote(hands);
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        hands.send(to, message);
    }

    fn hear(&mut self, hands: &mut Hands, _brain: usize, _from: ReplicaId, message: &WireMessage) -> Option<WireMessage> {
        self.vote(hands);
        Some(message.clone())
    }

    fn tick(&mut self, hands: &mut Hands) {
        // It would like to leave, and often.
        self.ticks += 1;
        if self.ticks.is_multiple_of(5) {
            let target = hands.view.next();
            let wish = hands.sign(Claim::ViewChange { target });
            hands.send(None, Message::Claim(Box::new(wish)));
        }
    }
}
