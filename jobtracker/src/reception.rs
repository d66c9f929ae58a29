//! The port: clients and replicas come by the same one, and the first byte tells them apart.

use crate::links::{FIRST_BYTE, Incoming};
use futures::stream::{self, Stream};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

/// Connections whose other side has not shown what it is; more wait to be accepted.
const NEW_MAX: usize = 1024;
/// How long a connection may be silent at first.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of clients that wait to be served.
const CLIENTS_MAX: usize = 64;
/// The pause after a connection could not be accepted: there are too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until it is told to stop, and hands each to whom it is for.
pub(crate) struct Reception {
    listener: TcpListener,
    links: Arc<Incoming>,
    clients: mpsc::Sender<io::Result<TcpStream>>,
}

impl Reception {
    /// A reception, and the connections of clients.
    pub(crate) fn new(
        listener: TcpListener,
        links: Arc<Incoming>,
    ) -> (Self, impl Stream<Item = io::Result<TcpStream>>) {
        let (clients, mut incoming) = mpsc::channel(CLIENTS_MAX);
        let incoming = stream::poll_fn(move |context| incoming.poll_recv(context));
        (Self { listener, links, clients }, incoming)
    }

    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            // An error says that the replica is gone, which is a reason to stop as well.
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.receive() => {}
        }
    }

    async fn receive(&self) {
        let new = Arc::new(Semaphore::new(NEW_MAX));
        // Dropped, it aborts what has not shown itself yet.
        let mut guests = JoinSet::new();
        while let Ok(place) = Arc::clone(&new).acquire_owned().await {
            while guests.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (links, clients) = (Arc::clone(&self.links), self.clients.clone());
                    guests.spawn(async move {
                        let _place = place;
                        greet(stream, &links, &clients).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn greet(stream: TcpStream, links: &Incoming, clients: &mpsc::Sender<io::Result<TcpStream>>) {
    let mut first = [0];
    let peeked = tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await;
    if !matches!(peeked, Ok(Ok(1))) || stream.set_nodelay(true).is_err() {
        return;
    }
    if first[0] == FIRST_BYTE {
        links.welcome(stream).await;
    } else {
        // An error says that nobody is served any more.
        let _ = clients.send(Ok(stream)).await;
    }
}
