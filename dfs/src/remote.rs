//! The calls to one chunk server.

use crate::fault::ServerFault;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use quorate_protocol::{
    canonical,
    digest::{ChunkId, Digest},
    file::PutPermit,
    ids::TrackerId,
    limits,
    sign::{PublicKey, SecretKey, Signed},
    vote::{Served, Subject},
    wire::{Block, ChunkRequest, Piece, PieceRequest, PutBlock, chunk_server_client::ChunkServerClient},
};
use std::{future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

/// A block with room for the signed statement and the frame.
pub(crate) const BLOCK_MESSAGE_BYTES_MAX: usize = limits::BLOCK_BYTES_MAX + (4 << 10);
/// What may be under way on one stream, and on one connection: enough for a gigabit link at 30 ms.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// A frame: of HTTP/2's usual 16 KiB a block would take 64.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// A connection that is made when it is first used, and again when it broke.
pub(crate) fn connect(address: &str, patience: Duration) -> Result<Channel, ServerFault> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|_| ServerFault::BadAddress(address.to_owned()))?;
    Ok(endpoint
        .connect_timeout(patience)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .connect_lazy())
}

/// One chunk server to call.
pub(crate) struct Remote<'a> {
    cluster: Digest,
    pub(crate) server: TrackerId,
    key: &'a PublicKey,
    calls: ChunkServerClient<Channel>,
    patience: Duration,
}

/// What a server sent.
pub(crate) struct Fetched {
    /// The bytes, not verified, or that there were too many.
    pub(crate) bytes: Result<Bytes, ServerFault>,
    /// What it says that it sent, not verified.
    pub(crate) served: Option<Signed<Served>>,
}

impl<'a> Remote<'a> {
    pub(crate) fn new(
        cluster: Digest,
        server: TrackerId,
        key: &'a PublicKey,
        channel: Channel,
        patience: Duration,
    ) -> Self {
        let calls = ChunkServerClient::new(channel).max_decoding_message_size(BLOCK_MESSAGE_BYTES_MAX);
        Self { cluster, server, key, calls, patience }
    }

    /// Asks for a chunk. At most `length` bytes are kept. Without `prove` reading ends when there are more; with it the rest
    /// is passed over, up to a chunk's greatest length, for the sake of the statement at the end.
    pub(crate) async fn get(&self, chunk: ChunkId, length: u32, prove: bool) -> Result<Fetched, ServerFault> {
        // Each block may take the whole patience, but a trickle of tiny ones may not go on for ever. [DFS-3]
        let blocks = length / (limits::BLOCK_BYTES_MAX as u32) + 2;
        let whole = self.patience.saturating_mul(blocks);
        timeout(whole, self.receive(chunk, length, prove)).await.unwrap_or(Err(ServerFault::Stalled(whole)))
    }

    async fn receive(&self, chunk: ChunkId, length: u32, prove: bool) -> Result<Fetched, ServerFault> {
        let request = ChunkRequest { chunk: canonical::encode(&chunk), prove };
        let mut calls = self.calls.clone();
        let mut blocks = self.in_time(calls.get_chunk(request)).await??.into_inner();
        let mut intake = Intake::new(length);
        let mut served = None;
        while let Some(Block { data, served: statement }) = self.in_time(blocks.message()).await?? {
            intake.take(&data);
            if !statement.is_empty() {
                served = Signed::from_wire(&statement).ok();
            }
            if intake.got > if prove { limits::CHUNK_BYTES_MAX } else { u64::from(length) } {
                break;
            }
        }
        Ok(Fetched { bytes: intake.finish(), served })
    }

    /// Asks for a piece of a chunk, and gives it with its proof, not verified.
    pub(crate) async fn piece(&self, chunk: ChunkId, piece: u32) -> Result<(Bytes, Vec<u8>), ServerFault> {
        let request = PieceRequest { chunk: canonical::encode(&chunk), piece };
        let Piece { data, proof } = self.in_time(self.calls.clone().get_piece(request)).await??.into_inner();
        Ok((data, proof))
    }

    /// Sends a chunk, and checks that the server signed for it.
    pub(crate) async fn put(&self, key: &SecretKey, chunk: ChunkId, bytes: Bytes) -> Result<(), ServerFault> {
        // Callers send no more than a chunk's greatest length, which is far below 4 GiB.
        let length = u32::try_from(bytes.len()).map_err(|_| ServerFault::NotAcknowledged)?;
        let permit = PutPermit { cluster: self.cluster, server: self.server, by: key.public(), chunk, length };
        let permit = PutBlock { permit: Signed::seal(&permit, key).to_wire(), data: Bytes::new() };
        let progress = Arc::new(Notify::new());
        let noted = progress.clone();
        let data = blocks(bytes).map(|data| PutBlock { permit: Vec::new(), data });
        let messages = stream::iter(std::iter::once(permit).chain(data)).inspect(move |_| noted.notify_one());
        let mut calls = self.calls.clone();
        let mut call = pin!(calls.put_chunk(messages));
        let reply = loop {
            tokio::select! {
                reply = &mut call => break reply?,
                () = progress.notified() => {}
                () = sleep(self.patience) => return Err(ServerFault::Stalled(self.patience)),
            }
        };
        self.check_acknowledgement(chunk, length, &reply.into_inner().stored)
    }

    /// [DFS-2]
    fn check_acknowledgement(&self, chunk: ChunkId, length: u32, stored: &[u8]) -> Result<(), ServerFault> {
        let expected = Served {
            cluster: self.cluster,
            tracker: self.server,
            subject: Subject::Chunk(chunk),
            vote: None,
            sent: Some((chunk.0, u64::from(length))),
        };
        match Signed::<Served>::from_wire(stored).map(|signed| signed.verify(self.key)) {
            Ok(Ok(served)) if *served == expected => Ok(()),
            _ => Err(ServerFault::NotAcknowledged),
        }
    }

    async fn in_time<T>(&self, step: impl Future<Output = T>) -> Result<T, ServerFault> {
        timeout(self.patience, step).await.map_err(|_| ServerFault::Stalled(self.patience))
    }
}

/// Collects at most `length` bytes and counts all.
struct Intake {
    kept: BytesMut,
    got: u64,
    length: u32,
}

impl Intake {
    fn new(length: u32) -> Self {
        let room = u64::from(length).min(limits::CHUNK_BYTES_MAX) as usize;
        Self { kept: BytesMut::with_capacity(room), got: 0, length }
    }

    fn take(&mut self, data: &[u8]) {
        self.got = self.got.saturating_add(data.len() as u64);
        if self.got <= u64::from(self.length) {
            self.kept.extend_from_slice(data);
        }
    }

    fn finish(self) -> Result<Bytes, ServerFault> {
        if self.got <= u64::from(self.length) {
            Ok(self.kept.freeze())
        } else {
            Err(ServerFault::WrongLength { got: self.got, length: self.length })
        }
    }
}

/// Cuts a chunk into blocks without copying; an empty one is one empty block.
pub(crate) fn blocks(mut bytes: Bytes) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut first = true;
    std::iter::from_fn(move || {
        let more = std::mem::take(&mut first) || !bytes.is_empty();
        more.then(|| bytes.split_to(bytes.len().min(limits::BLOCK_BYTES_MAX)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_bounded_and_join_to_the_chunk() {
        let max = limits::BLOCK_BYTES_MAX;
        for (length, lengths) in
            [(0, vec![0]), (1, vec![1]), (max, vec![max]), (max + 1, vec![max, 1]), (2 * max, vec![max, max])]
        {
            let cut: Vec<Bytes> = blocks(Bytes::from(vec![7; length])).collect();
            assert_eq!(cut.iter().map(Bytes::len).collect::<Vec<_>>(), lengths);
        }
    }

    #[test]
    fn an_intake_keeps_what_was_asked_for_and_not_a_byte_more() {
        let mut intake = Intake::new(4);
        intake.take(b"ab");
        intake.take(b"cd");
        assert_eq!(intake.kept.len(), 4);
        intake.take(b"e");
        assert_eq!(intake.kept.len(), 4);
        assert!(matches!(intake.finish(), Err(ServerFault::WrongLength { got: 5, length: 4 })));
    }
}
