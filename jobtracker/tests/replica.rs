//! One replica on a real socket and disk: commands, retries, restarts, garbage, absence.

mod fixture;

use fixture::*;
use futures::StreamExt;
use quorate_jobtracker::{
    Options, OrderError, Replica, StartError, StoreError,
    client::{Client, ClientError},
};
use quorate_protocol::{
    canonical,
    command::{Envelope, FollowDirectives, Refusal, Sender},
    digest::Digest,
    enrolled::EnrolledTpm,
    ids::{JobId, ReplicaId, TrackerId},
    job::{Directive, Work},
    limits::{COMMAND_BYTES_MAX, QUERY_BYTES_MAX, SESSIONS_PER_KEY_MAX},
    query::Blame,
    sign::Signed,
    wire::{self, job_tracker_client::JobTrackerClient},
};
use std::{fs, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, transport::Channel};

/// An attempt may be silent for long enough to hear of it, and no longer.
const SILENT_MS: u64 = 100;

#[tokio::test]
async fn commands_are_executed_and_questions_answered() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let client = client(&cluster);
    client.submit(create("/a/b")).await.expect("created");
    assert_eq!(client.files(&path("/a")).await.expect("files").len(), 1);
    assert!(client.file(&path("/a/b")).await.is_ok());
    let missing = client.file(&path("/nowhere")).await;
    assert!(matches!(missing, Err(ClientError::Refused(Refusal::NotFound(_)))), "{missing:?}");
    let twice = client.submit(create("/a/b")).await;
    assert!(matches!(twice, Err(ClientError::Refused(Refusal::Exists(_)))), "{twice:?}");
    client.remove(path("/a/b"), false).await.expect("removed");
    assert!(client.jobs().await.expect("jobs").is_empty());
    replica.stop().await;
}

#[tokio::test]
async fn clients_that_run_at_once_are_all_served() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let clients: Vec<_> = (0..8).map(|_| client(&cluster)).collect();
    let work = clients.iter().enumerate().map(|(i, client)| async move {
        for j in 0..20 {
            client.submit(create(&format!("/all/{i}-{j}"))).await.expect("created");
        }
    });
    futures::future::join_all(work).await;
    assert_eq!(clients[0].files(&path("/all")).await.expect("files").len(), 160);
    replica.stop().await;
}

#[tokio::test]
async fn a_client_made_long_before_its_first_command_is_served() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let long = client(&cluster);
    for i in 0..=SESSIONS_PER_KEY_MAX {
        client(&cluster).submit(create(&format!("/short/{i}"))).await.expect("created");
    }
    long.submit(create("/long")).await.expect("it is as new as its first command");
    replica.stop().await;
}

#[tokio::test]
async fn the_same_bytes_are_executed_once() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let mut raw = raw(&cluster.replicas[0].address).await;
    let command = sealed(user(), user(), cluster.id(), 1, create("/once"), CLIENT_SEED);
    let first = raw.submit(wire::Command { signed: command.clone() }).await.expect("executed").into_inner();
    let executed = replica.executed().await.expect("runs");
    let second = raw.submit(wire::Command { signed: command }).await.expect("answered").into_inner();
    assert_eq!(first, second, "the kept answer, not `exists`");
    assert_eq!(replica.executed().await.expect("runs"), executed, "and nothing was ordered for it");
    replica.stop().await;
}

/// The first connection's answers are swallowed; when the command was executed, it is cut. The second one passes.
async fn forgetful_proxy(listener: TcpListener, replica: &Replica) {
    let (mut client, _) = listener.accept().await.expect("a connection");
    let mut server = TcpStream::connect(replica.address()).await.expect("the replica");
    let mut buffer = [0; 4096];
    while replica.executed().await.expect("runs").0 == 0 {
        tokio::select! {
            read = client.read(&mut buffer) => {
                let bytes = &buffer[..read.expect("read")];
                server.write_all(bytes).await.expect("written");
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    drop((client, server));
    let (mut client, _) = listener.accept().await.expect("a second connection");
    let mut server = TcpStream::connect(replica.address()).await.expect("the replica");
    // It ends with an error or without: the client closes when it likes.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_command_whose_answer_was_lost_is_executed_once() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let (proxy, address) = listener().await;
    let mut seen = cluster.clone();
    seen.replicas[0].address = address;
    let client = client(&seen);
    tokio::select! {
        result = client.submit(create("/once")) => drop(result.expect("not `exists`: it was executed before, and once")),
        () = forgetful_proxy(proxy, &replica) => panic!("the client went away without an answer"),
    }
    assert_eq!(replica.executed().await.expect("runs").0, 1);
    replica.stop().await;
}

#[tokio::test]
async fn a_replica_that_vanished_comes_back_with_everything() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let before = client(&cluster);
    for i in 0..10 {
        before.submit(create(&format!("/kept/{i}"))).await.expect("created");
    }
    let executed = replica.executed().await.expect("runs");
    // What a killed process leaves: the file as it is, without a goodbye.
    let left = copied(directory.path());
    drop(replica);
    let (again, cluster) = start(left.path(), LEASE_LONG).await;
    assert_eq!(again.executed().await.expect("runs"), executed);
    assert_eq!(client(&cluster).files(&path("/kept")).await.expect("files").len(), 10);
    again.stop().await;
    // The directory of the dropped one is free as soon as its last batch is done.
    let (again, _) =
        until("the dropped replica let go", async || match try_start(directory.path(), LEASE_LONG).await {
            Err(StartError::Store(StoreError::InUse { .. }) | StartError::TrustedLog(_)) => None,
            result => Some(result.expect("starts")),
        })
        .await;
    assert_eq!(again.executed().await.expect("runs"), executed);
    again.stop().await;
}

#[tokio::test]
async fn a_client_carries_on_when_the_replica_restarts() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let client = client(&cluster);
    client.submit(create("/one")).await.expect("created");
    let address = replica.address();
    replica.stop().await;
    let waiting = tokio::spawn(async move { client.submit(create("/two")).await });
    let listener = TcpListener::bind(address).await.expect("the same port");
    let options = options(&cluster, 0, directory.path(), LEASE_LONG);
    let replica = Replica::start(options, listener).await.expect("starts");
    waiting.await.expect("no panic").expect("created");
    assert_eq!(replica.executed().await.expect("runs").0, 2);
    replica.stop().await;
}

#[tokio::test]
async fn a_damaged_log_is_refused_by_name() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    client(&cluster).submit(create("/a")).await.expect("created");
    replica.stop().await;
    let file = directory.path().join("ordered.redb");
    let whole = fs::read(&file).expect("read");
    for torn in [&whole[..whole.len() / 3], &[], b"not a log at all"] {
        fs::write(&file, torn).expect("written");
        let error = try_start(directory.path(), LEASE_LONG).await.expect_err("refused");
        assert!(matches!(error, StartError::Store(StoreError::Damaged { .. })), "{error:?}");
        assert!(error.to_string().contains("ordered.redb"), "{error}");
        assert_eq!(fs::read(&file).expect("read"), torn, "nothing was changed");
    }
}

#[tokio::test]
async fn a_replica_starts_only_as_itself() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let start = async |id: u32, seed: u8| {
        let options = options(&cluster, 0, directory.path(), LEASE_LONG);
        let options = Options { replica: ReplicaId::new(id), key: key(seed), ..options };
        Replica::start(options, listener().await.0).await.expect_err("refused")
    };
    assert!(matches!(start(7, REPLICA_SEED).await, StartError::NotAMember(_)));
    assert!(matches!(start(0, STRANGER_SEED).await, StartError::WrongKey(_)));
    assert!(matches!(start(0, REPLICA_SEED).await, StartError::Store(StoreError::InUse { .. })));
    replica.stop().await;
}

/// A tracker's wish to follow its directives, with everything a liar may choose.
fn follow(cluster: Digest, tracker: u32, by: u8) -> wire::DirectivesRequest {
    let wanted = FollowDirectives { cluster, tracker: TrackerId::new(tracker), incarnation: 1, from: 0, seen: None };
    wire::DirectivesRequest { signed: Signed::seal(&wanted, &key(by)).to_wire() }
}

async fn raw(address: &str) -> JobTrackerClient<Channel> {
    let client = JobTrackerClient::connect(format!("http://{address}")).await.expect("connected");
    client.max_encoding_message_size(usize::MAX)
}

#[tokio::test]
async fn garbage_is_refused_and_the_replica_lives_on() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let address = &cluster.replicas[0].address;
    let mut raw = raw(address).await;
    let id = cluster.id();
    let tracker = Sender::Tracker(TrackerId::new(0));
    let stranger = Sender::Client(key(STRANGER_SEED).public());
    let nobody = Sender::Tracker(TrackerId::new(99));
    let unsigned = {
        let mut bytes = sealed(user(), user(), id, 1, create("/x"), CLIENT_SEED);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    let unreadable =
        canonical::encode(&Envelope { sender: user(), request: Signed::seal_bytes(vec![0xff; 9], &key(CLIENT_SEED)) });
    let cases: [(&str, Vec<u8>, Code); 8] = [
        ("nothing", Vec::new(), Code::InvalidArgument),
        ("noise", vec![0xa7; 1000], Code::InvalidArgument),
        ("a broken signature", unsigned, Code::Unauthenticated),
        ("another's signature", sealed(tracker, tracker, id, 1, create("/x"), CLIENT_SEED), Code::Unauthenticated),
        ("a strange client", sealed(stranger, stranger, id, 1, create("/x"), STRANGER_SEED), Code::PermissionDenied),
        ("a strange tracker", sealed(nobody, nobody, id, 1, create("/x"), TRACKER_SEED), Code::PermissionDenied),
        ("a client's unreadable request", unreadable, Code::InvalidArgument),
        ("too much", vec![0; COMMAND_BYTES_MAX + 4096], Code::OutOfRange),
    ];
    for (what, signed, code) in cases {
        let status = raw.submit(wire::Command { signed }).await.expect_err(what);
        assert_eq!(status.code(), code, "{what}: {status:?}");
    }
    let asked = raw.ask(wire::Question { question: vec![0xff; 40], seen: Vec::new() }).await.expect_err("noise");
    assert_eq!(asked.code(), Code::InvalidArgument);
    let asked = raw
        .ask(wire::Question { question: vec![0; QUERY_BYTES_MAX + 1], seen: Vec::new() })
        .await
        .expect_err("too much");
    assert_eq!(asked.code(), Code::InvalidArgument);
    for (what, tracker, by, code) in [
        ("no such tracker", 99, TRACKER_SEED, Code::PermissionDenied),
        ("another tracker's key", 0, TRACKER_SEED + 1, Code::Unauthenticated),
    ] {
        let followed = raw.follow_directives(follow(id, tracker, by)).await;
        assert_eq!(followed.expect_err(what).code(), code, "{what}");
    }
    let followed = raw.follow_directives(wire::DirectivesRequest { signed: vec![0xa7; 99] }).await;
    assert_eq!(followed.expect_err("noise").code(), Code::InvalidArgument);
    throw_noise(address).await;
    assert_eq!(replica.executed().await.expect("runs").0, 0, "nothing of it was ordered");
    client(&cluster).submit(create("/x")).await.expect("it lives");
    replica.stop().await;
}

/// Bytes that are no HTTP/2, and some that begin like it.
async fn throw_noise(address: &str) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..20 {
        let mut socket = TcpStream::connect(address).await.expect("connected");
        let mut bytes = if round % 2 == 0 { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { Vec::new() };
        for _ in 0..512 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        // The replica may hang up before it has read everything, and it must hang up in the end.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let mut rest = Vec::new();
        let read = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "noise keeps a connection open");
    }
}

#[tokio::test]
async fn a_request_for_another_cluster_or_in_anothers_name_is_not_executed() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let mut raw = raw(&cluster.replicas[0].address).await;
    let (id, tracker) = (cluster.id(), Sender::Tracker(TrackerId::new(0)));
    let elsewhere = sealed(user(), user(), Digest::of(b"elsewhere"), 1, create("/x"), CLIENT_SEED);
    let borrowed = sealed(tracker, user(), id, 1, create("/x"), TRACKER_SEED);
    for signed in [elsewhere, borrowed] {
        let refused = raw.submit(wire::Command { signed }).await.expect_err("refused at the door");
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    assert_eq!(replica.executed().await.expect("runs").0, 0);
    assert!(client(&cluster).file(&path("/x")).await.is_err());
    replica.stop().await;
}

#[tokio::test]
async fn a_trackers_unreadable_command_is_evidence_against_it() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let sender = Sender::Tracker(TrackerId::new(1));
    let request = Signed::seal_bytes(vec![0xff; 9], &key(TRACKER_SEED + 1));
    let signed = canonical::encode(&Envelope { sender, request });
    raw(&cluster.replicas[0].address).await.submit(wire::Command { signed }).await.expect("answered");
    let client = client(&cluster);
    let evidence = client.evidence(TrackerId::new(1)).await.expect("evidence");
    let checked: Vec<_> = evidence.iter().map(|evidence| evidence.check(&cluster)).collect();
    assert_eq!(checked, [Ok((TrackerId::new(1), Blame::Suspected))]);
    replica.stop().await;
}

#[tokio::test]
async fn a_tracker_without_a_stream_becomes_absent_and_one_with_a_stream_does_not() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_SHORT).await;
    let trackers = [tracker_client(&cluster, 0), tracker_client(&cluster, 1)];
    let mut stream = trackers[0].directives(TrackerId::new(0), 5, 0);
    // A stream is opened when it is polled.
    let follower = tokio::spawn(async move { stream.next().await.is_none() });
    for tracker in &trackers {
        tracker.submit(register(5)).await.expect("registered");
    }
    let client = client(&cluster);
    let live = async || {
        let trackers = client.trackers().await.expect("trackers");
        trackers.iter().map(|tracker| tracker.live).collect::<Vec<_>>()
    };
    until("the silent tracker is absent", async || (live().await == [true, false]).then_some(())).await;
    assert_eq!(live().await, [true, false]);
    follower.abort();
    until("both are absent", async || (live().await == [false, false]).then_some(())).await;
    trackers[1].submit(register(6)).await.expect("registered");
    until("it is back, and then absent again", async || (live().await == [false, false]).then_some(())).await;
    replica.stop().await;
}

#[tokio::test]
async fn directives_arrive_live_and_time_passes_when_a_deadline_waits_for_it() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let (tracker, client) = (tracker_client(&cluster, 0), client(&cluster));
    tracker.submit(register(5)).await.expect("registered");
    let mut directives = tracker.directives(TrackerId::new(0), 5, 0);
    client.submit(create("/in")).await.expect("created");
    let (job, first) = tokio::join!(client.submit_job(reduce_only(SILENT_MS)), directives.next());
    let (number, directive) = first.expect("a directive").expect("no error");
    assert_eq!(number, 0);
    let job = job.expect("submitted");
    let started = matches!(directive, Directive::Start { attempt, work: Work::Reduce } if attempt.task.job == job);
    assert!(started, "{directive:?} for {job}");
    // Nobody sends anything any more, and still the silent attempt becomes overdue.
    let overdue = async || {
        let trackers = client.trackers().await.expect("trackers");
        trackers.iter().any(|tracker| tracker.overdue > 0).then_some(())
    };
    until("the attempt is overdue", overdue).await;
    replica.stop().await;
}

#[tokio::test]
async fn stopping_ends_streams_and_an_unknown_job_has_none() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let unknown = client(&cluster).verdicts(JobId::new(77), 0).next().await;
    assert!(matches!(unknown, Some(Err(ClientError::Rejected { .. }))), "{unknown:?}");
    let mut raw = raw(&cluster.replicas[0].address).await;
    let stream = raw.follow_directives(follow(cluster.id(), 0, TRACKER_SEED)).await;
    let mut stream = stream.expect("opened").into_inner();
    let (ended, ()) = tokio::join!(stream.message(), replica.stop());
    assert_eq!(ended.expect_err("an end with a reason").code(), Code::Unavailable);
}

#[tokio::test]
async fn clients_say_why_there_is_no_answer() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    let mut other = cluster.clone();
    other.replicas[0].key = key(STRANGER_SEED).public();
    let untrusted = client(&other).jobs().await;
    assert!(matches!(untrusted, Err(ClientError::Untrustworthy { .. })), "{untrusted:?}");
    let stranger = Sender::Client(key(STRANGER_SEED).public());
    let stranger = Client::new(Arc::new(cluster.clone()), stranger, key(STRANGER_SEED));
    let rejected = stranger.submit(create("/x")).await;
    assert!(matches!(rejected, Err(ClientError::Rejected { .. })), "{rejected:?}");
    let mut gone = cluster.clone();
    gone.replicas[0].address = listener().await.1;
    let unreachable = client(&gone).with_patience(Duration::from_millis(200)).jobs().await;
    assert!(matches!(unreachable, Err(ClientError::Unreachable { .. })), "{unreachable:?}");
    replica.stop().await;
}

#[tokio::test]
async fn an_only_replica_whose_newest_records_vanished_says_so() {
    let directory = TempDir::new().expect("a directory");
    let (replica, cluster) = start(directory.path(), LEASE_LONG).await;
    client(&cluster).submit(create("/a")).await.expect("created");
    let old = copied(directory.path());
    client(&cluster).submit(create("/b")).await.expect("created");
    replica.stop().await;
    fs::copy(old.path().join("ordered.redb"), directory.path().join("ordered.redb")).expect("copied");
    let (mut replica, _) = start(directory.path(), LEASE_LONG).await;
    let ended = tokio::time::timeout(DEADLINE, replica.ended()).await.expect("in time");
    assert!(matches!(ended, Err(OrderError::Forgotten)), "{ended:?}");
}

#[tokio::test]
async fn a_replica_that_is_told_to_stop_has_ended_well() {
    let directory = TempDir::new().expect("a directory");
    let (mut replica, _) = start(directory.path(), LEASE_LONG).await;
    let early = tokio::time::timeout(Duration::from_millis(20), replica.ended()).await;
    assert!(early.is_err(), "it does not end by itself: {:?}", early.map(|ended: Result<(), OrderError>| ended));
    replica.stop().await;
}

#[tokio::test]
async fn a_cluster_with_tpms_needs_the_feature_and_its_founding() {
    let directory = TempDir::new().expect("a directory");
    let (listener, address) = listener().await;
    let mut cluster = cluster(&[address]);
    cluster.replicas[0].tpm = Some(EnrolledTpm { pcr: 14, firmware: [1; 8], key: [2; 64] });
    let options = options(&cluster, 0, directory.path(), LEASE_LONG);
    let error = Replica::start(options, listener).await.expect_err("refused");
    if cfg!(feature = "tpm") {
        assert!(matches!(error, StartError::NotFounded), "{error:?}");
    } else {
        assert!(matches!(error, StartError::TpmNotBuilt) && error.to_string().contains("--features tpm"), "{error}");
    }
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "nothing was made");
}
