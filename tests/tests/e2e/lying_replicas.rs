//! Lying replicas: jobs come out right, trackers never act on one replica's word, and the liar is named where its lie shows.

use crate::under_test;
use quorate_jobtracker::ReplicaLiar;
use quorate_protocol::ids::ReplicaId;
use quorate_tests::{
    Processes,
    oracle::{only_guilty, succeeded},
    processes::{Setup, run},
    reference::{counted_by_coreutils, made_up_text, merged},
};

/// The primary of the first view.
const LIAR: ReplicaId = ReplicaId::new(0);

/// A word count while the first primary lies. Gives what `quorate cluster status` shows at its end, and all logs.
async fn outvoted(kind: ReplicaLiar) -> (String, String) {
    let text = made_up_text(2 << 20);
    let setup = Setup { lying_replicas: vec![(LIAR, kind)], ..Setup::new(under_test(), 3) };
    let cluster = Processes::set_up(setup).await;
    cluster.put(&text, "/in/text").await;
    let job = cluster.submit_wordcount(&["--split", "128KiB", "--reducers", "4", "--timeout", "10s"]).await;
    let view = cluster.ended(job).await;
    succeeded(&view);
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(&text));
    only_guilty(cluster.client(), &[]).await;
    cluster.only_guilty_replicas(&[LIAR]).await;
    let distrusted = cluster.client().distrusted();
    assert!(distrusted.iter().all(|distrust| distrust.replica == LIAR), "{distrusted:?}");
    let status = run(cluster.quorate(&["cluster", "status"])).await;
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let shown = (String::from_utf8_lossy(&status.stdout).into_owned(), cluster.logs());
    // A forged directive is of a job that does not exist: a tracker that believed it would say so.
    assert!(!shown.1.contains("declined"), "{}", shown.1);
    cluster.stop().await;
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn equivocate() {
    let (status, _) = outvoted(ReplicaLiar::Equivocate).await;
    assert!(status.contains("replica-0: ") && status.contains("(proof; so say replica-1"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_reply() {
    let (status, _) = outvoted(ReplicaLiar::WrongReply).await;
    assert!(status.contains("replica-0: it signed another answer"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forge_directive() {
    let (_, logs) = outvoted(ReplicaLiar::ForgeDirective).await;
    assert!(logs.contains("it signed an item that f + 1 replicas do not have"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn censor() {
    outvoted(ReplicaLiar::Censor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_view() {
    outvoted(ReplicaLiar::StaleView).await;
}

#[test]
fn no_lie_is_left_out() {
    use ReplicaLiar::{Censor, Equivocate, ForgeDirective, StaleView, WrongReply};
    assert_eq!(ReplicaLiar::ALL, [Equivocate, WrongReply, ForgeDirective, Censor, StaleView]);
}
