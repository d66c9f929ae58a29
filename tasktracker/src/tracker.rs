//! A tracker as a whole: it registers, follows its directives, reports, serves, and stops.

use crate::{
    dataplane::{self, SegmentServer},
    fork,
    neighbours::Neighbours,
    outbox::Outbox,
    outputs::Outputs,
    peers::Peers,
    programs::Programs,
    service::TrackerService,
    worker::Worker,
};
use futures::StreamExt;
use quorate_dfs::{ChunkClient, ChunkService, ChunkStore, StoreError, Usage, YOUNG, Young};
use quorate_jobtracker::client::{Client, ClientError};
use quorate_liars::{Honest, Kind};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::{Command, Envelope, Refusal, Registration, Request, Sender},
    ids::{AttemptId, TrackerId},
    job::{Directive, this_target},
    limits,
    query::{Answer, Question},
    sign::{SecretKey, Signed},
    wire,
};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the job tracker may be away before the tracker gives a command up; a day's outage is outlived.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Calls that one connection has open at once: a job's votes, its segments and its chunks.
const STREAMS_PER_PEER_MAX: u32 = 256;
/// How often the other trackers' addresses are asked for.
const REFRESH_EVERY: Duration = Duration::from_millis(1000);
/// How often running attempts are looked at for progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// An attempt's progress is told this part of its job's progress timeout after it was told last, and within twice that.
const PROGRESS_PART: u32 = 4;
/// How long acknowledgements wait for something that they can go along with.
const TELL_ALL_EVERY: Duration = Duration::from_secs(30);

/// What a tracker is started with.
pub struct Options {
    /// The cluster's configuration.
    pub cluster: Arc<Cluster>,
    /// Which of its trackers this is.
    pub id: TrackerId,
    /// The key that the configuration names for it.
    pub key: SecretKey,
    /// Its folder: chunks, map outputs, programs. Another process must not use it at the same time.
    pub directory: PathBuf,
    /// Map attempts at once.
    pub map_slots: u16,
    /// Reduce attempts at once.
    pub reduce_slots: u16,
    /// The lie that it tells, if any.
    pub liar: Option<Kind>,
    /// Where its programs come from.
    pub programs: Programs,
    /// The trackers in the same process.
    pub neighbours: Neighbours,
}

/// Why a tracker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not know it.
    #[error("{0} is not in the cluster's configuration")]
    Unknown(TrackerId),
    /// Its key is another's.
    #[error("the key of {0} is not the one that the cluster's configuration names")]
    Key(TrackerId),
    /// It was told to lie where that is not allowed.
    #[error(
        "{0} was told to lie ({1}), and the cluster's configuration does not allow liars; set allow_liars for a test"
    )]
    LiarsNotAllowed(TrackerId, Kind),
    /// Its folder cannot be used.
    #[error("opening the tracker's folder {0}: {1}")]
    Directory(PathBuf, #[source] io::Error),
    /// Its chunks cannot be used.
    #[error("opening the chunk store: {0}")]
    Store(#[from] StoreError),
    /// Its address cannot be told.
    #[error("listening: {0}")]
    Listen(#[source] io::Error),
    /// No random number was to be had.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// A running tracker.
pub struct Tracker {
    worker: Arc<Worker>,
    address: SocketAddr,
}

impl Tracker {
    /// Starts a tracker on a bound socket. It keeps trying to register until the job tracker is there.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: Options, listener: TcpListener) -> Result<Self, StartError> {
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let worker = Arc::new(build(options, address).await?);
        spawn_services(&worker, listener);
        worker.tasks.spawn(main_loop(Arc::clone(&worker)));
        worker.tasks.spawn(report_loop(Arc::clone(&worker)));
        worker.tasks.spawn(refresh_loop(Arc::clone(&worker)));
        worker.tasks.spawn(progress_loop(Arc::clone(&worker)));
        worker.tasks.close();
        Ok(Self { worker, address })
    }

    /// Where its services are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its chunk store holds, by listing it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stored(&self) -> Result<Usage, StoreError> {
        self.worker.store.usage().await
    }

    /// Waits until the tracker has gone down by itself, as a liar that crashes does.
    pub async fn gone(&self) {
        self.worker.stop.cancelled().await;
    }

    /// Stops it: running attempts are killed, and everything that it started has ended when this returns.
    pub async fn stop(self) {
        self.worker.stop.cancel();
        let running: Vec<_> = self.worker.running().keys().copied().collect();
        running.into_iter().for_each(|attempt| self.worker.cancel(attempt));
        self.worker.tasks.wait().await;
    }
}

async fn build(options: Options, address: SocketAddr) -> Result<Worker, StartError> {
    let Options { cluster, id, key, directory, map_slots, reduce_slots, liar, programs, neighbours } = options;
    let member = cluster.tracker(id).ok_or(StartError::Unknown(id))?;
    if member.key != key.public() {
        return Err(StartError::Key(id));
    }
    if let (Some(kind), false) = (liar, cluster.allow_liars) {
        return Err(StartError::LiarsNotAllowed(id, kind));
    }
    let store = Arc::new(ChunkStore::local(&directory.join("store")).await?);
    let (jobs, logs) = (directory.join("jobs"), directory.join("logs"));
    let outputs = tokio::task::spawn_blocking(move || Outputs::open(jobs, logs)).await.map_err(io::Error::other);
    let outputs = outputs.and_then(|opened| opened).map_err(|error| StartError::Directory(directory.clone(), error))?;
    let client = Client::new(Arc::clone(&cluster), Sender::Tracker(id), key.clone()).with_patience(PATIENCE);
    let incarnation = getrandom::u64()?;
    let target = match programs {
        Programs::Embedded(_) => String::new(),
        Programs::Children(_) => this_target(),
    };
    Ok(Worker {
        cluster_id: cluster.id(),
        chunks: ChunkClient::new(Arc::clone(&cluster), key.clone()).with_local(id, Arc::clone(&store)),
        registration: Registration { address: address.to_string(), incarnation, map_slots, reduce_slots, target },
        lie: liar.map_or_else(|| Arc::new(Honest) as _, Kind::lie),
        cluster,
        id,
        key,
        incarnation,
        directory,
        programs,
        neighbours,
        client,
        store,
        outputs: Arc::new(outputs),
        peers: Peers::default(),
        outbox: Outbox::default(),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        fetching_program: tokio::sync::Mutex::default(),
        plans: tokio::sync::Mutex::default(),
        feeds: std::sync::Mutex::default(),
        running: std::sync::Mutex::default(),
        threads: std::sync::Mutex::default(),
    })
}

fn spawn_services(worker: &Arc<Worker>, listener: TcpListener) {
    let chunks =
        ChunkService::new(Arc::clone(&worker.cluster), worker.id, worker.key.clone(), Arc::clone(&worker.store));
    let tracker = TrackerService::new(
        worker.cluster_id,
        worker.id,
        worker.key.clone(),
        Arc::clone(&worker.outputs),
        Arc::clone(&worker.lie),
        worker.stop.clone(),
    );
    let segments = SegmentServer::new(
        Arc::clone(&worker.outputs),
        Arc::clone(&worker.lie),
        worker.tasks.clone(),
        worker.stop.clone(),
    );
    worker.neighbours.show(worker.id, Arc::clone(&worker.outputs), Arc::clone(&worker.lie), worker.stop.clone());
    let (grpc, accepting) = dataplane::accept(listener, segments);
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(Some(1 << 20))
        .max_concurrent_streams(Some(STREAMS_PER_PEER_MAX))
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .add_service(
            wire::tracker_server::TrackerServer::new(tracker)
                .max_decoding_message_size(64 << 10)
                .max_encoding_message_size(limits::MESSAGE_BYTES_MAX),
        )
        .add_service(chunks.into_server());
    let stop = worker.stop.clone();
    worker.tasks.spawn(async move {
        // Not graceful: a peer that keeps a stream open must not keep the tracker alive.
        tokio::select! {
            () = accepting => {}
            ended = server.serve_with_incoming(grpc) => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the tracker's services ended");
                }
            }
            () = stop.cancelled() => {}
        }
    });
}

/// Registers, then carries out directives, for as long as there is one job tracker.
async fn main_loop(worker: Arc<Worker>) {
    let stop = worker.stop.clone();
    let work = async {
        while let Err(error) = worker.client.submit(Command::Register(worker.registration.clone())).await {
            if fork::stops(&worker, &error) {
                return;
            }
            tracing::warn!(%error, "registering; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        worker.refresh().await;
        worker.sweep().await;
        let mut next = 0;
        loop {
            let mut directives = worker.client.directives(worker.id, worker.incarnation, next);
            while let Some(directive) = directives.next().await {
                match directive {
                    Ok((number, directive)) => {
                        next = number.saturating_add(1);
                        carry_out(&worker, directive).await;
                        worker.outbox.acknowledge(next);
                    }
                    Err(error) if fork::stops(&worker, &error) => return,
                    Err(error) => {
                        tracing::debug!(%error, "the directives broke off");
                        break;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

async fn carry_out(worker: &Arc<Worker>, directive: Directive) {
    tracing::debug!(tracker = %worker.id, ?directive, "directive");
    match directive {
        Directive::Start { attempt, work } => worker.start(attempt, work),
        Directive::Cancel { attempt } => worker.cancel(attempt),
        Directive::JobEnded { job, publish, keep } => worker.job_ended(job, &publish, keep).await,
        Directive::DropChunks(chunks) => match worker.store.remove(&chunks).await {
            Ok(young) if young.is_empty() => {}
            Ok(young) => {
                worker.tasks.spawn(drop_later(Arc::clone(worker), young));
            }
            Err(error) => tracing::warn!(%error, "chunks that no file has any more are left behind"),
        },
    }
}

/// Chunks that were stored again lately may belong to a file that is only being made: they are dropped later, if no file
/// has them by then.
async fn drop_later(worker: Arc<Worker>, mut young: Vec<Young>) {
    tokio::select! {
        () = tokio::time::sleep(YOUNG) => {}
        () = worker.stop.cancelled() => return,
    }
    let names = young.iter().map(|young| young.chunk).collect();
    let unreferenced = match worker.client.ask(Question::Unreferenced(worker.id, names)).await {
        Ok(Answer::Chunks(chunks)) => chunks,
        Ok(_) | Err(_) => return,
    };
    young.retain(|young| unreferenced.contains(&young.chunk));
    if let Err(error) = worker.store.remove_unreferenced(&young).await {
        tracing::warn!(%error, "chunks that no file has any more are left behind");
    }
}

/// Tells the job tracker what there is to tell, one command at a time: what comes up meanwhile shares the next one.
async fn report_loop(worker: Arc<Worker>) {
    let work = async {
        let mut overdue = false;
        loop {
            while let Some(report) = worker.outbox.take(worker.incarnation, std::mem::take(&mut overdue)) {
                if worker.lie.garbles_reports() {
                    send_garbage(&worker).await;
                    continue;
                }
                let again = report.clone();
                let Err(error) = worker.client.submit(Command::Report(report)).await else { continue };
                if fork::stops(&worker, &error) {
                    return;
                }
                if is_worth_another_try(&error) {
                    tracing::warn!(%error, "a report was not taken; trying again");
                    worker.outbox.put_back(again);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            overdue = tokio::select! {
                () = worker.outbox.wait() => false,
                () = tokio::time::sleep(TELL_ALL_EVERY) => true,
            };
        }
    };
    tokio::select! {
        () = work => {}
        () = worker.stop.cancelled() => {}
    }
}

/// A report of a process that another one has replaced will never be taken.
fn is_worth_another_try(error: &ClientError) -> bool {
    !matches!(error, ClientError::Refused(Refusal::NotAllowed(_)))
}

/// The lie of signing garbage, and of sending what nobody signed.
async fn send_garbage(worker: &Worker) {
    let request = Signed::<Request>::seal_bytes(vec![0xFF; 64], &worker.key);
    let signed = Envelope { sender: Sender::Tracker(worker.id), request };
    let messages = [canonical::encode(&signed), vec![0xEE; 1000], vec![0; limits::MESSAGE_BYTES_MAX + 1]];
    for replica in &worker.cluster.replicas {
        let Ok(endpoint) = tonic::transport::Endpoint::from_shared(format!("http://{}", replica.address)) else {
            continue;
        };
        let mut client = wire::job_tracker_client::JobTrackerClient::new(endpoint.connect_lazy())
            .max_encoding_message_size(usize::MAX);
        for message in &messages {
            let _ = client.submit(wire::Command { signed: message.clone() }).await;
        }
    }
}

async fn refresh_loop(worker: Arc<Worker>) {
    let work = async {
        loop {
            tokio::time::sleep(REFRESH_EVERY).await;
            worker.refresh().await;
        }
    };
    tokio::select! {
        () = work => {}
        () = worker.stop.cancelled() => {}
    }
}

/// Reports attempts that run for long and made progress, as seldom as their jobs' timeouts allow.
async fn progress_loop(worker: Arc<Worker>) {
    let mut told: BTreeMap<AttemptId, (Instant, u64)> = BTreeMap::new();
    let work = async {
        loop {
            tokio::time::sleep(PROGRESS_EVERY).await;
            let now = Instant::now();
            let running = worker.running().clone();
            told.retain(|attempt, _| running.contains_key(attempt));
            for (attempt, running) in running {
                let units = running.watch.units();
                let (at, before) = *told.entry(attempt).or_insert((now, units));
                let Some(part) = running.timeout.get().map(|timeout| *timeout / PROGRESS_PART) else { continue };
                if units != before && now.duration_since(at) >= part {
                    told.insert(attempt, (now, units));
                    worker.outbox.progress(attempt, units, part < PROGRESS_EVERY);
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = worker.stop.cancelled() => {}
    }
}
