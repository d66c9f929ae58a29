//! Votes rightly and serves wrong bytes to the first reader that asks: true for you and false for your neighbour.

use crate::{Lie, flip_a_bit};
use bytes::Bytes;
use quorate_protocol::ids::TrackerId;
use std::sync::OnceLock;

#[derive(Debug, Default)]
pub(crate) struct ServeWrongToOne {
    victim: OnceLock<TrackerId>,
}

impl Lie for ServeWrongToOne {
    fn spoil_served(&self, reader: TrackerId, block: Bytes) -> Vec<Bytes> {
        let wrong = *self.victim.get_or_init(|| reader) == reader;
        vec![if wrong { flip_a_bit(&block) } else { block }]
    }
    fn checks_before_proving(&self) -> bool {
        false
    }
}
