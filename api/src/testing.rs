//! Runs a job in this thread, without a cluster, for tests and debuggers.
//!
//! The readers, the sorting and combining, the merge and the writers are those of a real run; only votes, machines and
//! sockets are missing.

use crate::{
    job::{AnyJob, IntoJob, Tasks},
    sample::quantiles,
};
pub use quorate_engine::program::TaskError;
use quorate_engine::{
    program::{FetchedSegment, InputSource, LocalBytes, MapProduct, MapTask, ReduceTask, TaskContext, Watch},
    record::records,
};
pub use quorate_protocol::vote::{Counters, FailureKind};
use quorate_protocol::{
    ids::{AttemptId, JobId, Stage, TaskId},
    job::{InputKind, Partitioning, Split, is_compressed},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What a job came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The bytes of each part file.
    pub parts: Vec<Vec<u8>>,
    /// The job's counters.
    pub counters: Counters,
}

impl Outcome {
    /// The lines of all parts, one part after the other.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.parts.iter().flat_map(|part| part.split_inclusive(|byte| *byte == b'\n'));
        lines.map(|line| String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned()).collect()
    }
}

/// Runs a job on files, given by path and content, with one partition.
///
/// # Errors
/// [`TaskError::Program`] with the record when user code fails, as a job would; [`TaskError::Machine`] when there is no
/// room for temporary files.
pub fn run(job: impl IntoJob, files: &[(&str, &[u8])]) -> Result<Outcome, TaskError> {
    Harness::new(job).run(files)
}

/// A job in one thread, with everything that a specification says about how it runs.
pub struct Harness {
    job: crate::Result<AnyJob>,
    partitions: u32,
    split_bytes: u64,
    memory: u64,
}

impl Harness {
    /// A job with one partition and 256 MiB of memory, and with each file in one split.
    pub fn new(job: impl IntoJob) -> Self {
        Self { job: job.into_job(), partitions: 1, split_bytes: u64::MAX, memory: 256 << 20 }
    }
    /// With so many reduce tasks.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions.max(1);
        self
    }
    /// With so many bytes in a split.
    #[must_use]
    pub fn split_bytes(mut self, bytes: u64) -> Self {
        self.split_bytes = bytes.max(1);
        self
    }
    /// With so much memory for each task.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Runs the job on files, given by path and content.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(self, files: &[(&str, &[u8])]) -> Result<Outcome, TaskError> {
        let failed = |message| TaskError::Program { kind: FailureKind::UserError, record: None, message };
        let job = self.job.as_ref().map_err(|error| failed(error.chain()))?;
        let folder = tempfile::tempdir().map_err(|e| TaskError::machine("make a temporary folder", e))?;
        let files = store(files, folder.path()).map_err(|e| TaskError::machine("store the input", e))?;
        let partitions = job.reducers.unwrap_or(self.partitions);
        let mut partitioning = Partitioning::Hash;
        if job.sorted && partitions > 1 {
            let sample = self.map_all(job, &files, &partitioning, 1, &folder.path().join("sample"))?;
            partitioning = Partitioning::Ranges(quantiles(&keys(&sample)?, partitions));
        }
        let products = self.map_all(job, &files, &partitioning, partitions, &folder.path().join("maps"))?;
        let mut counters = Counters::new();
        products.iter().for_each(|product| add(&mut counters, &product.counters));
        let mut parts = Vec::new();
        for partition in 0..partitions {
            let segments: Vec<FetchedSegment> =
                products.iter().filter_map(|product| Some(segment(product, partition)?.into())).collect();
            let task = ReduceTask { context: self.context(Stage::Reduce, partition, partitions), partition };
            let directory = make(&folder.path().join(format!("reduce-{partition}")))?;
            let mut part = Vec::new();
            let product = job.tasks.reduce(&task, &segments, &mut part, &directory, &Watch::default())?;
            add(&mut counters, &product.counters);
            parts.push(part);
        }
        Ok(Outcome { parts, counters })
    }

    fn context(&self, stage: Stage, index: u32, partitions: u32) -> TaskContext {
        let task = TaskId { job: JobId::new(0), stage, index };
        TaskContext {
            attempt: AttemptId { task, attempt: 0 },
            entry: crate::app::MAIN_JOB.to_owned(),
            arguments: "{}".to_owned(),
            partitions,
            memory: self.memory,
        }
    }

    fn map_all(
        &self,
        job: &AnyJob,
        files: &[Stored],
        partitioning: &Partitioning,
        partitions: u32,
        folder: &Path,
    ) -> Result<Vec<MapProduct>, TaskError> {
        let mut products = Vec::new();
        for (index, (number, split)) in self.splits(job.input_kind, files).into_iter().enumerate() {
            let file = &files[number];
            let task = MapTask {
                context: self.context(Stage::Map, index as u32, partitions),
                path: file.name.clone(),
                input_kind: job.input_kind,
                split,
                partitioning: partitioning.clone(),
            };
            let directory = make(&folder.join(index.to_string()))?;
            products.push(map_one(&*job.tasks, &task, file, &directory)?);
        }
        Ok(products)
    }

    /// The splits, each with the number of its file.
    fn splits(&self, kind: InputKind, files: &[Stored]) -> Vec<(usize, Split)> {
        let mut splits = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let whole = kind == InputKind::WholeFiles;
            let step = if whole || is_compressed(&file.name) { u64::MAX } else { self.split_bytes };
            let mut start = 0;
            while start < file.length || (whole && start == 0) {
                let end = start.saturating_add(step).min(file.length);
                splits.push((number, Split { file: number as u32, start, end }));
                start = end.max(start + 1);
            }
        }
        splits
    }
}

fn map_one(tasks: &dyn Tasks, task: &MapTask, file: &Stored, directory: &Path) -> Result<MapProduct, TaskError> {
    let mut source = LocalSource { file, lengths: file.chunk_lengths() };
    tasks.map(task, &mut source, directory, &Watch::default())
}

fn make(folder: &Path) -> Result<PathBuf, TaskError> {
    fs::create_dir_all(folder).map_err(|e| TaskError::machine("make a temporary folder", e))?;
    Ok(folder.to_owned())
}

fn segment(product: &MapProduct, partition: u32) -> Option<LocalBytes> {
    let span = product.spans.get(partition as usize)?;
    Some(LocalBytes { path: product.data.clone(), offset: span.offset, length: span.length })
}

fn keys(products: &[MapProduct]) -> Result<Vec<Vec<u8>>, TaskError> {
    let trouble = |e: io::Error| TaskError::machine("read the sample", e);
    let mut keys = Vec::new();
    for product in products {
        let segment = fs::read(&product.data).map_err(trouble)?;
        for record in records(&segment) {
            keys.push(record.map_err(|e| trouble(e.into()))?.0.to_vec());
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

fn add(sum: &mut Counters, counters: &Counters) {
    for (name, by) in counters {
        let counter = sum.entry(name.clone()).or_default();
        *counter = counter.saturating_add(*by);
    }
}

/// An input file as the harness keeps it.
struct Stored {
    name: String,
    path: PathBuf,
    length: u64,
}

/// Small, so that records reach over the ends of chunks.
const CHUNK_BYTES: u64 = 64 << 10;

impl Stored {
    fn chunk_lengths(&self) -> Vec<u32> {
        let chunks = self.length.div_ceil(CHUNK_BYTES);
        (0..chunks).map(|n| CHUNK_BYTES.min(self.length - n * CHUNK_BYTES) as u32).collect()
    }
}

fn store(files: &[(&str, &[u8])], folder: &Path) -> io::Result<Vec<Stored>> {
    let store = |(number, (name, bytes)): (usize, &(&str, &[u8]))| {
        let path = folder.join(format!("input-{number}"));
        fs::write(&path, bytes)?;
        Ok(Stored { name: (*name).to_owned(), path, length: bytes.len() as u64 })
    };
    files.iter().enumerate().map(store).collect()
}

struct LocalSource<'a> {
    file: &'a Stored,
    lengths: Vec<u32>,
}

impl InputSource for LocalSource<'_> {
    fn chunk_lengths(&self) -> &[u32] {
        &self.lengths
    }
    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
        let length = *self.lengths.get(index).ok_or_else(|| io::Error::other("the file has no such chunk"))?;
        Ok(LocalBytes { path: self.file.path.clone(), offset: index as u64 * CHUNK_BYTES, length: length.into() })
    }
}
