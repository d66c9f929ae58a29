//! Which tasks of a stage want attempts, in the order in which they get them.

use quorate_protocol::ids::TrackerId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How badly a task wants attempts, the worst first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Urgency {
    /// An attempt was outvoted, late or lost: the task holds others up.
    Urgent,
    /// Some of its first attempts run.
    Partial,
    /// Nothing of it runs.
    Untouched,
}

/// Tasks by urgency. Each task is in one set at most.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Wants {
    urgent: Wanting,
    partial: Wanting,
    untouched: Wanting,
    /// For each tracker the tasks whose input it holds, in order. Entries may be out of date.
    local: BTreeMap<TrackerId, VecDeque<u32>>,
}

/// A set of tasks that is searched in turns, so that no task hides behind others that cannot be placed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Wanting {
    tasks: BTreeSet<u32>,
    cursor: u32,
}

impl Wants {
    /// All of `count` tasks, untouched; `local` names the tasks whose input a tracker holds.
    pub(crate) fn all(count: u32, local: BTreeMap<TrackerId, VecDeque<u32>>) -> Self {
        let untouched = Wanting { tasks: (0..count).collect(), cursor: 0 };
        Self { untouched, local, ..Self::default() }
    }

    /// Puts a task where it belongs, from where it was before: `None` when it wants nothing.
    pub(crate) fn put(&mut self, task: u32, before: Option<Urgency>, urgency: Option<Urgency>) {
        if before == urgency {
            return;
        }
        if let Some(before) = before {
            self.set_mut(before).tasks.remove(&task);
        }
        if let Some(urgency) = urgency {
            self.set_mut(urgency).tasks.insert(task);
        }
        if self.untouched.tasks.is_empty() {
            self.local.clear();
        }
    }

    /// Where a task is.
    pub(crate) fn urgency(&self, task: u32) -> Option<Urgency> {
        [Urgency::Urgent, Urgency::Partial, Urgency::Untouched]
            .into_iter()
            .find(|urgency| self.set(*urgency).tasks.contains(&task))
    }

    /// The next tasks to look at.
    pub(crate) fn next(&self, urgency: Urgency, max: usize) -> Vec<u32> {
        let Wanting { tasks, cursor } = self.set(urgency);
        tasks.range(cursor..).chain(tasks.range(..cursor)).take(max).copied().collect()
    }
    /// Starts the next look behind this task.
    pub(crate) fn pass(&mut self, urgency: Urgency, task: u32) {
        self.set_mut(urgency).cursor = task.saturating_add(1);
    }

    /// Of the trackers with a free slot, those that may find local work. `free` and `free_count` describe the former.
    pub(crate) fn with_local(&self, free: impl Iterator<Item = TrackerId>, free_count: usize) -> Vec<TrackerId> {
        if self.local.len() <= free_count {
            self.local.keys().copied().collect()
        } else {
            free.filter(|id| self.local.contains_key(id)).collect()
        }
    }
    /// Takes the next local task of a tracker.
    pub(crate) fn pop_local(&mut self, tracker: TrackerId) -> Option<u32> {
        let queue = self.local.get_mut(&tracker)?;
        let task = queue.pop_front();
        if queue.is_empty() {
            self.local.remove(&tracker);
        }
        task
    }

    fn set(&self, urgency: Urgency) -> &Wanting {
        match urgency {
            Urgency::Urgent => &self.urgent,
            Urgency::Partial => &self.partial,
            Urgency::Untouched => &self.untouched,
        }
    }
    fn set_mut(&mut self, urgency: Urgency) -> &mut Wanting {
        match urgency {
            Urgency::Urgent => &mut self.urgent,
            Urgency::Partial => &mut self.partial,
            Urgency::Untouched => &mut self.untouched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_on_where_the_last_one_stopped() {
        let mut wants = Wants::all(5, BTreeMap::new());
        assert_eq!(wants.next(Urgency::Untouched, 3), [0, 1, 2]);
        wants.pass(Urgency::Untouched, 2);
        assert_eq!(wants.next(Urgency::Untouched, 3), [3, 4, 0]);
        wants.put(3, Some(Urgency::Untouched), Some(Urgency::Urgent));
        assert_eq!(wants.next(Urgency::Untouched, 9), [4, 0, 1, 2]);
        assert_eq!((wants.urgency(3), wants.urgency(4)), (Some(Urgency::Urgent), Some(Urgency::Untouched)));
        wants.put(3, Some(Urgency::Urgent), None);
        assert_eq!(wants.urgency(3), None);
    }

    #[test]
    fn local_work_ends_with_the_untouched_tasks() {
        let local = BTreeMap::from([(TrackerId::new(7), VecDeque::from([0, 1]))]);
        let mut wants = Wants::all(2, local);
        assert_eq!(wants.pop_local(TrackerId::new(7)), Some(0));
        wants.put(0, Some(Urgency::Untouched), Some(Urgency::Partial));
        wants.put(1, Some(Urgency::Untouched), None);
        assert_eq!(wants.pop_local(TrackerId::new(7)), None);
        assert_eq!(wants.urgency(0), Some(Urgency::Partial));
    }
}
