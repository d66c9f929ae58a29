//! Jobs that cannot succeed: each ends, says why, and blames no tracker.

use crate::programs::app;
use quorate::LocalCluster;
use quorate_protocol::{
    ids::Stage,
    query::{JobFailure, JobState, JobView},
    vote::FailureKind,
};
use quorate_tasktracker::first_difference;
use quorate_tests::{oracle::only_guilty, processes::PATIENCE};

async fn run(entry: &str, text: &[u8], f: u32) -> (LocalCluster, JobView) {
    let cluster = LocalCluster::builder(app()).trackers(2 * f + 1).f(f).start().await.expect("a cluster");
    cluster.put(text, "/in/text").await.expect("put");
    let mut specification = cluster.specification(entry, "{}", &["/in"], "/out").expect("a specification");
    specification.partitions = 1;
    let view = cluster.wait(cluster.submit(specification).await.expect("submitted"), PATIENCE).await.expect("it ends");
    only_guilty(cluster.client(), &[]).await;
    assert!(cluster.read("/out/part-r-00000").await.is_err(), "nothing half-written is visible");
    (cluster, view)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_output_is_undecidable_and_the_first_differing_record_is_named() {
    let (cluster, view) = run("dice", b"a\nb\nroll\nz\n", 1).await;
    let JobState::Failed(JobFailure::Undecidable { task }) = view.summary.state else {
        panic!("{}", quorate::report::job(&view))
    };
    assert_eq!((task.stage, task.index), (Stage::Map, 0));
    let difference = first_difference(cluster.client(), task).await.expect("a difference");
    assert_eq!((difference.partition, difference.position), (0, 2), "a, b, then roll");
    assert!(difference.sides.iter().all(|(_, shown)| shown.contains("roll")), "{difference}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_user_code_is_reported_with_task_and_record() {
    let (cluster, view) = run("bomb", b"fine\npanic\n", 1).await;
    let JobState::Failed(JobFailure::Program { task, kind, record, message }) = view.summary.state else {
        panic!("{}", quorate::report::job(&view))
    };
    assert_eq!((task.stage, task.index, kind, record), (Stage::Map, 0, FailureKind::UserPanic, Some(1)));
    assert!(message.contains("the bomb went off") && message.contains("programs.rs"), "{message}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_user_code_is_reported_with_task_and_record() {
    let (cluster, view) = run("bomb", b"fine\nfine\nerror\n", 0).await;
    let JobState::Failed(JobFailure::Program { kind, record, message, .. }) = view.summary.state else {
        panic!("{}", quorate::report::job(&view))
    };
    assert_eq!((kind, record), (FailureKind::UserError, Some(2)));
    assert!(message.contains("the fuse is wet"), "{message}");
    cluster.stop().await;
}
