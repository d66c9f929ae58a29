//! Something for each tracker of the configuration, found by its number.
//!
//! Large clusters ask for a tracker several times with each command, and an ordered map of thousands answers out of cold
//! memory each time. Configurations number their trackers from 0 as a rule; where one does not, a search finds them.

use quorate_protocol::ids::TrackerId;
use serde::{Deserialize, Serialize};

/// One value for each tracker, in the order of their numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Table<T> {
    rows: Vec<(TrackerId, T)>,
}

// Derived, it would ask for `T: Default`.
impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Makes a table of these rows, of which no two are about one tracker.
    pub(crate) fn new(rows: impl Iterator<Item = (TrackerId, T)>) -> Self {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        Self { rows }
    }

    fn place(&self, id: TrackerId) -> Option<usize> {
        let usual = id.number() as usize;
        match self.rows.get(usual) {
            Some((there, _)) if *there == id => Some(usual),
            _ => self.rows.binary_search_by_key(&id, |(there, _)| *there).ok(),
        }
    }

    /// A tracker's value; none for a tracker outside the configuration.
    pub(crate) fn get(&self, id: TrackerId) -> Option<&T> {
        self.rows.get(self.place(id)?).map(|(_, value)| value)
    }
    /// As [`Table::get`].
    pub(crate) fn get_mut(&mut self, id: TrackerId) -> Option<&mut T> {
        let place = self.place(id)?;
        self.rows.get_mut(place).map(|(_, value)| value)
    }
    /// All values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TrackerId, &T)> {
        self.rows.iter().map(|(id, value)| (*id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tracker_is_found_whatever_the_numbers() {
        for numbers in [[0, 1, 2, 3], [1, 2, 3, 4], [7, 0, 1, u32::MAX]] {
            let mut table = Table::new(numbers.iter().map(|n| (TrackerId::new(*n), n.wrapping_mul(3))));
            for n in numbers {
                assert_eq!(table.get(TrackerId::new(n)), Some(&n.wrapping_mul(3)), "{n} of {numbers:?}");
                assert_eq!(table.get_mut(TrackerId::new(n)), Some(&mut n.wrapping_mul(3)));
            }
            assert_eq!(table.get(TrackerId::new(5)), None);
            assert_eq!(table.get_mut(TrackerId::new(1 << 20)), None);
            assert!(table.iter().is_sorted_by_key(|(id, _)| id));
        }
    }
}
