//! One running replica: it opens the log, owns all tasks, and takes them down in order.

use crate::{
    housekeeper::Housekeeper,
    liveness::Streams,
    log::{LogError, Place},
    order::{Order, OrderError, Solo, Stopped},
    service::Service,
};
use quorate_protocol::{cluster::Cluster, digest::Digest, ids::ReplicaId, sign::SecretKey};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::transport::{Server, server::TcpIncoming};

/// How long a tracker may be without a stream of directives before it counts as absent.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(3);

/// Dead connections are noticed within the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls and streams of one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Calls of one connection at work at once; more wait.
const CALLS_PER_CONNECTION_MAX: usize = 64;
/// How long peers are given to finish their calls when the replica stops.
const GRACE: Duration = Duration::from_secs(5);

/// What a replica needs to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's configuration.
    pub cluster: Arc<Cluster>,
    /// Which of its replicas this is.
    pub replica: ReplicaId,
    /// That replica's key.
    pub key: SecretKey,
    /// Where it keeps its log. It is made when it does not exist.
    pub directory: PathBuf,
    /// How long a tracker may be without a stream of directives: usually [`LEASE_DEFAULT`].
    pub lease: Duration,
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error("the cluster's configuration makes no sense: {0}")]
    Cluster(String),
    /// The configuration has no such replica.
    #[error("the cluster's configuration has no {0}")]
    NotAMember(ReplicaId),
    /// The key is not the one of the configuration.
    #[error("this is not the key that the cluster's configuration has for {0}")]
    WrongKey(ReplicaId),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The operating system gives no socket or thread.
    #[error("the operating system gives no socket or thread")]
    System(#[from] io::Error),
    /// It stopped before it had started.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A running replica. Dropped, it stops without waiting for anybody.
pub struct Replica {
    address: SocketAddr,
    order: Order,
    stopping: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    housekeeper: JoinHandle<()>,
    /// The result of the ordering thread, until it was taken.
    ended: Option<oneshot::Receiver<Result<(), LogError>>>,
}

impl Replica {
    /// Opens the log, executes what is in it, and serves.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left running.
    pub async fn start(options: Options, listener: TcpListener) -> Result<Self, StartError> {
        check(&options)?;
        let address = listener.local_addr()?;
        let (solo, order) = open(&options).await?;
        let Options { cluster, replica, key, lease, .. } = options;
        let streams = Streams::default();
        let (stopping, stop) = watch::channel(false);
        let housekeeper =
            Housekeeper::new(order.clone(), streams.clone(), lease, cluster.id(), replica, key.clone()).await?;
        let service = Service::new(cluster, replica, key, order.clone(), streams, stop.clone());
        let ended = Some(spawn_order(solo)?);
        let housekeeper = tokio::spawn(housekeeper.run(stop.clone()));
        let server = tokio::spawn(serve(service, listener, stop));
        tracing::info!(%replica, %address, executed = *order.executed().borrow(), "the replica serves");
        Ok(Self { address, order, stopping, server, housekeeper, ended })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many commands were executed, and the digest of the state that they led to: the same for every replica.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn executed(&self) -> Result<(u64, Digest), Stopped> {
        let executed = self.order.executed();
        self.order.read(move |state| (*executed.borrow(), Digest::of(&state.to_bytes()))).await
    }

    /// Waits until the replica ends by itself, which it does only when something is wrong with its log or program.
    ///
    /// # Errors
    /// [`OrderError`]: what was wrong.
    pub async fn ended(&mut self) -> Result<(), OrderError> {
        let Some(ended) = &mut self.ended else { return Ok(()) };
        let result = ended.await;
        self.ended = None;
        match result {
            Ok(result) => result.map_err(OrderError::Log),
            Err(_) => Err(OrderError::Panicked),
        }
    }

    /// Stops: takes no more calls, ends the streams, executes what is queued, closes the log.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
            tracing::warn!("peers did not finish their calls; they are cut off");
            self.server.abort();
        }
        // It returns nothing; an error would be its panic, which was printed.
        let _ = (&mut self.housekeeper).await;
        self.order.stop().await;
        if let Err(error) = self.ended().await {
            tracing::error!(error = &error as &dyn std::error::Error, "the replica did not end well");
        }
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        self.server.abort();
        self.housekeeper.abort();
        self.order.abandon();
    }
}

fn check(options: &Options) -> Result<(), StartError> {
    options.cluster.check().map_err(StartError::Cluster)?;
    let replica = options.replica;
    let member = options.cluster.replica(replica).ok_or(StartError::NotAMember(replica))?;
    if member.key == options.key.public() { Ok(()) } else { Err(StartError::WrongKey(replica)) }
}

async fn open(options: &Options) -> Result<(Solo, Order), LogError> {
    let Options { cluster, replica, directory, .. } = options.clone();
    let path = directory.clone();
    let open = move || Solo::open(&cluster, replica, &directory);
    // The store panics on some damage that it does not expect.
    tokio::task::spawn_blocking(open).await.unwrap_or_else(|_| {
        Err(LogError::Damaged { path, place: Place::Structure, what: "the store cannot make sense of it".to_owned() })
    })
}

/// Runs the order on a thread of its own: it waits for the disk.
fn spawn_order(solo: Solo) -> io::Result<oneshot::Receiver<Result<(), LogError>>> {
    let (send, ended) = oneshot::channel();
    let run = move || {
        let result = solo.run();
        if let Err(error) = &result {
            tracing::error!(error = error as &dyn std::error::Error, "the log failed: the replica stops");
        }
        // Nobody may be waiting.
        let _ = send.send(result);
    };
    std::thread::Builder::new().name("quorate-order".to_owned()).spawn(run)?;
    Ok(ended)
}

async fn serve(
    service: Service,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let stopped = async move {
        // An error says that the replica is gone, which is a reason to stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .add_service(service.into_server())
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stopped)
        .await
}
