//! What the files say that trackers hold, for people.

use crate::Scheduler;
use quorate_protocol::{
    command::Cost,
    file::Path,
    ids::{JobId, TrackerId},
};
use std::collections::BTreeMap;

/// What the files of a cluster take.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Storage {
    /// How many there are.
    pub files: u64,
    /// Their bytes, each counted once.
    pub bytes: u64,
    /// The copies of chunks on each tracker and their bytes. A chunk that several files name is counted with each.
    pub trackers: BTreeMap<TrackerId, (u64, u64)>,
    /// Chunks with one copy on a live tracker.
    pub few_copies: u64,
    /// Chunks with none.
    pub lost: u64,
    /// Whether all files were looked at.
    pub is_whole: bool,
}

/// What the jobs that are remembered came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Attempts started.
    pub attempts: u64,
    /// Tasks that did not go smoothly.
    pub disputed: u64,
    /// What the voted attempts cost.
    pub cost: Cost,
}

impl Scheduler {
    /// Looks at the files, up to so many chunks.
    pub fn storage(&self, chunks_max: usize) -> Storage {
        let root = Path::parse("/").expect("the root is a path");
        let mut storage = Storage { is_whole: true, ..Storage::default() };
        let mut room = chunks_max;
        for (_, file) in self.namespace.files(&root) {
            let Some(rest) = room.checked_sub(file.manifest.chunks.len()) else {
                storage.is_whole = false;
                break;
            };
            room = rest;
            storage.files += 1;
            let mut chunks = file.manifest.chunks.iter();
            for run in &file.placements {
                let count = run.chunks as usize;
                let bytes: u64 = chunks.by_ref().take(count).map(|(_, length)| u64::from(*length)).sum();
                storage.bytes = storage.bytes.saturating_add(bytes);
                for server in &run.servers {
                    let held = storage.trackers.entry(*server).or_default();
                    *held = (held.0.saturating_add(count as u64), held.1.saturating_add(bytes));
                }
                let is_live = |id: &&TrackerId| self.workforce.tracker(**id).is_some_and(|tracker| tracker.live);
                match run.servers.iter().filter(is_live).count() {
                    0 => storage.lost += count as u64,
                    1 => storage.few_copies += count as u64,
                    _ => {}
                }
            }
        }
        storage
    }

    /// What each job that is remembered came to, in no order.
    pub fn totals_by_job(&self) -> impl Iterator<Item = (JobId, Totals)> {
        let of = |attempts, disputed, cost| Totals { attempts, disputed, cost };
        let live = self.jobs.iter().map(move |(id, job)| (*id, of(job.attempts, job.disputed, job.cost)));
        let ended = self.ended.iter().map(move |(id, ended)| {
            let view = &ended.view;
            (*id, of(view.attempts, view.disputed, view.cost))
        });
        live.chain(ended)
    }

    /// What the jobs that are remembered came to.
    pub fn totals(&self) -> Totals {
        self.totals_by_job().fold(Totals::default(), |sum, (_, Totals { attempts, disputed, cost })| Totals {
            attempts: sum.attempts.saturating_add(attempts),
            disputed: sum.disputed.saturating_add(disputed),
            cost: Cost {
                elapsed_ms: sum.cost.elapsed_ms.saturating_add(cost.elapsed_ms),
                shuffled: sum.cost.shuffled.saturating_add(cost.shuffled),
                refetched: sum.cost.refetched.saturating_add(cost.refetched),
                restarts: sum.cost.restarts.saturating_add(cost.restarts),
            },
        })
    }
}
