//! `quorate job`: what runs, what ran, and what came of it.

use crate::verify;
use clap::Subcommand;
use quorate::{
    connection::Connection,
    exit::{Code, Failure},
    json::{self, Format},
    left_running, report, succeeded,
    terminal::{print, print_table, visible},
    wait_with_progress,
};
use quorate_protocol::{
    ids::{AttemptId, JobId, TaskId},
    query::{JobFailure, JobState, JobView},
};
use quorate_tasktracker::{Peers, first_difference, read_log};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists jobs, newest first.
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Shows a job: its state, its disputes, its totals.
    Show {
        /// Which: `job-1` or `1`.
        job: JobId,
        #[command(flatten)]
        format: Format,
    },
    /// Waits for a job's end, and tells how it ended.
    ///
    /// So does the exit code: 0 for a job that succeeded, 1 for one that failed or was killed. `quorate job show` tells
    /// the rest.
    Wait {
        /// Which: `job-1` or `1`.
        job: JobId,
    },
    /// Ends a job.
    Kill {
        /// Which: `job-1` or `1`.
        job: JobId,
    },
    /// Writes a job's certificate, which `quorate verify` checks on any machine.
    ///
    /// It has the program's digest, the arguments, the input's and the output's digests, the votes of f+1 trackers for each
    /// part of the output, and the signatures of f+1 replicas of the job tracker.
    Certificate {
        /// Which: `job-1` or `1`. It must have succeeded.
        job: JobId,
        /// Where to; it must not exist [default: JOB.certificate, in the current folder]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Shows what user code wrote to its standard output and error.
    ///
    /// With a job: of the attempts of the task that failed, or of its first tasks. With an attempt, as in
    /// `job-1/map-0.1`: of that one.
    Logs {
        /// A job or an attempt.
        #[arg(value_name = "JOB|ATTEMPT")]
        what: String,
    },
}

impl Command {
    /// What Ctrl-C leaves behind: a job that was waited for runs on.
    pub(crate) fn left(&self) -> impl FnOnce(Failure) -> Failure + use<> {
        let waited_for = match self {
            Command::Wait { job } => Some(*job),
            Command::List { .. }
            | Command::Show { .. }
            | Command::Kill { .. }
            | Command::Certificate { .. }
            | Command::Logs { .. } => None,
        };
        move |failure| match waited_for {
            Some(job) if failure.code == Code::Interrupted => left_running(job, ""),
            Some(_) | None => failure,
        }
    }
}

pub(crate) async fn run(command: Command, folder: Option<&Path>) -> Result<(), Failure> {
    let connection = Connection::open(folder)?;
    match command {
        Command::List { format } => {
            let jobs = connection.client.jobs().await?;
            if format.json {
                return json::print(&jobs.iter().map(json::Job::from).collect::<Vec<_>>());
            }
            print_table(&report::jobs(&jobs))
        }
        Command::Show { job, format } => {
            let view = connection.client.job(job).await?;
            if format.json {
                return json::print(&json::JobDetail::from(&view));
            }
            print(&visible(&report::job(&view)))?;
            show_difference(&connection, &view).await
        }
        Command::Wait { job } => {
            let view = wait_with_progress(&connection, job).await?;
            succeeded(&view)
        }
        Command::Kill { job } => Ok(connection.client.kill(job).await?),
        Command::Certificate { job, output } => verify::write(&connection, job, output).await,
        Command::Logs { what } => logs(&connection, &what).await,
    }
}

/// Of an undecidable or nondeterministic job: where its attempts differ first, as long as the trackers keep their bytes.
async fn show_difference(connection: &Connection, view: &JobView) -> Result<(), Failure> {
    let JobState::Failed(JobFailure::Undecidable { task } | JobFailure::Nondeterministic { task, .. }) =
        &view.summary.state
    else {
        return Ok(());
    };
    match first_difference(&connection.client, *task).await {
        Ok(difference) => print(&format!("first difference: {difference}\n")),
        Err(error) => print(&format!("the first difference is not to be had any more: {error}\n")),
    }
}

async fn logs(connection: &Connection, what: &str) -> Result<(), Failure> {
    let attempts = match (what.parse::<AttemptId>(), what.parse::<JobId>()) {
        (Ok(attempt), _) => vec![attempt],
        (Err(_), Ok(job)) => attempts_of(&connection.client.job(job).await?),
        (Err(error), Err(_)) => return Err(Failure::usage(error)),
    };
    let trackers = connection.client.trackers().await?;
    let peers = Peers::default();
    peers.update(&trackers);
    let mut found = false;
    for attempt in attempts {
        for tracker in trackers.iter().filter(|tracker| tracker.live) {
            let Ok(log) = read_log(&peers, tracker.id, attempt).await else { continue };
            found = true;
            print(&format!("== {attempt} on {}\n{}", tracker.id, String::from_utf8_lossy(&log)))?;
        }
    }
    if found {
        return Ok(());
    }
    Err(Failure::new(Code::NoLog, format!("no tracker has a log of {what}")))
}

/// The attempts whose logs say most: of the task that failed, else of the first task of each stage.
fn attempts_of(view: &JobView) -> Vec<AttemptId> {
    use quorate_protocol::ids::Stage;
    let job = view.summary.job;
    let tasks: Vec<TaskId> = match &view.summary.state {
        JobState::Failed(
            JobFailure::Program { task, .. }
            | JobFailure::Undecidable { task }
            | JobFailure::NotRunnable { task, .. }
            | JobFailure::Nondeterministic { task, .. },
        ) => vec![*task],
        JobState::Running | JobState::Waiting(_) | JobState::Succeeded | JobState::Killed => {
            [Stage::Map, Stage::Reduce].map(|stage| TaskId { job, stage, index: 0 }).to_vec()
        }
    };
    let attempts = 2 * view.summary.f as u16 + 1;
    tasks.iter().flat_map(|task| (0..attempts).map(|attempt| AttemptId { task: *task, attempt })).collect()
}
