//! What this process has spent on not believing others: bytes digested, signatures, and talk with the job tracker.
//!
//! Counted, not timed: nothing here reads a clock, and nothing anywhere decides by these numbers. They only grow, for the
//! whole process, so whoever measures looks twice and takes the difference.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static DIGESTED: AtomicU64 = AtomicU64::new(0);
static READ: AtomicU64 = AtomicU64::new(0);
static SIGNED: AtomicU64 = AtomicU64::new(0);
static VERIFIED: AtomicU64 = AtomicU64::new(0);
static COMMANDS: AtomicU64 = AtomicU64::new(0);
static COMMAND_BYTES: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// What was spent since the process began, or between two looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// Bytes of segments and chunks that were digested.
    pub digested: u64,
    /// Of these, bytes of chunks that were read and checked against their names, as any store does that does not trust its
    /// disk.
    pub read: u64,
    /// Ed25519 signatures made.
    pub signed: u64,
    /// Ed25519 signatures verified.
    pub verified: u64,
    /// Commands that clients and trackers had ordered.
    pub commands: u64,
    /// Their bytes in canonical form, each command once.
    pub command_bytes: u64,
    /// Bytes of commands and questions sent to replicas, to each that was asked.
    pub sent: u64,
    /// Bytes of the replies and stream items that came from replicas.
    pub received: u64,
}

impl Spent {
    /// What was spent until now.
    pub fn now() -> Self {
        Self {
            digested: DIGESTED.load(Relaxed),
            read: READ.load(Relaxed),
            signed: SIGNED.load(Relaxed),
            verified: VERIFIED.load(Relaxed),
            commands: COMMANDS.load(Relaxed),
            command_bytes: COMMAND_BYTES.load(Relaxed),
            sent: SENT.load(Relaxed),
            received: RECEIVED.load(Relaxed),
        }
    }

    /// What was spent since an earlier look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            digested: self.digested.saturating_sub(earlier.digested),
            read: self.read.saturating_sub(earlier.read),
            signed: self.signed.saturating_sub(earlier.signed),
            verified: self.verified.saturating_sub(earlier.verified),
            commands: self.commands.saturating_sub(earlier.commands),
            command_bytes: self.command_bytes.saturating_sub(earlier.command_bytes),
            sent: self.sent.saturating_sub(earlier.sent),
            received: self.received.saturating_sub(earlier.received),
        }
    }
}

/// So many bytes of a segment or a chunk were digested.
pub fn digested(bytes: u64) {
    DIGESTED.fetch_add(bytes, Relaxed);
}

/// So many bytes of a chunk were read and digested.
pub fn read(bytes: u64) {
    digested(bytes);
    READ.fetch_add(bytes, Relaxed);
}

/// A command of so many bytes was ordered.
pub fn ordered(bytes: u64) {
    COMMANDS.fetch_add(1, Relaxed);
    COMMAND_BYTES.fetch_add(bytes, Relaxed);
}

/// So many bytes went to a replica.
pub fn sent(bytes: u64) {
    SENT.fetch_add(bytes, Relaxed);
}

/// So many bytes came from a replica.
pub fn received(bytes: u64) {
    RECEIVED.fetch_add(bytes, Relaxed);
}

pub(crate) fn signed() {
    SIGNED.fetch_add(1, Relaxed);
}

pub(crate) fn verified() {
    VERIFIED.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_two_looks_has_what_was_spent_between() {
        let before = Spent::now();
        digested(7);
        read(5);
        ordered(11);
        sent(13);
        received(17);
        let spent = Spent::now().since(before);
        // Other tests of this process sign meanwhile; nobody else does the rest.
        let expected = Spent { digested: 12, read: 5, commands: 1, command_bytes: 11, sent: 13, received: 17, ..spent };
        assert_eq!(spent, expected);
        assert_eq!(before.since(Spent::now()).digested, 0);
    }
}
