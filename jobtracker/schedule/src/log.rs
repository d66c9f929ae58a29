//! The log of map verdicts that reducers follow.
//!
//! An entry names a task and the attempts whose votes agreed when it was written: readers are told the same whenever they
//! come. What was agreed is with the task itself, and does not change.

use serde::{Deserialize, Serialize};

/// The log of one job. A long job has a million entries, so they have no allocations of their own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    entries: Vec<Entry>,
    /// The attempts of all entries, one entry after the other.
    voters: Vec<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Entry {
    map: u32,
    /// Where its attempts end in the list of all.
    end: u32,
}

impl Log {
    /// Adds an entry for a map task.
    pub(crate) fn push(&mut self, map: u32, voters: &[u16]) {
        self.voters.extend(voters);
        self.entries.push(Entry { map, end: self.voters.len() as u32 });
    }
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
    /// The task and the attempts of the entry at a position.
    pub(crate) fn get(&self, at: usize) -> Option<(u32, &[u16])> {
        let entry = self.entries.get(at)?;
        let before = at.checked_sub(1).and_then(|before| self.entries.get(before));
        let begin = before.map_or(0, |before| before.end as usize);
        Some((entry.map, self.voters.get(begin..entry.end as usize)?))
    }
}

#[cfg(test)]
mod tests {
    use super::Log;

    #[test]
    fn entries_keep_their_places() {
        let mut log = Log::default();
        log.push(7, &[0, 2]);
        log.push(3, &[1]);
        log.push(7, &[0, 2, 5]);
        let all: Vec<_> = (0..log.len()).filter_map(|at| log.get(at)).collect();
        assert_eq!(all, [(7, [0, 2].as_slice()), (3, &[1]), (7, &[0, 2, 5])]);
        assert_eq!(log.get(3), None);
    }
}
