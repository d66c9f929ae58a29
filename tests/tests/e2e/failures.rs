//! Jobs that cannot succeed: each ends, says why, and blames no tracker.

use crate::{programs::app, under_test};
use quorate::LocalCluster;
use quorate_protocol::{
    ids::Stage,
    job::Program,
    query::{JobFailure, JobState, JobView},
    vote::FailureKind,
};
use quorate_tasktracker::{Vouched, first_difference};
use quorate_tests::{Processes, oracle::only_guilty, processes::PATIENCE, reference::made_up_text};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_for_another_machine_is_refused_before_it_runs() {
    let cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.put(&made_up_text(8 << 20), "/in/text").await;
    let job = cluster.submit_wordcount(&["--split", "64KiB"]).await;
    let mut specification = cluster.client().plan(job).await.expect("the plan of a running job").specification;
    cluster.client().kill(job).await.expect("killed");
    let Program::Binary { target, .. } = &mut specification.program else { panic!("a real binary") };
    *target = "sparc-plan9".to_owned();
    specification.output = quorate_protocol::file::Path::parse("/out-2").expect("a path");
    let refused = cluster.client().submit_job(specification).await.expect_err("nobody runs it");
    let failure = quorate::exit::Failure::from(refused);
    assert_eq!(failure.code, quorate::exit::Code::WrongTarget);
    assert!(failure.message.contains("sparc-plan9") && failure.message.contains("trackers run"), "{failure}");
    cluster.stop().await;
}

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
async fn random_output_is_nondeterministic_and_the_first_differing_record_is_named() {
    let (cluster, view) = run("dice", b"a\nb\nroll\nz\n", 1).await;
    let JobState::Failed(JobFailure::Nondeterministic { task, .. }) = view.summary.state else {
        panic!("{}", quorate::report::job(&view))
    };
    assert_eq!((task.stage, task.index), (Stage::Map, 0));
    let difference = first_difference(cluster.client(), task).await.expect("a difference");
    assert_eq!((difference.partition, difference.record), (0, Some((2, Vouched::Both))), "a, b, then roll");
    assert!(difference.sides.iter().all(|side| side.shown.to_string().contains("roll")), "{difference}");
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
