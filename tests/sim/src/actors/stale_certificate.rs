//! As primary of a new view shows VIEW-CHANGEs that were for an earlier one, so that what was committed in between is
//! not in them [SMR-9]. It does not vote in between either, so that its own log has nothing of that.

use crate::actors::{Actor, Draft, Hands};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    History, View,
    message::{Change, Flush, Message, Statement, WireMessage},
};
use std::collections::BTreeMap;

/// A VIEW-CHANGE, and what its speaker had voted for by then.
#[derive(Clone, Copy)]
struct Kept {
    change: Change,
    target: View,
    voted: Option<(View, History)>,
}

/// Uses what it has kept.
#[derive(Default)]
pub(crate) struct StaleCertificate {
    /// What each replica voted for last.
    voted: BTreeMap<ReplicaId, (View, History)>,
    /// The first VIEW-CHANGE of each replica, and its own last one.
    kept: BTreeMap<ReplicaId, Kept>,
    /// The last view that it began.
    begun: View,
}

impl StaleCertificate {
    fn remember(&mut self, hands: &Hands, flush: &Flush) {
        for (index, statement) in flush.statements.iter().enumerate() {
            match statement {
                Statement::Prepare { view, .. } => {
                    if let Some(tip) = hands.tip(*view) {
                        self.voted.insert(flush.replica, (*view, tip));
                    }
                }
                Statement::Commit { view, upto } => {
                    self.voted.insert(flush.replica, (*view, *upto));
                }
                Statement::NewView { view, start, .. } => {
                    self.voted.insert(flush.replica, (*view, *start));
                }
                Statement::ViewChange { target, .. } => {
                    let position = flush.after.after(index + 1);
                    let change = Change { replica: flush.replica, epoch: flush.epoch, position };
                    let kept = Kept { change, target: *target, voted: self.voted.get(&flush.replica).copied() };
                    if flush.replica == hands.me {
                        self.kept.insert(flush.replica, kept);
                    } else {
                        self.kept.entry(flush.replica).or_insert(kept);
                    }
                }
            }
        }
    }

    /// A NEW-VIEW with what was kept, when any of it is for another view.
    fn stale(&self, hands: &Hands, of: View) -> Option<Statement> {
        let own = self.kept.get(&hands.me).filter(|kept| kept.target == of)?;
        let others = self.kept.values().filter(|kept| kept.change.replica != hands.me && kept.target < of);
        let chosen: Vec<&Kept> = others.take(hands.replicas - hands.faults - 1).chain([own]).collect();
        if chosen.len() < hands.replicas - hands.faults {
            return None;
        }
        let empty = (View(0), History::empty(hands.cluster));
        let votes = chosen.iter().map(|kept| kept.voted.unwrap_or(empty));
        let (_, start) = votes.max_by_key(|(view, upto)| (*view, upto.seq))?;
        let changes = chosen.iter().map(|kept| kept.change).collect();
        Some(Statement::NewView { view: of, changes, start })
    }
}

impl StaleCertificate {
    /// Begins the view that it left for, without waiting for anybody.
    fn begin(&mut self, hands: &mut Hands) {
        let Some(view) = self.kept.get(&hands.me).map(|kept| kept.target).filter(|view| *view > self.begun) else {
            return;
        };
        if view.primary(hands.replicas) == hands.me
            && let Some(stale) = self.stale(hands, view)
        {
            self.begun = view;
            hands.lied();
            hands.publish(0, vec![stale], Vec::new());
        }
    }
}

impl Actor for StaleCertificate {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        // What it knows of votes in later views it keeps to itself.
        draft.statements.retain(|statement| match statement {
            Statement::Commit { view, .. } => *view == View(0),
            Statement::NewView { view, .. } => *view > self.begun,
            Statement::Prepare { .. } | Statement::ViewChange { .. } => true,
        });
        if let Some(flush) = hands.write(draft.brain, draft.statements) {
            self.remember(hands, &flush);
            hands.send(None, Message::Flush(flush, draft.bodies));
        }
        self.begin(hands);
    }

    fn hear(
        &mut self,
        hands: &mut Hands,
        _brain: usize,
        _from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        if let Message::Flush(flush, _) = message {
            self.remember(hands, flush);
        }
        self.begin(hands);
        Some(message.clone())
    }
}
