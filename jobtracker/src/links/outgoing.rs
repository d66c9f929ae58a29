//! The way to one peer: a queue, and a task that keeps a connection and empties it.

use super::{
    handshake::{Identity, LinkError},
    seal::Seal,
};
use quorate_protocol::ids::ReplicaId;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::{Notify, watch},
};

/// Bytes that wait for a peer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What is written at once, as far as it is there.
const WRITE_BYTES: usize = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the peer's machine may leave what was sent unacknowledged before the connection is given up.
const SILENCE_MS_MAX: u32 = 3_000;
/// How long one write may wait for a peer that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What waits for one peer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Arc<Vec<u8>>>,
    bytes: usize,
    /// Frames that did not fit since the queue was empty last.
    dropped: u64,
}

impl Queue {
    /// Puts a frame at the end, or drops it when too much waits already.
    pub(super) fn push(&self, frame: Arc<Vec<u8>>) {
        let mut waiting = self.waiting();
        if waiting.bytes.saturating_add(frame.len()) > QUEUE_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.more.notify_one();
    }

    /// Takes frames for one write, at least one; waits for it.
    async fn take(&self) -> Vec<Arc<Vec<u8>>> {
        loop {
            let frames = self.take_now();
            if !frames.is_empty() {
                return frames;
            }
            self.more.notified().await;
        }
    }

    fn take_now(&self) -> Vec<Arc<Vec<u8>>> {
        let mut waiting = self.waiting();
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while bytes < WRITE_BYTES
            && let Some(frame) = waiting.frames.pop_front()
        {
            bytes += frame.len();
            frames.push(frame);
        }
        waiting.bytes -= bytes;
        if waiting.frames.is_empty() && waiting.dropped > 0 {
            tracing::warn!(messages = waiting.dropped, "a replica did not keep up; what did not fit was dropped");
            waiting.dropped = 0;
        }
        frames
    }

    fn clear(&self) {
        *self.waiting() = Waiting::default();
    }

    /// Each change is a single step, so a panic elsewhere leaves the queue whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection to a peer, and sends what waits for it, until it is told to stop.
pub(super) async fn run(identity: Arc<Identity>, peer: ReplicaId, queue: Arc<Queue>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        // An error says that the replica is gone, which is a reason to stop as well.
        _ = stop.wait_for(|stop| *stop) => {}
        () = keep(&identity, peer, &queue) => {}
    }
}

async fn keep(identity: &Identity, peer: ReplicaId, queue: &Queue) {
    let mut backoff = BACKOFF_FIRST;
    let mut said = String::new();
    loop {
        let error = match connect(identity, peer).await {
            Ok((stream, key)) => {
                tracing::info!(%peer, "linked");
                (backoff, said) = (BACKOFF_FIRST, String::new());
                LinkError::Io(send(stream, key, queue).await)
            }
            Err(error) => error,
        };
        // The agreement's gossip heals what is lost, and it would be stale when the link is there again.
        queue.clear();
        // Once for each reason, not for each attempt.
        let why = reason(&error);
        if said != why {
            tracing::warn!(%peer, address = address(identity, peer), why, "no link to a replica; it is tried again");
            said = why;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn address(identity: &Identity, peer: ReplicaId) -> &str {
    identity.member(peer).map_or("", |member| &member.address)
}

/// The error with its causes.
fn reason(error: &LinkError) -> String {
    match error {
        LinkError::Io(cause) => format!("{error}: {cause}"),
        other => other.to_string(),
    }
}

async fn connect(identity: &Identity, peer: ReplicaId) -> Result<(TcpStream, [u8; 32]), LinkError> {
    let connect = TcpStream::connect(address(identity, peer));
    let mut stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| LinkError::Timeout)??;
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(&stream, SILENCE_MS_MAX).map_err(io::Error::from)?;
    let key = identity.dial(peer, &mut stream).await?;
    Ok((stream, key))
}

/// Sends what waits until the connection breaks, and says why.
async fn send(stream: TcpStream, key: [u8; 32], queue: &Queue) -> io::Error {
    let (mut read, mut write) = stream.into_split();
    let mut seal = Seal::new(key);
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    loop {
        let frames = tokio::select! {
            frames = queue.take() => frames,
            error = closed(&mut read) => return error,
        };
        buffer.clear();
        for frame in frames {
            buffer.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            buffer.extend_from_slice(&frame);
            buffer.extend_from_slice(&seal.mac(&frame));
        }
        match tokio::time::timeout(WRITE_TIMEOUT, write.write_all(&buffer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => return io::Error::new(io::ErrorKind::TimedOut, "the other side does not read"),
        }
        if buffer.capacity() > 2 * WRITE_BYTES {
            buffer = Vec::with_capacity(WRITE_BYTES);
        }
    }
}

/// Waits until the other side hangs up. It has nothing to say on this connection.
async fn closed(read: &mut OwnedReadHalf) -> io::Error {
    match read.read_u8().await {
        Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "the other side speaks out of turn"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::ConnectionAborted, "the other side hung up")
        }
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_holds_at_the_bound_and_drops_one_above() {
        let queue = Queue::default();
        let frame = |bytes| Arc::new(vec![0; bytes]);
        queue.push(frame(QUEUE_BYTES_MAX - 1));
        queue.push(frame(1));
        queue.push(frame(1));
        let state = || {
            let waiting = queue.waiting();
            (waiting.frames.len(), waiting.bytes, waiting.dropped)
        };
        assert_eq!(state(), (2, QUEUE_BYTES_MAX, 1));
        assert_eq!(queue.take_now().len(), 1, "one that is long enough for a write");
        queue.push(frame(1));
        assert_eq!(queue.take_now().len(), 2);
        assert_eq!(state(), (0, 0, 0), "what was dropped is said and forgotten");
    }
}
