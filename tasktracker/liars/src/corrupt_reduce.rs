//! Makes wrong reduce output and votes for it consistently.

use crate::Lie;

#[derive(Debug)]
pub(crate) struct CorruptReduce;

impl Lie for CorruptReduce {
    fn spoil_reduce_output(&self, first: bool, block: &mut [u8]) {
        if let (true, Some(byte)) = (first, block.first_mut()) {
            *byte ^= 1;
        }
    }
}
