//! The listener and its connections, within bounds.

use super::{
    guard::Pages,
    patient::Patient,
    pulse::{self, Pulse},
    routes::{self, Site},
    source::Source,
};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

/// Connections at once; more wait to be accepted.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Requests at work at once; more wait their turn.
pub(crate) const WORK_MAX: usize = 8;
/// Streams of events at once; more are refused.
pub(crate) const STREAMS_MAX: usize = 64;
/// A request's line and headers, in bytes.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a connection may take for a request's headers, and may be idle before them.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reader may read nothing of what it asked for.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long readers are given to finish when the server stops.
const GRACE: Duration = Duration::from_secs(2);
/// The pause after a connection could not be accepted: there are too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running server of the page. Dropped, it is cut off.
pub(crate) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves what there is to be shown.
    ///
    /// # Errors
    /// When the listener has no address.
    pub(crate) fn start(source: Source, pages: Pages, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let (beat, pulse) = watch::channel(Arc::new(Pulse::default()));
        let site = Arc::new(Site {
            source: source.clone(),
            pages,
            pulse,
            stopping: stopping.clone(),
            work: Semaphore::new(WORK_MAX),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        });
        let beating = tokio::spawn(pulse::run(source, beat, stopping.clone()));
        let accepting = tokio::spawn(accept(listener, routes::router(site), stopping));
        Ok(Self { address, stop, tasks: vec![beating, accepting] })
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all streams and connections.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            // Tasks return nothing; an error would be a panic, which was printed.
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, router: Router, stopping: watch::Receiver<bool>) {
    // Dropped, it aborts the connections that are left.
    let mut guests = JoinSet::new();
    let mut stop = stopping.clone();
    let receive = async {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            while guests.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, stopping) = (router.clone(), stopping.clone());
                    guests.spawn(async move {
                        let _place = place;
                        serve(stream, router, stopping).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a reader's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        // An error says that the replica is gone, which is a reason to stop as well.
        _ = stop.wait_for(|stop| *stop) => {}
        () = receive => {}
    }
    let _ = tokio::time::timeout(GRACE, async { while guests.join_next().await.is_some() {} }).await;
}

/// Answers one connection's requests, one after the other. How it ends is the reader's affair.
async fn serve(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Patient::new(stream, READ_TIMEOUT));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIMEOUT)
            .max_buf_size(REQUEST_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(stream, TowerToHyperService::new(router))
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Folder, Heading},
        web::{
            answers::{Job, Tally},
            past::History,
        },
    };
    use quorate_protocol::ids::JobId;
    use std::{collections::BTreeMap, path::Path};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, sleep, timeout},
    };

    /// Jobs of a pulse.
    const JOBS: u64 = 1000;

    /// A pulse in which every job has changed: about 100 KiB of events.
    fn pulse(revision: u64) -> Arc<Pulse> {
        let tally = Tally { agreed: 0, all: 1 };
        let job = |job| Job {
            job,
            name: String::new(),
            state: "running",
            detail: None,
            submitted: 0,
            until: 0,
            f: 1,
            maps: tally,
            reduces: tally,
            disputed: 0,
            revision,
        };
        Arc::new(Pulse { jobs: (0..JOBS).rev().map(job).collect(), ..Pulse::default() })
    }

    /// Logs of a cluster without jobs.
    fn no_jobs(path: &Path) -> History {
        let (cluster, cluster_id, domains) = ("test".to_owned(), String::new(), BTreeMap::new());
        let heading = Heading { quorate_events: 1, cluster, cluster_id, job: 1, domains };
        Folder::new(path.to_owned()).begin(JobId::new(1), &heading, |_| false).expect("written");
        History::open(path).expect("a log")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_nobody_reads_is_cut_off_and_nothing_is_kept_for_it() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (beat, heard) = watch::channel(pulse(0));
        let (_stop, stopping) = watch::channel(false);
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let site = Arc::new(Site {
            source: Source::History(Arc::new(no_jobs(folder.path()))),
            pages: Pages::default(),
            pulse: heard,
            stopping: stopping.clone(),
            work: Semaphore::new(WORK_MAX),
            streams: Arc::clone(&streams),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut reader = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let server = tokio::spawn(accept(listener, routes::router(site), stopping));
        reader.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");

        let (begun, mut revision, mut was_open) = (Instant::now(), 0, false);
        while !was_open || streams.available_permits() < STREAMS_MAX {
            was_open |= streams.available_permits() < STREAMS_MAX;
            assert!(begun.elapsed() < READ_TIMEOUT * 3, "it is still open");
            revision += 1;
            beat.send_replace(pulse(revision));
            sleep(Duration::from_millis(10)).await;
        }
        // What it finds is what the sockets had room for, and no more than one event beside that.
        let mut found = Vec::new();
        let _ = timeout(READ_TIMEOUT, reader.read_to_end(&mut found)).await.expect("it ends");
        let told = found.windows(14).filter(|bytes| bytes == b"event: change\n").count() as u64;
        assert!(told > 0 && told < revision / 4, "{told} of {revision} changes were told");
        server.abort();
    }
}
