//! As primary orders nothing of some clients: it does not hear them.

use crate::{
    actors::{Actor, Hands},
    keys::{client_id, identify},
};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    RequestId,
    message::{Message, WireMessage},
};

/// Censors.
pub(crate) struct Censor;

fn hated(id: &RequestId) -> bool {
    id.client == client_id(0)
}

impl Actor for Censor {
    fn serves(&mut self, hands: &mut Hands, _brain: usize, id: &RequestId) -> bool {
        if hated(id) && hands.is_primary() {
            hands.lied();
            return false;
        }
        true
    }

    fn hear(
        &mut self,
        hands: &mut Hands,
        _brain: usize,
        _from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        if let Message::Forward(batch) = message
            && hands.is_primary()
            && batch.requests.iter().filter_map(|request| identify(request)).any(|id| hated(&id))
        {
            hands.lied();
            return None;
        }
        Some(message.clone())
    }
}
