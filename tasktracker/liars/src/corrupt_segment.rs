//! Makes one wrong segment, of its first map attempt with output, and votes for it consistently: a single flipped bit.

use crate::{Lie, flip_last_byte};
use quorate_protocol::ids::AttemptId;
use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

#[derive(Debug, Default)]
pub(crate) struct CorruptSegment {
    done: AtomicBool,
}

impl Lie for CorruptSegment {
    fn spoil_map_data(&self, _attempt: AttemptId, data: &Path, spans: &[(u64, u64)]) -> io::Result<()> {
        match spans.iter().find(|(_, length)| *length > 0) {
            Some((offset, length)) if !self.done.swap(true, Ordering::Relaxed) => {
                flip_last_byte(data, *offset, *length)
            }
            _ => Ok(()),
        }
    }
}
