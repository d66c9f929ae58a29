//! Rounds: all tasks once, in surroundings that differ from the first round's in at most one thing.

use super::{
    Outputs,
    attempt::{Attempts, Output, Work, unwalled},
    compare::{self, Divergence},
};
use crate::{
    exit::{Code, Failure},
    terminal::note,
};
use quorate_protocol::ids::{Stage, TaskId};
use quorate_sandbox::{Launch, child::Launcher};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The second round begins so long after the first at the least: clocks are often read in seconds.
const APART: Duration = Duration::from_millis(1100);

/// What a round changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Round {
    /// Nothing: what differs all the same are time, random numbers, hash seeds, addresses, process numbers, and who wins races.
    Again,
    /// One processor instead of all.
    OneProcessor,
    /// Variables of the environment.
    Environment,
    /// The folder in which the task runs, and where temporary files go.
    Folder,
    /// The host's name.
    HostName,
    /// Tasks share a process with each other, on two threads and in another order.
    SharedProcess,
}

impl Round {
    /// What it changes, in words.
    pub fn name(self) -> &'static str {
        match self {
            Round::Again => "time, random numbers, hash seeds, addresses and process numbers",
            Round::OneProcessor => "the number of processors",
            Round::Environment => "the environment",
            Round::Folder => "the folder",
            Round::HostName => "the host's name",
            Round::SharedProcess => "tasks that share a process",
        }
    }
}

/// What an attempt finds around itself.
#[derive(Clone, Default)]
pub(super) struct Surroundings {
    pub(super) environment: Vec<(String, String)>,
    pub(super) shares_process: bool,
    other_folder: bool,
    other_host: bool,
}

impl Surroundings {
    fn of(round: Round) -> Self {
        let variable = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            environment: match round {
                Round::Environment => OTHER_ENVIRONMENT.iter().map(variable).collect(),
                _ => Vec::new(),
            },
            shares_process: round == Round::SharedProcess,
            other_folder: round == Round::Folder,
            other_host: round == Round::HostName,
        }
    }

    /// The attempt's folder: the same in each round but one, so that it makes no difference.
    pub(super) fn folder(&self, root: &Path, task: TaskId) -> PathBuf {
        let name = match (self.shares_process, self.other_folder) {
            // At the same time, so not in one place.
            (true, _) => format!("shared-{}-{}", task.stage, task.index),
            (false, true) => "another-folder/below".to_owned(),
            (false, false) => "attempt".to_owned(),
        };
        root.join(name)
    }

    pub(super) fn launcher(&self) -> Launcher {
        if self.other_host { on_other_host } else { unwalled }
    }
}

/// What an environment may have, with values that nobody has.
const OTHER_ENVIRONMENT: [(&str, &str); 10] = [
    ("HOME", "/quorate-other-home"),
    ("USER", "quorate-other-user"),
    ("LOGNAME", "quorate-other-user"),
    ("HOSTNAME", "quorate-other-host"),
    ("PATH", "/quorate-other-path"),
    ("TZ", "Asia/Kathmandu"),
    ("LANG", "de_DE.UTF-8"),
    ("LC_ALL", "de_DE.UTF-8"),
    ("RUST_LOG", "trace"),
    ("QUORATE_OTHER", "1"),
];

/// Starts the program where the host has another name, in a namespace of its own.
fn on_other_host(launch: &Launch) -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--user", "--map-root-user", "--uts", "/bin/sh", "-c", RENAME]).arg(&launch.program);
    command
}

const RENAME: &str = "echo quorate-other-host > /proc/sys/kernel/hostname && exec \"$0\"";

/// Whether this machine lets a process have its own host name.
fn can_rename() -> bool {
    let launch = Launch { program: "/bin/true".into(), memory: 0, writable: PathBuf::new(), readable: Vec::new() };
    let tried = on_other_host(&launch).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// A later run of a task: its round, and what it gave when that is not what the first one gave.
pub(super) type Again = (Round, Option<Output>);

/// The rounds to run.
pub(super) struct Rounds(Vec<Round>);

impl Rounds {
    pub(super) fn new(runs: u32) -> Self {
        let mut rounds = vec![Round::Again; runs.max(2) as usize];
        rounds.extend([Round::OneProcessor, Round::OneProcessor, Round::Environment, Round::Folder]);
        rounds.extend(can_rename().then_some(Round::HostName));
        // Twice, so that the second finds what the first has left.
        rounds.extend([Round::SharedProcess, Round::SharedProcess]);
        Self(rounds)
    }

    pub(super) fn varied(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.iter().map(|round| round.name()).collect();
        names.dedup();
        names
    }

    pub(super) fn not_varied(&self) -> Vec<&'static str> {
        let host = (!self.0.contains(&Round::HostName))
            .then_some("the host's name: this machine lets no process have one of its own");
        host.into_iter().chain(["the date", "the machine"]).collect()
    }

    /// Runs all rounds, notes the tasks that do not give the same in each, and gives what the first round gave.
    pub(super) fn run(
        &self,
        attempts: &Attempts,
        work: &Work,
        divergences: &mut Vec<Divergence>,
    ) -> Result<Outputs, Failure> {
        let start = Instant::now();
        let mut first: Option<Outputs> = None;
        let mut others: BTreeMap<(Stage, u32), Vec<Again>> = BTreeMap::new();
        for (number, round) in self.0.iter().enumerate() {
            if io::stderr().is_terminal() {
                note(&format!("{}s: round {} of {}", work.stage(), number + 1, self.0.len()));
            }
            let kept = attempts.folder().join(format!("kept-{}-{number}", work.stage()));
            fs::create_dir_all(&kept).map_err(|error| Failure::io("cannot keep outputs in", &kept, &error))?;
            let outputs = run_round(attempts, work, *round, &kept)?;
            let Some(first) = &first else {
                first = Some(outputs);
                thread::sleep(APART.saturating_sub(start.elapsed()));
                continue;
            };
            let mut is_needed = false;
            for (task, output) in outputs {
                let same = match first.get(&task) {
                    Some(own) => compare::are_alike(own, &output)?,
                    None => true,
                };
                is_needed |= !same;
                others.entry(task).or_default().push((*round, (!same).then_some(output)));
            }
            if !is_needed {
                let _ = fs::remove_dir_all(kept);
            }
        }
        let first = first.unwrap_or_default();
        for (task, rounds) in others {
            if let (Some(own), true) = (first.get(&task), rounds.iter().any(|(_, other)| other.is_some())) {
                divergences.push(compare::divergence(task, own, &rounds)?);
            }
        }
        Ok(first)
    }
}

fn run_round(attempts: &Attempts, work: &Work, round: Round, kept: &Path) -> Result<Outputs, Failure> {
    let around = Surroundings::of(round);
    match round {
        Round::OneProcessor => on_one_processor(|| run_all(attempts, work, &around, kept, 0, 1)),
        // Both threads at once, and the later tasks first.
        Round::SharedProcess => thread::scope(|scope| {
            let halves = [1, 0].map(|half| {
                let around = &around;
                scope.spawn(move || run_all(attempts, work, around, kept, half, 2))
            });
            let mut all = Outputs::new();
            for half in halves {
                let ended =
                    half.join().map_err(|_| Failure::new(Code::ClientCode, "the program ended a thread of ours"));
                all.extend(ended??);
            }
            Ok(all)
        }),
        Round::Again | Round::Environment | Round::Folder | Round::HostName => {
            run_all(attempts, work, &around, kept, 0, 1)
        }
    }
}

/// Runs each `step`-th task from one on. Where tasks share a process, the last comes first.
fn run_all(
    attempts: &Attempts,
    work: &Work,
    around: &Surroundings,
    kept: &Path,
    from: usize,
    step: usize,
) -> Result<Outputs, Failure> {
    let mut numbers: Vec<usize> = (from..work.len()).step_by(step).collect();
    if around.shares_process {
        numbers.reverse();
    }
    let mut outputs = Outputs::new();
    for number in numbers {
        let (task, output) = work.run(number, attempts, around, kept)?;
        outputs.insert(task, output);
    }
    Ok(outputs)
}

/// Runs something on one processor, and the processes that it starts with it.
fn on_one_processor<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if let Ok(all) = sched_getaffinity(None) {
                let mut one = CpuSet::new();
                if let Some(first) = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)) {
                    one.set(first);
                    // Only this thread, which ends with the round.
                    let _ = sched_setaffinity(None, &one);
                }
            }
            work()
        });
        worker.join().unwrap_or_else(|_| Err(Failure::new(Code::ClientCode, "a round ended before its time")))
    })
}

impl Work {
    fn stage(&self) -> Stage {
        match self {
            Work::Maps(_) => Stage::Map,
            Work::Reduces { .. } => Stage::Reduce,
        }
    }

    fn len(&self) -> usize {
        match self {
            Work::Maps(tasks) => tasks.len(),
            Work::Reduces { partitions, .. } => partitions.len(),
        }
    }

    fn run(
        &self,
        number: usize,
        attempts: &Attempts,
        around: &Surroundings,
        kept: &Path,
    ) -> Result<((Stage, u32), Output), Failure> {
        let kept = kept.join(number.to_string());
        match self {
            Work::Maps(tasks) => {
                let task = &tasks[number];
                let index = task.context.attempt.task.index;
                Ok(((Stage::Map, index), attempts.map(task, around, &kept)?))
            }
            Work::Reduces { partitions, segments } => {
                let partition = partitions[number];
                Ok(((Stage::Reduce, partition), attempts.reduce(partition, segments, around, &kept)?))
            }
        }
    }
}
