//! Chunk put and get: a client's chunks on the server of a tracker, over a socket of this machine. The tracker is a whole
//! one, as in a cluster; that no job tracker answers it does not keep it from serving.

use crate::{
    chunks::{cut, work},
    material::Material,
    stage::{Stage, Work},
    tasks::program,
};
use bytes::Bytes;
use quorate::Result;
use quorate_dfs::{ChunkClient, Server, Servers};
use quorate_protocol::{
    cluster::{Agreement, Cluster, ReplicaMember, TrackerMember},
    digest::ChunkId,
    ids::{Domain, ReplicaId, TrackerId},
    query::{Blame, Duty, TrackerView},
    sign::SecretKey,
};
use quorate_tasktracker::{Neighbours, Options, Programs, Tracker};
use std::{path::Path, sync::Arc};
use tokio::{net::TcpListener, runtime::Runtime};

/// The tracker that serves.
pub(crate) const SERVER: TrackerId = TrackerId::new(0);
/// The tracker that reads segments.
pub(crate) const READER: TrackerId = TrackerId::new(1);

/// The key of the tracker that serves.
pub(crate) fn server_key() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn client_key() -> SecretKey {
    SecretKey::from_seed([2; 32])
}

/// A cluster of the two trackers, and of a replica that is nowhere.
pub(crate) fn cluster() -> Cluster {
    let tracker = |id: TrackerId, key: &SecretKey| TrackerMember {
        id,
        domain: Domain(format!("domain-{}", id.number())),
        key: key.public(),
    };
    let nowhere = ReplicaMember {
        id: ReplicaId::new(0),
        address: "127.0.0.1:1".to_owned(),
        key: SecretKey::from_seed([3; 32]).public(),
        log: None,
        tpm: None,
        page: None,
    };
    Cluster {
        name: "stages".to_owned(),
        f: 0,
        agreement: Agreement::default(),
        allow_liars: false,
        clients: vec![client_key().public()],
        authority: None,
        replicas: vec![nowhere],
        trackers: vec![tracker(SERVER, &server_key()), tracker(READER, &SecretKey::from_seed([4; 32]))],
    }
}

/// A tracker that serves what is in its folder, until it is dropped.
pub(crate) struct Serving {
    pub(crate) runtime: Runtime,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) address: String,
    tracker: Option<Tracker>,
}

impl Serving {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let (runtime, cluster) = (Runtime::new()?, Arc::new(cluster()));
        let options = Options {
            cluster: Arc::clone(&cluster),
            id: SERVER,
            key: server_key(),
            directory: folder.to_owned(),
            map_slots: 1,
            reduce_slots: 1,
            liar: None,
            programs: Programs::Embedded(program()),
            neighbours: Neighbours::default(),
        };
        let tracker = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            Ok::<_, quorate::Error>(Tracker::start(options, listener).await?)
        })?;
        let address = tracker.address().to_string();
        Ok(Self { runtime, cluster, address, tracker: Some(tracker) })
    }

    /// The tracker as the job tracker would show it to others.
    pub(crate) fn view(&self) -> TrackerView {
        TrackerView {
            id: SERVER,
            domain: Domain("domain-0".to_owned()),
            address: self.address.clone(),
            live: true,
            map_slots: (0, 1),
            reduce_slots: (0, 1),
            blame: Blame::None,
            evidence: 0,
            overdue: 0,
            agreed: 0,
            outvoted: 0,
            duty: Duty::Full,
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(tracker) = self.tracker.take() {
            self.runtime.block_on(tracker.stop());
        }
    }
}

struct Remote {
    serving: Serving,
    client: ChunkClient,
    chunks: Vec<(ChunkId, Bytes)>,
}

impl Remote {
    fn start(material: &Material, folder: &Path) -> Result<Self> {
        let serving = Serving::start(folder)?;
        let client = ChunkClient::new(Arc::clone(&serving.cluster), client_key());
        let server = Server { domain: serving.view().domain, address: serving.address.clone(), live: true };
        client.set_servers(Servers::from_iter([(SERVER, server)]));
        Ok(Self { serving, client, chunks: cut(material) })
    }

    fn put(&self) -> Result<Work> {
        self.serving.runtime.block_on(async {
            for (_, bytes) in &self.chunks {
                self.client.put(bytes.clone(), &[SERVER]).await?;
            }
            Ok(work(&self.chunks))
        })
    }

    fn get(&self) -> Result<Work> {
        self.serving.runtime.block_on(async {
            let mut got = 0;
            for (chunk, bytes) in &self.chunks {
                got += self.client.get(*chunk, bytes.len() as u32, &[SERVER]).await?.len() as u64;
            }
            Ok(Work { bytes: got, records: None })
        })
    }
}

/// Storing chunks on a server.
pub(crate) struct Put(Remote);

impl Put {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self(Remote::start(material, folder)?)))
    }
}

impl Stage for Put {
    fn run(&mut self) -> Result<Work> {
        self.0.put()
    }
}

/// Reading chunks from a server.
pub(crate) struct Get(Remote);

impl Get {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let remote = Remote::start(material, folder)?;
        remote.put()?;
        Ok(Box::new(Self(remote)))
    }
}

impl Stage for Get {
    fn run(&mut self) -> Result<Work> {
        self.0.get()
    }
}
