//! A cluster of chunk servers on this machine, each on a port of its own: honest ones, and scripted ones that do anything.

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use quorate_dfs::{ChunkClient, ChunkService, ChunkStore, Server, Servers};
use quorate_protocol::{
    cluster::{Cluster, ReplicaMember, TrackerMember},
    digest::ChunkId,
    file::PutPermit,
    ids::{Domain, ReplicaId, TrackerId},
    sign::{SecretKey, Signed},
    vote::{Served, Subject},
    wire::{
        Block, ChunkRequest, Piece, PieceRequest, PutBlock, PutReply,
        chunk_server_client::ChunkServerClient,
        chunk_server_server::{ChunkServer, ChunkServerServer},
    },
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    service::Routes,
    transport::{Channel, Server as Transport},
};

/// Tracker `n`.
pub(crate) fn id(n: u32) -> TrackerId {
    TrackerId::new(n)
}

/// The key of tracker `n`.
pub(crate) fn key(n: u32) -> SecretKey {
    SecretKey::from_seed([n as u8 + 1; 32])
}

/// The key of the one client.
pub(crate) fn client_key() -> SecretKey {
    SecretKey::from_seed([77; 32])
}

/// A cluster of so many trackers, each in a domain of its own.
pub(crate) fn cluster(trackers: u32) -> Cluster {
    let member = |n| TrackerMember { id: id(n), domain: Domain(format!("domain-{n}")), key: key(n).public() };
    let replica = SecretKey::from_seed([88; 32]).public();
    Cluster {
        name: "test".to_owned(),
        f: 0,
        agreement: Default::default(),
        allow_liars: true,
        clients: vec![client_key().public()],
        authority: None,
        replicas: vec![ReplicaMember {
            id: ReplicaId::new(0),
            address: String::new(),
            key: replica,
            log: None,
            tpm: None,
            page: None,
        }],
        trackers: (0..trackers).map(member).collect(),
    }
}

/// The servers that run.
pub(crate) struct Testbed {
    pub(crate) cluster: Arc<Cluster>,
    root: tempfile::TempDir,
    addresses: BTreeMap<u32, String>,
    stores: BTreeMap<u32, Arc<ChunkStore>>,
    /// A runtime for each server, so that killing one ends its connections too.
    running: BTreeMap<u32, Runtime>,
}

impl Drop for Testbed {
    fn drop(&mut self) {
        std::mem::take(&mut self.running).into_values().for_each(Runtime::shutdown_background);
    }
}

impl Testbed {
    pub(crate) fn new(trackers: u32) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        Self {
            cluster: Arc::new(cluster(trackers)),
            root,
            addresses: BTreeMap::new(),
            stores: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Starts an honest server, over what it had stored before.
    pub(crate) async fn honest(&mut self, n: u32) {
        let service = self.service(n).await;
        self.start(n, Routes::new(service.into_server()));
    }

    /// Starts a server that serves something else than it has.
    pub(crate) async fn lying(&mut self, n: u32, lie: impl Fn(ChunkId, Bytes) -> Bytes + Send + Sync + 'static) {
        let service = self.service(n).await.tampering(Arc::new(lie));
        self.start(n, Routes::new(service.into_server()));
    }

    /// Starts a server that follows a script.
    pub(crate) fn scripted(&mut self, n: u32, script: Scripted) {
        self.start(n, Routes::new(ChunkServerServer::new(script)));
    }

    /// Stops a server and waits until its connections are closed.
    pub(crate) async fn kill(&mut self, n: u32) {
        let server = self.running.remove(&n).expect("it runs");
        let stopped = tokio::task::spawn_blocking(move || server.shutdown_timeout(Duration::from_secs(20)));
        stopped.await.expect("stopped");
    }

    /// Says that a server is at an address.
    pub(crate) fn at(&mut self, n: u32, address: String) {
        self.addresses.insert(n, address);
    }

    pub(crate) fn address(&self, n: u32) -> &str {
        &self.addresses[&n]
    }

    pub(crate) fn store(&self, n: u32) -> &ChunkStore {
        &self.stores[&n]
    }

    /// The folder of a server's store.
    pub(crate) fn folder(&self, n: u32) -> PathBuf {
        self.root.path().join(n.to_string())
    }

    /// All servers that were started.
    pub(crate) fn servers(&self) -> Servers {
        let server = |(n, address): (&u32, &String)| {
            (id(*n), Server { domain: Domain(format!("domain-{n}")), address: address.clone(), live: true })
        };
        self.addresses.iter().map(server).collect()
    }

    /// A client that knows the servers started so far.
    pub(crate) fn client(&self) -> ChunkClient {
        let client = ChunkClient::new(self.cluster.clone(), client_key());
        client.set_servers(self.servers());
        client
    }

    /// The bare calls of a server.
    pub(crate) async fn raw(&self, n: u32) -> ChunkServerClient<Channel> {
        ChunkServerClient::connect(format!("http://{}", self.addresses[&n])).await.expect("connected")
    }

    async fn service(&mut self, n: u32) -> ChunkService {
        let store = Arc::new(ChunkStore::local(&self.folder(n)).await.expect("a store"));
        self.stores.insert(n, store.clone());
        ChunkService::new(self.cluster.clone(), id(n), key(n), store)
    }

    fn start(&mut self, n: u32, routes: Routes) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket option");
        self.at(n, listener.local_addr().expect("bound").to_string());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).expect("a listener"));
            Transport::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming)
                .await
                .expect("serves until it is killed")
        });
        self.running.insert(n, runtime);
    }
}

/// A server that does what a test says.
pub(crate) struct Scripted {
    blocks: Box<dyn Fn() -> BoxStream<'static, Result<Block, Status>> + Send + Sync>,
    /// As whom it acknowledges puts, how many of them, and whether it answers at all.
    acknowledges: Option<(u32, AtomicU32)>,
    answers: bool,
}

impl Scripted {
    /// Sends these blocks whatever is asked for, and acknowledges puts with garbage.
    pub(crate) fn blocks(blocks: Vec<Block>) -> Self {
        let blocks = Box::new(move || stream::iter(blocks.clone().into_iter().map(Ok)).boxed());
        Self { blocks, acknowledges: None, answers: true }
    }

    /// Sends one block for ever.
    pub(crate) fn endless(data: Bytes) -> Self {
        let block = Block { data, served: Vec::new() };
        let blocks = Box::new(move || stream::repeat(block.clone()).map(Ok).boxed());
        Self { blocks, acknowledges: None, answers: true }
    }

    /// Takes requests and says nothing.
    pub(crate) fn silent() -> Self {
        Self { blocks: Box::new(|| stream::pending().boxed()), acknowledges: None, answers: false }
    }

    /// Acknowledges so many puts as server `n`, keeps nothing, and then fails.
    pub(crate) fn acknowledging(n: u32, puts: u32) -> Self {
        let blocks = Box::new(|| stream::iter([Err(Status::not_found("kept nothing"))]).boxed());
        Self { blocks, acknowledges: Some((n, AtomicU32::new(puts))), answers: true }
    }
}

#[tonic::async_trait]
impl ChunkServer for Scripted {
    type GetChunkStream = BoxStream<'static, Result<Block, Status>>;

    async fn get_chunk(&self, _: Request<ChunkRequest>) -> Result<Response<Self::GetChunkStream>, Status> {
        Ok(Response::new((self.blocks)()))
    }

    async fn get_piece(&self, _: Request<PieceRequest>) -> Result<Response<Piece>, Status> {
        let first = (self.blocks)().next().await.ok_or_else(|| Status::not_found("nothing"))??;
        Ok(Response::new(Piece { data: first.data, proof: first.served }))
    }

    async fn put_chunk(&self, request: Request<Streaming<PutBlock>>) -> Result<Response<PutReply>, Status> {
        if !self.answers {
            std::future::pending::<()>().await;
        }
        let mut from = request.into_inner();
        let first = from.message().await?.expect("a permit");
        while from.message().await?.is_some() {}
        let Some((n, left)) = &self.acknowledges else {
            return Ok(Response::new(PutReply { stored: b"garbage".to_vec() }));
        };
        let less = |left: u32| left.checked_sub(1);
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).map_err(|_| Status::unavailable("broken"))?;
        let permit: PutPermit = Signed::from_wire(&first.permit).and_then(|signed| signed.peek()).expect("a permit");
        let sent = Some((permit.chunk.0, permit.length.into()));
        let served = Served {
            cluster: permit.cluster,
            tracker: id(*n),
            subject: Subject::Chunk(permit.chunk),
            vote: None,
            sent,
        };
        Ok(Response::new(PutReply { stored: Signed::seal(&served, &key(*n)).to_wire() }))
    }
}
