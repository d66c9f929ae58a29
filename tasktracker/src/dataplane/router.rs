//! Accepts connections, and gives each to the data plane or to gRPC by its first byte.

use super::{MAGIC, SegmentServer};
use futures::Stream;
use std::{future::Future, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;

/// Connections that have not said yet what they are for.
const UNDECIDED_MAX: usize = 1024;
/// How long one may take to say so.
const DECISION_PATIENCE: Duration = Duration::from_secs(5);
/// gRPC connections that wait to be taken.
const GRPC_QUEUED_MAX: usize = 16;
/// How long to wait when no connection can be accepted, for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// gRPC's connections, and the work of accepting: it must be polled, and ends when the connections are dropped.
pub(crate) fn accept(
    listener: TcpListener,
    segments: SegmentServer,
) -> (impl Stream<Item = io::Result<TcpStream>>, impl Future<Output = ()>) {
    let (to_grpc, grpc) = mpsc::channel(GRPC_QUEUED_MAX);
    let segments = Arc::new(segments);
    let undecided = Arc::new(Semaphore::new(UNDECIDED_MAX));
    let accepting = async move {
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                () = to_grpc.closed() => return,
            };
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            // Nobody whom we want to hear needs more than this many at once: what is above is dropped.
            let Ok(permit) = Arc::clone(&undecided).try_acquire_owned() else { continue };
            let (to_grpc, segments) = (to_grpc.clone(), Arc::clone(&segments));
            segments.clone().spawn(async move {
                let is_ours = tokio::time::timeout(DECISION_PATIENCE, begins_as_ours(&stream)).await;
                let _ = stream.set_nodelay(true);
                match is_ours {
                    Ok(Ok(true)) => {
                        drop(permit);
                        segments.serve(stream).await;
                    }
                    Ok(Ok(false)) => drop(to_grpc.send(Ok(stream)).await),
                    Ok(Err(_)) | Err(_) => {}
                }
            });
        }
    };
    (ReceiverStream::new(grpc), accepting)
}

/// Waits for a connection's first byte, and leaves it there.
async fn begins_as_ours(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(MAGIC.starts_with(&first)),
    }
}
