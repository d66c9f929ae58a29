//! Never leaves its view: it hears nothing of view changes, asks for none, and goes on proposing or voting where it is.

use super::Lie;
use quorate_protocol::ids::ReplicaId;
use quorate_smr::message::{Claim, Message, OwnMessage, Statement, WireMessage};

pub(super) struct StaleView;

impl Lie for StaleView {
    fn hears(&self, message: &OwnMessage) -> bool {
        match message {
            Message::Flush(flush, _) => {
                let changes =
                    |statement| matches!(statement, &Statement::ViewChange { .. } | &Statement::NewView { .. });
                !flush.statements.iter().any(changes)
            }
            Message::Claim(signed) => !matches!(signed.claim, Claim::ViewChange { .. }),
            Message::Status(status) => status.wants.is_none(),
            _ => true,
        }
    }
    fn says(&self, _: ReplicaId, mut message: WireMessage) -> Vec<WireMessage> {
        match &mut message {
            Message::Claim(signed) if matches!(signed.claim, Claim::ViewChange { .. }) => return Vec::new(),
            Message::Status(status) => status.wants = None,
            _ => {}
        }
        vec![message]
    }
}
