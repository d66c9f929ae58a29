//! Makes wrong map output and votes for it consistently: a core that computes wrongly.

use crate::{Lie, flip_last_byte};
use quorate_protocol::ids::AttemptId;
use std::{io, path::Path};

#[derive(Debug)]
pub(crate) struct CorruptMap;

impl Lie for CorruptMap {
    fn spoil_map_data(&self, _attempt: AttemptId, data: &Path, spans: &[(u64, u64)]) -> io::Result<()> {
        spans.iter().try_for_each(|(offset, length)| flip_last_byte(data, *offset, *length))
    }
}
