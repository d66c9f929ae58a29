//! Whether a program gives the same each time: its tasks are run several times here, without a vote, and what they give is
//! compared byte for byte.
//!
//! Each attempt is a process of its own, as on a tracker, so that the seeds of hash maps, addresses and process numbers
//! differ by themselves. A first few *rounds* change nothing else. Each further one changes one thing that may differ
//! between honest trackers: the environment, the folder, the host's name, the number of processors, and whether tasks share
//! a process. So what a difference depends on is found by experiment where it can be, and by how the differing values look
//! where it cannot; the latter is a guess, and is called one.
//!
//! That no difference was found proves nothing: a program may look at the clock once a day.

mod attempt;
mod compare;
mod rounds;
mod settings;
mod suspect;
mod text;

pub use compare::Divergence;
pub use rounds::Round;
pub use suspect::Suspect;

use crate::{app::ProgramOf, exit::Failure};
use attempt::{Attempts, Output};
use quorate_engine::program::MapTask;
use quorate_protocol::{file::Path as ClusterPath, ids::Stage, job::Specification};
use rounds::Rounds;
use serde::Serialize;
use settings::Setting;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// What is checked, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Rounds that change nothing: at least two.
    pub(crate) runs: u32,
    /// Map tasks that are run, at most.
    pub(crate) tasks: u32,
}

/// What was found of a program.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Its jobs, in the order in which they ran.
    pub jobs: Vec<JobVerdict>,
}

impl Verdict {
    /// Whether anything differed that may differ between honest trackers.
    pub fn differs(&self) -> bool {
        self.jobs.iter().any(|job| !job.divergences.is_empty())
    }
}

/// What was found of one job.
#[derive(Clone, Debug, Serialize)]
pub struct JobVerdict {
    /// Its name among the program's jobs.
    pub job: String,
    /// Map tasks that were run, and all.
    pub maps: (u32, u32),
    /// Reduce tasks that were run, over the output of these map tasks.
    pub reduces: u32,
    /// What was changed in some round.
    pub varied: Vec<&'static str>,
    /// What could not be changed here, and why.
    pub not_varied: Vec<&'static str>,
    /// Tasks that did not give the same each time.
    pub divergences: Vec<Divergence>,
    /// What the output depends on although it is the same on all trackers: what the job's specification says.
    pub settings: Vec<String>,
}

/// Checks the jobs of a program.
pub(crate) struct Checker {
    program: Arc<ProgramOf>,
    extent: Extent,
    folder: tempfile::TempDir,
    verdict: Verdict,
}

/// A job's input file, copied here.
#[derive(Clone, Debug)]
pub(crate) struct InputFile {
    pub(crate) name: ClusterPath,
    pub(crate) path: PathBuf,
    pub(crate) chunks: Vec<u32>,
}

impl InputFile {
    fn length(&self) -> u64 {
        self.chunks.iter().map(|length| u64::from(*length)).sum()
    }
}

impl Checker {
    pub(crate) fn new(program: ProgramOf, extent: Extent) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("quorate-check-").tempdir();
        let folder = folder.map_err(|e| Failure::io("cannot make a folder in", std::env::temp_dir(), &e))?;
        Ok(Self { program: Arc::new(program), extent, folder, verdict: Verdict::default() })
    }

    /// Where it keeps what it makes.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Where the files of the next job's input go.
    pub(crate) fn inputs(&self) -> PathBuf {
        self.folder.path().join(format!("input-{}", self.verdict.jobs.len()))
    }

    /// What was found so far.
    pub(crate) fn into_verdict(self) -> Verdict {
        self.verdict
    }

    /// Runs tasks of a job again and again.
    pub(crate) fn check(&mut self, specification: &Specification, files: &[InputFile]) -> Result<(), Failure> {
        let folder = self.folder.path().join(format!("job-{}", self.verdict.jobs.len()));
        let attempts = Attempts::new(Arc::clone(&self.program), specification.clone(), files.to_vec(), folder)?;
        let all = attempts.maps();
        let chosen = spread(all, self.extent.tasks);
        let rounds = Rounds::new(self.extent.runs);
        let mut divergences = Vec::new();
        let tasks: Vec<MapTask> = chosen.iter().filter_map(|index| attempts.map_task(*index)).collect();
        let maps = rounds.run(&attempts, &attempt::Work::Maps(tasks), &mut divergences)?;
        let segments = maps.into_values().collect::<Vec<Output>>();
        let reduces = if segments.iter().all(Output::is_product) { specification.partitions } else { 0 };
        let reduce = attempt::Work::Reduces { partitions: (0..reduces).collect(), segments };
        rounds.run(&attempts, &reduce, &mut divergences)?;
        let settings = match divergences.as_slice() {
            [] => settings::depends_on(&attempts)?,
            _ => Vec::new(),
        };
        self.verdict.jobs.push(JobVerdict {
            job: specification.entry.clone(),
            maps: (chosen.len() as u32, all),
            reduces,
            varied: rounds.varied(),
            not_varied: rounds.not_varied(),
            divergences,
            settings: settings.into_iter().map(Setting::sentence).collect(),
        });
        Ok(())
    }
}

/// So many of `all` numbers, evenly spread: the first and the last among them.
fn spread(all: u32, wanted: u32) -> Vec<u32> {
    let (count, last) = (all.min(wanted.max(1)), u64::from(all.saturating_sub(1)));
    let gaps = u64::from(count.saturating_sub(1)).max(1);
    (0..count).map(|n| (last * u64::from(n) / gaps) as u32).collect()
}

/// The outputs of one round, by task.
type Outputs = BTreeMap<(Stage, u32), Output>;

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn chosen_tasks_are_spread_over_all() {
        assert_eq!(spread(10, 4), [0, 3, 6, 9]);
        assert_eq!(spread(3, 4), [0, 1, 2]);
        assert_eq!(spread(9, 1), [0]);
        assert_eq!(spread(0, 4), [] as [u32; 0]);
        assert_eq!(spread(u32::MAX, 2), [0, u32::MAX - 1]);
    }
}
