//! Votes digests that no output has: a core that hashes wrongly.

use crate::Lie;
use quorate_protocol::{digest::Digest, vote::Segment};

#[derive(Debug)]
pub(crate) struct WrongMapDigest;

impl Lie for WrongMapDigest {
    fn spoil_segments(&self, segments: &mut [Segment]) {
        for segment in segments {
            segment.digest = Digest::of(segment.digest.as_bytes());
        }
    }
}
