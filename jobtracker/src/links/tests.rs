//! Links on real sockets.

use super::*;
use crate::{
    door::Door,
    keys::configuration,
    node::Event,
    reception::Reception,
    testing::{cluster_of, replica_key},
};
use quorate_protocol::{cluster::Cluster, digest::Digest};
use quorate_smr::{History, Seq, Verifier, message::Message};
use std::{
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// One end: what it hears, and how it speaks.
struct End {
    outbox: Outbox,
    heard: Receiver<Event>,
    links: Arc<Incoming>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

fn start(cluster: &Arc<Cluster>, me: u32, listener: TcpListener) -> End {
    let door = Arc::new(Door::new(Arc::clone(cluster)));
    let config = configuration(cluster, None, ReplicaId::new(me), &replica_key(me), door);
    let identity = Arc::new(Identity::new(Arc::clone(cluster), None, ReplicaId::new(me), replica_key(me)));
    let (inbox, heard) = sync_channel(64);
    let links = Arc::new(Incoming::new(Arc::clone(&identity), Verifier::new(&config), inbox, None));
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let outbox = Outbox::start(&identity, None, &stopping, &mut tasks);
    tasks.spawn(Reception::new(listener, Arc::clone(&links)).0.run(stopping));
    End { outbox, heard, links, stop, tasks }
}

impl End {
    async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        drop(self.heard);
        let threads = self.links.close();
        let join = move || threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        tokio::task::spawn_blocking(join).await.expect("joined");
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn message(number: u64) -> OwnMessage {
    Message::FetchChain(History { seq: Seq(number), digest: Digest::of(b"history") })
}

/// Says it until it is heard: what is said while there is no link is lost.
async fn until_heard(from: &End, to: &End, number: u64) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        from.outbox.broadcast(&message(number));
        while let Ok(event) = to.heard.try_recv() {
            let Event::Message(_, heard, _) = event else { panic!("no message") };
            if *heard.message() == message(number) {
                return;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "message {number} was never heard");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn replicas_hear_each_other_and_again_after_one_was_gone() {
    let ((first, one), (second, two)) = (listener().await, listener().await);
    let (_third, three) = listener().await;
    let cluster = Arc::new(cluster_of(&[one, two.clone(), three]));
    let (zero, one) = (start(&cluster, 0, first), start(&cluster, 1, second));
    until_heard(&zero, &one, 1).await;
    until_heard(&one, &zero, 2).await;
    one.stop().await;
    let again = TcpListener::bind(&two).await.expect("the same port");
    let one = start(&cluster, 1, again);
    until_heard(&zero, &one, 3).await;
    until_heard(&one, &zero, 4).await;
    zero.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn whoever_says_too_much_is_hung_up_on_and_may_dial_again() {
    let ((first, one), (second, two)) = (listener().await, listener().await);
    let (_third, three) = listener().await;
    let cluster = Arc::new(cluster_of(&[one.clone(), two, three]));
    let zero = start(&cluster, 0, first);
    let mut link = TcpStream::connect(&one).await.expect("connected");
    let identity = Identity::new(Arc::clone(&cluster), None, ReplicaId::new(1), replica_key(1));
    identity.dial(ReplicaId::new(0), &mut link).await.expect("linked");
    link.write_all(&u32::MAX.to_le_bytes()).await.expect("written");
    // With a reset or without.
    let hung_up = tokio::time::timeout(DEADLINE, link.read_to_end(&mut Vec::new())).await;
    assert!(hung_up.is_ok(), "it stays open, and nobody listens");
    let one = start(&cluster, 1, second);
    until_heard(&one, &zero, 1).await;
    zero.stop().await;
    one.stop().await;
}
