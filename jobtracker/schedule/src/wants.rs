//! Which tasks of a stage want attempts, in the order in which they get them.

use crate::{bits::Bits, table::Table};
use quorate_protocol::ids::TrackerId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

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
    local: Local,
    /// The trackers that have such tasks left.
    with_local: BTreeSet<TrackerId>,
}

/// For each tracker, tasks whose input it holds.
pub(crate) type Local = Table<VecDeque<u32>>;

/// A set of tasks that is searched in turns, so that no task hides behind others that cannot be placed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Wanting {
    tasks: Bits,
    cursor: u32,
}

impl Wants {
    /// All of `count` tasks, untouched; `local` names the tasks whose input a tracker holds.
    pub(crate) fn all(count: u32, local: Local) -> Self {
        let wanting = |tasks| Wanting { tasks, cursor: 0 };
        let with_local = local.iter().filter(|(_, tasks)| !tasks.is_empty()).map(|(id, _)| id).collect();
        let [urgent, partial] = [(); 2].map(|()| wanting(Bits::none(count)));
        Self { urgent, partial, untouched: wanting(Bits::all(count)), local, with_local }
    }

    /// Puts a task where it belongs, from where it was before: `None` when it wants nothing.
    pub(crate) fn put(&mut self, task: u32, before: Option<Urgency>, urgency: Option<Urgency>) {
        if before == urgency {
            return;
        }
        if let Some(before) = before {
            self.set_mut(before).tasks.remove(task);
        }
        if let Some(urgency) = urgency {
            self.set_mut(urgency).tasks.insert(task);
        }
        if self.untouched.tasks.is_empty() {
            self.local = Local::default();
            self.with_local.clear();
        }
    }

    /// Where a task is.
    pub(crate) fn urgency(&self, task: u32) -> Option<Urgency> {
        [Urgency::Urgent, Urgency::Partial, Urgency::Untouched]
            .into_iter()
            .find(|urgency| self.set(*urgency).tasks.contains(task))
    }

    /// The next tasks to look at.
    pub(crate) fn next(&self, urgency: Urgency, max: usize) -> Vec<u32> {
        let Wanting { tasks, cursor } = self.set(urgency);
        tasks.from(*cursor).chain(tasks.from(0).take_while(|task| task < cursor)).take(max).collect()
    }
    /// Starts the next look behind this task.
    pub(crate) fn pass(&mut self, urgency: Urgency, task: u32) {
        self.set_mut(urgency).cursor = task.saturating_add(1);
    }

    /// Of the trackers with a free slot, those that may find local work. `free` and `free_count` describe the former.
    pub(crate) fn with_local(&self, free: impl Iterator<Item = TrackerId>, free_count: usize) -> Vec<TrackerId> {
        if self.with_local.len() <= free_count {
            self.with_local.iter().copied().collect()
        } else {
            free.filter(|id| self.local.get(*id).is_some_and(|tasks| !tasks.is_empty())).collect()
        }
    }
    /// Takes the next local task of a tracker.
    pub(crate) fn pop_local(&mut self, tracker: TrackerId) -> Option<u32> {
        let tasks = self.local.get_mut(tracker)?;
        let task = tasks.pop_front();
        if tasks.is_empty() {
            self.with_local.remove(&tracker);
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
        let mut wants = Wants::all(5, Local::default());
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
        let local = Table::new([(TrackerId::new(7), VecDeque::from([0, 1]))].into_iter());
        let mut wants = Wants::all(2, local);
        assert_eq!(wants.pop_local(TrackerId::new(7)), Some(0));
        wants.put(0, Some(Urgency::Untouched), Some(Urgency::Partial));
        wants.put(1, Some(Urgency::Untouched), None);
        assert_eq!(wants.pop_local(TrackerId::new(7)), None);
        assert_eq!(wants.urgency(0), Some(Urgency::Partial));
    }
}
