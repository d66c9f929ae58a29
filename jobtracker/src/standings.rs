//! What is held against whom, at each of the newest places of the history.
//!
//! Replicas that executed the same history say the same here, byte for byte. So whoever asks several of them can compare
//! what they say of one place, although none of them is asked at the same moment. Only changes are kept, and few places
//! change anything.

use quorate_protocol::query::Suspect;
use std::{collections::VecDeque, sync::Arc};

/// Changes that are kept.
const CHANGES_MAX: usize = 256;

/// The trackers that something was held against, from a place of the history on.
struct Change {
    from: u64,
    suspects: Arc<[Suspect]>,
}

/// What was held against whom. Empty until something was executed while it was watched.
#[derive(Default)]
pub(crate) struct Standings {
    changes: VecDeque<Change>,
}

impl Standings {
    /// Takes over what is held against whom at a place. One that does not follow on the places before, as after another
    /// replica's state was taken over, begins anew.
    pub(crate) fn note(&mut self, place: u64, follows: bool, suspects: Vec<Suspect>) {
        if !follows {
            self.changes.clear();
        }
        if self.changes.back().is_some_and(|last| *last.suspects == *suspects) {
            return;
        }
        self.changes.push_back(Change { from: place, suspects: suspects.into() });
        while self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }

    /// What was held against whom at a place that was executed; `None` when it is too long ago.
    pub(crate) fn at(&self, place: u64) -> Option<Arc<[Suspect]>> {
        let change = self.changes.iter().rev().find(|change| change.from <= place)?;
        Some(Arc::clone(&change.suspects))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{
        ids::{Domain, TrackerId},
        query::Blame,
    };

    fn suspects(evidence: u32) -> Vec<Suspect> {
        let domain = Domain("d".to_owned());
        vec![Suspect { tracker: TrackerId::new(1), domain, blame: Blame::Suspected, evidence, kinds: Vec::new() }]
    }
    fn evidence(standings: &Standings, place: u64) -> Option<u32> {
        standings.at(place).map(|suspects| suspects.first().map_or(0, |suspect| suspect.evidence))
    }

    #[test]
    fn each_place_has_what_was_held_at_it() {
        let mut standings = Standings::default();
        assert_eq!(evidence(&standings, 5), None);
        for (place, count) in [(5, 0), (6, 0), (7, 1), (8, 1), (9, 2)] {
            standings.note(place, true, if count == 0 { Vec::new() } else { suspects(count) });
        }
        let all: Vec<_> = (4..=10).map(|place| evidence(&standings, place)).collect();
        assert_eq!(all, [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)]);
        standings.note(50, false, suspects(3));
        assert_eq!((evidence(&standings, 49), evidence(&standings, 50)), (None, Some(3)), "a gap is not filled");
    }

    #[test]
    fn changes_are_bounded() {
        let mut standings = Standings::default();
        let last = CHANGES_MAX as u64 + 1;
        (1..=last).for_each(|place| standings.note(place, true, suspects(place as u32)));
        assert_eq!((evidence(&standings, 1), evidence(&standings, 2)), (None, Some(2)));
        assert_eq!(evidence(&standings, last), Some(last as u32));
    }
}
