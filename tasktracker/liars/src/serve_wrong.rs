//! Votes rightly and serves wrong bytes to all: memory that went bad after the digest was taken.

use crate::{Lie, flip_a_bit};
use bytes::Bytes;
use quorate_protocol::ids::TrackerId;

#[derive(Debug)]
pub(crate) struct ServeWrong;

impl Lie for ServeWrong {
    fn spoil_served(&self, _reader: TrackerId, block: Bytes) -> Vec<Bytes> {
        vec![flip_a_bit(&block)]
    }
    fn checks_before_proving(&self) -> bool {
        false
    }
}
