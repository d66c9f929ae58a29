//! A job tracker without any trusted log: four replicas that witness each other's, of which any one lies or dies.

use crate::under_test;
use quorate_jobtracker::ReplicaLiar;
use quorate_protocol::ids::ReplicaId;
use quorate_tests::{
    Processes,
    oracle::succeeded,
    processes::{Setup, run},
    reference::{counted_by_coreutils, merged, plays},
};

const ARGUMENTS: &[&str] = &["--split", "128KiB", "--reducers", "4", "--timeout", "20s"];

async fn counted_right(cluster: &Processes, text: &[u8]) {
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(text));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_equivocates_and_the_words_are_counted_right() {
    let text = plays();
    for liar in [0, 1].map(ReplicaId::new) {
        let lying_replicas = vec![(liar, ReplicaLiar::Equivocate)];
        let setup = Setup { lying_replicas, ..Setup::without_trusted_logs(under_test(), 3) };
        let cluster = Processes::set_up(setup).await;
        cluster.put(&text, "/in/plays").await;
        let view = cluster.ended(cluster.submit_wordcount(ARGUMENTS).await).await;
        succeeded(&view);
        counted_right(&cluster, &text).await;
        cluster.only_guilty_replicas(&[liar]).await;
        let status = run(cluster.quorate(&["cluster", "status"])).await;
        let said = String::from_utf8(status.stdout).expect("UTF-8");
        let assumption = "agreement: pbft, 4 replicas: safe while at most 1 of them lies; no trusted component\n";
        assert!(status.status.success() && said.starts_with(assumption), "{said}");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_killed_in_the_middle_and_comes_back() {
    let text = plays();
    let mut cluster = Processes::set_up(Setup::without_trusted_logs(under_test(), 3)).await;
    cluster.put(&text, "/in/plays").await;
    let job = cluster.submit_wordcount(ARGUMENTS).await;
    let primary = cluster.primary().await;
    cluster.kill(&primary.to_string());
    let view = cluster.ended(job).await;
    succeeded(&view);
    assert_ne!(cluster.primary().await, primary, "another one took over");
    cluster.start_member(&primary.to_string());
    cluster.replicas_agree().await;
    counted_right(&cluster, &text).await;
    cluster.only_guilty_replicas(&[]).await;
    // It came back with all it had said: its epoch is the first one still.
    assert!(cluster.views().await.iter().all(|view| view.epoch == 0));
    cluster.stop().await;
}
