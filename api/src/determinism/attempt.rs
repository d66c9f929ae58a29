//! One attempt at a task, in a process of its own or in this one.

use super::{InputFile, rounds::Surroundings};
use crate::{
    app::ProgramOf,
    exit::{Code, Failure},
};
use quorate_engine::program::{
    FetchedSegment, InputSource, LocalBytes, MapTask, Program, ReduceTask, Span, TaskContext, TaskError, Watch,
};
use quorate_protocol::{
    file::{File, Manifest, Path as ClusterPath},
    ids::{AttemptId, JobId, Stage, TaskId},
    job::{Specification, Split, splits},
    vote::{Counters, FailureKind},
};
use quorate_sandbox::{Child, Launch};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// A job whose tasks are attempted.
pub(super) struct Attempts {
    program: Arc<ProgramOf>,
    pub(super) specification: Specification,
    pub(super) files: Vec<InputFile>,
    splits: Vec<Split>,
    executable: PathBuf,
    folder: PathBuf,
}

/// What is to be done in a round.
pub(super) enum Work {
    Maps(Vec<MapTask>),
    Reduces {
        partitions: Vec<u32>,
        /// What the map tasks gave, in their order.
        segments: Vec<Output>,
    },
}

/// What an attempt came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Output {
    /// Bytes in a file, in one part for each partition.
    Product { data: PathBuf, spans: Vec<Span>, counters: Counters, processes: Processes },
    /// The program failed.
    Failed { kind: FailureKind, record: Option<u64>, message: String },
}

/// The numbers that processes and threads got while an attempt ran: its own are among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Processes {
    before: u32,
    last: u32,
}

impl Processes {
    #[cfg(test)]
    pub(super) fn of((before, last): (u32, u32)) -> Self {
        Self { before, last }
    }

    /// From now on.
    fn begin() -> Self {
        let before = last_process();
        Self { before, last: before }
    }

    /// Up to now.
    fn end(self) -> Self {
        Self { last: last_process(), ..self }
    }

    /// Whether a number is one of theirs. After the highest they begin anew with low ones.
    pub(super) fn contain(self, number: u128) -> bool {
        let (before, last) = (u128::from(self.before), u128::from(self.last));
        match before <= last {
            true => before < number && number <= last,
            false => number > before || number <= last,
        }
    }
}

/// The last number that was given to a process or thread of this machine [proc_loadavg(5)].
fn last_process() -> u32 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl Output {
    pub(super) fn processes(&self) -> Processes {
        match self {
            Output::Product { processes, .. } => *processes,
            Output::Failed { .. } => Processes::default(),
        }
    }

    pub(super) fn is_product(&self) -> bool {
        matches!(self, Output::Product { .. })
    }
}

fn machine(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::System, format!("cannot {what}")).cause(error.to_string())
}

impl Attempts {
    pub(super) fn new(
        program: Arc<ProgramOf>,
        specification: Specification,
        files: Vec<InputFile>,
        folder: PathBuf,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(&folder).map_err(|error| machine("make a temporary folder", error))?;
        let executable = std::env::current_exe().map_err(|error| machine("find this program's file", error))?;
        let splits = splits(&specification, &named(&files));
        Ok(Self { program, specification, files, splits, executable, folder })
    }

    /// The same job with something else in its specification, or another order of files.
    pub(super) fn otherwise(
        &self,
        name: &str,
        specification: Specification,
        files: Vec<InputFile>,
    ) -> Result<Self, Failure> {
        Self::new(Arc::clone(&self.program), specification, files, self.folder.join(name))
    }

    pub(super) fn maps(&self) -> u32 {
        self.splits.len() as u32
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn map_task(&self, index: u32) -> Option<MapTask> {
        let split = *self.splits.get(index as usize)?;
        Some(MapTask {
            context: self.context(Stage::Map, index),
            path: self.files.get(split.file as usize)?.name.as_str().to_owned(),
            input_kind: self.specification.input_kind,
            split,
            partitioning: self.specification.partitioning.clone(),
        })
    }

    fn context(&self, stage: Stage, index: u32) -> TaskContext {
        let task = TaskId { job: JobId::new(1), stage, index };
        TaskContext {
            attempt: AttemptId { task, attempt: 0 },
            entry: self.specification.entry.clone(),
            arguments: self.specification.arguments.clone(),
            partitions: self.specification.partitions,
            memory: self.specification.memory,
        }
    }

    /// Runs a map task, and moves what it made to `kept`.
    pub(super) fn map(&self, task: &MapTask, around: &Surroundings, kept: &Path) -> Result<Output, Failure> {
        let file = self.files.get(task.split.file as usize).ok_or_else(|| machine("read the input", "no such file"))?;
        let directory = fresh(&around.folder(&self.folder, task.context.attempt.task))?;
        let mut input = LocalInput { file, lengths: file.chunks.clone() };
        let (program, processes) = (self.program(around), Processes::begin());
        let mapped = program.map(task, &mut input, &directory, &Watch::default());
        let output = match mapped {
            Ok(product) => {
                fs::rename(&product.data, kept).map_err(|error| machine("keep an output", error))?;
                let (spans, counters) = (product.spans, product.counters);
                Ok(Output::Product { data: kept.to_owned(), spans, counters, processes: processes.end() })
            }
            Err(error) => failed(error),
        };
        let _ = fs::remove_dir_all(directory);
        output
    }

    /// Reduces a partition, and leaves its part in `kept`.
    pub(super) fn reduce(
        &self,
        partition: u32,
        maps: &[Output],
        around: &Surroundings,
        kept: &Path,
    ) -> Result<Output, Failure> {
        let task = ReduceTask { context: self.context(Stage::Reduce, partition), partition };
        let directory = fresh(&around.folder(&self.folder, task.context.attempt.task))?;
        let segments: Vec<FetchedSegment> = maps.iter().filter_map(|map| segment(map, partition)).collect();
        let keep = |error| machine("keep an output", error);
        let mut part = io::BufWriter::new(fs::File::create(kept).map_err(keep)?);
        let (program, processes) = (self.program(around), Processes::begin());
        let reduced = program.reduce(&task, &segments, &mut part, &directory, &Watch::default());
        let part = part.into_inner().map_err(|error| machine("keep an output", error))?;
        let length = part.metadata().map_err(keep)?.len();
        let output = match reduced {
            Ok(product) => {
                let spans = vec![Span { offset: 0, length, records: 0 }];
                let counters = product.counters;
                Ok(Output::Product { data: kept.to_owned(), spans, counters, processes: processes.end() })
            }
            Err(error) => failed(error),
        };
        let _ = fs::remove_dir_all(directory);
        output
    }

    fn program(&self, around: &Surroundings) -> Arc<dyn Program> {
        if around.shares_process {
            return Arc::<ProgramOf>::clone(&self.program);
        }
        let log = self.folder.join("log");
        let child = Child::new(around.launcher(), self.executable.clone(), log, Vec::new());
        Arc::new(child.with_environment(around.environment.clone()))
    }
}

/// Becomes the program at once: it is its user's own, and runs on its user's machine.
pub(super) fn unwalled(launch: &Launch) -> Command {
    Command::new(&launch.program)
}

/// Files as a specification knows them: what matters to its splits are names and lengths.
fn named(files: &[InputFile]) -> Vec<(ClusterPath, File)> {
    let chunk = |length: &u32| (quorate_protocol::digest::ChunkId(quorate_protocol::digest::Digest::of(&[])), *length);
    let manifest = |file: &InputFile| Manifest { chunks: file.chunks.iter().map(chunk).collect() };
    files.iter().map(|file| (file.name.clone(), File { manifest: manifest(file), placements: Vec::new() })).collect()
}

fn segment(map: &Output, partition: u32) -> Option<FetchedSegment> {
    let Output::Product { data, spans, .. } = map else { return None };
    let span = spans.get(partition as usize)?;
    Some(LocalBytes { path: data.clone(), offset: span.offset, length: span.length }.into())
}

/// What user code does is an output as well; what the machine could not do is not.
fn failed(error: TaskError) -> Result<Output, Failure> {
    match error {
        TaskError::Program { kind, record, message } => Ok(Output::Failed { kind, record, message }),
        TaskError::Cancelled => Err(Failure::new(Code::Interrupted, "interrupted")),
        TaskError::Machine { what, .. } => Err(Failure::new(Code::System, what)),
    }
}

fn fresh(folder: &Path) -> Result<PathBuf, Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(machine("empty a temporary folder", error)),
        _ => {
            fs::create_dir_all(folder).map_err(|error| machine("make a temporary folder", error))?;
            Ok(folder.to_owned())
        }
    }
}

struct LocalInput<'a> {
    file: &'a InputFile,
    lengths: Vec<u32>,
}

impl InputSource for LocalInput<'_> {
    fn chunk_lengths(&self) -> &[u32] {
        &self.lengths
    }
    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the file has no such chunk");
        let length = *self.lengths.get(index).ok_or_else(missing)?;
        let offset = self.lengths.get(..index).unwrap_or_default().iter().map(|length| u64::from(*length)).sum();
        Ok(LocalBytes { path: self.file.path.clone(), offset, length: length.into() })
    }
}
