//! The log of a run's events: its digest shows that a run was repeated exactly, its lines are for people.

use quorate_protocol::digest::Digest;

/// Bytes that are gathered before they are digested.
const BLOCK_BYTES: usize = 16 << 10;

/// The log of one run.
pub(crate) struct Journal {
    digest: Digest,
    block: Vec<u8>,
    trace: bool,
}

impl Journal {
    pub(crate) fn new(trace: bool) -> Self {
        Self { digest: Digest::of(b"journal"), block: Vec::with_capacity(BLOCK_BYTES + 64), trace }
    }

    /// Something happened; the numbers say what.
    pub(crate) fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.block.extend_from_slice(&number.to_le_bytes());
        }
        if self.block.len() >= BLOCK_BYTES {
            self.fold();
        }
    }

    /// A digest belongs to what happened.
    pub(crate) fn note_digest(&mut self, digest: Digest) {
        self.block.extend_from_slice(digest.as_bytes());
    }

    /// A line for people, made only when somebody reads it.
    pub(crate) fn line(&self, tick: u64, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{tick:>8}  {}", text());
        }
    }

    /// Of everything noted so far.
    pub(crate) fn digest(&mut self) -> Digest {
        self.fold();
        self.digest
    }

    fn fold(&mut self) {
        let mut bytes = self.digest.as_bytes().to_vec();
        bytes.append(&mut self.block);
        self.digest = Digest::of(&bytes);
    }
}
