//! The memory that sorters fill, handed on from one to the next in the same process.
//!
//! Touching a page for the first time costs more than all that a sorter does with the bytes on it: on a virtual machine the
//! host has to find the page, too. So a sorter that has ended leaves its memory to the next one. At most as many
//! arenas wait as the machine has cores, since no more map attempts than that are at work for long; whoever knows that a job
//! has ended gives them back by [`release`].
//!
//! What must hold: a sorter gets no arena with more room than one that grew within its own budget would have.

use crate::sorter::Entry;
use std::{
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

/// A vector that grows has room for at most so many times what it holds.
const GROWTH: usize = 2;

static WAITING: Mutex<Vec<Memory>> = Mutex::new(Vec::new());
static WAITING_MAX: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));

fn waiting() -> MutexGuard<'static, Vec<Memory>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the memory that waits for a sorter back to the system.
pub fn release() {
    let memory = std::mem::take(&mut *waiting());
    drop(memory);
}

/// Room for records and for the entries of each partition.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) records: Vec<u8>,
    pub(crate) entries: Vec<Vec<Entry>>,
}

impl Memory {
    fn room(&self) -> usize {
        let entries: usize = self.entries.iter().map(Vec::capacity).sum();
        self.records.capacity() + entries * size_of::<Entry>()
    }

    fn clear(&mut self) {
        self.records.clear();
        self.entries.iter_mut().for_each(Vec::clear);
    }
}

/// Memory in use. It waits for the next sorter when it is dropped.
pub(crate) struct Arena(Memory);

impl Arena {
    /// An empty arena for so many partitions: one that waited, unless it has more room than `budget` bytes lead to.
    pub(crate) fn take(budget: usize, partitions: usize) -> Self {
        let memory = waiting().pop().filter(|memory| memory.room() <= budget.saturating_mul(GROWTH));
        let mut memory = memory.unwrap_or_default();
        memory.entries.resize_with(partitions, Vec::new);
        Self(memory)
    }

    pub(crate) fn memory(&mut self) -> &mut Memory {
        &mut self.0
    }

    /// Bytes of records.
    pub(crate) fn length(&self) -> usize {
        self.0.records.len()
    }

    /// Forgets the records, and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.0);
        memory.clear();
        let mut waiting = waiting();
        if waiting.len() < *WAITING_MAX {
            waiting.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test: what waits belongs to the whole process.
    #[test]
    fn memory_is_handed_on_within_the_budget_until_it_is_released() {
        const USED: usize = 3 << 20;
        let fill = |arena: &mut Arena| {
            arena.memory().records.resize(USED, 1);
            arena.memory().entries[1].push(Entry::new(7, 0));
        };
        release();
        let mut first = Arena::take(USED, 2);
        fill(&mut first);
        let place = first.memory().records.as_ptr();
        drop(first);
        let mut second = Arena::take(USED, 3);
        assert_eq!(second.memory().records.as_ptr(), place);
        assert_eq!(second.length(), 0);
        assert!(second.memory().entries.len() == 3 && second.memory().entries.iter().all(Vec::is_empty));
        drop(second);
        assert!(Arena::take(USED / 4, 1).memory().records.capacity() < USED);
        let mut many: Vec<Arena> = (0..2 * *WAITING_MAX + 1).map(|_| Arena::take(USED, 2)).collect();
        many.iter_mut().for_each(fill);
        drop(many);
        assert_eq!(waiting().len(), *WAITING_MAX);
        release();
        assert_eq!(Arena::take(USED, 1).memory().records.capacity(), 0);
    }
}
