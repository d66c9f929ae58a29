//! Four replicas on real sockets and disks, without any trusted log: any one of them may go, come back, forget or lie.

mod fixture;

use fixture::*;
use quorate_jobtracker::{LogError, LogPlace, Options, Replica, ReplicaLiar, StartError};
use quorate_protocol::{
    cluster::{Agreement, Cluster},
    query::ReplicaView,
};
use std::{fs, path::Path};
use tempfile::TempDir;

const REPLICAS: usize = 4;

/// Four replicas, of which some may not run.
struct Four {
    cluster: Cluster,
    directories: Vec<TempDir>,
    replicas: Vec<Option<Replica>>,
    liar: Option<(usize, ReplicaLiar)>,
}

async fn four(liar: Option<(usize, ReplicaLiar)>) -> Four {
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..REPLICAS {
        let (listener, address) = listener().await;
        listeners.push(listener);
        addresses.push(address);
    }
    let (agreement, allow_liars) = (Agreement::Pbft, liar.is_some());
    let cluster = Cluster { f: 1, agreement, allow_liars, ..cluster(&addresses) };
    let directories = (0..REPLICAS).map(|_| TempDir::new().expect("a directory")).collect();
    let mut four = Four { cluster, directories, replicas: Vec::new(), liar };
    for (replica, listener) in listeners.into_iter().enumerate() {
        four.replicas.push(Some(Replica::start(four.options(replica), listener).await.expect("starts")));
    }
    four
}

impl Four {
    fn options(&self, replica: usize) -> Options {
        let number = u8::try_from(replica).expect("few");
        let liar = self.liar.filter(|(liar, _)| *liar == replica).map(|(_, liar)| liar);
        Options { liar, ..options(&self.cluster, number, self.directories[replica].path(), LEASE_LONG) }
    }

    async fn view(&self, replica: usize) -> ReplicaView {
        self.replicas[replica].as_ref().expect("it runs").report().await.expect("runs")
    }

    async fn create(&self, folder: &str, count: usize) {
        let client = client(&self.cluster);
        for number in 0..count {
            client.submit(create(&format!("/{folder}/{number}"))).await.expect("created");
        }
    }

    async fn count(&self, folder: &str) -> usize {
        client(&self.cluster).files(&path(folder)).await.expect("files").len()
    }

    async fn stop(&mut self, replica: usize) {
        self.replicas[replica].take().expect("it runs").stop().await;
    }

    /// Starts a replica at its address, as soon as the one before let go of port and directory.
    async fn start(&mut self, replica: usize) {
        let address = &self.cluster.replicas[replica].address;
        let options = self.options(replica);
        let started = started(options, address).await;
        self.replicas[replica] = Some(started);
    }

    /// Waits until all replicas that run, but for the liar, have executed the same.
    async fn until_alike(&self) {
        until("all have executed the same", async || {
            let mut executed = Vec::new();
            for (number, replica) in self.replicas.iter().enumerate() {
                if let Some(replica) = replica
                    && self.liar.is_none_or(|(liar, _)| liar != number)
                {
                    executed.push(replica.executed().await.expect("runs"));
                }
            }
            executed.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
        })
        .await;
    }

    /// A replica votes: without it and another one nothing could be agreed on.
    async fn prove_that_it_votes(&mut self, replica: usize) {
        until("it votes", async || self.view(replica).await.voting.then_some(())).await;
        let other = (replica + 1) % REPLICAS;
        self.replicas[other] = None;
        self.create("voted", 3).await;
        self.start(other).await;
        self.until_alike().await;
    }

    /// Ends well: nobody honest has anything against anybody honest.
    async fn end(mut self) {
        for replica in self.replicas.iter().flatten() {
            let view = replica.report().await.expect("runs");
            let liar = |replica| self.liar.is_some_and(|(liar, _)| liar == replica);
            let slander = view.faults.iter().filter(|fault| !liar(fault.replica.number() as usize));
            assert!(liar(view.replica.number() as usize) || slander.count() == 0, "{view:?}");
        }
        for replica in self.replicas.iter_mut().filter_map(Option::take) {
            replica.stop().await;
        }
    }
}

#[tokio::test]
async fn four_replicas_agree_and_go_on_without_their_primary() {
    let mut four = four(None).await;
    four.create("before", 10).await;
    let view = four.view(1).await;
    assert!(view.voting && view.trusted_log.contains("witness") && view.position > 0, "{view:?}");
    let primary = view.primary.number() as usize;
    four.replicas[primary] = None;
    four.create("without", 5).await;
    four.start(primary).await;
    four.create("with", 5).await;
    four.until_alike().await;
    assert_eq!(four.view(primary).await.epoch, 0, "a crash costs no epoch");
    for (folder, count) in [("/before", 10), ("/without", 5), ("/with", 5)] {
        assert_eq!(four.count(folder).await, count);
    }
    four.end().await;
}

#[tokio::test]
async fn all_stop_and_come_back_where_they_were_also_after_a_power_cut() {
    let mut four = four(None).await;
    four.create("before", 5).await;
    let old: Vec<_> = four.directories.iter().map(|directory| copied(directory.path())).collect();
    four.create("after", 5).await;
    four.until_alike().await;
    for (replica, old) in old.iter().enumerate() {
        four.stop(replica).await;
        // Records are synced, and the log's place is not: all machines lose it at once.
        let file = |directory: &Path| directory.join("witnessed-log");
        fs::copy(file(old.path()), file(four.directories[replica].path())).expect("copied");
    }
    for replica in 0..REPLICAS {
        four.start(replica).await;
    }
    four.create("again", 5).await;
    four.until_alike().await;
    for replica in 0..REPLICAS {
        assert_eq!(four.view(replica).await.epoch, 0);
    }
    four.end().await;
}

#[tokio::test]
async fn a_replica_that_was_wiped_or_put_back_says_nothing_twice_and_votes_again() {
    let mut four = four(None).await;
    four.create("before", 5).await;
    four.until_alike().await;
    let old = copied(four.directories[1].path());
    four.create("after", 5).await;
    four.until_alike().await;
    four.stop(1).await;
    four.directories[1] = old;
    four.start(1).await;
    four.create("again", 5).await;
    four.until_alike().await;
    four.prove_that_it_votes(1).await;
    assert!(four.view(1).await.epoch > 0, "what it said meanwhile is forgotten, so its log begins anew");
    four.stop(1).await;
    four.directories[1] = TempDir::new().expect("a directory");
    four.start(1).await;
    four.until_alike().await;
    client(&four.cluster).remove(path("/voted"), true).await.expect("removed");
    four.prove_that_it_votes(1).await;
    four.end().await;
}

#[tokio::test]
async fn each_liar_is_borne() {
    for liar in ReplicaLiar::ALL {
        let four = four(Some((0, liar))).await;
        four.create("a", 5).await;
        assert_eq!(four.count("/a").await, 5, "{liar}");
        four.until_alike().await;
        four.end().await;
    }
}

#[tokio::test]
async fn what_makes_no_sense_without_trusted_logs_is_refused() {
    let four = four(None).await;
    let mut three = four.cluster.clone();
    three.replicas.pop();
    let directory = TempDir::new().expect("a directory");
    let start = async |options: Options| {
        let (listener, _) = listener().await;
        Replica::start(options, listener).await.err()
    };
    let few = start(options(&three, 0, directory.path(), LEASE_LONG)).await;
    assert!(matches!(&few, Some(StartError::Cluster(why)) if why.contains("3f + 1")), "{few:?}");
    let trusted_log = LogPlace::Helper(directory.path().join("socket"));
    let helped = start(Options { trusted_log, ..options(&four.cluster, 0, directory.path(), LEASE_LONG) }).await;
    assert!(matches!(helped, Some(StartError::TrustedLog(LogError::NotThere))), "{helped:?}");
    let spoilt = TempDir::new().expect("a directory");
    fs::write(spoilt.path().join("witness"), [7; 16384]).expect("written");
    let damaged = start(options(&four.cluster, 0, spoilt.path(), LEASE_LONG)).await;
    assert!(matches!(damaged, Some(StartError::TrustedLog(LogError::Memory { .. }))), "{damaged:?}");
    four.end().await;
}
