//! The page's server: what a replica shows, to whom, and within which bounds.

mod fixture;

use fixture::{DEADLINE, LEASE_LONG, client, start, until};
use quorate_jobtracker::Replica;
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Shows a replica's page on a free port.
async fn show(replica: &mut Replica) -> SocketAddr {
    replica.show_page(TcpListener::bind("127.0.0.1:0").await.expect("a port"), None).expect("an address");
    replica.page().expect("it shows a page")
}

/// Sends bytes as a request, and gives all that comes back until the connection is closed.
async fn send(page: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(page).await.expect("connected");
    // It may be refused before all was sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get_with(page: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let answer = send(page, &format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer)
}

async fn get(page: SocketAddr, path: &str) -> (u16, String) {
    get_with(page, path, "host: localhost\r\n").await
}

async fn json(page: SocketAddr, path: &str) -> serde_json::Value {
    let (status, answer) = get(page, path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_shows_itself_and_the_state() {
    let folder = TempDir::new().expect("a folder");
    let (mut replica, cluster) = start(folder.path(), LEASE_LONG).await;
    let page = show(&mut replica).await;
    client(&cluster).create_files(vec![fixture::empty_file("/a/b")]).await.expect("made");
    let shown = json(page, "/api/v1/cluster").await;
    assert_eq!((&shown["name"], &shown["me"], &shown["f"]), (&"test".into(), &0.into(), &0.into()));
    assert_eq!(shown["trackers"].as_array().map(Vec::len), Some(2));
    let files = json(page, "/api/v1/files?path=/a").await;
    assert_eq!(files["entries"][0]["path"], "/a/b");
    let file = json(page, "/api/v1/files?path=/a/b").await;
    assert_eq!((&file["file"]["length"], &file["entries"]), (&0.into(), &serde_json::json!([])));
    // Several readers share an answer for a moment, so this one may be of before.
    until("the agreement is shown", async || {
        let agreement = json(page, "/api/v1/agreement").await;
        (agreement["position"]["ordered"].as_u64() >= Some(1)).then_some(())
    })
    .await;
    assert_eq!(json(page, "/api/v1/jobs").await["jobs"], serde_json::json!([]));
    let tracker = json(page, "/api/v1/trackers/tracker-1").await;
    assert_eq!((&tracker["blame"], &tracker["accusations"]), (&"none".into(), &serde_json::json!([])));
    let (status, metrics) = get(page, "/metrics").await;
    assert!(status == 200 && metrics.contains("quorate_trackers{state=\"absent\"} 2"), "{metrics}");
    assert!(metrics.contains("quorate_batches_executed_total"), "{metrics}");
    assert_eq!((get(page, "/healthz").await.0, get(page, "/readyz").await.0), (200, 200));
    assert!(get(page, "/").await.1.contains("<!doctype html>"));
    for (path, status) in [
        ("/api/v1/jobs/7", 404),
        ("/api/v1/jobs/x", 400),
        ("/api/v1/files?path=no", 404),
        ("/api/v1/files?path=/a//b", 400),
        ("/x", 404),
    ] {
        let (got, answer) = get(page, path).await;
        assert_eq!(got, status, "{path}");
        assert!(answer.contains("{\"error\":{\"code\":"), "{path}: {answer}");
    }
    replica.stop().await;
    assert!(TcpStream::connect(page).await.is_err(), "nothing listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_against_whom_is_said_of_a_place_of_the_history() {
    let folder = TempDir::new().expect("a folder");
    let (mut replica, cluster) = start(folder.path(), LEASE_LONG).await;
    let page = show(&mut replica).await;
    let client = client(&cluster);
    client.create_files(vec![fixture::empty_file("/a")]).await.expect("made");
    let first = json(page, "/api/v1/standing").await;
    let at = first["agreed"]["position"]["ordered"].as_u64().expect("a number");
    client.create_files(vec![fixture::empty_file("/b")]).await.expect("made");
    let now = json(page, "/api/v1/standing").await;
    assert!(now["agreed"]["position"]["ordered"].as_u64() > Some(at));
    assert_eq!(json(page, &format!("/api/v1/standing?at={at}")).await["agreed"], first["agreed"], "the same text");
    assert_eq!(get(page, "/api/v1/standing?at=1000000").await.0, 409);
    assert_eq!(get(page, "/api/v1/standing?at=x").await.0, 400);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_for_reading_or_not_for_this_server_are_refused() {
    let folder = TempDir::new().expect("a folder");
    let (mut replica, _) = start(folder.path(), LEASE_LONG).await;
    let page = show(&mut replica).await;
    let post =
        send(page, "POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(post.await.starts_with("HTTP/1.1 405"));
    assert_eq!(get_with(page, "/", "host: evil.example\r\n").await.0, 421);
    assert_eq!(get_with(page, "/", "").await.0, 421);
    let (_, foreign) = get_with(page, "/api/v1/jobs", "host: localhost\r\norigin: http://evil.example\r\n").await;
    assert!(!foreign.contains("access-control-allow-origin"), "{foreign}");
    let origin = format!("host: localhost\r\norigin: http://localhost:{}\r\n", page.port());
    let (_, own) = get_with(page, "/api/v1/jobs", &origin).await;
    assert!(own.contains("access-control-allow-origin: http://localhost"), "{own}");
    assert!(own.contains("content-security-policy: default-src 'none'") && own.contains("nosniff"), "{own}");
    let huge = "x".repeat(64 << 10);
    let refused = send(page, &format!("GET / HTTP/1.1\r\nhost: localhost\r\nhuge: {huge}\r\n\r\n")).await;
    // The refusal may be lost with the connection, on which more was sent than was read.
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
    assert_eq!(get(page, "/").await.0, 200);
    replica.stop().await;
}

/// Opens a stream of events and reads its heading.
async fn open(page: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(page).await.expect("connected");
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let mut heading = vec![0; 4096];
    let length = timeout(DEADLINE, stream.read(&mut heading)).await.expect("in time").expect("read");
    heading.truncate(length);
    (stream, String::from_utf8_lossy(&heading).into_owned())
}

/// Reads a stream until it has said something.
async fn read_until(stream: &mut TcpStream, said: &str) -> String {
    let mut all = String::new();
    let mut buffer = vec![0; 4096];
    while !all.contains(said) {
        let length = timeout(DEADLINE, stream.read(&mut buffer)).await.expect("in time").expect("read");
        assert!(length > 0, "it ended before {said}: {all}");
        all.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_changed_and_that_the_replica_stops() {
    let folder = TempDir::new().expect("a folder");
    let (mut replica, cluster) = start(folder.path(), LEASE_LONG).await;
    let page = show(&mut replica).await;
    let (mut stream, heading) = open(page).await;
    assert!(heading.contains("text/event-stream"), "{heading}");
    client(&cluster).create_files(vec![fixture::empty_file("/a")]).await.expect("made");
    read_until(&mut stream, "event: change\ndata: {\"position\":{\"ordered\":").await;
    let stopping = tokio::spawn(replica.stop());
    read_until(&mut stream, "event: bye").await;
    stopping.await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_one_that_ends_makes_room() {
    const STREAMS_MAX: usize = 64;
    let folder = TempDir::new().expect("a folder");
    let (mut replica, _) = start(folder.path(), LEASE_LONG).await;
    let page = show(&mut replica).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (stream, heading) = open(page).await;
        assert!(heading.starts_with("HTTP/1.1 200"), "{heading}");
        streams.push(stream);
    }
    assert_eq!(get(page, "/api/v1/events").await.0, 429);
    assert_eq!(get(page, "/api/v1/cluster").await.0, 200, "questions are still answered");
    streams.pop();
    until("there is room again", async || open(page).await.1.starts_with("HTTP/1.1 200").then_some(())).await;
    replica.stop().await;
}
