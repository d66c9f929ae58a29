//! A whole cluster inside this process: job-tracker replicas and trackers, with real sockets on the loopback interface,
//! real votes, and tasks that run in the process itself.

use crate::{
    app::{App, Arguments, JobSource, ProgramOf},
    connection::Connection,
    exit::{Code, Failure},
    files,
    progress::Transfer,
    submit::{Request, poll_after, program_digest},
};
use futures::{TryStreamExt, future::join_all};
use quorate_dfs::Upload;
use quorate_jobtracker::{LogPlace, Replica, client::Client};
use quorate_liars::Kind;
use quorate_protocol::{
    cluster::{Cluster, ReplicaMember, TrackerMember},
    file::Path as ClusterPath,
    ids::{Domain, JobId, ReplicaId, TrackerId},
    job::{Program, Specification},
    query::JobView,
    sign::SecretKey,
};
use quorate_tasktracker::{Comparer, Neighbours, Programs, Tracker};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub use quorate_protocol::cluster::Agreement;

/// Job-tracker replicas that may fail, unless said otherwise.
const FAULTS_DEFAULT: usize = 1;
/// How often it is asked whether trackers have registered.
const POLL: Duration = Duration::from_millis(50);
/// How long trackers may take to register.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How an embedded cluster is started.
pub struct Builder {
    jobs: Arc<dyn JobSource>,
    agreement: Agreement,
    jobtrackers: Option<u32>,
    trackers: u32,
    f: u32,
    slots: (u16, u16),
    liars: BTreeMap<TrackerId, Kind>,
    keep: Option<PathBuf>,
    page: Option<SocketAddr>,
}

/// An embedded cluster. [`LocalCluster::stop`] ends it and leaves nothing behind.
///
/// ```no_run
/// # use quorate::prelude::*;
/// # use std::time::Duration;
/// # async fn example<A: Arguments>(app: App<A>) -> Result<()> {
/// let cluster = LocalCluster::builder(app).trackers(5).f(1).start().await?;
/// cluster.put(b"some words, some more words\n", "/input/text").await?;
/// let job = cluster.submit(cluster.specification("main", "null", &["/input"], "/output")?).await?;
/// let view = cluster.wait(job, Duration::from_secs(60)).await?;
/// println!("{}", quorate::report::job(&view));
/// println!("{:?}", cluster.read("/output/part-r-00000").await?);
/// cluster.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct LocalCluster {
    connection: Connection,
    jobs: Arc<dyn JobSource>,
    f: u32,
    replicas: Vec<Replica>,
    trackers: BTreeMap<TrackerId, Tracker>,
    /// Whether its replicas keep a record of jobs: for those who look at it later.
    records: bool,
    /// Removed with the cluster, unless the user asked to keep it.
    _folder: Option<TempDir>,
}

impl Builder {
    /// How the job tracker's replicas agree. With trusted logs unless said otherwise.
    #[must_use]
    pub fn agreement(mut self, agreement: Agreement) -> Self {
        self.agreement = agreement;
        self
    }
    /// So many job-tracker replicas, of which f may fail: 2f + 1, or 3f + 1 without trusted logs. As many as one failure
    /// takes unless said otherwise.
    #[must_use]
    pub fn jobtrackers(mut self, jobtrackers: u32) -> Self {
        self.jobtrackers = Some(jobtrackers);
        self
    }
    /// So many trackers, each in a failure domain of its own. 5 unless said otherwise.
    #[must_use]
    pub fn trackers(mut self, trackers: u32) -> Self {
        self.trackers = trackers;
        self
    }
    /// The f of jobs made by [`LocalCluster::specification`]. 1 unless said otherwise.
    #[must_use]
    pub fn f(mut self, f: u32) -> Self {
        self.f = f;
        self
    }
    /// Map and reduce attempts that a tracker runs at once. 2 and 2 unless said otherwise.
    #[must_use]
    pub fn slots(mut self, map: u16, reduce: u16) -> Self {
        self.slots = (map, reduce);
        self
    }
    /// Lets a tracker lie.
    #[must_use]
    pub fn liar(mut self, tracker: TrackerId, kind: Kind) -> Self {
        self.liars.insert(tracker, kind);
        self
    }
    /// Keeps the cluster's files in this folder instead of a temporary one.
    #[must_use]
    pub fn keep(mut self, folder: PathBuf) -> Self {
        self.keep = Some(folder);
        self
    }

    /// Shows the cluster's pages for people: the first replica's at this address, those of the others on ports that are free.
    #[must_use]
    pub fn page(mut self, address: SocketAddr) -> Self {
        self.page = Some(address);
        self
    }

    /// Starts the cluster, and waits until all trackers have registered.
    ///
    /// # Errors
    /// [`Code::ReplicaNumber`] when the number of job-tracker replicas makes no sense; [`Code::DiskFull`] or [`Code::System`] when
    /// there is no room for its files or no port for its sockets.
    pub async fn start(self) -> Result<LocalCluster, Failure> {
        let jobtrackers = self.jobtrackers.unwrap_or(jobtrackers_default(self.agreement));
        let f = replicas_f(self.agreement, jobtrackers)?;
        let (folder, root) = self.folder()?;
        let key = new_key()?;
        let mut seats = Vec::new();
        for number in 0..jobtrackers {
            let page = match self.page {
                Some(address) if number == 0 => Some(listen_at(address).await?),
                Some(address) => Some(listen_at(SocketAddr::new(address.ip(), 0)).await?),
                None => None,
            };
            seats.push(Seat { id: ReplicaId::new(number), key: new_key()?, listener: listen().await?, page });
        }
        let mut keys = BTreeMap::new();
        for number in 0..self.trackers {
            keys.insert(TrackerId::new(number), new_key()?);
        }
        let replica = |seat: &Seat| {
            let page = seat.page.as_ref().map(local_address).transpose()?;
            let address = local_address(&seat.listener)?;
            Ok(ReplicaMember { id: seat.id, address, key: seat.key.public(), log: None, tpm: None, page })
        };
        let tracker = |(id, key): (&TrackerId, &SecretKey)| TrackerMember {
            id: *id,
            domain: Domain(format!("domain-{}", id.number())),
            key: key.public(),
        };
        let cluster = Arc::new(Cluster {
            name: "embedded".to_owned(),
            f,
            agreement: self.agreement,
            allow_liars: !self.liars.is_empty(),
            clients: vec![key.public()],
            authority: None,
            replicas: seats.iter().map(replica).collect::<Result<_, Failure>>()?,
            trackers: keys.iter().map(tracker).collect(),
        });
        let connection = Connection::new(Arc::clone(&cluster), key);
        let mut started = LocalCluster {
            connection,
            jobs: Arc::clone(&self.jobs),
            f: self.f,
            replicas: Vec::new(),
            trackers: BTreeMap::new(),
            records: self.page.is_some() || self.keep.is_some(),
            _folder: folder,
        };
        let all = async {
            started.start_replicas(&cluster, seats, &root).await?;
            started.start_trackers(&self, cluster, keys, &root).await
        };
        if let Err(failure) = all.await {
            started.stop().await;
            return Err(failure);
        }
        Ok(started)
    }

    fn folder(&self) -> Result<(Option<TempDir>, PathBuf), Failure> {
        match &self.keep {
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(|e| Failure::io("cannot make the folder", folder, &e))?;
                Ok((None, folder.clone()))
            }
            None => {
                let folder = tempfile::Builder::new().prefix("quorate-").tempdir();
                let folder = folder.map_err(|e| trouble("make a temporary folder", &e))?;
                let root = folder.path().to_owned();
                Ok((Some(folder), root))
            }
        }
    }
}

/// A replica's place in the cluster, before it is started.
struct Seat {
    id: ReplicaId,
    key: SecretKey,
    listener: TcpListener,
    page: Option<TcpListener>,
}

/// Job-tracker replicas of a cluster that agrees so, unless said otherwise.
pub fn jobtrackers_default(agreement: Agreement) -> u32 {
    agreement.replicas(FAULTS_DEFAULT) as u32
}

/// How many of so many job-tracker replicas may fail.
///
/// # Errors
/// A usage failure when there is a smaller number of which as many may, or none.
pub fn replicas_f(agreement: Agreement, jobtrackers: u32) -> Result<u32, Failure> {
    let f = agreement.faults(jobtrackers as usize);
    let less = agreement.replicas(f);
    if less == jobtrackers as usize {
        return Ok(f as u32);
    }
    let number = match agreement {
        Agreement::Minbft => "their number is odd",
        Agreement::Pbft => "their number is 1, 4, 7 and so on",
    };
    let message = format!("{jobtrackers} job-tracker replicas: f of {} may fail, so {number}", agreement.formula());
    let more = agreement.replicas(f + 1);
    let hint = match jobtrackers {
        0 => format!("{less} is the least, and {more} are better"),
        _ => format!("{less} are as good, and {more} are better"),
    };
    Err(Failure::new(Code::ReplicaNumber, message).hint(hint))
}

fn new_key() -> Result<SecretKey, Failure> {
    SecretKey::generate().map_err(|e| trouble("make a key", &e))
}

async fn listen() -> Result<TcpListener, Failure> {
    listen_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
}

async fn listen_at(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| trouble(&format!("listen on {address}"), &e))
}

fn local_address(listener: &TcpListener) -> Result<String, Failure> {
    listener
        .local_addr()
        .map(|address| address.to_string())
        .map_err(|e| trouble("listen on the loopback interface", &e))
}

/// This machine cannot do something.
fn trouble(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::System, format!("cannot {what}")).caused_by(error)
}

impl LocalCluster {
    /// A cluster for the jobs of a program.
    pub fn builder<A: Arguments>(app: App<A>) -> Builder {
        Self::builder_of(Arc::new(app))
    }

    pub(crate) fn builder_of(jobs: Arc<dyn JobSource>) -> Builder {
        Builder {
            jobs,
            agreement: Agreement::default(),
            jobtrackers: None,
            trackers: 5,
            f: 1,
            slots: (2, 2),
            liars: BTreeMap::new(),
            keep: None,
            page: None,
        }
    }

    async fn start_replicas(&mut self, cluster: &Arc<Cluster>, seats: Vec<Seat>, root: &Path) -> Result<(), Failure> {
        for Seat { id: replica, key, listener, page } in seats {
            let options = quorate_jobtracker::Options {
                cluster: Arc::clone(cluster),
                replica,
                key,
                directory: root.join(replica.to_string()),
                trusted_log: LogPlace::Here,
                founding: None,
                lease: quorate_jobtracker::LEASE_DEFAULT,
                record: self.records,
                liar: None,
            };
            let compare = Arc::new(Comparer::new(Arc::clone(cluster), options.key.clone()));
            let started = Replica::start(options, listener).await;
            let mut started = started.map_err(|e| trouble(&format!("start {replica} of the job tracker"), &e))?;
            let shown = page.map_or(Ok(()), |listener| started.show_page(listener, Some(compare)));
            self.replicas.push(started);
            shown.map_err(|e| trouble(&format!("show the page of {replica}"), &e))?;
        }
        Ok(())
    }

    async fn start_trackers(
        &mut self,
        how: &Builder,
        cluster: Arc<Cluster>,
        keys: BTreeMap<TrackerId, SecretKey>,
        root: &Path,
    ) -> Result<(), Failure> {
        let program: Arc<ProgramOf> = Arc::new(ProgramOf::new(Arc::clone(&how.jobs)));
        let neighbours = Neighbours::default();
        for (id, key) in keys {
            let options = quorate_tasktracker::Options {
                cluster: Arc::clone(&cluster),
                id,
                key,
                directory: root.join(id.to_string()),
                map_slots: how.slots.0,
                reduce_slots: how.slots.1,
                liar: how.liars.get(&id).copied(),
                programs: Programs::Embedded(Arc::<ProgramOf>::clone(&program)),
                neighbours: neighbours.clone(),
            };
            let tracker =
                Tracker::start(options, listen().await?).await.map_err(|e| trouble(&format!("start {id}"), &e))?;
            self.trackers.insert(id, tracker);
        }
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let views = self.client().trackers().await?;
            if views.iter().filter(|view| view.live).count() == self.trackers.len() {
                return Ok(self.connection.refresh().await?);
            }
            if Instant::now() > deadline {
                return Err(Failure::new(
                    Code::MemberEnded,
                    "the embedded cluster's trackers did not register in time",
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The way to it, as any other client has one.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The client of its job tracker.
    pub fn client(&self) -> &Client {
        &self.connection.client
    }

    /// Where the pages of its replicas are, when they show any.
    pub fn pages(&self) -> Vec<SocketAddr> {
        self.replicas.iter().filter_map(Replica::page).collect()
    }

    /// One of its trackers, while it runs.
    pub fn tracker(&self, id: TrackerId) -> Option<&Tracker> {
        self.trackers.get(&id)
    }

    /// Bytes that the chunk stores of all its trackers hold: every copy, and what is staged.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub async fn stored(&self) -> Result<u64, Failure> {
        let mut bytes = 0u64;
        for (id, tracker) in &self.trackers {
            let usage = tracker.stored().await.map_err(|e| trouble(&format!("read the chunks of {id}"), &e))?;
            bytes = bytes.saturating_add(usage.bytes);
        }
        Ok(bytes)
    }

    /// Stops one tracker, as if its machine went away.
    pub async fn stop_tracker(&mut self, id: TrackerId) {
        if let Some(tracker) = self.trackers.remove(&id) {
            tracker.stop().await;
        }
    }

    /// Makes a file of bytes, with as many copies as its jobs' f asks for.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn put(&self, bytes: &[u8], path: &str) -> Result<(), Failure> {
        let path = crate::connection::cluster_path(path)?;
        self.connection.refresh().await?;
        let how = Upload::copies(self.f as usize + 1).length(bytes.len() as u64);
        let file = self.connection.chunks.upload(bytes, how).await?;
        Ok(self.client().create_files(vec![(path, file)]).await?)
    }

    /// Makes a file of a local one.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn put_file(&self, local: &Path, path: &str) -> Result<(), Failure> {
        let path = crate::connection::cluster_path(path)?;
        self.connection.refresh().await?;
        let how = Upload::copies(self.f as usize + 1);
        let file = files::store(&self.connection, local, how, &Transfer::hidden()).await?;
        Ok(self.client().create_files(vec![(path, file)]).await?)
    }

    /// A specification for one of the program's jobs, with two partitions and small splits. Change what a test is about.
    ///
    /// # Errors
    /// When the program has no such job, or a path is none.
    pub fn specification(
        &self,
        entry: &str,
        arguments: &str,
        inputs: &[&str],
        output: &str,
    ) -> Result<Specification, Failure> {
        let paths =
            inputs.iter().map(|path| crate::connection::cluster_path(path)).collect::<Result<Vec<ClusterPath>, _>>()?;
        let request = Request {
            name: entry.to_owned(),
            program: Program::Embedded { digest: program_digest()? },
            entry: entry.to_owned(),
            arguments: arguments.to_owned(),
            inputs: paths,
            output: crate::connection::cluster_path(output)?,
            f: self.f,
            partitions: 2,
            split_bytes: 256 << 10,
            memory: 64 << 20,
            progress_timeout: Duration::from_secs(10),
        };
        let job = self.jobs.build(entry, arguments).map_err(|e| Failure::new(Code::JobArguments, e.chain()))?;
        Ok(request.specification(&job))
    }

    /// Submits a job.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn submit(&self, specification: Specification) -> Result<JobId, Failure> {
        Ok(self.client().submit_job(specification).await?)
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// When it has not ended within `patience`, with its state.
    pub async fn wait(&self, job: JobId, patience: Duration) -> Result<JobView, Failure> {
        let start = Instant::now();
        loop {
            let view = self.client().job(job).await?;
            if view.summary.state.is_ended() {
                return Ok(view);
            }
            if start.elapsed() > patience {
                let message = format!("{job} has not ended after {patience:?}:\n{}", crate::report::job(&view));
                return Err(Failure::new(Code::JobNotEnded, message));
            }
            tokio::time::sleep(poll_after(start.elapsed())).await;
        }
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let path = crate::connection::cluster_path(path)?;
        let file = self.client().file(&path).await?;
        self.connection.refresh().await?;
        let blocks: Vec<bytes::Bytes> = self.connection.chunks.read(&file).try_collect().await?;
        Ok(blocks.concat())
    }

    /// Ends everything, and removes the cluster's files.
    pub async fn stop(self) {
        join_all(self.trackers.into_values().map(Tracker::stop)).await;
        join_all(self.replicas.into_iter().map(Replica::stop)).await;
    }
}
