//! Sends signed garbage to the job tracker and far too many bytes to readers.

use crate::Lie;
use bytes::Bytes;
use quorate_protocol::ids::TrackerId;

#[derive(Debug)]
pub(crate) struct Garbled;

impl Lie for Garbled {
    fn garbles_reports(&self) -> bool {
        true
    }
    fn spoil_served(&self, _reader: TrackerId, block: Bytes) -> Vec<Bytes> {
        vec![block.clone(), Bytes::from(vec![0xAA; 1 << 20]), Bytes::from(vec![0xBB; 1 << 20]), block]
    }
    fn checks_before_proving(&self) -> bool {
        false
    }
}
