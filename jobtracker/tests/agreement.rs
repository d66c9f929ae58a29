//! Three replicas on real sockets and disks: any one of them may go, come back, forget or lie.

mod fixture;

use fixture::*;
use futures::StreamExt;
use quorate_counter::{Epoch, Software, helper};
use quorate_jobtracker::{LogPlace, Options, Replica, ReplicaLiar, StartError, StoreError, client::Client};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::Reply,
    digest::Digest,
    ids::{ReplicaId, TrackerId},
    job::Directive,
    query::{Question, ReplicaView},
    sign::Signed,
    wire::{self, job_tracker_client::JobTrackerClient},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Three replicas, of which some may not run.
struct Trio {
    cluster: Cluster,
    directories: [TempDir; 3],
    replicas: [Option<Replica>; 3],
    liar: Option<(usize, ReplicaLiar)>,
    /// Whose trusted log is behind a socket.
    helper: Option<(usize, PathBuf)>,
}

async fn trio() -> Trio {
    lying(None).await
}

async fn lying(liar: Option<(usize, ReplicaLiar)>) -> Trio {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(listener().await);
    }
    let addresses: Vec<_> = listeners.iter().map(|(_, address)| address.clone()).collect();
    let cluster = Cluster { allow_liars: liar.is_some(), ..cluster(&addresses) };
    let directories = [(); 3].map(|()| TempDir::new().expect("a directory"));
    let mut trio = Trio { cluster, directories, replicas: [None, None, None], liar, helper: None };
    for (replica, (listener, _)) in listeners.into_iter().enumerate() {
        trio.replicas[replica] = Some(Replica::start(trio.options(replica), listener).await.expect("starts"));
    }
    trio
}

impl Trio {
    fn options(&self, replica: usize) -> Options {
        let number = u8::try_from(replica).expect("three");
        let liar = self.liar.filter(|(liar, _)| *liar == replica).map(|(_, liar)| liar);
        let helper = self.helper.clone().filter(|(with, _)| *with == replica);
        let trusted_log = helper.map_or(LogPlace::Here, |(_, socket)| LogPlace::Helper(socket));
        Options { liar, trusted_log, ..options(&self.cluster, number, self.directories[replica].path(), LEASE_LONG) }
    }

    fn client(&self) -> Client {
        client(&self.cluster)
    }
    fn replica(&self, replica: usize) -> &Replica {
        self.replicas[replica].as_ref().expect("it runs")
    }
    async fn view(&self, replica: usize) -> ReplicaView {
        self.replica(replica).report().await.expect("runs")
    }

    /// What a killed process does to the others: it is gone from one moment to the next.
    fn kill(&mut self, replica: usize) {
        self.replicas[replica] = None;
    }
    async fn stop(&mut self, replica: usize) {
        self.replicas[replica].take().expect("it runs").stop().await;
    }
    async fn stop_all(mut self) {
        for replica in self.replicas.iter_mut().filter_map(Option::take) {
            replica.stop().await;
        }
    }

    /// Starts a replica at its address, as soon as the one before let go of port and directory.
    async fn start(&mut self, replica: usize) {
        let address = &self.cluster.replicas[replica].address;
        let options = self.options(replica);
        let started = started(options, address).await;
        self.replicas[replica] = Some(started);
    }

    /// Waits until all replicas that run have executed the same, and at least so many commands.
    async fn until_alike(&self) -> (u64, Digest) {
        until("all have executed the same", async || {
            let mut executed = Vec::new();
            for replica in self.replicas.iter().flatten() {
                executed.push(replica.executed().await.expect("runs"));
            }
            executed.windows(2).all(|pair| pair[0] == pair[1]).then(|| executed[0])
        })
        .await
    }

    /// Nobody who runs has anything against an honest replica.
    async fn assert_nobody_is_accused(&self) {
        for replica in self.replicas.iter().flatten() {
            let view = replica.report().await.expect("runs");
            assert_eq!(view.faults, [], "{} accuses", view.replica);
        }
    }
}

async fn create_all(client: &Client, names: impl IntoIterator<Item = String>) {
    for name in names {
        client.submit(create(&name)).await.expect("created");
    }
}

fn names(folder: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |i| format!("/{folder}/{i}"))
}

/// How many files there are in a folder.
/// The view that a replica states in its answers.
async fn told_view(cluster: &Cluster, replica: usize) -> u64 {
    let address = format!("http://{}", cluster.replicas[replica].address);
    let mut service = JobTrackerClient::connect(address).await.expect("it runs");
    let question = wire::Question { question: canonical::encode(&Question::Jobs), seen: Vec::new() };
    let reply = service.ask(question).await.expect("an answer").into_inner();
    Signed::<Reply>::from_wire(&reply.signed).expect("a reply").peek().expect("a reply").view
}

async fn count(client: &Client, folder: &str) -> usize {
    client.files(&path(folder)).await.expect("files").len()
}

#[tokio::test]
async fn three_replicas_execute_the_same() {
    let trio = trio().await;
    let client = trio.client();
    create_all(&client, names("a", 20)).await;
    assert_eq!(count(&client, "/a").await, 20);
    let (executed, _) = trio.until_alike().await;
    assert!(executed > 0);
    let view = trio.view(1).await;
    assert!(view.voting && view.peers.len() == 2 && view.trusted_log == "software", "{view:?}");
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn the_primary_is_killed_and_comes_back() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("before", 5)).await;
    let primary = trio.view(0).await.primary.number() as usize;
    trio.kill(primary);
    create_all(&client, names("without", 5)).await;
    let other = (primary + 1) % 3;
    let view = trio.view(other).await;
    assert_ne!(view.primary.number() as usize, primary);
    assert_eq!(told_view(&trio.cluster, other).await, view.view, "clients are told where to ask first");
    trio.start(primary).await;
    create_all(&client, names("with", 5)).await;
    trio.until_alike().await;
    for folder in ["/before", "/without", "/with"] {
        assert_eq!(count(&client, folder).await, 5);
    }
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn all_stop_and_come_back_with_everything() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("kept", 10)).await;
    let before = trio.until_alike().await;
    for replica in 0..3 {
        trio.stop(replica).await;
    }
    for replica in 0..3 {
        trio.start(replica).await;
    }
    assert_eq!(count(&client, "/kept").await, 10);
    create_all(&client, names("more", 3)).await;
    let after = trio.until_alike().await;
    assert!(after.0 > before.0);
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn trusted_logs_that_a_power_cut_put_back_go_on() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("before", 5)).await;
    let old: Vec<_> = trio.directories.iter().map(|directory| copied(directory.path())).collect();
    create_all(&client, names("after", 5)).await;
    trio.until_alike().await;
    for (replica, old) in old.iter().enumerate() {
        trio.stop(replica).await;
        // Records are synced, and the log's place is not: all machines lose it at once.
        let file = |directory: &Path| directory.join("trusted-log");
        fs::copy(file(old.path()), file(trio.directories[replica].path())).expect("copied");
    }
    for replica in 0..3 {
        trio.start(replica).await;
    }
    create_all(&client, names("again", 5)).await;
    trio.until_alike().await;
    for replica in 0..3 {
        assert_eq!(trio.view(replica).await.epoch, 0);
    }
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

/// The replica votes again: without it and a third one nothing could be agreed on.
async fn prove_that_it_votes(trio: &mut Trio, replica: usize) {
    until("it votes", async || trio.view(replica).await.voting.then_some(())).await;
    let other = (replica + 1) % 3;
    trio.kill(other);
    create_all(&trio.client(), names("voted", 3)).await;
    trio.start(other).await;
    trio.until_alike().await;
}

#[tokio::test]
async fn a_replica_that_was_wiped_learns_everything_and_votes_again() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("before", 10)).await;
    trio.until_alike().await;
    trio.stop(2).await;
    create_all(&client, names("without", 10)).await;
    trio.directories[2] = TempDir::new().expect("a directory");
    trio.start(2).await;
    trio.until_alike().await;
    prove_that_it_votes(&mut trio, 2).await;
    assert!(trio.view(2).await.epoch > 0, "what it said before is forgotten, so its trusted log begins anew");
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn beyond_a_checkpoint_replicas_start_from_its_state_and_the_wiped_one_gets_it_from_the_others() {
    let mut trio = trio().await;
    let client = trio.client();
    let mut made = 0;
    while trio.view(0).await.checkpoint == 0 {
        create_all(&client, (made..made + 100).map(|i| format!("/a/{i}"))).await;
        made += 100;
    }
    trio.stop(2).await;
    trio.directories[2] = TempDir::new().expect("a directory");
    trio.start(2).await;
    trio.until_alike().await;
    for replica in 0..2 {
        trio.stop(replica).await;
        trio.start(replica).await;
    }
    create_all(&client, names("b", 3)).await;
    assert_eq!(count(&client, "/a").await, made);
    trio.until_alike().await;
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn a_replica_with_an_old_disk_says_nothing_twice() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("before", 5)).await;
    trio.until_alike().await;
    let old = copied(trio.directories[1].path());
    create_all(&client, names("after", 5)).await;
    trio.until_alike().await;
    trio.stop(1).await;
    trio.directories[1] = old;
    trio.start(1).await;
    create_all(&client, names("again", 5)).await;
    trio.until_alike().await;
    prove_that_it_votes(&mut trio, 1).await;
    assert!(trio.view(1).await.epoch > 0);
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn a_replica_whose_records_are_older_than_its_trusted_log_says_nothing_twice() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("before", 5)).await;
    trio.until_alike().await;
    let old = copied(trio.directories[2].path());
    create_all(&client, names("after", 5)).await;
    trio.until_alike().await;
    trio.stop(2).await;
    // As if the newest writes had vanished.
    let file = |directory: &Path| directory.join("ordered.redb");
    fs::copy(file(old.path()), file(trio.directories[2].path())).expect("copied");
    trio.start(2).await;
    prove_that_it_votes(&mut trio, 2).await;
    assert!(trio.view(2).await.epoch > 0);
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn a_trusted_log_in_a_helper_goes_on_when_its_replica_restarts() {
    let mut trio = trio().await;
    trio.stop(0).await;
    trio.directories[0] = TempDir::new().expect("a directory");
    let socket = trio.directories[0].path().join("socket");
    let listener = helper::listen(&socket, helper::own_user()).expect("a socket");
    let log = Software::new(key(REPLICA_SEED), trio.cluster.id(), ReplicaId::new(0), Epoch(0));
    // It serves for as long as this process lives.
    std::thread::spawn(move || helper::serve(&listener, Box::new(log), helper::own_user()));
    trio.helper = Some((0, socket));
    for round in ["first", "second"] {
        trio.start(0).await;
        create_all(&trio.client(), names(round, 3)).await;
        prove_that_it_votes(&mut trio, 0).await;
        trio.until_alike().await;
        trio.stop(0).await;
        trio.client().remove(path("/voted"), true).await.expect("removed");
    }
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn a_damaged_disk_stops_its_replica_and_no_other() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("before", 3)).await;
    trio.stop(2).await;
    let file = trio.directories[2].path().join("ordered.redb");
    let whole = fs::read(&file).expect("read");
    fs::write(&file, &whole[..whole.len() / 3]).expect("written");
    let (listener, _) = listener().await;
    let error = Replica::start(trio.options(2), listener).await.expect_err("refused");
    assert!(matches!(error, StartError::Store(StoreError::Damaged { .. })), "{error:?}");
    assert!(error.to_string().contains("ordered.redb"), "{error}");
    create_all(&client, names("after", 3)).await;
    assert_eq!(count(&client, "/after").await, 3);
    trio.stop_all().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_named() {
    let trio = trio().await;
    let file = trio.directories[0].path().join("a-file");
    fs::write(&file, b"").expect("written");
    let (listener, _) = listener().await;
    let options = Options { directory: file.join("below"), ..trio.options(0) };
    let error = Replica::start(options, listener).await.expect_err("refused");
    assert!(matches!(error, StartError::Store(StoreError::Directory { .. })), "{error:?}");
    assert!(error.to_string().contains("a-file/below"), "{error}");
    trio.stop_all().await;
}

#[tokio::test]
async fn a_replica_of_another_cluster_or_key_is_alone() {
    let mut trio = trio().await;
    let client = trio.client();
    create_all(&client, names("before", 3)).await;
    trio.stop(2).await;
    trio.directories[2] = TempDir::new().expect("a directory");
    for change in ["cluster", "key"] {
        let mut options = trio.options(2);
        let mut cluster = trio.cluster.clone();
        if change == "cluster" {
            cluster.name = "another".to_owned();
        } else {
            // Its own configuration has this key for it, and those of the others do not.
            options.key = key(STRANGER_SEED);
            cluster.replicas[2].key = key(STRANGER_SEED).public();
        }
        options.cluster = cluster.into();
        let directory = TempDir::new().expect("a directory");
        options.directory = directory.path().to_owned();
        let listener =
            until("the port is free", async || TcpListener::bind(&trio.cluster.replicas[2].address).await.ok()).await;
        let alone = Replica::start(options, listener).await.expect("starts");
        create_all(&client, names(change, 3)).await;
        assert_eq!(alone.executed().await.expect("runs").0, 0, "it learned nothing");
        alone.stop().await;
    }
    trio.assert_nobody_is_accused().await;
    trio.stop_all().await;
}

/// Says something on a link's port, and waits until the replica hangs up.
async fn say(address: &str, words: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("connected");
    // It may hang up before it has read everything.
    let _ = socket.write_all(words).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "noise keeps a link open");
    answer
}

#[tokio::test]
async fn noise_on_the_links_port_is_refused_and_the_version_told() {
    let trio = trio().await;
    let address = &trio.cluster.replicas[0].address;
    let answer = say(address, b"qrtlink\n\xff\xff").await;
    assert!(String::from_utf8_lossy(&answer).contains("version 65535"), "{answer:?}");
    say(address, b"qqqqqqqqqqqqqqqqqqqqqqqqqqqqq").await;
    say(address, b"qrtlink\n\x01\x00\xff\xff~~~~~~~~~~~~~~~~~~~~~~").await;
    create_all(&trio.client(), names("lives", 3)).await;
    trio.stop_all().await;
}

#[tokio::test]
async fn a_liar_is_not_started_where_liars_are_not_allowed() {
    let trio = trio().await;
    let (listener, _) = listener().await;
    let options = Options { liar: Some(ReplicaLiar::Censor), ..trio.options(0) };
    let error = Replica::start(options, listener).await.expect_err("refused");
    assert!(matches!(error, StartError::NoLiars), "{error:?}");
    trio.stop_all().await;
}

#[tokio::test]
async fn one_liar_changes_no_answer() {
    for liar in ReplicaLiar::ALL {
        // The first primary, and a backup.
        for replica in [0, 1] {
            let trio = lying(Some((replica, liar))).await;
            let client = trio.client();
            create_all(&client, names("a", 3)).await;
            let twice = client.submit(create("/a/0")).await;
            assert!(matches!(&twice, Err(error) if error.to_string().contains("exists already")), "{liar}: {twice:?}");
            assert_eq!(count(&client, "/a").await, 3, "{liar}");
            trio.stop_all().await;
        }
    }
}

#[tokio::test]
async fn whoever_tells_two_histories_is_named_with_proof() {
    // The primary, and a backup.
    for (liar, deceived) in [(0, 1), (1, 0)] {
        let trio = lying(Some((liar, ReplicaLiar::Equivocate))).await;
        create_all(&trio.client(), names("a", 3)).await;
        let named = until("the liar is named", async || {
            let faults = trio.view(deceived).await.faults;
            faults.into_iter().find(|fault| fault.proof)
        })
        .await;
        assert_eq!(named.replica.number() as usize, liar, "{named:?}");
        trio.stop_all().await;
    }
}

#[tokio::test]
async fn a_forged_directive_is_not_followed() {
    let trio = lying(Some((0, ReplicaLiar::ForgeDirective))).await;
    let (tracker, client) = (tracker_client(&trio.cluster, 0), trio.client());
    tracker.submit(register(5)).await.expect("registered");
    client.submit(create("/in")).await.expect("created");
    let job = client.submit_job(reduce_only(60_000)).await.expect("submitted");
    let mut directives = tracker.directives(TrackerId::new(0), 5, 0);
    let first = tokio::time::timeout(DEADLINE, directives.next()).await.expect("in time");
    let (number, directive) = first.expect("a directive").expect("no error");
    assert!(
        matches!(&directive, Directive::Start { attempt, .. } if attempt.task.job == job),
        "{number}: {directive:?}"
    );
    trio.stop_all().await;
}
