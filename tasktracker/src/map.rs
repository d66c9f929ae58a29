//! Map attempts.

use crate::{
    outputs::Output,
    worker::{Outcome, Running, Worker, chunks_of},
};
use bytes::Bytes;
use quorate_engine::{
    digest,
    program::{InputSource, LocalBytes, MapProduct, MapTask, TaskError},
};
use quorate_protocol::{
    command::Cost,
    file::File,
    ids::AttemptId,
    job::{JobPlan, Split},
    sign::Signed,
    vote::{Ballot, Segment, segments_digest},
};
use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tokio::{runtime::Handle, task::JoinHandle};

impl Worker {
    /// Maps a split, keeps the output and signs a vote for it.
    pub(crate) async fn map(
        self: &Arc<Self>,
        plan: &Arc<JobPlan>,
        attempt: AttemptId,
        split: Split,
        running: &Running,
    ) -> Outcome {
        let start = Instant::now();
        let mapped = self.run_map(plan, attempt, split, running).await;
        let cost = Cost { elapsed_ms: start.elapsed().as_millis() as u64, ..Cost::default() };
        let kept = match mapped {
            Ok((product, segments)) => self.keep_map(plan, attempt, product, segments),
            Err(error) => return self.failed(plan, attempt, error, cost),
        };
        match kept {
            Ok(vote) => Outcome::Voted(vote, cost, String::new()),
            Err(error) => Outcome::Declined(format!("keeping the map output: {error}")),
        }
    }

    async fn run_map(
        self: &Arc<Self>,
        plan: &Arc<JobPlan>,
        attempt: AttemptId,
        split: Split,
        running: &Running,
    ) -> Result<(MapProduct, Vec<Segment>), TaskError> {
        let program = self.program(plan, attempt).await;
        let program = program.map_err(|error| TaskError::machine("preparing the program", io::Error::other(error)))?;
        let Some((path, file)) = plan.files.get(split.file as usize).cloned() else {
            return Err(TaskError::machine("reading the plan", io::Error::other("the split names no file")));
        };
        let folder = self.outputs.folder(attempt);
        let task = MapTask {
            context: self.context(plan, attempt),
            path: path.as_str().to_owned(),
            input_kind: plan.specification.input_kind,
            split,
            partitioning: plan.specification.partitioning.clone(),
        };
        let (worker, watch) = (Arc::clone(self), Arc::clone(&running.watch));
        let core = self.core().await;
        let work = move || {
            let _core = core;
            let fetched = folder.join("input");
            let made = fresh_folder(&folder).and_then(|()| fs::create_dir(&fetched));
            made.map_err(|error| TaskError::machine("making the attempt's folder", error))?;
            let mut input = StoredInput::new(&worker, file, split, fetched.clone());
            let mapped = program.map(&task, &mut input, &folder, &watch);
            // Fetched chunks are of no more use; the output stays.
            let _ = fs::remove_dir_all(fetched);
            let product = mapped?;
            let spans: Vec<(u64, u64)> = product.spans.iter().map(|span| (span.offset, span.length)).collect();
            let machine = |error| TaskError::machine("digesting the map output", error);
            worker.lie.spoil_map_data(attempt, &product.data, &spans).map_err(machine)?;
            // Digested by the tracker, not by the user's process: what it signs is what it can serve.
            let mut segments = digest::digest_spans(&product.data, &product.spans).map_err(machine)?;
            worker.lie.spoil_segments(&mut segments);
            Ok((product, segments))
        };
        joined(self.threads(attempt.task.job).spawn_blocking(work).await)
    }

    fn keep_map(
        &self,
        plan: &JobPlan,
        attempt: AttemptId,
        product: MapProduct,
        segments: Vec<Segment>,
    ) -> io::Result<Signed<quorate_protocol::vote::Vote>> {
        let ballot = Ballot::Map { segments: segments_digest(&segments), counters: product.counters };
        let ballots = self.lie.ballots(self.vote(plan, attempt, ballot));
        let ordered = Signed::seal(&ballots.ordered, &self.key);
        let vote = Signed::seal(&ballots.direct, &self.key);
        self.outputs.keep(Output {
            attempt,
            vote,
            segments: segments.into(),
            spans: product.spans,
            data: product.data,
        })?;
        Ok(ordered)
    }
}

/// The result of a blocking task; a panic of ours in it is this machine's failure.
pub(crate) fn joined<T>(result: Result<Result<T, TaskError>, tokio::task::JoinError>) -> Result<T, TaskError> {
    result.unwrap_or_else(|error| Err(TaskError::machine("running the attempt", io::Error::other(error))))
}

/// An empty folder, whatever was there before.
pub(crate) fn fresh_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
}

/// An input file in the chunk store. Each chunk is verified before its first use; the next one is fetched meanwhile.
struct StoredInput {
    worker: Arc<Worker>,
    handle: Handle,
    file: Arc<File>,
    lengths: Vec<u32>,
    /// The split's own chunks: only these are fetched ahead.
    ahead: Range<usize>,
    folder: PathBuf,
    ready: BTreeMap<usize, LocalBytes>,
    fetching: BTreeMap<usize, JoinHandle<io::Result<LocalBytes>>>,
}

impl StoredInput {
    fn new(worker: &Arc<Worker>, file: File, split: Split, folder: PathBuf) -> Self {
        let lengths: Vec<u32> = file.manifest.chunks.iter().map(|(_, length)| *length).collect();
        Self {
            worker: Arc::clone(worker),
            handle: Handle::current(),
            ahead: chunks_of(&lengths, split),
            file: Arc::new(file),
            lengths,
            folder,
            ready: BTreeMap::new(),
            fetching: BTreeMap::new(),
        }
    }

    fn fetch(&self, index: usize) -> JoinHandle<io::Result<LocalBytes>> {
        let (worker, file, folder) = (Arc::clone(&self.worker), Arc::clone(&self.file), self.folder.clone());
        self.handle.spawn(async move { fetch(&worker, &file, index, &folder).await })
    }
}

impl Drop for StoredInput {
    fn drop(&mut self) {
        self.fetching.values().for_each(JoinHandle::abort);
    }
}

impl InputSource for StoredInput {
    fn chunk_lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
        if let Some(ready) = self.ready.get(&index) {
            return Ok(ready.clone());
        }
        if index >= self.lengths.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has no such chunk"));
        }
        let fetching = self.fetching.remove(&index).unwrap_or_else(|| self.fetch(index));
        let next = index + 1;
        if self.ahead.contains(&next) && !self.ready.contains_key(&next) && !self.fetching.contains_key(&next) {
            self.fetching.insert(next, self.fetch(next));
        }
        let fetched = self.handle.block_on(fetching).map_err(io::Error::other)??;
        self.ready.insert(index, fetched.clone());
        Ok(fetched)
    }

    fn part(&mut self, index: usize, part: Range<u64>) -> io::Result<LocalBytes> {
        if let Some(ready) = self.ready.get(&index) {
            return ready.part(part);
        }
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the file has no such part");
        let length = self.lengths.get(index).copied().ok_or_else(invalid)?;
        let (start, end) = (u32::try_from(part.start), u32::try_from(part.end));
        let (Ok(start), Ok(end)) = (start, end) else { return Err(invalid()) };
        if start >= end || end > length {
            return Err(invalid());
        }
        let read = self.handle.block_on(self.worker.read_part(&self.file, index, start..end));
        let path = self.folder.join(format!("part-{index}"));
        fs::write(&path, read.map_err(io::Error::other)?)?;
        Ok(LocalBytes { path, offset: 0, length: u64::from(end - start) })
    }
}

/// Makes a chunk a verified local file: the store's own, or a fetched copy.
async fn fetch(worker: &Worker, file: &File, index: usize, folder: &Path) -> io::Result<LocalBytes> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the file has no such chunk");
    let (chunk, length) = *file.manifest.chunks.get(index).ok_or_else(missing)?;
    if let Ok(Some(path)) = worker.store.verified_path(chunk, length).await {
        return Ok(LocalBytes { path, offset: 0, length: u64::from(length) });
    }
    let fetched = worker.read_chunk(file, index).await.map_err(io::Error::other)?;
    let path = write_chunk(folder, index, fetched).await?;
    Ok(LocalBytes { path, offset: 0, length: u64::from(length) })
}

async fn write_chunk(folder: &Path, index: usize, bytes: Bytes) -> io::Result<PathBuf> {
    // The folder is there as long as the attempt is: what is fetched too late goes nowhere.
    let path = folder.join(format!("chunk-{index}"));
    let write = move || fs::write(&path, bytes).map(|()| path);
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
}
