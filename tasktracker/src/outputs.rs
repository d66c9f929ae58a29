//! The map outputs that this tracker keeps and serves, with the votes that it signed for them.
//!
//! A vote is written beside its data before anybody hears of it. After a restart each output is digested again, so that a
//! disk that lost or changed bytes meanwhile makes the tracker forget an output, not contradict its own vote.

use quorate_engine::{
    digest,
    program::{LocalBytes, Span},
};
use quorate_protocol::{
    canonical,
    ids::{AttemptId, JobId},
    limits,
    sign::Signed,
    vote::{Segment, Vote},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

const VOTE_FILE: &str = "vote";
/// The encoded form of [`Record`], in bytes.
const RECORD_BYTES_MAX: usize = limits::VOTE_BYTES_MAX + 2 * limits::SEGMENTS_BYTES_MAX;

/// Jobs whose logs are kept.
const JOBS_LOGGED_MAX: usize = 64;

/// One finished map attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The attempt.
    pub attempt: AttemptId,
    /// The vote as reducers get it.
    pub vote: Signed<Vote>,
    /// What it voted.
    pub segments: Arc<[Segment]>,
    /// Where the segments are in the data file.
    pub spans: Vec<Span>,
    /// The data file.
    pub data: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Record {
    attempt: AttemptId,
    vote: Signed<Vote>,
    segments: Vec<Segment>,
    spans: Vec<Span>,
    data: PathBuf,
}

impl Output {
    /// The length of all its segments, in bytes.
    fn length(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.length))
    }
}

/// All of them, by job, in the order in which they were finished.
#[derive(Debug)]
pub struct Outputs {
    root: PathBuf,
    /// What user code wrote, by job and attempt: kept after a job's end.
    logs: PathBuf,
    jobs: Mutex<BTreeMap<JobId, Vec<Arc<Output>>>>,
    /// Jobs of whose outputs only some are left.
    ended: Mutex<BTreeSet<JobId>>,
    changed: watch::Sender<u64>,
}

impl Outputs {
    /// Opens the folder and takes back what an earlier process left there whole.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(root: PathBuf, logs: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&logs)?;
        let mut jobs: BTreeMap<JobId, Vec<Arc<Output>>> = BTreeMap::new();
        for job in fs::read_dir(&root)? {
            let job = job?.path();
            for attempt in fs::read_dir(&job)? {
                let attempt = attempt?.path();
                match take_back(&attempt) {
                    Ok(output) => jobs.entry(output.attempt.task.job).or_default().push(Arc::new(output)),
                    Err(error) => {
                        tracing::debug!(folder = %attempt.display(), %error, "an unfinished attempt is dropped");
                        fs::remove_dir_all(&attempt)?;
                    }
                }
            }
        }
        Ok(Self { root, logs, jobs: Mutex::new(jobs), ended: Mutex::default(), changed: watch::Sender::new(0) })
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Vec<Arc<Output>>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of all of a job's attempts.
    pub fn job_folder(&self, job: JobId) -> PathBuf {
        self.root.join(job.to_string())
    }

    /// An attempt's own folder, for its output and scratch files.
    pub fn folder(&self, attempt: AttemptId) -> PathBuf {
        self.job_folder(attempt.task.job).join(name_of(attempt))
    }

    /// Where an attempt's messages are kept.
    pub fn log(&self, attempt: AttemptId) -> PathBuf {
        self.logs.join(attempt.task.job.number().to_string()).join(name_of(attempt))
    }

    /// Makes room for an attempt's messages, and returns where they go. The oldest jobs' logs give way.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new_log(&self, attempt: AttemptId) -> io::Result<PathBuf> {
        let log = self.log(attempt);
        let folder = self.logs.join(attempt.task.job.number().to_string());
        if !folder.exists() {
            fs::create_dir_all(&folder)?;
            let mut jobs: Vec<u64> =
                fs::read_dir(&self.logs)?.filter_map(|job| job.ok()?.file_name().to_str()?.parse().ok()).collect();
            jobs.sort_unstable();
            for old in jobs.iter().rev().skip(JOBS_LOGGED_MAX) {
                fs::remove_dir_all(self.logs.join(old.to_string()))?;
            }
        }
        Ok(log)
    }

    /// Keeps a finished output, on disk first.
    ///
    /// # Errors
    /// When its vote cannot be written.
    pub fn keep(&self, output: Output) -> io::Result<()> {
        let record = Record {
            attempt: output.attempt,
            vote: output.vote.clone(),
            segments: output.segments.to_vec(),
            spans: output.spans.clone(),
            data: output.data.clone(),
        };
        let folder = self.folder(output.attempt);
        let unfinished = folder.join("vote.new");
        fs::write(&unfinished, canonical::encode(&record))?;
        fs::rename(unfinished, folder.join(VOTE_FILE))?;
        self.jobs().entry(output.attempt.task.job).or_default().push(Arc::new(output));
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// The output of an attempt.
    pub fn get(&self, attempt: AttemptId) -> Option<Arc<Output>> {
        self.jobs().get(&attempt.task.job)?.iter().find(|output| output.attempt == attempt).cloned()
    }

    /// Where a segment is, as the user's program said.
    pub(crate) fn segment(&self, attempt: AttemptId, partition: u32) -> Option<LocalBytes> {
        let output = self.get(attempt)?;
        let span = output.spans.get(partition as usize)?;
        Some(LocalBytes { path: output.data.clone(), offset: span.offset, length: span.length })
    }

    /// A job's outputs from a position on.
    pub fn from(&self, job: JobId, position: usize) -> Vec<Arc<Output>> {
        self.jobs().get(&job).and_then(|outputs| outputs.get(position..)).unwrap_or_default().to_vec()
    }

    /// Tells when there is more.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The jobs that something is kept of.
    pub fn jobs_kept(&self) -> Vec<JobId> {
        let folders = fs::read_dir(&self.root).into_iter().flatten();
        folders.filter_map(|job| job.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// Drops a job's outputs and everything in its folder.
    pub fn forget(&self, job: JobId) {
        self.jobs().remove(&job);
        self.ended().remove(&job);
        remove(&self.job_folder(job));
    }

    /// Drops an ended job's outputs but those of some attempts: of the first of them, so that what is kept of all such jobs
    /// is no more than `bytes_max`.
    pub fn forget_but(&self, job: JobId, keep: &[AttemptId], bytes_max: u64) {
        if keep.is_empty() {
            return self.forget(job);
        }
        let kept = self.thin_out(job, keep, bytes_max);
        for attempt in fs::read_dir(self.job_folder(job)).into_iter().flatten().flatten() {
            if !attempt.file_name().to_str().is_some_and(|name| kept.contains(name)) {
                remove(&attempt.path());
            }
        }
    }

    /// Takes out the outputs that are not kept, and gives the names of those that are.
    fn thin_out(&self, job: JobId, keep: &[AttemptId], bytes_max: u64) -> BTreeSet<String> {
        let (mut ended, mut jobs) = (self.ended(), self.jobs());
        ended.insert(job);
        let others = ended.iter().filter(|other| **other != job).filter_map(|other| jobs.get(other)).flatten();
        let mut length = others.fold(0u64, |sum, output| sum.saturating_add(output.length()));
        let outputs = jobs.entry(job).or_default();
        outputs.retain(|output| {
            let more = length.saturating_add(output.length());
            let is_kept = keep.contains(&output.attempt) && more <= bytes_max;
            if is_kept {
                length = more;
            }
            is_kept
        });
        outputs.iter().map(|output| name_of(output.attempt)).collect()
    }

    fn ended(&self) -> MutexGuard<'_, BTreeSet<JobId>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "a folder is left behind");
        }
        _ => {}
    }
}

fn name_of(attempt: AttemptId) -> String {
    format!("{}-{}-{}", attempt.task.stage, attempt.task.index, attempt.attempt)
}

fn take_back(folder: &Path) -> io::Result<Output> {
    let bytes = fs::read(folder.join(VOTE_FILE))?;
    let record: Record = canonical::decode(&bytes, RECORD_BYTES_MAX).map_err(io::Error::other)?;
    let now = digest::digest_spans(&record.data, &record.spans)?;
    if now != record.segments {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes are no longer what it voted"));
    }
    let Record { attempt, vote, segments, spans, data } = record;
    Ok(Output { attempt, vote, segments: segments.into(), spans, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{
        digest::Digest,
        ids::{Stage, TaskId, TrackerId},
        sign::SecretKey,
        vote::{Ballot, FailureKind},
    };

    /// Keeps an output of so many bytes.
    fn keep(outputs: &Outputs, job: u64, index: u32, length: u64) -> AttemptId {
        let task = TaskId { job: JobId::new(job), stage: Stage::Map, index };
        let attempt = AttemptId { task, attempt: 0 };
        let ballot = Ballot::Failed { kind: FailureKind::Died, record: None };
        let (cluster, tracker) = (Digest::of(b"cluster"), TrackerId::new(0));
        let vote = Vote { cluster, specification: cluster, f: 1, attempt, tracker, ballot };
        let vote = Signed::seal(&vote, &SecretKey::from_seed([1; 32]));
        let segments = [Segment { digest: Digest::of(&[]), length, records: 0 }].into();
        let folder = outputs.folder(attempt);
        fs::create_dir_all(&folder).expect("made");
        let output = Output { attempt, vote, segments, spans: Vec::new(), data: folder.join("data") };
        outputs.keep(output).expect("kept");
        attempt
    }

    #[test]
    fn of_ended_jobs_what_is_named_stays_as_long_as_there_is_room() {
        let root = tempfile::tempdir().expect("a folder");
        let outputs = Outputs::open(root.path().join("jobs"), root.path().join("logs")).expect("opened");
        let attempts = [0, 1, 2, 3].map(|index| keep(&outputs, 1, index, 10));
        let stays = |attempt: AttemptId| {
            assert_eq!(outputs.get(attempt).is_some(), outputs.folder(attempt).exists(), "{attempt}");
            outputs.get(attempt).is_some()
        };
        outputs.forget_but(JobId::new(1), &attempts[1..], 20);
        assert_eq!(attempts.map(stays), [false, true, true, false], "the first of them that there is room for");
        let (second, live) = (keep(&outputs, 2, 0, 1), keep(&outputs, 3, 0, 50));
        outputs.forget_but(JobId::new(2), &[second], 20);
        assert!(!stays(second), "another job has taken all room");
        assert!(stays(live), "a job that has not ended is none of this");
        outputs.forget_but(JobId::new(1), &[], 20);
        assert!(!stays(attempts[1]) && !outputs.job_folder(JobId::new(1)).exists());
        let third = keep(&outputs, 4, 0, 20);
        outputs.forget_but(JobId::new(4), &[third], 20);
        assert!(stays(third), "its room is free again");
    }
}
