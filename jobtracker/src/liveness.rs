//! Who is there: an open stream of directives is a tracker's sign of life.
//!
//! Pings are not ordered. Each replica watches the streams that trackers hold open to it; when a tracker that the
//! scheduler takes for live has had none of its registered incarnation for a *lease*, the replica orders that it is
//! absent. The scheduler believes f + 1 replicas: while too few say so, the replica says it again after each lease.

use quorate_protocol::ids::TrackerId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The open streams, shared with those that serve them.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<BTreeMap<(TrackerId, u64), usize>>>);

/// One open stream: counts until it is dropped.
pub(crate) struct OpenStream {
    streams: Streams,
    of: (TrackerId, u64),
}

impl Streams {
    pub(crate) fn open(&self, tracker: TrackerId, incarnation: u64) -> OpenStream {
        let of = (tracker, incarnation);
        *self.counts().entry(of).or_default() += 1;
        OpenStream { streams: self.clone(), of }
    }

    fn is_open(&self, tracker: TrackerId, incarnation: u64) -> bool {
        self.counts().contains_key(&(tracker, incarnation))
    }

    /// Each change of the counts is a single step, so a panic elsewhere leaves them whole.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<(TrackerId, u64), usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut counts = self.streams.counts();
        match counts.get_mut(&self.of) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.of);
            }
        }
    }
}

/// When each tracker was last there.
pub(crate) struct Presence {
    lease: Duration,
    seen: BTreeMap<TrackerId, Seen>,
}

struct Seen {
    incarnation: u64,
    last: Instant,
}

impl Presence {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, seen: BTreeMap::new() }
    }

    /// Looks at the live trackers, with their incarnations, and returns those that must be said to be absent.
    pub(crate) fn check(&mut self, now: Instant, live: &BTreeMap<TrackerId, u64>, streams: &Streams) -> Vec<TrackerId> {
        // Whoever comes back starts with a new lease.
        self.seen.retain(|tracker, seen| live.get(tracker) == Some(&seen.incarnation));
        let mut absent = Vec::new();
        for (tracker, incarnation) in live {
            let seen = self.seen.entry(*tracker).or_insert(Seen { incarnation: *incarnation, last: now });
            if streams.is_open(*tracker, *incarnation) {
                seen.last = now;
            } else if now.duration_since(seen.last) >= self.lease {
                seen.last = now;
                absent.push(*tracker);
            }
        }
        absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACKER: TrackerId = TrackerId::new(4);
    const LEASE: Duration = Duration::from_secs(3);
    const INSTANT: Duration = Duration::from_millis(1);

    fn live(incarnation: u64) -> BTreeMap<TrackerId, u64> {
        BTreeMap::from([(TRACKER, incarnation)])
    }

    #[test]
    fn a_tracker_without_a_stream_is_absent_after_each_lease() {
        let (mut presence, streams, start) = (Presence::new(LEASE), Streams::default(), Instant::now());
        assert!(presence.check(start, &live(1), &streams).is_empty());
        assert!(presence.check(start + LEASE - INSTANT, &live(1), &streams).is_empty());
        assert_eq!(presence.check(start + LEASE, &live(1), &streams), [TRACKER]);
        assert!(presence.check(start + LEASE * 2 - INSTANT, &live(1), &streams).is_empty(), "once for each lease");
        assert_eq!(presence.check(start + LEASE * 2, &live(1), &streams), [TRACKER], "again: nobody believed it");
        assert!(presence.check(start + LEASE * 9, &BTreeMap::new(), &streams).is_empty(), "believed: not again");
        assert!(presence.check(start + LEASE * 10, &live(1), &streams).is_empty(), "back: a new lease");
        assert_eq!(presence.check(start + LEASE * 11, &live(1), &streams), [TRACKER]);
    }

    #[test]
    fn only_a_stream_of_the_current_incarnation_is_life() {
        let (mut presence, streams, start) = (Presence::new(LEASE), Streams::default(), Instant::now());
        let old = streams.open(TRACKER, 1);
        assert!(presence.check(start, &live(1), &streams).is_empty());
        assert!(presence.check(start + LEASE * 2, &live(1), &streams).is_empty());
        assert!(presence.check(start + LEASE * 3, &live(2), &streams).is_empty());
        assert_eq!(presence.check(start + LEASE * 4, &live(2), &streams), [TRACKER]);
        drop(old);
    }

    #[test]
    fn the_lease_starts_when_the_last_of_several_streams_ends() {
        let (mut presence, streams, start) = (Presence::new(LEASE), Streams::default(), Instant::now());
        let (one, two) = (streams.open(TRACKER, 1), streams.open(TRACKER, 1));
        drop(one);
        assert!(presence.check(start + LEASE, &live(1), &streams).is_empty());
        drop(two);
        assert!(presence.check(start + LEASE * 2 - INSTANT, &live(1), &streams).is_empty());
        assert_eq!(presence.check(start + LEASE * 2, &live(1), &streams), [TRACKER]);
    }
}
