//! Which chunks were stored a moment ago. An order to delete a chunk may arrive after a client has stored the same bytes
//! anew, for a file that the job tracker does not know yet.
//!
//! What must hold:
//! * YOUTH-1: what was stored within the last [`YOUNG`] counts as young. After a restart nobody knows, and everything does.
//! * YOUTH-2: a chunk that was stored after a [`Young`] was given for it is told apart from one that was not.
//! * YOUTH-3: at most [`NOTES_MAX`] chunks are noted. What is dropped for that errs towards keeping chunks.

use quorate_protocol::digest::ChunkId;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// How long a stored chunk counts as young: a file is created within this time after its chunks were stored.
pub const YOUNG: Duration = Duration::from_secs(600);
/// Chunks noted at once: 400 MB of usual ones in every second.
const NOTES_MAX: usize = 1 << 16;

/// A chunk that was not deleted because it is young, as of the moment of that decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Young {
    /// The chunk.
    pub chunk: ChunkId,
    /// The last note at that moment.
    as_of: u64,
}

/// Notes of stored chunks, numbered from 1.
#[derive(Debug)]
pub(crate) struct Youth {
    notes: BTreeMap<ChunkId, u64>,
    /// The same by their numbers, which is by their times.
    order: BTreeMap<u64, (ChunkId, Instant)>,
    last: u64,
    /// The last note that was dropped before its time. [YOUTH-3]
    dropped: u64,
    /// Until then a chunk without a note may be young all the same. [YOUTH-1, YOUTH-3]
    unsure_until: Instant,
}

impl Youth {
    /// Nothing is known of what was stored before `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { notes: BTreeMap::new(), order: BTreeMap::new(), last: 0, dropped: 0, unsure_until: now + YOUNG }
    }

    /// A chunk is being stored.
    pub(crate) fn note(&mut self, chunk: ChunkId, now: Instant) {
        self.last += 1;
        if let Some(before) = self.notes.insert(chunk, self.last) {
            self.order.remove(&before);
        }
        self.order.insert(self.last, (chunk, now));
        self.forget(now);
    }

    /// Whether a chunk must not be deleted without asking.
    pub(crate) fn young(&mut self, chunk: ChunkId, now: Instant) -> Option<Young> {
        self.forget(now);
        let young = self.notes.contains_key(&chunk) || now < self.unsure_until;
        young.then_some(Young { chunk, as_of: self.last })
    }

    /// Whether the chunk was stored again, and not so long ago that it is young no more.
    pub(crate) fn stored_since(&mut self, young: Young, now: Instant) -> bool {
        self.forget(now);
        let last = self.notes.get(&young.chunk).copied().unwrap_or(self.dropped);
        last > young.as_of
    }

    fn forget(&mut self, now: Instant) {
        while let Some(first) = self.order.first_entry() {
            let (number, (chunk, noted)) = (*first.key(), *first.get());
            let is_young = now.saturating_duration_since(noted) < YOUNG;
            if is_young && self.notes.len() <= NOTES_MAX {
                break;
            }
            if is_young {
                self.dropped = number;
                self.unsure_until = self.unsure_until.max(noted + YOUNG);
            }
            first.remove();
            self.notes.remove(&chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::digest::Digest;

    fn chunk(n: usize) -> ChunkId {
        ChunkId(Digest::of(&n.to_le_bytes()))
    }

    /// Notes of a store that has run for long, and its time.
    fn long_open() -> (Youth, Instant) {
        let opened = Instant::now();
        (Youth::new(opened), opened + YOUNG)
    }

    #[test]
    fn a_chunk_is_young_for_a_while_after_it_was_last_stored() {
        let (mut youth, now) = long_open();
        let almost = YOUNG - Duration::from_nanos(1);
        assert_eq!(youth.young(chunk(1), now), None, "never stored");
        youth.note(chunk(1), now);
        assert!(youth.young(chunk(1), now + almost).is_some());
        youth.note(chunk(1), now + almost);
        assert!(youth.young(chunk(1), now + YOUNG).is_some(), "stored again");
        assert_eq!(youth.young(chunk(2), now + YOUNG), None, "another one");
        assert_eq!(youth.young(chunk(1), now + almost + YOUNG), None);
        assert!(youth.notes.is_empty() && youth.order.is_empty(), "what is old is forgotten");
    }

    #[test]
    fn after_a_restart_everything_is_young() {
        let opened = Instant::now();
        let mut youth = Youth::new(opened);
        let young = youth.young(chunk(1), opened).expect("perhaps stored just before");
        assert!(!youth.stored_since(young, opened));
        assert_eq!(youth.young(chunk(1), opened + YOUNG), None);
    }

    #[test]
    fn stored_again_is_told_apart_from_young() {
        let (mut youth, now) = long_open();
        youth.note(chunk(1), now);
        let young = youth.young(chunk(1), now).expect("young");
        youth.note(chunk(2), now);
        assert!(!youth.stored_since(young, now), "only another chunk was stored");
        assert!(!youth.stored_since(young, now + YOUNG), "forgotten is not stored again");
        youth.note(chunk(1), now + YOUNG);
        assert!(youth.stored_since(young, now + YOUNG));
        let young = youth.young(chunk(1), now + YOUNG).expect("young");
        assert!(!youth.stored_since(young, now + YOUNG), "not since then");
    }

    #[test]
    fn notes_are_bounded_and_a_dropped_one_still_keeps_its_chunk() {
        let (mut youth, now) = long_open();
        for n in 0..NOTES_MAX {
            youth.note(chunk(n), now);
        }
        assert_eq!((youth.notes.len(), youth.order.len()), (NOTES_MAX, NOTES_MAX));
        assert_eq!(youth.young(chunk(NOTES_MAX), now), None, "nothing was dropped");
        let before = Young { chunk: chunk(0), as_of: 0 };

        let later = now + Duration::from_secs(1);
        youth.note(chunk(NOTES_MAX), later);
        assert_eq!((youth.notes.len(), youth.order.len()), (NOTES_MAX, NOTES_MAX));
        assert!(!youth.notes.contains_key(&chunk(0)));
        let young = youth.young(chunk(0), later).expect("it may be young");
        assert!(youth.stored_since(before, later), "it may have been stored since");
        assert!(!youth.stored_since(young, later), "nothing was stored since");
        assert_eq!(youth.young(chunk(0), now + YOUNG), None);
    }
}
