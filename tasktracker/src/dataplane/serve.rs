//! The server's end of the data plane.

use super::{FOUND, MAGIC, NOT_FOUND, REQUEST_BYTES_MAX, SegmentKey, patience};
use crate::outputs::Outputs;
use bytes::Bytes;
use quorate_engine::program::LocalBytes;
use quorate_liars::Lie;
use quorate_protocol::{canonical, limits::BLOCK_BYTES_MAX};
use std::{
    fs::File,
    future::Future,
    io::{self, Read, Seek, SeekFrom, Write},
    net::TcpStream as BlockingStream,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::TcpStream, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once. Readers keep a few each, so this is room for hundreds of trackers.
const CONNECTIONS_MAX: usize = 2048;
/// Segments sent at once; more wait.
const SENDS_MAX: usize = 32;
/// A connection without a request for so long is closed.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// A reader that takes nothing for so long is left.
const READER_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes lent to the socket at once: between two such calls the time is looked at.
const SEND_BYTES: usize = 256 << 10;

/// Serves a tracker's map outputs.
pub(crate) struct SegmentServer {
    outputs: Arc<Outputs>,
    lie: Arc<dyn Lie>,
    tasks: TaskTracker,
    stop: CancellationToken,
    connections: Semaphore,
    sends: Arc<Semaphore>,
}

impl SegmentServer {
    /// A server that runs its connections among `tasks`, until `stop`.
    pub(crate) fn new(outputs: Arc<Outputs>, lie: Arc<dyn Lie>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let (connections, sends) = (Semaphore::new(CONNECTIONS_MAX), Arc::new(Semaphore::new(SENDS_MAX)));
        Self { outputs, lie, tasks, stop, connections, sends }
    }

    /// Runs something of a connection until it ends, or the tracker does.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Answers a connection's requests until it ends, or says what nobody should.
    pub(super) async fn serve(&self, stream: TcpStream) {
        let Ok(_permit) = self.connections.try_acquire() else { return };
        if let Err(error) = self.answer_all(stream).await {
            tracing::debug!(%error, "a reader of segments broke off");
        }
    }

    async fn answer_all(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut magic = [0; MAGIC.len()];
        patiently(IDLE_PATIENCE, stream.read_exact(&mut magic)).await?;
        if magic != MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        loop {
            let Some(key) = patiently(IDLE_PATIENCE, next_request(&mut stream)).await? else { return Ok(()) };
            let permit = Arc::clone(&self.sends).acquire_owned().await.map_err(io::Error::other)?;
            let segment = self.outputs.segment(key.attempt, key.partition);
            let sending = Sending { segment, lie: Arc::clone(&self.lie), stop: self.stop.clone(), key };
            // Sending waits for the disk and the reader; the permit goes with it, wherever this future goes.
            let sent = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                sending.send(stream)
            });
            stream = sent.await.map_err(io::Error::other)??;
        }
    }
}

async fn patiently<T>(patience: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, step).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// The next request; `None` when the reader has hung up in between.
async fn next_request(stream: &mut TcpStream) -> io::Result<Option<SegmentKey>> {
    let length = match stream.read_u32_le().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => usize::try_from(length?).map_err(io::Error::other)?,
    };
    let mut request = [0; REQUEST_BYTES_MAX];
    let request = request.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
    stream.read_exact(request).await?;
    canonical::decode(request, REQUEST_BYTES_MAX).map(Some).map_err(io::Error::other)
}

/// One answer.
struct Sending {
    segment: Option<LocalBytes>,
    lie: Arc<dyn Lie>,
    stop: CancellationToken,
    key: SegmentKey,
}

impl Sending {
    /// Sends it with blocking calls, which `sendfile` needs, and gives the connection back.
    fn send(&self, stream: TcpStream) -> io::Result<TcpStream> {
        let mut stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(READER_PATIENCE))?;
        match self.segment.as_ref().map(|segment| File::open(&segment.path).map(|file| (segment, file))) {
            None => stream.write_all(&[NOT_FOUND])?,
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => stream.write_all(&[NOT_FOUND])?,
            Some(Err(error)) => return Err(error),
            Some(Ok((segment, file))) if self.lie.serves_rightly() => self.send_file(&stream, &file, segment)?,
            Some(Ok((segment, file))) => self.send_spoilt(&mut stream, file, segment)?,
        }
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }

    fn send_spoilt(&self, stream: &mut BlockingStream, mut file: File, segment: &LocalBytes) -> io::Result<()> {
        file.seek(SeekFrom::Start(segment.offset))?;
        let mut rest = file.take(segment.length);
        let mut bytes = Vec::new();
        loop {
            let mut block = Vec::new();
            if rest.by_ref().take(BLOCK_BYTES_MAX as u64).read_to_end(&mut block)? == 0 {
                break;
            }
            bytes.extend(self.lie.spoil_served(self.key.reader, Bytes::from(block)));
        }
        stream.write_all(&answer_header(bytes.iter().map(|block| block.len() as u64).sum()))?;
        bytes.iter().try_for_each(|block| stream.write_all(block))
    }

    /// Sends a part of a file without bringing it into this process. A reader that takes it in a trickle is left, and all
    /// are when the tracker stops.
    fn send_file(&self, mut stream: &BlockingStream, file: &File, segment: &LocalBytes) -> io::Result<()> {
        stream.write_all(&answer_header(segment.length))?;
        let (start, patience) = (Instant::now(), patience(segment.length));
        let (mut offset, mut left) = (segment.offset, segment.length);
        while left > 0 {
            if start.elapsed() > patience || self.stop.is_cancelled() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(SEND_BYTES);
            match rustix::fs::sendfile(stream, file, Some(&mut offset), count) {
                // The file is shorter than it was: the reader sees that the answer ends early.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(sent) => left = left.saturating_sub(sent as u64),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn answer_header(length: u64) -> [u8; 9] {
    let mut header = [FOUND; 9];
    header[1..].copy_from_slice(&length.to_le_bytes());
    header
}
