//! Leaves a view as soon as somebody wants to, and only then votes in it: a batch that is committed with such a vote is
//! lost in the next view, which it told nothing of it [SMR-2]. It votes there too, and passes nothing on between the two.

use crate::actors::{Actor, Draft, Hands, To};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    Seq, View,
    message::{Claim, Message, Signed, Statement, WireMessage},
};
use std::collections::BTreeMap;

/// Votes after leaving.
#[derive(Default)]
pub(crate) struct LeaveAndVote {
    /// Who wants to leave, and for which view.
    wishes: BTreeMap<ReplicaId, Signed>,
    /// It left all views before this one.
    left: View,
    /// What it voted for there already.
    entered: Option<Seq>,
    /// The last place that it voted for after leaving, and the view of that.
    voted: Option<(View, Seq)>,
    /// Votes in a view that it had left.
    late: u64,
}

fn target(signed: &Signed) -> View {
    match signed.claim {
        Claim::ViewChange { target } => target,
        Claim::Checkpoint { .. } | Claim::Decided { .. } | Claim::Position { .. } => View(0),
    }
}

impl LeaveAndVote {
    fn leave(&mut self, hands: &mut Hands) {
        let Some(wanted) = self.wishes.values().map(target).max().filter(|target| *target > self.left) else { return };
        let own = hands.sign(Claim::ViewChange { target: wanted });
        let mut requests: Vec<_> = self.wishes.values().filter(|wish| target(wish) >= wanted).cloned().collect();
        requests.truncate(hands.faults);
        requests.push(own.clone());
        if requests.len() <= hands.faults {
            return;
        }
        (self.left, self.entered, self.late) = (wanted, None, 0);
        hands.send(None, Message::Claim(Box::new(own)));
        hands.publish(0, vec![Statement::ViewChange { target: wanted, requests }], Vec::new());
        self.vote_late(hands);
    }

    /// Votes for all that was proposed in the view that it has left.
    fn vote_late(&mut self, hands: &mut Hands) {
        let view = hands.view;
        if let Some(tip) = hands.tip(view).filter(|tip| view < self.left && Some((view, tip.seq)) > self.voted)
            && view.primary(hands.replicas) != hands.me
        {
            self.voted = Some((view, tip.seq));
            self.late += 1;
            hands.lied();
            hands.publish(0, vec![Statement::Commit { view, upto: tip }], Vec::new());
        }
    }

    /// Votes in the view that it left for, once it has voted in the one before for long enough.
    fn enter(&mut self, hands: &mut Hands) {
        let Some(tip) = hands.tip(self.left).filter(|_| self.left > View(0) && self.late > 0) else { return };
        if self.left.primary(hands.replicas) != hands.me && self.entered.is_none_or(|voted| voted < tip.seq) {
            self.entered = Some(tip.seq);
            hands.publish(0, vec![Statement::Commit { view: self.left, upto: tip }], Vec::new());
        }
    }
}

impl Actor for LeaveAndVote {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        let (left, entered) = (self.left, self.entered.is_some());
        draft.statements.retain(|statement| match statement {
            // Its votes would be in its VIEW-CHANGE: they come after it.
            Statement::Commit { .. } if left == View(0) => false,
            // Its core does not know that it left: what it would say of leaving, it has said.
            Statement::ViewChange { target, .. } => *target > left,
            Statement::Prepare { view, .. } | Statement::Commit { view, .. } | Statement::NewView { view, .. } => {
                !entered || *view > left
            }
        });
        let leaves = draft.statements.iter().any(|statement| matches!(statement, Statement::ViewChange { .. }));
        for statement in &draft.statements {
            if let Statement::ViewChange { target, .. } = statement {
                (self.left, self.entered, self.late) = (*target, None, 0);
            } else if statement.view() < self.left {
                self.late += 1;
                hands.lied();
            }
        }
        hands.publish(draft.brain, draft.statements, draft.bodies);
        if leaves {
            self.vote_late(hands);
        }
    }

    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        // It helps nobody to learn what was decided without them.
        let helps = matches!(
            message,
            Message::Flush(..)
                | Message::Chain(..)
                | Message::Bodies(_)
                | Message::Stable(_)
                | Message::Pages(..)
                | Message::Page(_)
        );
        if !helps {
            hands.send(to, message);
        }
    }

    fn hear(
        &mut self,
        hands: &mut Hands,
        _brain: usize,
        from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        if let Message::Claim(wish) = message
            && target(wish) > View(0)
        {
            self.wishes.insert(from, wish.as_ref().clone());
        }
        if let Message::Status(status) = message
            && let Some(wish) = &status.wants
        {
            self.wishes.insert(from, wish.clone());
        }
        self.leave(hands);
        self.enter(hands);
        Some(message.clone())
    }
}
