//! Jobs that fail, and how their clients end.

use super::{
    Desk,
    job_tracker::{Manner, start},
};
use crate::{programs::app, under_test};
use quorate::{LocalCluster, exit::Code};
use quorate_protocol::{
    command::Cost,
    file::Path,
    ids::{JobId, OrderedTime, Stage, TaskId},
    query::{Answer, JobFailure, JobState, JobSummary, JobView},
};
use quorate_tests::{Processes, processes::PATIENCE};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_embedded_clusters() {
    let desk = Desk::new();
    let text = desk.write("text", "first\nnow\n");
    let job = |how: &str| desk.mishap(&["--trackers", "3", "--progress", "none", "--input", &text, "--mapper", how]);
    desk.provoke(Code::ProgramError, "", job("error")).await;
    desk.provoke(Code::Nondeterministic, "", job("dice")).await;
    desk.provoke(Code::ClientCode, "", desk.mishap(&["--trackers", "3", "--input", &text, "--client", "driver"])).await;
    let torn = desk.write("torn.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03torn");
    desk.provoke(Code::BadInput, "", desk.mishap(&["--trackers", "3", "--progress", "none", "--input", &torn])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_a_running_cluster() {
    let desk = Desk::new();
    let cluster = Processes::start(under_test(), 3, &[]).await;
    let here = |mut command: std::process::Command| {
        command.env("QUORATE_CLUSTER", cluster.folder().join("connection"));
        command
    };
    cluster.put(b"first\nnow\n", "/in").await;
    let submit = |how: &str, output: &str| {
        here(desk.mishap(&["submit", "--input", "/in", "--output", output, "--mapper", how, "--progress", "none"]))
    };
    desk.provoke(Code::ProgramPanic, "", submit("panic", "/a")).await;
    desk.provoke(Code::ProgramDied, "", submit("exit", "/b")).await;

    // One that does not end by itself: its client is interrupted, and then it is killed.
    let mut waiting = submit("sleep", "/c").stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("it starts");
    cluster
        .until("the job runs", async || {
            let jobs = cluster.client().jobs().await.unwrap_or_default();
            jobs.iter().any(|job| job.job == JobId::new(3))
        })
        .await;
    let pid = rustix::process::Pid::from_child(&waiting);
    // The client waits for the job after it has submitted it; a signal before that interrupts the submission.
    let mut said = String::new();
    let mut lines = BufReader::new(waiting.stderr.take().expect("piped"));
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    while lines.read_line(&mut said).expect("text") > 0 {}
    assert_eq!(waiting.wait().expect("it ends").code(), Some(130), "{said}");
    assert!(said.contains("error[Q0901]: interrupted"), "{said}");

    let mut wait = here(desk.quorate(&["job", "wait", "3"])).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(wait.stderr.take().expect("piped"));
    let mut said = String::new();
    // It shows progress: it waits.
    lines.read_line(&mut said).expect("a line");
    assert!(said.contains("job-3 mishap: maps 0/1"), "{said}");
    let pid = rustix::process::Pid::from_child(&wait);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    said.clear();
    while lines.read_line(&mut said).expect("text") > 0 {}
    assert_eq!(wait.wait().expect("it ends").code(), Some(130), "{said}");
    assert!(said.contains(&format!("error[{}]", Code::Interrupted)), "{said}");
    desk.shows(&Code::Interrupted.to_string(), &said);

    let killed = super::run(here(desk.quorate(&["job", "kill", "3"]))).await;
    assert!(killed.status.success());
    desk.provoke(Code::JobKilled, "", here(desk.quorate(&["job", "wait", "3"]))).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_failed_as_few_do() {
    let task = TaskId { job: JobId::new(1), stage: Stage::Map, index: 0 };
    let reason = "no copy of the input can be read\u{1b}[2J".to_owned();
    for (code, failure) in [
        (Code::NotRunnable, JobFailure::NotRunnable { task, reason }),
        (Code::Undecidable, JobFailure::Undecidable { task }),
    ] {
        let desk = Desk::new();
        let view = Answer::Job(Box::new(failed(failure)));
        start(&desk.path("connection"), Manner::Alike(Box::new(view))).await;
        desk.provoke(code, "", desk.quorate(&["job", "wait", "1"])).await;
    }
}

fn failed(failure: JobFailure) -> JobView {
    let summary = JobSummary {
        job: JobId::new(1),
        name: "wordcount".to_owned(),
        state: JobState::Failed(failure),
        submitted: OrderedTime(1_000),
        until: OrderedTime(3_000),
        f: 1,
        maps: (0, 1),
        reduces: (0, 1),
    };
    JobView {
        summary,
        output: Path::parse("/out").expect("a path"),
        attempts: 3,
        cost: Cost::default(),
        counters: Default::default(),
        disputes: Vec::new(),
        disputed: 0,
        tests: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_asked_for_too_early() {
    let cluster = LocalCluster::builder(app()).trackers(3).start().await.expect("a cluster");
    cluster.put(b"a\n", "/in/text").await.expect("put");
    let specification = cluster.specification("words", "{}", &["/in"], "/out").expect("a specification");
    let job = cluster.submit(specification).await.expect("submitted");
    let early = cluster.wait(job, Duration::ZERO).await;
    assert_eq!(early.expect_err("it runs").code, Code::JobNotEnded);
    cluster.wait(job, PATIENCE).await.expect("it ends");
    cluster.stop().await;
}
