//! Reduce attempts: the shell around [`Tentative`]. It fetches, runs and aborts as it is told.

use crate::{
    feed::{Feed, Item, Notice},
    map::{fresh_folder, joined},
    neighbours,
    segments::{self, FetchError, Wanted},
    staged::StagedOutput,
    tentative::{Action, Copy, Input, Tentative},
    worker::{Outcome, Running, Worker},
};
use bytes::Bytes;
use quorate_engine::program::{FetchedSegment, LocalBytes, Program, ReduceProduct, ReduceTask, TaskError, Watch};
use quorate_protocol::{
    command::{Accusation, Cost},
    file::Manifest,
    ids::{AttemptId, TrackerId},
    job::JobPlan,
    sign::Signed,
    vote::{Ballot, Segment},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinSet},
};

/// Segments fetched at once by one attempt.
const FETCHES_MAX: usize = 4;
/// How long to wait before an unreachable copy is asked again: this times its failures, up to ten times.
const RETRY: Duration = Duration::from_millis(200);
/// Failures of one copy after which another is asked for.
const UNREACHABLE_AFTER: u32 = 3;
/// What memory for segments is counted in, in bytes.
const ROOM_UNIT: u64 = 4 << 10;
/// How often the attempt's progress is brought up to date.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

type RunResult = Result<(ReduceProduct, Manifest), TaskError>;

impl Worker {
    /// Reduces a partition tentatively and votes once all that it used is agreed.
    pub(crate) async fn reduce(
        self: &Arc<Self>,
        plan: &Arc<JobPlan>,
        attempt: AttemptId,
        running: &Running,
    ) -> Outcome {
        let start = Instant::now();
        let reduction = Reduction::prepare(self, plan, attempt, running).await;
        let (result, mut cost) = match reduction {
            Ok(mut reduction) => {
                let result = reduction.finish().await;
                (result, reduction.cost)
            }
            Err(error) => (Err(error), Cost::default()),
        };
        cost.elapsed_ms = start.elapsed().as_millis() as u64;
        match result {
            Ok((product, manifest)) => {
                let vote = self.vote(plan, attempt, Ballot::Reduce { manifest, counters: product.counters });
                Outcome::Voted(Signed::seal(&vote, &self.key), cost, String::new())
            }
            Err(error) => self.failed(plan, attempt, error, cost),
        }
    }
}

/// One reduce attempt at work.
struct Reduction {
    worker: Arc<Worker>,
    plan: Arc<JobPlan>,
    attempt: AttemptId,
    program: Arc<dyn Program>,
    watch: Arc<Watch>,
    folder: PathBuf,
    feed: Arc<Feed>,
    heard: usize,
    tentative: Tentative,
    notices: BTreeMap<Copy, Arc<Notice>>,
    shuffle: Shuffle,
    fetches: JoinSet<Fetched>,
    fetching: BTreeMap<u32, AbortHandle>,
    /// Runs never overlap: an aborted one must end before the next begins, since both stage chunks.
    runs: JoinSet<(u32, RunResult)>,
    run: Option<(u32, Arc<Watch>)>,
    next_run: Option<(u32, Vec<FetchedSegment>)>,
    result: Option<RunResult>,
    cost: Cost,
}

struct Fetched {
    map: u32,
    copy: Copy,
    failures: u32,
    again: bool,
    bytes: u64,
    result: Result<FetchedSegment, FetchError>,
}

impl Reduction {
    async fn prepare(
        worker: &Arc<Worker>,
        plan: &Arc<JobPlan>,
        attempt: AttemptId,
        running: &Running,
    ) -> Result<Self, TaskError> {
        let program = worker.program(plan, attempt).await;
        let program = program.map_err(|error| TaskError::machine("preparing the program", io::Error::other(error)))?;
        let folder = worker.outputs.folder(attempt);
        let machine = |error| TaskError::machine("making the attempt's folder", error);
        fresh_folder(&folder).map_err(machine)?;
        Ok(Self {
            worker: Arc::clone(worker),
            plan: Arc::clone(plan),
            attempt,
            program,
            watch: Arc::clone(&running.watch),
            shuffle: Shuffle::create(folder.join("shuffle"), plan.specification.memory).map_err(machine)?,
            folder,
            feed: worker.feed(plan),
            heard: 0,
            tentative: Tentative::new(plan.maps, worker.id, attempt.task.index),
            notices: BTreeMap::new(),
            fetches: JoinSet::new(),
            fetching: BTreeMap::new(),
            runs: JoinSet::new(),
            run: None,
            next_run: None,
            result: None,
            cost: Cost::default(),
        })
    }

    /// Runs until the result may be voted on. Dropping the future drops the fetches and stops the run.
    async fn finish(&mut self) -> RunResult {
        let mut changes = self.feed.changes();
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        loop {
            self.listen();
            let mut actions = Vec::new();
            self.tentative.settle(&mut actions);
            for action in actions {
                match action {
                    Action::Fetch { map, copy, segment, failures, again } => {
                        self.fetch(map, copy, segment, failures, again);
                    }
                    Action::Abandon(map) => {
                        if let Some(fetch) = self.fetching.remove(&map) {
                            fetch.abort();
                        }
                    }
                    Action::Run(run, inputs) => self.next_run = Some((run, inputs)),
                    Action::Abort(_) => self.abort(),
                    Action::Vote => return self.result.take().unwrap_or(Err(TaskError::Cancelled)),
                }
            }
            self.start_run().await?;
            tokio::select! {
                _ = changes.changed() => {}
                Some(fetched) = self.fetches.join_next() => {
                    // One that was abandoned has nothing to tell.
                    if let Ok(fetched) = fetched {
                        self.fetched(fetched)?;
                    }
                }
                Some(ended) = self.runs.join_next() => self.run_ended(ended)?,
                _ = progress.tick() => self.catch_up(),
            }
        }
    }

    /// Takes in what the feed has got.
    fn listen(&mut self) {
        let items = self.feed.from(self.heard);
        self.heard += items.len();
        for item in items {
            match item {
                Item::Notice(notice) => {
                    let copy = Copy { server: notice.tracker, attempt: notice.attempt, list: notice.list };
                    if let Some(segment) = notice.segments.get(self.attempt.task.index as usize) {
                        self.tentative.learn(notice.attempt.task.index, Input::Vote(copy, *segment));
                        self.notices.insert(copy, notice);
                    }
                }
                Item::Verdict(verdict) => self.tentative.learn(verdict.map, Input::Verdict(verdict.segments)),
            }
        }
    }

    fn fetch(&mut self, map: u32, copy: Copy, voted: Segment, failures: u32, again: bool) {
        let Some(notice) = self.notices.get(&copy).cloned() else { return };
        let partition = self.attempt.task.index;
        if copy.server == self.worker.id {
            let gone = FetchError::Wrong { server: copy.server, what: "lost its own output".into(), evidence: None };
            let result = self.own(copy.attempt, partition).map(FetchedSegment::File).ok_or(gone);
            self.fetches.spawn(async move { Fetched { map, copy, failures, again: false, bytes: 0, result } });
            return;
        }
        let wanted = Wanted {
            server: copy.server,
            attempt: copy.attempt,
            partition,
            vote: notice.signed.clone(),
            segments: Arc::clone(&notice.segments),
        };
        let worker = Arc::clone(&self.worker);
        let nearby = self.worker.neighbours.find(copy.server, copy.attempt, partition);
        let takes_memory = nearby.is_none() && self.program.takes_memory();
        let place = match takes_memory.then(|| self.shuffle.room(voted.length)).flatten() {
            Some(room) => Place::Memory(room),
            None => Place::File(self.shuffle.new_file()),
        };
        let permits = Arc::clone(&self.shuffle.permits);
        let fetch = self.fetches.spawn(async move {
            tokio::time::sleep(RETRY * failures.min(10)).await;
            let _permit = permits.acquire_owned().await;
            let result = match nearby {
                Some(bytes) if neighbours::is_right(bytes.clone(), voted).await => Ok(FetchedSegment::File(bytes)),
                // What is wrong on the disk may be so on purpose: over the network there is proof to be had.
                Some(_) | None => fetch_to(&worker, &wanted, place, voted.length).await,
            };
            Fetched { map, copy, failures, again, bytes: voted.length, result }
        });
        self.fetching.insert(map, fetch);
    }

    /// A segment that this tracker made itself: it was digested when it was voted on.
    fn own(&self, attempt: AttemptId, partition: u32) -> Option<LocalBytes> {
        let output = self.worker.outputs.get(attempt)?;
        let bytes = self.worker.outputs.segment(attempt, partition)?;
        let segment = output.segments.get(partition as usize)?;
        (segment.length == bytes.length).then_some(bytes)
    }

    fn fetched(&mut self, fetched: Fetched) -> Result<(), TaskError> {
        let Fetched { map, copy, failures, again, bytes, result } = fetched;
        self.fetching.remove(&map);
        match result {
            Ok(local) => {
                self.cost.shuffled = self.cost.shuffled.saturating_add(bytes);
                if again {
                    self.cost.refetched = self.cost.refetched.saturating_add(bytes);
                }
                self.watch.advance(bytes.max(1));
                self.tentative.learn(map, Input::Fetched(copy, local));
            }
            Err(FetchError::Unreachable { server, why }) => {
                tracing::debug!(%server, why, "a segment could not be fetched");
                if failures == UNREACHABLE_AFTER {
                    self.worker.outbox.accuse(Accusation::Unreachable { about: server, attempt: copy.attempt });
                }
                self.tentative.learn(map, Input::Unreachable(copy));
            }
            Err(FetchError::Wrong { server, what, evidence }) => {
                if server != self.worker.id {
                    self.accuse(server, copy.attempt, what, evidence);
                }
                self.tentative.learn(map, Input::Wrong(copy));
            }
            Err(FetchError::Sink(error)) => return Err(TaskError::machine("storing a fetched segment", error)),
        }
        Ok(())
    }

    fn accuse(
        &self,
        about: TrackerId,
        attempt: AttemptId,
        what: String,
        evidence: Option<Box<quorate_protocol::evidence::Evidence>>,
    ) {
        tracing::warn!(tracker = %about, %attempt, what, proof = evidence.is_some(), "a segment is wrong");
        self.worker.outbox.accuse(match evidence {
            Some(evidence) => Accusation::Evidence(evidence),
            None => Accusation::Complaint { about, attempt, what },
        });
    }

    /// Starts the run that is due once the one before it has ended.
    async fn start_run(&mut self) -> Result<(), TaskError> {
        if !self.runs.is_empty() {
            return Ok(());
        }
        let Some((run, inputs)) = self.next_run.take() else { return Ok(()) };
        self.result = None;
        let discarded = self.worker.store.discard(self.attempt).await;
        discarded.map_err(|error| TaskError::machine("dropping a refuted output", io::Error::other(error)))?;
        let watch = Arc::new(Watch::default());
        self.run = Some((run, Arc::clone(&watch)));
        let task =
            ReduceTask { context: self.worker.context(&self.plan, self.attempt), partition: self.attempt.task.index };
        let (program, scratch) = (Arc::clone(&self.program), self.folder.join("merge"));
        let mut output = StagedOutput::new(Arc::clone(&self.worker.store), Arc::clone(&self.worker.lie), self.attempt);
        let threads = self.worker.threads(self.attempt.task.job);
        self.runs.spawn(async move {
            let work = move || {
                fresh_folder(&scratch).map_err(|error| TaskError::machine("making the merge's folder", error))?;
                let product = program.reduce(&task, &inputs, &mut output, &scratch, &watch);
                let _ = std::fs::remove_dir_all(&scratch);
                let product = product?;
                let manifest = output.finish().map_err(|error| TaskError::machine("storing the output", error))?;
                Ok((product, manifest))
            };
            (run, joined(threads.spawn_blocking(work).await))
        });
        Ok(())
    }

    fn abort(&mut self) {
        self.next_run = None;
        if let Some((_, watch)) = &self.run {
            watch.cancel();
        }
    }

    fn run_ended(&mut self, ended: Result<(u32, RunResult), tokio::task::JoinError>) -> Result<(), TaskError> {
        self.catch_up();
        self.run = None;
        let (run, result) = ended.map_err(|error| TaskError::machine("running the reduce", io::Error::other(error)))?;
        self.cost.restarts = self.tentative.restarts();
        if self.tentative.is_current(run) {
            // Whatever it is, success or failure, it counts only when its input turns out agreed.
            self.result = Some(result);
            self.tentative.finished(run);
        }
        Ok(())
    }

    /// The attempt's progress includes its run's.
    fn catch_up(&mut self) {
        if let Some((_, watch)) = &self.run {
            let units = watch.units();
            self.watch.advance(units.saturating_sub(self.shuffle.counted));
            self.shuffle.counted = units;
        } else {
            self.shuffle.counted = 0;
        }
    }
}

impl Drop for Reduction {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Fetches a segment into a file of its own, which goes away unless all of it came and was right.
async fn fetch_to_file(worker: &Worker, wanted: &Wanted, path: PathBuf, length: u64) -> Result<LocalBytes, FetchError> {
    let partial = tempfile::TempPath::try_from_path(path.clone()).map_err(FetchError::Sink)?;
    let file = File::create(&path)?;
    let mut sink = |at: u64, block: &[u8]| file.write_all_at(block, at);
    segments::fetch(&worker.peers, &worker.cluster, worker.id, wanted, &mut sink).await?;
    partial.keep().map_err(|error| FetchError::Sink(error.error))?;
    Ok(LocalBytes { path, offset: 0, length })
}

/// Where a segment is fetched to.
enum Place {
    File(PathBuf),
    Memory(OwnedSemaphorePermit),
}

async fn fetch_to(worker: &Worker, wanted: &Wanted, place: Place, length: u64) -> Result<FetchedSegment, FetchError> {
    match place {
        Place::File(path) => fetch_to_file(worker, wanted, path, length).await.map(FetchedSegment::File),
        Place::Memory(room) => fetch_to_memory(worker, wanted, room, length).await.map(FetchedSegment::Memory),
    }
}

/// A segment in memory, with the room that it takes: whoever drops it gives the room back.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

async fn fetch_to_memory(
    worker: &Worker,
    wanted: &Wanted,
    room: OwnedSemaphorePermit,
    length: u64,
) -> Result<Bytes, FetchError> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    let mut sink = |at: u64, block: &[u8]| {
        // A second try begins at the beginning again.
        bytes.truncate(usize::try_from(at).unwrap_or_default());
        bytes.extend_from_slice(block);
        Ok(())
    };
    segments::fetch(&worker.peers, &worker.cluster, worker.id, wanted, &mut sink).await?;
    Ok(Bytes::from_owner(Held { bytes, _room: room }))
}

/// What an attempt has room for: a folder for fetched segments, and a part of its memory for the first of them.
struct Shuffle {
    folder: PathBuf,
    files: u64,
    permits: Arc<Semaphore>,
    /// Memory that is free, in units of [`ROOM_UNIT`].
    memory: Arc<Semaphore>,
    /// Units of the present run that the attempt's progress includes.
    counted: u64,
}

impl Shuffle {
    /// Half of an attempt's `memory` is for segments.
    fn create(folder: PathBuf, memory: u64) -> io::Result<Self> {
        std::fs::create_dir(&folder)?;
        let units = usize::try_from(memory / 2 / ROOM_UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let (permits, memory) = (Arc::new(Semaphore::new(FETCHES_MAX)), Arc::new(Semaphore::new(units)));
        Ok(Self { folder, files: 0, permits, memory, counted: 0 })
    }

    /// Room in memory for so many bytes, if there is any.
    fn room(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(length.div_ceil(ROOM_UNIT)).ok()?;
        Arc::clone(&self.memory).try_acquire_many_owned(units).ok()
    }

    fn new_file(&mut self) -> PathBuf {
        self.files += 1;
        self.folder.join(self.files.to_string())
    }
}
