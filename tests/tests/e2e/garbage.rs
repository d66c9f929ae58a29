//! Garbage on every socket: refused, and the cluster works on.

use crate::under_test;
use quorate_protocol::wire::{
    ChunkRequest, Command, LogRequest, PutBlock, Question, SegmentRequest, VotesRequest,
    chunk_server_client::ChunkServerClient, job_tracker_client::JobTrackerClient, tracker_client::TrackerClient,
};
use quorate_tests::{
    Processes,
    oracle::{only_guilty, succeeded},
    reference::{counted_by_coreutils, made_up_text, merged},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::Endpoint;

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

async fn raw(address: &str) {
    for (seed, bytes) in [(1, 1), (2, 100), (3, 1 << 20)] {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        let _ = socket.write_all(&noise(seed, bytes)).await;
        let _ = socket.shutdown().await;
        // It hangs up on us, sooner or later.
        let mut heard = Vec::new();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(20), socket.read_to_end(&mut heard))
            .await
            .expect("it hangs up");
    }
}

async fn calls_to_job_tracker(address: &str) {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let mut client = JobTrackerClient::new(channel).max_encoding_message_size(usize::MAX);
    for (seed, bytes) in [(4, 0), (5, 10), (6, 1000), (7, 64 << 20)] {
        let signed = noise(seed, bytes);
        assert!(client.submit(Command { signed: signed.clone() }).await.is_err());
        let asked = client.ask(Question { seen: signed.clone(), question: signed }).await;
        assert!(bytes == 0 || asked.is_err() || bytes < 20, "a question of {bytes} random bytes was answered");
    }
}

async fn calls_to_tracker(address: &str) {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let mut tracker = TrackerClient::new(channel.clone()).max_encoding_message_size(usize::MAX);
    let mut chunks = ChunkServerClient::new(channel).max_encoding_message_size(usize::MAX);
    for (seed, bytes) in [(8, 0), (9, 10), (10, 1000), (11, 16 << 20)] {
        let noise = noise(seed, bytes);
        let segment = SegmentRequest { attempt: noise.clone(), partition: u32::MAX, reader: 7, vote: noise.clone() };
        assert!(tracker.prove_segment(segment).await.is_err());
        assert!(tracker.get_log(LogRequest { attempt: noise.clone() }).await.is_err());
        assert!(chunks.get_chunk(ChunkRequest { chunk: noise.clone(), prove: false }).await.is_err());
        let block = PutBlock { permit: noise.clone(), data: noise.into() };
        assert!(chunks.put_chunk(tokio_stream::iter(vec![block])).await.is_err());
    }
    let far = VotesRequest { job: u64::MAX, from: u64::MAX };
    drop(tracker.follow_votes(far).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_socket_is_refused_and_the_cluster_works_on() {
    let cluster = Processes::start(under_test(), 3, &[]).await;
    for replica in &cluster.connection().cluster.replicas {
        raw(&replica.address).await;
        calls_to_job_tracker(&replica.address).await;
    }
    for tracker in cluster.client().trackers().await.expect("trackers") {
        raw(&tracker.address).await;
        calls_to_tracker(&tracker.address).await;
    }
    let text = made_up_text(1 << 18);
    cluster.put(&text, "/in/text").await;
    let view = cluster.ended(cluster.submit_wordcount(&["--split", "64KiB"]).await).await;
    succeeded(&view);
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(&text));
    only_guilty(cluster.client(), &[]).await;
    for member in ["replica-0", "replica-1", "replica-2", "tracker-0", "tracker-1", "tracker-2"] {
        let log = std::fs::read_to_string(cluster.folder().join(format!("{member}.log"))).expect("a log");
        assert!(!log.contains("panicked"), "{member}: {log}");
    }
    cluster.stop().await;
}
