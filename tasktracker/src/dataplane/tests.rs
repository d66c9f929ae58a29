//! Both ends over real sockets, each against an honest and a hostile other end.

use super::{FOUND, MAGIC, NOT_FOUND, SegmentKey, SegmentServer, accept, receive};
use crate::{
    dataplane::{Connections, FetchFault},
    outputs::{Output, Outputs},
};
use futures::StreamExt;
use quorate_engine::program::Span;
use quorate_liars::{Honest, Kind, Lie};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{AttemptId, JobId, Stage, TaskId, TrackerId},
    sign::{SecretKey, Signed},
    vote::{Ballot, Counters, Segment, Vote, segments_digest},
};
use std::{io, sync::Arc};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const SERVER: TrackerId = TrackerId::new(1);

fn attempt() -> AttemptId {
    AttemptId { task: TaskId { job: JobId::new(1), stage: Stage::Map, index: 0 }, attempt: 0 }
}

fn key(partition: u32) -> SegmentKey {
    SegmentKey { attempt: attempt(), partition, reader: TrackerId::new(2) }
}

fn segment(bytes: &[u8]) -> Segment {
    Segment { digest: Digest::of(bytes), length: bytes.len() as u64, records: 1 }
}

/// The bytes of partition 1; partition 0 is empty.
fn bytes() -> Vec<u8> {
    (0..700_000u32).map(|n| (n % 251) as u8).collect()
}

/// A tracker's outputs with one map attempt, served on a port.
struct Served {
    folder: TempDir,
    address: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Served {
    async fn start(lie: Arc<dyn Lie>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let outputs = Outputs::open(folder.path().join("jobs"), folder.path().join("logs")).expect("opened");
        let (all, own) = (bytes(), outputs.folder(attempt()));
        std::fs::create_dir_all(&own).expect("made");
        let data = own.join("map.data");
        std::fs::write(&data, &all).expect("written");
        let segments = [segment(&[]), segment(&all)];
        let vote = Vote {
            cluster: Digest::of(b"cluster"),
            specification: Digest::of(b"job"),
            f: 1,
            attempt: attempt(),
            tracker: SERVER,
            ballot: Ballot::Map { segments: segments_digest(&segments), counters: Counters::new() },
        };
        let span = |length| Span { offset: 0, length, records: 1 };
        let output = Output {
            attempt: attempt(),
            vote: Signed::seal(&vote, &SecretKey::from_seed([1; 32])),
            segments: segments.into(),
            spans: vec![span(0), span(all.len() as u64)],
            data,
        };
        outputs.keep(output).expect("kept");
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = SegmentServer::new(Arc::new(outputs), lie, tasks.clone(), stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (mut grpc, accepting) = accept(listener, server);
        let stopped = stop.clone();
        tasks.spawn(async move {
            // In gRPC's place: says that the connection has come here, and ends it.
            let answering = async {
                while let Some(stream) = grpc.next().await {
                    let _ = stream.expect("accepted").write_all(b"grpc").await;
                }
            };
            tokio::select! {
                () = answering => {}
                () = accepting => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { folder, address, stop, tasks }
    }

    async fn fetch(&self, connections: &Connections, partition: u32, voted: &Segment) -> Result<Vec<u8>, FetchFault> {
        fetch(connections, &self.address, partition, voted).await
    }

    /// What a connection gets that sends these bytes and then nothing more.
    async fn answer_to(&self, sent: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).await.expect("connected");
        stream.write_all(sent).await.expect("sent");
        stream.shutdown().await.expect("ended");
        let mut got = Vec::new();
        // The server may close with our bytes unread, which is an error here.
        let _ = stream.read_to_end(&mut got).await;
        got
    }
}

async fn fetch(
    connections: &Connections,
    address: &str,
    partition: u32,
    voted: &Segment,
) -> Result<Vec<u8>, FetchFault> {
    let mut got = Vec::new();
    let mut sink = |at: u64, block: &[u8]| -> io::Result<()> {
        assert_eq!(at, got.len() as u64);
        got.extend_from_slice(block);
        Ok(())
    };
    let received = receive(connections, (SERVER, address), &key(partition), voted, &mut sink).await?;
    assert_eq!(received, (Digest::of(&got), got.len() as u64));
    Ok(got)
}

/// A server that answers each connection's first request with these bytes, and closes it.
async fn hostile(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; MAGIC.len() + 4 + canonical::encode(&key(1)).len()];
            let _ = stream.read_exact(&mut request).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_arrive_over_one_connection() {
    let served = Served::start(Arc::new(Honest)).await;
    let connections = Connections::default();
    for _ in 0..3 {
        assert_eq!(served.fetch(&connections, 1, &segment(&bytes())).await.expect("fetched"), bytes());
        assert_eq!(served.fetch(&connections, 0, &segment(&[])).await.expect("fetched"), Vec::<u8>::new());
        assert_eq!(connections.idle_count(SERVER), 1, "each fetch takes the one before's");
    }
    assert!(matches!(served.fetch(&connections, 7, &segment(&[1])).await, Err(FetchFault::NotFound)));
    assert_eq!(connections.idle_count(SERVER), 0, "one that was told no is not kept");
    served.stop.cancel();
    served.tasks.close();
    served.tasks.wait().await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let (connections, voted) = (Connections::default(), segment(b"segment"));
    // A server that closes each connection after one right answer.
    let address = hostile([&[FOUND][..], &voted.length.to_le_bytes(), b"segment"].concat()).await;
    for _ in 0..3 {
        assert_eq!(fetch(&connections, &address, 1, &voted).await.expect("fetched"), b"segment");
        assert_eq!(connections.idle_count(SERVER), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_sends_wrong_bytes_or_too_many() {
    let connections = Connections::default();
    let wrong = Served::start(Kind::ServeWrong.lie()).await;
    assert_ne!(wrong.fetch(&connections, 1, &segment(&bytes())).await.expect("of the right length"), bytes());
    let garbled = Served::start(Kind::Garbled.lie()).await;
    let error = garbled.fetch(&connections, 1, &segment(&bytes())).await.expect_err("refused");
    assert!(matches!(error, FetchFault::TooLong), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_shortened_file_is_an_answer_that_fails() {
    let served = Served::start(Arc::new(Honest)).await;
    let connections = Connections::default();
    let data = served.folder.path().join("jobs/job-1/map-0-0/map.data");
    std::fs::write(&data, &bytes()[..1000]).expect("shortened");
    let error = served.fetch(&connections, 1, &segment(&bytes())).await.expect_err("it ends early");
    assert!(matches!(error, FetchFault::Broken(_)), "{error}");
    std::fs::remove_file(&data).expect("removed");
    let error = served.fetch(&connections, 1, &segment(&bytes())).await.expect_err("it is gone");
    assert!(matches!(error, FetchFault::NotFound), "{error}");
}

#[tokio::test]
async fn answers_that_are_none_end_the_fetch() {
    let length = |length: u64| [&[FOUND][..], &length.to_le_bytes()].concat();
    let voted = segment(&bytes());
    type Check = fn(&FetchFault) -> bool;
    let cases: [(Vec<u8>, Check); 6] = [
        (vec![], |fault| matches!(fault, FetchFault::Broken(_))),
        (vec![99], |fault| matches!(fault, FetchFault::Broken(_))),
        (vec![NOT_FOUND], |fault| matches!(fault, FetchFault::NotFound)),
        (length(u64::MAX), |fault| matches!(fault, FetchFault::TooLong)),
        (length(voted.length + 1), |fault| matches!(fault, FetchFault::TooLong)),
        ([length(voted.length), vec![1, 2, 3]].concat(), |fault| matches!(fault, FetchFault::Broken(_))),
    ];
    for (answer, is_expected) in cases {
        let (address, connections) = (hostile(answer.clone()).await, Connections::default());
        let fault = fetch(&connections, &address, 1, &voted).await.expect_err("refused");
        assert!(is_expected(&fault), "{answer:?}: {fault}");
        assert_eq!(connections.idle_count(SERVER), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_talk_nonsense_get_nothing_and_harm_nobody() {
    let served = Served::start(Arc::new(Honest)).await;
    let request = |length: u32, body: &[u8]| [&MAGIC[..], &length.to_le_bytes(), body].concat();
    for nonsense in [
        b"QSG9".to_vec(),
        b"QSG".to_vec(),
        request(u32::MAX, &[]),
        request(65, &[0; 65]),
        request(3, &[0xff; 3]),
        request(20, &[1, 2]),
    ] {
        assert_eq!(served.answer_to(&nonsense).await, Vec::<u8>::new(), "{nonsense:?}");
    }
    assert_eq!(served.answer_to(b"PRI * HTTP/2.0").await, b"grpc");
    assert_eq!(served.answer_to(&[0; 100]).await, b"grpc", "what is not ours is gRPC's to refuse");
    let fetched = served.fetch(&Connections::default(), 1, &segment(&bytes())).await;
    assert_eq!(fetched.expect("fetched"), bytes());
}
