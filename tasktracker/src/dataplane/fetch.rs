//! The reader's end of the data plane.

use super::{FOUND, MAGIC, NOT_FOUND, SegmentKey};
use quorate_protocol::{canonical, digest::Digest, ids::TrackerId, spent, vote::Segment};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A server that sends nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Connections kept open to one server while nobody needs them.
const IDLE_MAX: usize = 4;
/// Bytes read, digested and given on at once: they stay in the second-level cache meanwhile.
const BUFFER_BYTES: usize = 256 << 10;

/// Why a segment did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchFault {
    /// The connection could not be made, or broke, or nothing came for too long.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// The server says that it has no such segment.
    #[error("the server has no such segment")]
    NotFound,
    /// The server announces more bytes than it voted.
    #[error("the server announces more bytes than it voted")]
    TooLong,
    /// The bytes could not be kept here.
    #[error("storing a fetched segment: {0}")]
    Sink(io::Error),
}

/// Open connections that wait for their next use, by server.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    idle: Mutex<BTreeMap<TrackerId, Vec<Connection>>>,
}

/// A connection, with the address that it was made to.
#[derive(Debug)]
struct Connection {
    address: String,
    stream: TcpStream,
}

impl Connections {
    fn take(&self, server: TrackerId, address: &str) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = idle.get_mut(&server)?;
        idle.retain(|connection| connection.address == address);
        idle.pop()
    }

    fn put_back(&self, server: TrackerId, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = idle.entry(server).or_default();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    #[cfg(test)]
    pub(super) fn idle_count(&self, server: TrackerId) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).get(&server).map_or(0, Vec::len)
    }

    /// Asks, and waits for the answer's beginning: the segment's length. A connection that was idle may have been closed by
    /// the server meanwhile, so that another one is tried before the server counts as away.
    async fn ask(&self, server: TrackerId, address: &str, key: &SegmentKey) -> Result<(Connection, u64), FetchFault> {
        if let Some(mut connection) = self.take(server, address) {
            match request(&mut connection.stream, key).await {
                Err(FetchFault::Broken(_)) => {}
                answer => return answer.map(|length| (connection, length)),
            }
        }
        let connected = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await;
        let mut stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        stream.set_nodelay(true)?;
        patiently(stream.write_all(&MAGIC)).await?;
        let length = request(&mut stream, key).await?;
        Ok((Connection { address: address.to_owned(), stream }, length))
    }
}

async fn patiently<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, FetchFault> {
    let done = tokio::time::timeout(PATIENCE, step).await;
    Ok(done.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it went silent")))?)
}

async fn request(stream: &mut TcpStream, key: &SegmentKey) -> Result<u64, FetchFault> {
    let key = canonical::encode(key);
    let mut message = (key.len() as u32).to_le_bytes().to_vec();
    message.extend_from_slice(&key);
    patiently(stream.write_all(&message)).await?;
    match patiently(stream.read_u8()).await? {
        FOUND => patiently(stream.read_u64_le()).await,
        NOT_FOUND => Err(FetchFault::NotFound),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "that is no answer").into()),
    }
}

/// Fetches the segment that a server voted, and gives its bytes to `sink`, with their place in it. Returns the digest and
/// the length of what came: whether that is what was voted is the caller's to see.
pub(crate) async fn receive(
    connections: &Connections,
    (server, address): (TrackerId, &str),
    key: &SegmentKey,
    voted: &Segment,
    sink: &mut (dyn FnMut(u64, &[u8]) -> io::Result<()> + Send),
) -> Result<(Digest, u64), FetchFault> {
    let (mut connection, length) = connections.ask(server, address, key).await?;
    if length > voted.length {
        return Err(FetchFault::TooLong);
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(length).unwrap_or(BUFFER_BYTES))];
    let mut position = 0;
    while position < length {
        let wanted = buffer.len().min(usize::try_from(length - position).unwrap_or(usize::MAX));
        let block = buffer.get_mut(..wanted).unwrap_or_default();
        patiently(connection.stream.read_exact(block)).await?;
        spent::digested(wanted as u64);
        hasher.update(block);
        sink(position, block).map_err(FetchFault::Sink)?;
        position += wanted as u64;
    }
    connections.put_back(server, connection);
    Ok((hasher.finalize().into(), length))
}
