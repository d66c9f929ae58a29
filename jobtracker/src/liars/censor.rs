//! Drops what clients and trackers send, and what other replicas pass on of it: as primary it proposes nothing of theirs.

use super::Lie;
use quorate_smr::message::{Message, OwnMessage};

pub(super) struct Censor;

impl Lie for Censor {
    fn takes_requests(&self) -> bool {
        false
    }
    fn hears(&self, message: &OwnMessage) -> bool {
        !matches!(message, Message::Forward(_))
    }
}
