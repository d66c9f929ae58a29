//! What the replicas' pages say of a cluster with liars.

use crate::under_test;
use quorate_jobtracker::ReplicaLiar;
use quorate_liars::Kind;
use quorate_protocol::ids::{ReplicaId, TrackerId};
use quorate_tests::{
    Processes,
    http::{get, json},
    oracle::succeeded,
    processes::Setup,
};
use serde_json::Value;

/// What each replica says of who lies, all of them of one place of the history.
async fn standings(cluster: &Processes, replicas: u32) -> Vec<Value> {
    let mut least = u64::MAX;
    for replica in 0..replicas {
        let now = json(cluster.page(replica), "/api/v1/standing").await;
        least = least.min(now["agreed"]["position"]["ordered"].as_u64().expect("a place"));
    }
    let mut said = Vec::new();
    for replica in 0..replicas {
        said.push(json(cluster.page(replica), &format!("/api/v1/standing?at={least}")).await["agreed"].take());
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_replicas_name_the_liar_in_the_same_words_and_a_lying_one_stands_out() {
    let setup = Setup {
        liars: vec![(TrackerId::new(2), Kind::CorruptMap)],
        lying_replicas: vec![(ReplicaId::new(1), ReplicaLiar::WrongReply)],
        ..Setup::new(under_test(), 5)
    };
    let cluster = Processes::set_up(setup).await;
    cluster.put(&b"some words, some more words\n".repeat(40_000), "/in").await;
    let job = cluster.submit_wordcount(&["--split", "256KiB"]).await;
    succeeded(&cluster.ended(job).await);
    cluster
        .until("the liar is suspected", async || {
            let standing = json(cluster.page(0), "/api/v1/standing").await;
            standing["agreed"]["trackers"].as_array().is_some_and(|trackers| !trackers.is_empty())
        })
        .await;
    let said = standings(&cluster, 3).await;
    assert_eq!(said[0], said[2], "two honest replicas say the same of one place");
    assert_eq!(said[0]["position"], said[1]["position"]);
    assert_ne!(said[0], said[1], "the lying one says otherwise");
    assert_eq!(said[1]["trackers"], Value::Array(Vec::new()));
    let suspects = said[0]["trackers"].as_array().expect("a list");
    assert_eq!(suspects.len(), 1, "{suspects:?}");
    assert_eq!((&suspects[0]["tracker"], &suspects[0]["blame"]), (&2.into(), &"suspected".into()));
    let tracker = json(cluster.page(0), "/api/v1/trackers/2").await;
    let accusation = &tracker["accusations"][0];
    assert_eq!((&accusation["kind"], &accusation["valid"]), (&"outvoted".into(), &true.into()), "{accusation}");
    assert_eq!(accusation["statements"].as_array().map(Vec::len), Some(3), "the vote, and f + 1 others");
    let shown = json(cluster.page(2), "/api/v1/cluster").await;
    let pages: Vec<_> = (0..3).map(|replica| Value::from(format!("http://{}/", cluster.page(replica)))).collect();
    let told: Vec<_> =
        shown["replicas"].as_array().expect("a list").iter().map(|replica| replica["page"].clone()).collect();
    assert_eq!(told, pages);
    assert_eq!(shown["jobs"]["succeeded"], 1);
    let (status, metrics) = get(cluster.page(0), "/metrics").await.expect("an answer");
    assert!(status == 200 && metrics.contains("quorate_trackers_blamed{blame=\"suspected\"} 1"), "{metrics}");
    cluster.stop().await;
}
