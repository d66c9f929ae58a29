//! Honest jobs on an embedded cluster.

use crate::programs::app;
use quorate::{LocalCluster, local::Agreement};
use quorate_liars::Kind;
use quorate_protocol::ids::TrackerId;
use quorate_tests::{
    oracle::{Guilt, only_guilty, succeeded},
    processes::PATIENCE,
    reference::{counted_by_coreutils, merged, plays},
};

const NO_ARGS: &str = "{}";

pub(crate) async fn parts(cluster: &LocalCluster, folder: &str, partitions: u32) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for partition in 0..partitions {
        parts.push(cluster.read(&format!("{folder}/part-r-{partition:05}")).await.expect("a part"));
    }
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn word_count_equals_coreutils_for_every_f_and_gives_the_same_bytes() {
    let text = plays();
    let mut outputs = Vec::new();
    for (f, trackers) in [(0, 1), (1, 3), (2, 5)] {
        let cluster = LocalCluster::builder(app()).trackers(trackers).f(f).start().await.expect("a cluster");
        cluster.put(&text, "/in/plays").await.expect("put");
        let job = cluster.submit(cluster.specification("words", NO_ARGS, &["/in"], "/out").expect("a specification"));
        let view = cluster.wait(job.await.expect("submitted"), PATIENCE).await.expect("it ends");
        succeeded(&view);
        assert_eq!(view.disputed, 0, "{}", quorate::report::job(&view));
        assert_eq!(view.attempts, u64::from(view.summary.maps.1 + view.summary.reduces.1) * u64::from(f + 1));
        only_guilty(cluster.client(), &[]).await;
        outputs.push(parts(&cluster, "/out", 2).await);
        cluster.stop().await;
    }
    assert_eq!(merged(&outputs[0]), counted_by_coreutils(&text));
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]), "f changes the output");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_cluster_needs_no_trusted_log() {
    let text = plays();
    let builder = LocalCluster::builder(app()).agreement(Agreement::Pbft).trackers(3);
    let cluster = builder.start().await.expect("a cluster");
    assert_eq!(cluster.client().replicas().await.len(), 4);
    cluster.put(&text, "/in/plays").await.expect("put");
    let job = cluster.submit(cluster.specification("words", NO_ARGS, &["/in"], "/out").expect("a specification"));
    let view = cluster.wait(job.await.expect("submitted"), PATIENCE).await.expect("it ends");
    succeeded(&view);
    assert_eq!(merged(&parts(&cluster, "/out", 2).await), counted_by_coreutils(&text));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_the_combiner_change_the_work_and_not_the_result() {
    let text = plays().repeat(8);
    let cluster = LocalCluster::builder(app()).trackers(3).f(1).start().await.expect("a cluster");
    cluster.put(&text, "/in/plays").await.expect("put");
    let mut results = Vec::new();
    for (number, (entry, memory)) in
        [("words", 64 << 20), ("words", 16 << 20), ("words-uncombined", 16 << 20)].iter().enumerate()
    {
        let output = format!("/out-{number}");
        let mut specification = cluster.specification(entry, NO_ARGS, &["/in"], &output).expect("a specification");
        (specification.memory, specification.split_bytes) = (*memory, 16 << 20);
        let view =
            cluster.wait(cluster.submit(specification).await.expect("submitted"), PATIENCE).await.expect("it ends");
        succeeded(&view);
        results.push(parts(&cluster, &output, 2).await);
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    only_guilty(cluster.client(), &[]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_segment_redoes_one_partition_and_no_other() {
    const PARTITIONS: u32 = 8;
    let text = plays();
    let cluster = LocalCluster::builder(app())
        .trackers(3)
        .f(1)
        .slots(2, 8)
        .liar(TrackerId::new(0), Kind::CorruptSegment)
        .start()
        .await
        .expect("a cluster");
    cluster.put(&text, "/in/plays").await.expect("put");
    let mut specification = cluster.specification("words", NO_ARGS, &["/in"], "/out").expect("a specification");
    (specification.split_bytes, specification.partitions) = (512 << 10, PARTITIONS);
    let view = cluster.wait(cluster.submit(specification).await.expect("submitted"), PATIENCE).await.expect("it ends");
    succeeded(&view);
    assert_eq!(merged(&parts(&cluster, "/out", PARTITIONS).await), counted_by_coreutils(&text));
    assert_eq!(view.disputed, 1, "one map task: {}", quorate::report::job(&view));
    // Both attempts of the one partition may have taken the wrong segment, and no attempt of another.
    assert!(view.cost.restarts <= 2, "{} restarts", view.cost.restarts);
    assert!(view.cost.refetched * u64::from(PARTITIONS) <= view.cost.shuffled, "{:?}", view.cost);
    only_guilty(cluster.client(), &[(TrackerId::new(0), Guilt::Suspected)]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_input_gives_empty_parts() {
    let cluster = LocalCluster::builder(app()).trackers(3).f(1).start().await.expect("a cluster");
    cluster.put(b"", "/in/nothing").await.expect("put");
    let specification = cluster.specification("words", NO_ARGS, &["/in"], "/out").expect("a specification");
    let view = cluster.wait(cluster.submit(specification).await.expect("submitted"), PATIENCE).await.expect("it ends");
    succeeded(&view);
    assert!(parts(&cluster, "/out", 2).await.iter().all(Vec::is_empty));
    cluster.stop().await;
}
