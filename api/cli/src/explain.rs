//! `quorate explain`: who disagreed in a job, since which record, who won, and what it looks like.

use clap::Args;
use quorate::{
    connection::Connection,
    exit::Failure,
    explain::explain,
    json::{self, Format},
    terminal::{print, visible},
};
use quorate_protocol::ids::{AttemptId, JobId, TaskId};
use std::path::Path;

/// Tells what happened in a job: who disagreed, since which record, who won by whose votes, and what it looks like
///
/// Votes and sides are what the job tracker has of the job. Where outputs differ is found on the trackers, through the
/// digests that they voted, and checked against them; they keep the bytes of such tasks for an hour after the job's end.
#[derive(Args)]
pub(crate) struct Explain {
    /// The job: `job-1` or `1`
    job: JobId,
    /// One of its tasks, such as `map-0`
    task: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(options: Explain, folder: Option<&Path>) -> Result<(), Failure> {
    let task = options.task.as_deref().map(|text| task_of(options.job, text)).transpose()?;
    let connection = Connection::open(folder)?;
    let explanation = explain(&connection, options.job, task).await?;
    if options.format.json {
        return json::print(&explanation);
    }
    print(&visible(&explanation.to_string()))
}

/// Reads `map-0`, or what the job's other reports say: `job-1/map-0`, or `job-1/map-0.2` of an attempt.
fn task_of(job: JobId, text: &str) -> Result<TaskId, Failure> {
    let named = if text.contains('/') { text.to_owned() } else { format!("{job}/{text}") };
    let attempt = if named.contains('.') { named } else { format!("{named}.0") };
    let attempt: AttemptId =
        attempt.parse().map_err(|_| Failure::usage(format!("{text:?} is no task such as map-0 or reduce-3")))?;
    Ok(attempt.task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_read_in_all_their_forms() {
        let job = JobId::new(7);
        for text in ["reduce-3", "job-7/reduce-3", "job-7/reduce-3.1", "reduce-3.1"] {
            assert_eq!(task_of(job, text).expect("a task").to_string(), "job-7/reduce-3");
        }
        assert_eq!(task_of(job, "shuffle-1").expect_err("none").exit(), quorate::exit::Exit::Usage);
    }
}
