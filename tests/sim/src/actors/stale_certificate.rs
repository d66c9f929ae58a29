//! As primary of a new view shows VIEW-CHANGEs that were for an earlier one, so that what was committed in between is
//! not in them [SMR-9]; asks for a view with claims that ask for another one [SMR-7].

use crate::actors::{Actor, Draft, Hands};
use quorate_counter::Position;
use quorate_protocol::ids::ReplicaId;
use quorate_smr::message::{Change, Flush, Message, Statement, WireMessage};
use std::collections::BTreeMap;

/// Uses what it has kept.
#[derive(Default)]
pub(crate) struct StaleCertificate {
    /// The first VIEW-CHANGE of each replica.
    first: BTreeMap<ReplicaId, Change>,
}

impl StaleCertificate {
    fn remember(&mut self, flush: &Flush) {
        for (index, statement) in flush.statements.iter().enumerate() {
            if matches!(statement, Statement::ViewChange { .. }) {
                let position: Position = flush.after.after(index + 1);
                let change = Change { replica: flush.replica, epoch: flush.epoch, position };
                self.first.entry(flush.replica).or_insert(change);
            }
        }
    }
}

impl Actor for StaleCertificate {
    fn draft(&mut self, hands: &mut Hands, mut draft: Draft) {
        for statement in &mut draft.statements {
            match statement {
                Statement::NewView { changes, .. } => {
                    let me = hands.me;
                    for change in changes.iter_mut().filter(|change| change.replica != me) {
                        if let Some(first) = self.first.get(&change.replica).filter(|first| *first != change) {
                            *change = *first;
                            hands.lied();
                        }
                    }
                }
                Statement::ViewChange { target, .. } if hands.rng.chance(100) => {
                    *target = target.next();
                    hands.lied();
                }
                Statement::ViewChange { .. } | Statement::Prepare { .. } | Statement::Commit { .. } => {}
            }
        }
        hands.publish(draft.brain, draft.statements, draft.bodies);
    }

    fn hear(&mut self, _hands: &mut Hands, _brain: usize, _from: ReplicaId, message: &WireMessage) -> Option<WireMessage> {
        if let Message::Flush(flush, _) = message {
            self.remember(flush);
        }
        Some(message.clone())
    }
}
