//! The trackers that can run a stage's attempts of one target, by failure domain: who is there, and who has a slot free.
//!
//! A search names at most 2f + 1 domains to avoid and a bounded number of trackers to avoid, so that for each load that
//! trackers have it looks at no more than these plus one.

use crate::{tracker::Offer, workforce::DomainIndex};
use quorate_protocol::ids::TrackerId;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// How gladly a tracker is given work, the least first: what speaks against it, then the slots in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// 0 unless it is suspected, or late with its latest work.
    pub(crate) rank: u8,
    /// Slots in use.
    pub(crate) used: u16,
}

/// What a search for a tracker came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// This one.
    Tracker(TrackerId),
    /// All that may run it are busy.
    Busy,
    /// None that may run it is there.
    Nobody,
}

/// Live trackers, and among them those with a free slot.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Pool {
    live: BTreeMap<DomainIndex, BTreeSet<TrackerId>>,
    /// The least loaded first; those of one load by domain, so that a search steps over a domain at once.
    free: BTreeSet<(Load, DomainIndex, TrackerId)>,
}

impl Pool {
    /// Adds a live tracker, with its load when it has a free slot.
    pub(crate) fn enter(&mut self, id: TrackerId, domain: DomainIndex, load: Option<Load>) {
        self.live.entry(domain).or_default().insert(id);
        self.reload(id, domain, None, load);
    }

    /// Takes a tracker out, as it was entered.
    pub(crate) fn leave(&mut self, id: TrackerId, domain: DomainIndex, load: Option<Load>) {
        if let Some(live) = self.live.get_mut(&domain) {
            live.remove(&id);
            if live.is_empty() {
                self.live.remove(&domain);
            }
        }
        self.reload(id, domain, load, None);
    }

    /// Takes over what a tracker offers.
    pub(crate) fn change(&mut self, id: TrackerId, domain: DomainIndex, before: Option<Offer>, after: Option<Offer>) {
        match (before, after) {
            (None, None) => {}
            (None, Some(after)) => self.enter(id, domain, after.load),
            (Some(before), None) => self.leave(id, domain, before.load),
            (Some(before), Some(after)) => self.reload(id, domain, before.load, after.load),
        }
    }

    fn reload(&mut self, id: TrackerId, domain: DomainIndex, before: Option<Load>, after: Option<Load>) {
        if let Some(load) = before {
            self.free.remove(&(load, domain, id));
        }
        if let Some(load) = after {
            self.free.insert((load, domain, id));
        }
    }

    /// How many trackers have a free slot.
    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }

    /// The trackers with a free slot.
    pub(crate) fn free(&self) -> impl Iterator<Item = TrackerId> {
        self.free.iter().map(|(_, _, id)| *id)
    }

    /// How many domains have a live tracker.
    pub(crate) fn live_domains(&self) -> usize {
        self.live.len()
    }

    /// Finds the least loaded tracker outside the `occupied` domains. One of the `spoiled` is taken only when no other
    /// is there at all, be it busy.
    pub(crate) fn find(&self, occupied: &[DomainIndex], spoiled: &[TrackerId]) -> Found {
        if let Some(id) = self.find_free(occupied, spoiled) {
            return Found::Tracker(id);
        }
        let mut permitted = self.live.iter().filter(|(domain, _)| !occupied.contains(domain)).peekable();
        if permitted.peek().is_none() {
            return Found::Nobody;
        }
        if permitted.any(|(_, ids)| ids.iter().any(|id| !spoiled.contains(id))) {
            return Found::Busy;
        }
        self.find_free(occupied, &[]).map_or(Found::Busy, Found::Tracker)
    }

    fn find_free(&self, occupied: &[DomainIndex], spoiled: &[TrackerId]) -> Option<TrackerId> {
        let mut next = self.free.first();
        while let Some((load, domain, id)) = next {
            if !occupied.contains(domain) && !spoiled.contains(id) {
                return Some(*id);
            }
            let last = if occupied.contains(domain) { TrackerId::new(u32::MAX) } else { *id };
            next = self.free.range((Bound::Excluded((*load, *domain, last)), Bound::Unbounded)).next();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn load(rank: u8, used: u16) -> Load {
        Load { rank, used }
    }
    fn tracker(n: u32) -> Found {
        Found::Tracker(TrackerId::new(n))
    }

    /// Trackers 0 and 1 in domain 0, tracker 2 in domain 1, tracker 3 (suspected) in domain 2, tracker 4 (busy) in 3.
    fn pool() -> Pool {
        let mut pool = Pool::default();
        for (id, domain, load) in [
            (0, 0, Some(load(0, 1))),
            (1, 0, Some(load(0, 0))),
            (2, 1, Some(load(0, 2))),
            (3, 2, Some(load(1, 0))),
            (4, 3, None),
        ] {
            pool.enter(TrackerId::new(id), DomainIndex(domain), load);
        }
        pool
    }

    #[test]
    fn the_least_loaded_in_a_permitted_domain_is_found() {
        let pool = pool();
        let occupied = |domains: &[u32]| domains.iter().copied().map(DomainIndex).collect::<Vec<_>>();
        assert_eq!(pool.find(&[], &[]), tracker(1));
        assert_eq!(pool.find(&[], &[TrackerId::new(1)]), tracker(0));
        assert_eq!(pool.find(&occupied(&[0]), &[]), tracker(2));
        assert_eq!(pool.find(&occupied(&[0, 1]), &[]), tracker(3));
        assert_eq!(pool.find(&occupied(&[0, 1, 2]), &[]), Found::Busy);
        assert_eq!(pool.find(&occupied(&[0, 1, 2, 3]), &[]), Found::Nobody);
        assert_eq!((pool.free_count(), pool.live_domains()), (4, 4));
    }

    #[test]
    fn a_spoiled_tracker_is_taken_when_there_is_no_other() {
        let mut pool = pool();
        let spoiled = [TrackerId::new(2), TrackerId::new(3)];
        let occupied = [DomainIndex(0)];
        assert_eq!(pool.find(&occupied, &spoiled), Found::Busy, "tracker 4 is there");
        pool.leave(TrackerId::new(4), DomainIndex(3), None);
        assert_eq!(pool.find(&occupied, &spoiled), tracker(2));
    }

    #[test]
    fn those_who_left_are_not_found() {
        let mut pool = pool();
        pool.leave(TrackerId::new(1), DomainIndex(0), Some(load(0, 0)));
        assert_eq!(pool.find(&[], &[]), tracker(0));
        pool.leave(TrackerId::new(0), DomainIndex(0), Some(load(0, 1)));
        assert_eq!(pool.find(&[], &[]), tracker(2));
        assert_eq!(pool.free().map(TrackerId::number).collect::<Vec<_>>(), [2, 3]);
    }
}
