//! What user code wrote to its standard output and error, read from the tracker that ran it.

use crate::peers::{PeerError, Peers};
use quorate_protocol::{
    canonical,
    ids::{AttemptId, TrackerId},
    limits,
    wire::LogRequest,
};

/// What an attempt's user code wrote to its standard output and error, from the tracker that ran it.
///
/// # Errors
/// [`PeerError`] when the tracker is not there; its status otherwise.
pub async fn read_log(peers: &Peers, tracker: TrackerId, attempt: AttemptId) -> Result<Vec<u8>, LogError> {
    let mut client = peers.client(tracker)?;
    let request = LogRequest { attempt: canonical::encode(&attempt) };
    let mut blocks = client.get_log(request).await.map_err(Box::new)?.into_inner();
    let mut log = Vec::new();
    while let Some(block) = blocks.message().await.map_err(Box::new)? {
        log.extend_from_slice(&block.data);
        if log.len() as u64 > limits::LOG_BYTES_MAX {
            log.truncate(limits::LOG_BYTES_MAX as usize);
            break;
        }
    }
    Ok(log)
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The tracker is not there.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It did not give the log.
    #[error("{}", .0.message())]
    Status(#[from] Box<tonic::Status>),
}
