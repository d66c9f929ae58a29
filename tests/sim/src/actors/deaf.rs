//! Does not hear that views begin: it goes on proposing in an old one, and takes part in the next view change with the
//! long tail of what nobody voted for [SMR-9].

use crate::actors::{Actor, Hands};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::message::{Message, Statement, WireMessage};

/// Is deaf to NEW-VIEWs.
pub(crate) struct Deaf;

impl Actor for Deaf {
    fn hear(
        &mut self,
        hands: &mut Hands,
        _brain: usize,
        _from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        let begins = |statement: &Statement| matches!(statement, Statement::NewView { .. });
        match message {
            Message::Flush(flush, _) if flush.statements.iter().any(begins) => {
                hands.lied();
                None
            }
            // What was decided without it would tell it too.
            Message::Chain(..) | Message::Stable(_) => None,
            other => Some(other.clone()),
        }
    }
}
