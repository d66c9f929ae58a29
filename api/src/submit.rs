//! Making a specification, and waiting for its job.

use crate::{
    connection::{Connection, patiently},
    exit::{Code, Failure},
    files,
    job::AnyJob,
    progress::{Progress, Transfer},
    report,
};
use quorate_dfs::Upload;
use quorate_engine::digest::digest_file;
use quorate_jobtracker::client::ClientError;
use quorate_protocol::{
    digest::Digest,
    file::Path as ClusterPath,
    ids::JobId,
    job::{Partitioning, Program, Specification, this_target},
    query::{JobState, JobView},
};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// A job's state is asked for often at first, so that a small job's end is known soon, and then ever less often.
const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(100);

/// How long to wait before a job's state is asked for again, when it was waited for so long already: an eighth of that, so
/// that its end is known at most an eighth too late.
pub(crate) fn poll_after(waited: Duration) -> Duration {
    (waited / 8).clamp(POLL_MIN, POLL_MAX)
}

/// What a job is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) entry: String,
    pub(crate) arguments: String,
    pub(crate) inputs: Vec<ClusterPath>,
    pub(crate) output: ClusterPath,
    pub(crate) f: u32,
    pub(crate) partitions: u32,
    pub(crate) split_bytes: u64,
    pub(crate) memory: u64,
    pub(crate) progress_timeout: Duration,
}

impl Request {
    /// The specification, with keys given to partitions by hash.
    pub(crate) fn specification(self, job: &AnyJob) -> Specification {
        Specification {
            name: self.name,
            program: self.program,
            entry: self.entry,
            arguments: self.arguments,
            inputs: self.inputs,
            input_kind: job.input_kind,
            split_bytes: self.split_bytes,
            output: self.output,
            partitions: job.reducers.unwrap_or(self.partitions),
            partitioning: Partitioning::Hash,
            f: self.f,
            memory: self.memory,
            progress_timeout_ms: u64::try_from(self.progress_timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::new(Code::System, "cannot find this program's file").caused_by(&e))
}

/// The digest of the running program's file.
pub(crate) fn program_digest() -> Result<Digest, Failure> {
    let path = own_binary()?;
    let digest = fs::metadata(&path).and_then(|metadata| digest_file(&path, 0, metadata.len()));
    digest.map_err(|e| Failure::io("cannot read", &path, &e))
}

/// Stores the running program's file in the cluster, for its trackers to start.
pub(crate) async fn upload_program(connection: &Connection, copies: usize) -> Result<Program, Failure> {
    let path = own_binary()?;
    let file = files::store(connection, &path, Upload::copies(copies), &Transfer::hidden()).await?;
    Ok(Program::Binary { digest: program_digest()?, target: this_target(), file })
}

/// Waits until a job has ended, shows its progress meanwhile, and tells how it ended. Interrupted, it leaves the job alone.
///
/// # Errors
/// When the job tracker cannot be asked any more.
pub async fn wait_with_progress(connection: &Connection, job: JobId) -> Result<JobView, Failure> {
    let (mut progress, start) = (Progress::new(), Instant::now());
    loop {
        let answer = patiently(connection.client.job(job), |text| progress.say(text)).await;
        let view = answer.map_err(|error| left_alone(error, job))?;
        if view.summary.state.is_ended() {
            progress.finish(&view);
            return Ok(view);
        }
        progress.update(&view);
        tokio::time::sleep(poll_after(start.elapsed())).await;
    }
}

/// Nobody answers while a job is waited for: the job is not lost.
fn left_alone(error: ClientError, job: JobId) -> Failure {
    let is_silent = matches!(error, ClientError::Unreachable { .. });
    let failure = Failure::from(error);
    if !is_silent {
        return failure;
    }
    failure.hint(format!("{job} goes on when the job tracker is back; `quorate job wait {job}` waits for it again"))
}

/// Ctrl-C ends the waiting for a job of a running cluster, and not the job.
pub fn left_running(job: JobId, rest: &str) -> Failure {
    Failure::new(Code::Interrupted, format!("interrupted; {job} runs on{rest}")).hint(format!(
        "`quorate job kill {job}` ends it, `quorate job show {job}` tells how it stands, `quorate job wait {job}` waits for \
         it again"
    ))
}

/// Whether an ended job succeeded.
///
/// # Errors
/// The failure that says why not; its code tells the kind.
pub fn succeeded(view: &JobView) -> Result<(), Failure> {
    let job = view.summary.job;
    match &view.summary.state {
        JobState::Succeeded => Ok(()),
        JobState::Killed => Err(Failure::new(Code::JobKilled, format!("{job} was killed"))),
        JobState::Failed(why) => {
            let message = format!("{job} failed: {}", report::failure(why));
            Err(Failure::new(why.into(), message))
        }
        JobState::Running | JobState::Waiting(_) => {
            Err(Failure::new(Code::JobNotEnded, format!("{job} has not ended")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_jobs_are_asked_for_often_and_long_ones_seldom() {
        let after = |ms| poll_after(Duration::from_millis(ms)).as_millis();
        assert_eq!([0, 40, 160, 800, 3_600_000].map(after), [5, 5, 20, 100, 100]);
    }
}
