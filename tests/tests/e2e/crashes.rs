//! `kill -9` in the middle of a job.

use crate::under_test;
use quorate_protocol::{ids::JobId, query::JobView};
use quorate_tests::{
    Processes,
    oracle::{only_guilty, succeeded},
    processes::Setup,
    reference::{counted_by_coreutils, made_up_text, merged},
};

/// Many small tasks, so that there is a middle.
const ARGUMENTS: &[&str] = &["--split", "64KiB", "--reducers", "4", "--timeout", "10s"];

async fn in_the_middle(cluster: &Processes, text: &[u8]) -> JobId {
    cluster.put(text, "/in/text").await;
    let job = cluster.submit_wordcount(ARGUMENTS).await;
    cluster
        .until("some maps are agreed and some are not", async || {
            let view = cluster.client().job(job).await;
            view.is_ok_and(|view| view.summary.maps.0 >= 3 && view.summary.reduces.0 == 0)
        })
        .await;
    job
}

async fn right_in_the_end(cluster: Processes, job: JobId, text: &[u8]) -> JobView {
    let view = cluster.ended(job).await;
    succeeded(&view);
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(text));
    only_guilty(cluster.client(), &[]).await;
    cluster.stop().await;
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_tracker_alone_is_killed_and_goes_on_where_it_was() {
    let text = made_up_text(4 << 20);
    let mut cluster = Processes::set_up(Setup { replicas: 1, ..Setup::new(under_test(), 5) }).await;
    let job = in_the_middle(&cluster, &text).await;
    cluster.kill("replica-0");
    cluster.start_member("replica-0");
    right_in_the_end(cluster, job, &text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_is_killed_and_its_work_runs_elsewhere() {
    let text = made_up_text(4 << 20);
    let mut cluster = Processes::start(under_test(), 5, &[]).await;
    let job = in_the_middle(&cluster, &text).await;
    cluster.kill("tracker-1");
    right_in_the_end(cluster, job, &text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_is_killed_and_comes_back_in_the_middle_of_the_job() {
    let text = made_up_text(4 << 20);
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    let job = in_the_middle(&cluster, &text).await;
    cluster.kill("tracker-0");
    cluster.start_member("tracker-0");
    right_in_the_end(cluster, job, &text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_domains_make_the_job_wait_and_say_so() {
    let text = made_up_text(4 << 20);
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    let job = in_the_middle(&cluster, &text).await;
    cluster.kill("tracker-0");
    cluster.kill("tracker-1");
    cluster
        .until("the job says that it waits", async || {
            let view = cluster.client().job(job).await;
            view.is_ok_and(|view| matches!(view.summary.state, quorate_protocol::query::JobState::Waiting(_)))
        })
        .await;
    cluster.start_member("tracker-0");
    cluster.start_member("tracker-1");
    right_in_the_end(cluster, job, &text).await;
}
