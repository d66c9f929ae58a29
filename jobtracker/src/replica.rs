//! One running replica: it opens what it kept, owns all tasks and threads, and takes them down in order.

use crate::{
    application::{Application, Shared},
    device::{Device, LogError, LogPlace},
    door::Door,
    founding::Founding,
    housekeeper::{Housekeeper, Voice},
    keys::{Keyring, configuration},
    liars::{Lie, ReplicaLiar},
    links::{Identity, Incoming, Outbox},
    liveness::Streams,
    node::{BeginError, Inbox, Node, Parts},
    order::{Order, OrderError, Stopped},
    reception::Reception,
    record::{self, Recorder},
    service::{Notary, Service},
    store::{Kept, Place, Store, StoreError},
    web::{Compare, Live, Pages, Server, Source},
};
use futures::Stream;
use quorate_protocol::{
    cluster::{Cluster, ReplicaMember},
    digest::Digest,
    ids::ReplicaId,
    query::ReplicaView,
    sign::SecretKey,
};
use quorate_smr::Verifier;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};

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
    /// Where it keeps what it must not forget, its trusted log too. It is made when it does not exist.
    pub directory: PathBuf,
    /// Where its trusted log is.
    pub trusted_log: LogPlace,
    /// How the cluster began, when a replica's trusted log is in a TPM.
    pub founding: Option<Founding>,
    /// How long a tracker may be without a stream of directives: usually [`LEASE_DEFAULT`].
    pub lease: Duration,
    /// Whether it keeps a record of what happens to jobs: event logs in the folder `events` of its directory.
    pub record: bool,
    /// How it lies. Only where the cluster's configuration allows liars.
    pub liar: Option<ReplicaLiar>,
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
    /// The configuration allows no liars.
    #[error("the cluster's configuration does not allow liars")]
    NoLiars,
    /// The configuration has TPMs, and this build cannot check them.
    #[error(
        "the cluster's configuration has TPMs as trusted logs, and this program was built without them: build it with \
         `--features tpm`"
    )]
    TpmNotBuilt,
    /// The configuration has TPMs, and the replica was not told how the cluster began.
    #[error("the cluster's configuration has TPMs as trusted logs: its replicas start with the cluster's founding")]
    NotFounded,
    /// The founding is of another cluster, or the cluster needs none.
    #[error("the founding is not that of this cluster")]
    Founding,
    /// What it kept cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its trusted log cannot be used.
    #[error(transparent)]
    TrustedLog(#[from] LogError),
    /// The agreement cannot go on from what it kept.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// Executing what it kept panicked: a bug, whose message was printed.
    #[error("executing what the replica kept panicked: this program has a bug there; what was kept is intact")]
    NotExecutable,
    /// The operating system gives no socket or thread.
    #[error("the operating system gives no socket or thread")]
    System(#[from] io::Error),
}

/// A running replica. Dropped, it stops without waiting for anybody.
pub struct Replica {
    address: SocketAddr,
    replica: ReplicaId,
    cluster: Arc<Cluster>,
    lie: Option<Arc<dyn Lie>>,
    /// Its page, once it shows one.
    page: Option<Server>,
    recorder: Option<Recorder>,
    order: Order,
    links: Arc<Incoming>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    /// Reception, housekeeper, and the ways to the other replicas.
    tasks: JoinSet<()>,
    /// The result of the agreement's thread, until it was taken.
    ended: Option<oneshot::Receiver<Result<(), OrderError>>>,
}

impl Replica {
    /// Opens what was kept, goes on from there, and serves.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left running.
    pub async fn start(options: Options, listener: TcpListener) -> Result<Self, StartError> {
        check(&options)?;
        let address = listener.local_addr()?;
        let (store, kept, device) = open(&options).await?;
        let Options { cluster, founding, replica, key, directory, lease, record: keeps_record, liar, .. } = options;
        let id = cluster.id();
        let lie = liar.map(|liar| liar.lie(id, replica, Keyring::new(&cluster, key.clone())));
        let door = Arc::new(Door::new(Arc::clone(&cluster)));
        let config = configuration(&cluster, founding.as_ref(), replica, &key, Arc::clone(&door));
        let (inbox, verifier) = (Inbox::new(), Verifier::new(&config));
        let identity = Arc::new(Identity::new(Arc::clone(&cluster), founding.as_ref(), replica, key.clone()));
        let links = Arc::new(Incoming::new(Arc::clone(&identity), verifier, inbox.sender(), device.inlet()));
        let (stopping, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let outbox = Outbox::start(&identity, lie.clone(), &stop, &mut tasks);
        let mut application = Application::new((*cluster).clone());
        let recorder = keeps_record.then(|| Recorder::start(directory.join(record::FOLDER), &cluster)).transpose()?;
        if let Some(recorder) = &recorder {
            application.tell(recorder.desk.clone());
        }
        let state = Shared::new(application);
        let (node, order) =
            begin(Parts { config, state, store, kept, device, outbox, lie: lie.clone() }, inbox).await?;
        let ended = Some(spawn(node)?);
        let streams = Streams::default();
        let voice = Voice::new(id, replica, key.clone());
        let housekeeper = Housekeeper::new(order.clone(), Arc::clone(&door), streams.clone(), lease, voice);
        tasks.spawn(housekeeper.run(stop.clone()));
        let (reception, clients) = Reception::new(listener, Arc::clone(&links));
        tasks.spawn(reception.run(stop.clone()));
        let notary = Notary::new(id, replica, key, lie.clone(), order.view());
        let service = Service::new(door, notary, order.clone(), streams, stop.clone());
        let server = tokio::spawn(serve(service, clients, stop));
        tracing::info!(%replica, %address, executed = *order.executed().borrow(), "the replica serves");
        let page = None;
        Ok(Self { address, replica, cluster, lie, page, recorder, order, links, stopping, server, tasks, ended })
    }

    /// Shows a page for people, with the API under it, from now on until the replica stops. What several replicas say is
    /// compared there, so the configuration should have the address of each one's page. Where votes differ is told with the help of
    /// `compare`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn show_page(&mut self, listener: TcpListener, compare: Option<Arc<dyn Compare>>) -> io::Result<()> {
        let address = listener.local_addr()?.to_string();
        let own = |member: &ReplicaMember| (member.id == self.replica).then(|| address.clone());
        let addresses =
            self.cluster.replicas.iter().map(|member| member.page.clone().or_else(|| own(member))).collect();
        let records = self.recorder.as_ref().map(|recorder| recorder.records.clone());
        let (order, cluster, lie) = (self.order.clone(), Arc::clone(&self.cluster), self.lie.clone());
        let live = Live::new(order, cluster, self.replica, lie, records, compare);
        self.page = Some(Server::start(Source::Live(Arc::new(live)), Pages { addresses }, listener)?);
        Ok(())
    }

    /// Where its page is, when it shows one.
    pub fn page(&self) -> Option<SocketAddr> {
        self.page.as_ref().map(Server::address)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many batches of commands were executed, and the digest of the state that they led to: the same for every
    /// replica.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn executed(&self) -> Result<(u64, Digest), Stopped> {
        self.order.digest().await.map(|(history, state)| (history.ordered, state))
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn report(&self) -> Result<ReplicaView, Stopped> {
        self.order.report().await
    }

    /// Waits until the replica ends by itself, which it does only when something is wrong with its disk, its trusted log
    /// or its program.
    ///
    /// # Errors
    /// [`OrderError`]: what was wrong.
    pub async fn ended(&mut self) -> Result<(), OrderError> {
        let Some(ended) = &mut self.ended else { return Ok(()) };
        let result = ended.await;
        self.ended = None;
        result.unwrap_or(Err(OrderError::Panicked))
    }

    /// Stops: takes no more calls, ends streams and links, writes what waits to be written, and closes its files.
    pub async fn stop(mut self) {
        if let Some(page) = self.page.take() {
            page.stop().await;
        }
        self.stopping.send_replace(true);
        if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
            tracing::warn!("peers did not finish their calls; they are cut off");
            self.server.abort();
        }
        // Tasks return nothing; an error would be a panic, which was printed.
        while self.tasks.join_next().await.is_some() {}
        let threads = self.links.close();
        self.order.stop().await;
        if let Err(error) = self.ended().await {
            tracing::error!(error = &error as &dyn std::error::Error, "the replica did not end well");
        }
        let recorder = self.recorder.take();
        let join = move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            // Nothing happens any more: what is told is written down.
            drop(recorder);
        };
        let _ = tokio::task::spawn_blocking(join).await;
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
        self.tasks.abort_all();
        self.links.close();
        self.order.abandon();
    }
}

fn check(options: &Options) -> Result<(), StartError> {
    options.cluster.check().map_err(StartError::Cluster)?;
    let replica = options.replica;
    let member = options.cluster.replica(replica).ok_or(StartError::NotAMember(replica))?;
    if member.key != options.key.public() {
        return Err(StartError::WrongKey(replica));
    }
    check_founding(&options.cluster, options.founding.as_ref())?;
    if options.liar.is_some() && !options.cluster.allow_liars { Err(StartError::NoLiars) } else { Ok(()) }
}

fn check_founding(cluster: &Cluster, founding: Option<&Founding>) -> Result<(), StartError> {
    if cluster.has_tpms() && !cfg!(feature = "tpm") {
        return Err(StartError::TpmNotBuilt);
    }
    match founding {
        None if cluster.has_tpms() => Err(StartError::NotFounded),
        Some(founding) if founding.cluster() != cluster.id() => Err(StartError::Founding),
        None | Some(_) => Ok(()),
    }
}

async fn open(options: &Options) -> Result<(Store, Kept, Device), StartError> {
    let Options { cluster, founding, replica, key, directory, trusted_log, .. } = options.clone();
    let path = directory.clone();
    let open_store = {
        let (id, directory, founding) = (cluster.id(), directory.clone(), founding.as_ref().map(Founding::digest));
        move || Store::open(&directory, id, replica, founding)
    };
    // The store panics on some damage that it does not expect.
    let opened = tokio::task::spawn_blocking(open_store).await.unwrap_or_else(|_| {
        Err(StoreError::Damaged { path, place: Place::Structure, what: "the store cannot make sense of it".to_owned() })
    });
    let (store, kept) = opened?;
    let open_device = move || {
        let mut device = Device::open(&cluster, founding.as_ref(), replica, &key, &directory, &trusted_log)?;
        device.catch_up(&kept.records)?;
        Ok::<_, LogError>((kept, device))
    };
    let (kept, device) = tokio::task::spawn_blocking(open_device).await.map_err(|_| StartError::NotExecutable)??;
    Ok((store, kept, device))
}

async fn begin(parts: Parts, inbox: Inbox) -> Result<(Node, Order), StartError> {
    let begin = move || Node::new(parts, inbox);
    Ok(tokio::task::spawn_blocking(begin).await.map_err(|_| StartError::NotExecutable)??)
}

/// Runs the agreement on a thread of its own: it waits for the disk.
fn spawn(node: Node) -> io::Result<oneshot::Receiver<Result<(), OrderError>>> {
    let (send, ended) = oneshot::channel();
    let run = move || {
        let result = node.run();
        if let Err(error) = &result {
            tracing::error!(error = error as &dyn std::error::Error, "the replica stops");
        }
        // Nobody may be waiting.
        let _ = send.send(result);
    };
    std::thread::Builder::new().name("quorate-order".to_owned()).spawn(run)?;
    Ok(ended)
}

async fn serve(
    service: Service,
    clients: impl Stream<Item = io::Result<TcpStream>>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let stopped = async move {
        // An error says that the replica is gone, which is a reason to stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .add_service(service.into_server())
        .serve_with_incoming_shutdown(clients, stopped)
        .await
}
