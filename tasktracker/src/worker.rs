//! What all of a tracker's tasks share: its identity, its connections, its stores, and the attempts that run.

use crate::{
    cores::core, feed::Feed, neighbours::Neighbours, outbox::Outbox, outputs::Outputs, peers::Peers, programs::Programs,
};
use bytes::Bytes;
use futures::FutureExt;
use quorate_dfs::{ChunkClient, ChunkStore, GetError, Servers};
use quorate_engine::{
    arena,
    program::{TaskContext, TaskError, Watch},
};
use quorate_jobtracker::client::{Client, ClientError};
use quorate_liars::{Conduct, Lie};
use quorate_protocol::{
    cluster::Cluster,
    command::{Accusation, AttemptReport, Cost, Registration},
    digest::{ChunkId, Digest},
    file::File,
    ids::{AttemptId, JobId, TrackerId},
    job::{JobPlan, Split, Work},
    limits,
    query::JobState,
    sign::{SecretKey, Signed},
    vote::{Ballot, Vote},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long to wait before an output that could not be published is tried again.
const PUBLISH_RETRY: Duration = Duration::from_secs(5);
/// How often it is tried. After that it stays staged, from where it is read all the same.
const PUBLISH_TRIES: u32 = 12;
/// How long after a job's end the bytes of tasks whose votes differ are kept, to find where they differ.
const KEEP_DIFFERING: Duration = Duration::from_secs(3600);
/// What is kept so of map output, of all jobs together, in bytes.
const DIFFERING_BYTES_MAX: u64 = 4 << 30;
/// What is kept so of reduce output, in attempts of one job.
const DIFFERING_PARTS_MAX: usize = 16;

pub(crate) struct Worker {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) cluster_id: Digest,
    pub(crate) id: TrackerId,
    pub(crate) key: SecretKey,
    pub(crate) incarnation: u64,
    pub(crate) registration: Registration,
    pub(crate) directory: PathBuf,
    pub(crate) programs: Programs,
    pub(crate) neighbours: Neighbours,
    pub(crate) lie: Arc<dyn Lie>,
    pub(crate) client: Client,
    pub(crate) chunks: ChunkClient,
    pub(crate) store: Arc<ChunkStore>,
    pub(crate) outputs: Arc<Outputs>,
    pub(crate) peers: Peers,
    pub(crate) outbox: Outbox,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) fetching_program: tokio::sync::Mutex<()>,
    pub(crate) plans: tokio::sync::Mutex<BTreeMap<JobId, Arc<JobPlan>>>,
    pub(crate) feeds: Mutex<BTreeMap<JobId, Weak<Feed>>>,
    pub(crate) running: Mutex<BTreeMap<AttemptId, Running>>,
    /// The work of each job on threads, which goes on for a moment after its attempt was cancelled.
    pub(crate) threads: Mutex<BTreeMap<JobId, TaskTracker>>,
}

/// An attempt that runs here.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) watch: Arc<Watch>,
    /// The job's progress timeout, once it is known.
    pub(crate) timeout: Arc<OnceLock<Duration>>,
    /// Cancelled together with the watch, for what waits rather than works.
    pub(crate) stop: CancellationToken,
}

impl Running {
    fn cancel(&self) {
        self.watch.cancel();
        self.stop.cancel();
    }
}

/// What an attempt came to.
pub(crate) enum Outcome {
    /// A vote, with what it cost and what the program said.
    Voted(Signed<Vote>, Cost, String),
    /// The tracker could not run it.
    Declined(String),
    /// Nobody wants to know.
    Dropped,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    pub(crate) fn running(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Running>> {
        lock(&self.running)
    }

    /// Starts an attempt, once.
    pub(crate) fn start(self: &Arc<Self>, attempt: AttemptId, work: Work) {
        let running = Running { watch: Arc::default(), timeout: Arc::default(), stop: self.stop.child_token() };
        if self.running().contains_key(&attempt) {
            return;
        }
        self.running().insert(attempt, running.clone());
        let worker = Arc::clone(self);
        self.tasks.spawn(async move {
            let run = AssertUnwindSafe(worker.run(attempt, work, &running)).catch_unwind();
            let outcome = tokio::select! {
                outcome = run => outcome.unwrap_or_else(|_| Outcome::Declined("the tracker failed at it".into())),
                () = running.stop.cancelled() => Outcome::Dropped,
            };
            running.cancel();
            worker.running().remove(&attempt);
            worker.tell(attempt, outcome);
        });
    }

    fn tell(&self, attempt: AttemptId, outcome: Outcome) {
        match outcome {
            Outcome::Voted(vote, cost, message) => {
                let vote = self.lie.spoil_signed(attempt, vote);
                self.outbox.ended(AttemptReport::Voted { vote, cost, message: shorten(message) });
            }
            Outcome::Declined(reason) => {
                tracing::warn!(%attempt, reason, "declined");
                self.outbox.ended(AttemptReport::Declined { attempt, reason: shorten(reason) });
            }
            Outcome::Dropped => {}
        }
    }

    async fn run(self: &Arc<Self>, attempt: AttemptId, work: Work, running: &Running) -> Outcome {
        let plan = match self.plan(attempt.task.job).await {
            Ok(plan) => plan,
            Err(error) => return Outcome::Declined(format!("reading the job's plan: {error}")),
        };
        running.timeout.get_or_init(|| Duration::from_millis(plan.specification.progress_timeout_ms));
        match self.lie.conduct(attempt) {
            Conduct::Work => {}
            Conduct::Ignore => running.stop.cancelled().await,
            Conduct::Dawdle(how_long) => dawdle(how_long, &running.watch).await,
            Conduct::Crash => self.stop.cancel(),
            Conduct::CopyVote => return self.copy_vote(&plan, attempt).await,
        }
        match work {
            Work::Map(split) => self.map(&plan, attempt, split, running).await,
            Work::Reduce => self.reduce(&plan, attempt, running).await,
        }
    }

    /// Stops an attempt that is no longer wanted.
    pub(crate) fn cancel(&self, attempt: AttemptId) {
        if let Some(running) = self.running().get(&attempt) {
            running.cancel();
        }
    }

    /// A job's plan; the job tracker is asked once.
    pub(crate) async fn plan(&self, job: JobId) -> Result<Arc<JobPlan>, ClientError> {
        let mut plans = self.plans.lock().await;
        if let Some(plan) = plans.get(&job) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(self.client.plan(job).await?);
        // Whoever has the job's input has registered before the job was submitted.
        self.refresh().await;
        plans.insert(job, Arc::clone(&plan));
        Ok(plan)
    }

    /// Reads a chunk. When no copy can be had, the servers may have moved: where they are is asked, and each tried again.
    pub(crate) async fn read_chunk(&self, file: &File, index: usize) -> Result<Bytes, GetError> {
        let (chunk, length) = chunk_of(file, index)?;
        let mut fetched = self.chunks.get(chunk, length, file.servers(index)).await;
        if fetched.is_err() {
            self.refresh().await;
            fetched = self.chunks.get(chunk, length, file.servers(index)).await;
        }
        self.accuse_findings();
        fetched
    }

    /// Reads a part of a chunk that it has, as [`Worker::read_chunk`] does the whole.
    pub(crate) async fn read_part(&self, file: &File, index: usize, part: Range<u32>) -> Result<Bytes, GetError> {
        let (chunk, length) = chunk_of(file, index)?;
        let read = self.chunks.get_part(chunk, length, part.clone(), file.servers(index)).await;
        self.accuse_findings();
        match read {
            Ok(bytes) => Ok(bytes),
            Err(_) => Ok(self.read_chunk(file, index).await?.slice(part.start as usize..part.end as usize)),
        }
    }

    /// The job's feed: one for all its reduce attempts here, as long as any of them runs.
    pub(crate) fn feed(self: &Arc<Self>, plan: &Arc<JobPlan>) -> Arc<Feed> {
        let mut feeds = lock(&self.feeds);
        if let Some(feed) = feeds.get(&plan.job).and_then(Weak::upgrade) {
            return feed;
        }
        let feed = Feed::start(self, Arc::clone(plan));
        feeds.insert(plan.job, Arc::downgrade(&feed));
        feed
    }

    /// A job has ended: publishes what became files, and drops the rest once nothing uses it any more. What `keep` names
    /// stays for a while, as far as there is room.
    pub(crate) async fn job_ended(self: &Arc<Self>, job: JobId, publish: &[AttemptId], keep: Vec<AttemptId>) {
        let running: Vec<Running> = {
            let running = self.running();
            running.iter().filter(|(attempt, _)| attempt.task.job == job).map(|(_, running)| running.clone()).collect()
        };
        running.iter().for_each(Running::cancel);
        self.plans.lock().await.remove(&job);
        lock(&self.feeds).remove(&job);
        // Before anything is dropped: neither a file's chunks nor a thread that still writes may be swept away.
        let threads = lock(&self.threads).remove(&job).unwrap_or_default();
        threads.close();
        threads.wait().await;
        arena::release();
        for attempt in publish {
            for _ in 0..PUBLISH_TRIES {
                match self.store.publish(*attempt).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::error!(%attempt, %error, "an output that became a file is not published yet")
                    }
                }
                tokio::time::sleep(PUBLISH_RETRY).await;
            }
        }
        let publish = publish.to_vec();
        self.drop_outputs(job, &publish, &keep).await;
        if keep.is_empty() {
            return;
        }
        let worker = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(KEEP_DIFFERING) => worker.drop_outputs(job, &publish, &[]).await,
                () = worker.stop.cancelled() => {}
            }
        });
    }

    /// Drops an ended job's outputs but those that became files and those to keep.
    async fn drop_outputs(&self, job: JobId, publish: &[AttemptId], keep: &[AttemptId]) {
        let staged = self.store.staged().into_iter();
        let unpublished = staged.filter(|attempt| attempt.task.job == job && !publish.contains(attempt));
        let (kept, unwanted): (Vec<_>, Vec<_>) = unpublished.partition(|attempt| keep.contains(attempt));
        for attempt in unwanted.into_iter().chain(kept.into_iter().skip(DIFFERING_PARTS_MAX)) {
            if let Err(error) = self.store.discard(attempt).await {
                tracing::warn!(%attempt, %error, "an unpublished output is left behind");
            }
        }
        let (outputs, keep) = (Arc::clone(&self.outputs), keep.to_vec());
        let forget = move || outputs.forget_but(job, &keep, DIFFERING_BYTES_MAX);
        let _ = tokio::task::spawn_blocking(forget).await;
    }

    /// Waits for a core, where trackers share a process: `None` is to go on without one.
    pub(crate) async fn core(&self) -> Option<OwnedSemaphorePermit> {
        match self.programs {
            Programs::Embedded(_) => core().await,
            Programs::Children(_) => None,
        }
    }

    /// Where a job's work on threads is started, so that its end can be awaited.
    pub(crate) fn threads(&self, job: JobId) -> TaskTracker {
        lock(&self.threads).entry(job).or_default().clone()
    }

    /// Drops what an earlier process left of jobs that have ended meanwhile. What became files stays: the directive to
    /// publish it comes until it is acknowledged.
    pub(crate) async fn sweep(&self) {
        let Ok(jobs) = self.client.jobs().await else { return };
        let live: BTreeSet<JobId> = jobs.iter().filter(|job| !job.state.is_ended()).map(|job| job.job).collect();
        let outputs = Arc::clone(&self.outputs);
        let forget = move || {
            outputs.jobs_kept().into_iter().filter(|job| !live.contains(job)).for_each(|job| outputs.forget(job))
        };
        let _ = tokio::task::spawn_blocking(forget).await;
        let failed = |attempt: &AttemptId| {
            let job = jobs.iter().find(|job| job.job == attempt.task.job);
            job.is_some_and(|job| matches!(job.state, JobState::Failed(_) | JobState::Killed))
        };
        for attempt in self.store.staged().into_iter().filter(failed) {
            if let Err(error) = self.store.discard(attempt).await {
                tracing::warn!(%attempt, %error, "an unpublished output is left behind");
            }
        }
    }

    /// Passes on what the chunk client found out about others.
    pub(crate) fn accuse_findings(&self) {
        for evidence in self.chunks.findings() {
            self.outbox.accuse(Accusation::Evidence(Box::new(evidence)));
        }
    }

    /// Asks where everybody is, and registers again when the job tracker thinks that this tracker is gone.
    pub(crate) async fn refresh(&self) {
        let Ok(trackers) = self.client.trackers().await else { return };
        self.peers.update(&trackers);
        self.chunks.set_servers(Servers::of(&trackers));
        let own = trackers.iter().find(|tracker| tracker.id == self.id);
        if own.is_some_and(|own| !own.live) && !self.stop.is_cancelled() {
            let again = quorate_protocol::command::Command::Register(self.registration.clone());
            if let Err(error) = self.client.submit(again).await {
                tracing::debug!(%error, "registering again");
            }
        }
    }

    /// What tasks of a job are told.
    pub(crate) fn context(&self, plan: &JobPlan, attempt: AttemptId) -> TaskContext {
        let specification = &plan.specification;
        TaskContext {
            attempt,
            entry: specification.entry.clone(),
            arguments: specification.arguments.clone(),
            partitions: specification.partitions,
            memory: specification.memory,
        }
    }

    /// A vote of this tracker.
    pub(crate) fn vote(&self, plan: &JobPlan, attempt: AttemptId, ballot: Ballot) -> Vote {
        Vote {
            cluster: self.cluster_id,
            specification: plan.digest,
            f: plan.specification.f,
            attempt,
            tracker: self.id,
            ballot,
        }
    }

    /// What an attempt that gave no product comes to: a vote on the program's failure, or none.
    pub(crate) fn failed(&self, plan: &JobPlan, attempt: AttemptId, error: TaskError, cost: Cost) -> Outcome {
        match error {
            TaskError::Program { kind, record, message } => {
                let vote = self.vote(plan, attempt, Ballot::Failed { kind, record });
                Outcome::Voted(Signed::seal(&vote, &self.key), cost, message)
            }
            TaskError::Cancelled => Outcome::Dropped,
            TaskError::Machine { what, .. } => Outcome::Declined(what),
        }
    }

    /// The lie of signing what a neighbour signed.
    async fn copy_vote(self: &Arc<Self>, plan: &Arc<JobPlan>, attempt: AttemptId) -> Outcome {
        let feed = self.feed(plan);
        let (mut changes, mut position) = (feed.changes(), 0);
        loop {
            let items = feed.from(position);
            position += items.len();
            for item in items {
                if let crate::feed::Item::Notice(notice) = item
                    && notice.attempt.task == attempt.task
                    && notice.tracker != self.id
                {
                    return self.sign_copied(plan, attempt, &notice);
                }
            }
            if changes.changed().await.is_err() {
                return Outcome::Dropped;
            }
        }
    }

    fn sign_copied(&self, plan: &JobPlan, attempt: AttemptId, notice: &crate::feed::Notice) -> Outcome {
        let vote = Signed::seal(&self.vote(plan, attempt, notice.vote.ballot.clone()), &self.key);
        let folder = self.outputs.folder(attempt);
        let nothing = quorate_engine::program::Span { offset: 0, length: 0, records: 0 };
        let output = crate::outputs::Output {
            attempt,
            vote: vote.clone(),
            segments: Arc::clone(&notice.segments),
            spans: vec![nothing; notice.segments.len()],
            data: folder.join("never-made"),
        };
        let kept = std::fs::create_dir_all(&folder).and_then(|()| self.outputs.keep(output));
        match kept {
            Ok(()) => Outcome::Voted(vote, Cost::default(), String::new()),
            Err(error) => Outcome::Declined(error.to_string()),
        }
    }
}

fn chunk_of(file: &File, index: usize) -> Result<(ChunkId, u32), GetError> {
    file.manifest.chunks.get(index).copied().ok_or_else(|| GetError::BadFile("it has no such chunk".into()))
}

async fn dawdle(how_long: Duration, watch: &Watch) {
    let start = Instant::now();
    while start.elapsed() < how_long {
        watch.advance(1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Cuts a text to what a report may carry.
fn shorten(mut text: String) -> String {
    let mut end = text.len().min(limits::TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// The chunks that a split's bytes lie in.
pub(crate) fn chunks_of(lengths: &[u32], split: Split) -> Range<usize> {
    let (mut offset, mut first, mut last) = (0u64, lengths.len(), 0);
    for (index, length) in lengths.iter().enumerate() {
        let end = offset.saturating_add(u64::from(*length));
        if end > split.start && offset < split.end {
            first = first.min(index);
            last = index + 1;
        }
        offset = end;
    }
    first.min(last)..last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_splits_chunks_are_those_that_it_touches() {
        let split = |start, end| Split { file: 0, start, end };
        let lengths = [10, 10, 5];
        assert_eq!(chunks_of(&lengths, split(0, 10)), 0..1);
        assert_eq!(chunks_of(&lengths, split(9, 11)), 0..2);
        assert_eq!(chunks_of(&lengths, split(10, 25)), 1..3);
        assert!(chunks_of(&lengths, split(25, 30)).is_empty());
        assert!(chunks_of(&[], split(0, 1)).is_empty());
    }
}
