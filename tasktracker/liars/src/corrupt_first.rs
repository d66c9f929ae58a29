//! Makes wrong map output in the first attempts of a share of the tasks, and votes for it consistently: a tracker that is to
//! run such an attempt again makes the same output again.

use crate::{Lie, flip_last_byte};
use quorate_protocol::ids::{AttemptId, TaskId};
use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Whether a map task is among `percent` of all, which are spread evenly: of n tasks n * percent / 100 are, rounded down.
pub fn is_hit(task: u32, percent: u8) -> bool {
    let before = |tasks: u64| tasks * u64::from(percent.min(100)) / 100;
    before(u64::from(task) + 1) > before(u64::from(task))
}

#[derive(Debug)]
pub(crate) struct CorruptFirst {
    percent: u8,
    /// The tasks that this tracker ran the first attempt of.
    told: Mutex<BTreeSet<TaskId>>,
}

impl CorruptFirst {
    pub(crate) fn new(percent: u8) -> Self {
        Self { percent, told: Mutex::default() }
    }
}

impl Lie for CorruptFirst {
    fn spoil_map_data(&self, attempt: AttemptId, data: &Path, spans: &[(u64, u64)]) -> io::Result<()> {
        if !is_hit(attempt.task.index, self.percent) {
            return Ok(());
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.attempt > 0 && !told.contains(&attempt.task) {
            return Ok(());
        }
        told.insert(attempt.task);
        drop(told);
        spans.iter().try_for_each(|(offset, length)| flip_last_byte(data, *offset, *length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::{JobId, Stage, TaskId};

    #[test]
    fn so_many_tasks_are_hit_and_they_are_spread() {
        for percent in 0..=100u8 {
            for tasks in [1, 7, 16, 100, 1000] {
                let hit = (0..tasks).filter(|task| is_hit(*task, percent)).count() as u32;
                assert_eq!(hit, tasks * u32::from(percent) / 100, "{percent} % of {tasks}");
            }
        }
        assert_eq!((0..8).filter(|task| is_hit(*task, 25)).collect::<Vec<_>>(), [3, 7]);
    }

    #[test]
    fn only_first_attempts_lie_and_those_that_repeat_them() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let (liar, other) = (CorruptFirst::new(100), CorruptFirst::new(100));
        let task = TaskId { job: JobId::new(1), stage: Stage::Map, index: 0 };
        let spoil = |lie: &CorruptFirst, attempt| {
            std::fs::write(file.path(), b"abcd").expect("written");
            lie.spoil_map_data(AttemptId { task, attempt }, file.path(), &[(0, 2), (2, 2)]).expect("spoilt");
            std::fs::read(file.path()).expect("read")
        };
        assert_eq!(spoil(&liar, 0), b"acce");
        assert_eq!(spoil(&other, 1), b"abcd");
        assert_eq!(spoil(&liar, 2), b"acce");
    }
}
