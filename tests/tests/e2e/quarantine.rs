//! An operator puts a tracker in quarantine and readmits it, and it shows with known answers that it works.

use crate::under_test;
use quorate_protocol::{
    file::Path,
    ids::TrackerId,
    query::{Duty, TrackerView},
};
use quorate_tests::{
    Processes,
    oracle::{only_guilty, succeeded},
    processes::run,
    reference::{counted_by_coreutils, merged, plays},
};

const ID: TrackerId = TrackerId::new(3);
/// Known answers are to be had while a job runs: a busy machine may need several jobs.
const JOBS_MAX: u32 = 20;

async fn tracker(cluster: &Processes) -> TrackerView {
    let trackers = cluster.client().trackers().await.expect("trackers");
    trackers.into_iter().find(|tracker| tracker.id == ID).expect("it is of the cluster")
}

async fn quorate(cluster: &Processes, arguments: &[&str]) -> (bool, String) {
    let output = run(cluster.quorate(arguments)).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("UTF-8"))
}

async fn job(cluster: &Processes, counted: &[u8]) {
    let submitted = cluster.submit_wordcount(&["--split", "16KiB", "--reducers", "2", "--timeout", "10s"]).await;
    succeeded(&cluster.ended(submitted).await);
    assert_eq!(merged(&cluster.read_all("/out").await), counted);
    cluster.client().remove(Path::parse("/out").expect("a path"), true).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_goes_into_quarantine_and_comes_back_over_known_answers() {
    let text = plays();
    let counted = counted_by_coreutils(&text);
    let cluster = Processes::start(under_test(), 4, &[]).await;
    cluster.put(&text, "/in/plays").await;

    let (refused, said) = quorate(&cluster, &["tracker", "readmit", "3"]).await;
    assert!(!refused && said.contains("tracker-3 is not in quarantine"), "{said}");
    let (done, said) = quorate(&cluster, &["tracker", "quarantine", "tracker-3", "--reason", "its fan is loud"]).await;
    assert!(done, "{said}");
    job(&cluster, &counted).await;
    assert_eq!(tracker(&cluster).await.agreed, 0, "it had no work");
    let (_, list) = quorate(&cluster, &["tracker", "list"]).await;
    let line = list.lines().find(|line| line.starts_with("tracker-3")).expect("a line for it");
    assert!(line.trim_end().ends_with("quarantine"), "{list}");
    let (_, shown) = quorate(&cluster, &["tracker", "show", "3"]).await;
    assert!(shown.contains("in quarantine: its fan is loud"), "{shown}");

    let (done, said) = quorate(&cluster, &["tracker", "readmit", "3"]).await;
    assert!(done, "{said}");
    assert_eq!(tracker(&cluster).await.duty, Duty::Probation { passed: 0, needed: 3 });
    let mut jobs = 0;
    while tracker(&cluster).await.duty != Duty::Full {
        jobs += 1;
        assert!(jobs <= JOBS_MAX, "{:?}", tracker(&cluster).await);
        job(&cluster, &counted).await;
    }
    while tracker(&cluster).await.agreed == 0 {
        jobs += 1;
        assert!(jobs <= JOBS_MAX, "it gets work again: {:?}", tracker(&cluster).await);
        job(&cluster, &counted).await;
    }
    only_guilty(cluster.client(), &[]).await;
    cluster.stop().await;
}
