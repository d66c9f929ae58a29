//! What went wrong with one server, and what that came to.

use crate::store::StoreError;
use quorate_protocol::{digest::ChunkId, ids::TrackerId, limits};
use std::time::Duration;

/// What one server did instead of what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServerFault {
    /// It is no member of the cluster, or it never registered an address.
    #[error("its address is not known")]
    NoAddress,
    /// What it registered is not an address.
    #[error("{0:?} is not an address")]
    BadAddress(String),
    /// It has no such chunk.
    #[error("it does not have the chunk")]
    Missing,
    /// It could not be reached, or it refused.
    #[error("{:?}: {:?}", .0.code(), .0.message())]
    Refused(#[source] Box<tonic::Status>),
    /// Nothing came from it for so long.
    #[error("nothing came from it for {0:?}")]
    Stalled(Duration),
    /// It sent another number of bytes than the chunk has.
    #[error("it sent {got} bytes or more, and the chunk has {length}")]
    WrongLength {
        /// Bytes received, perhaps not all.
        got: u64,
        /// Bytes wanted.
        length: u32,
    },
    /// It sent bytes that are not the chunk.
    #[error("it sent other bytes{}", if *.proven { ", and signed them" } else { "" })]
    WrongBytes {
        /// Whether it signed them, so that there is evidence in [`crate::ChunkClient::findings`].
        proven: bool,
    },
    /// It did not sign that it has the chunk that was sent to it.
    #[error("it did not acknowledge the chunk")]
    NotAcknowledged,
    /// This process's own chunk store failed.
    #[error("own store: {0}")]
    Own(#[source] StoreError),
}

impl From<tonic::Status> for ServerFault {
    fn from(status: tonic::Status) -> Self {
        if status.code() == tonic::Code::NotFound { Self::Missing } else { Self::Refused(Box::new(status)) }
    }
}

/// Servers with their faults, for people.
fn list(tried: &[(TrackerId, ServerFault)]) -> String {
    tried.iter().map(|(server, fault)| format!("{server}: {fault}")).collect::<Vec<_>>().join("; ")
}

/// Why a chunk could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No server gave a right copy.
    #[error("no copy of chunk {chunk} could be read ({})", list(tried))]
    NoCopy {
        /// The chunk.
        chunk: ChunkId,
        /// Each server with what it did. Empty when the file names none.
        tried: Vec<(TrackerId, ServerFault)>,
    },
    /// A file's placements or chunks make no sense.
    #[error("the file cannot be read: {0}")]
    BadFile(String),
    /// A task of this read was stopped: the process is shutting down.
    #[error("the read was stopped")]
    Stopped,
}

/// Why a chunk was not stored everywhere that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// Some servers do not have it.
    #[error("chunk {chunk} was not stored on every server ({})", list(failed))]
    Failed {
        /// The chunk.
        chunk: ChunkId,
        /// The servers that do not have it.
        failed: Vec<(TrackerId, ServerFault)>,
    },
    /// It has no bytes, or more than a chunk may have.
    #[error("a chunk has between 1 and {max} bytes, and this one has {length}", max = limits::CHUNK_BYTES_MAX)]
    Length {
        /// The bytes it has.
        length: usize,
    },
}

/// Why a file could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// What is to be stored could not be read.
    #[error("the input cannot be read")]
    Read(#[source] std::io::Error),
    /// It is longer than a file may be.
    #[error(
        "a file has at most {} chunks of at most {chunk_bytes} bytes here; store it in larger chunks or cut it into several files",
        limits::FILE_CHUNKS_MAX
    )]
    TooLong {
        /// The chunk size it was to be cut into.
        chunk_bytes: u64,
    },
    /// There are not enough failure domains for the copies.
    #[error(
        "{copies} copies need {copies} failure domains with a chunk server that takes them, and there are {domains}{}; start more trackers, or ask for fewer copies",
        failures(failed)
    )]
    TooFewDomains {
        /// Copies wanted.
        copies: usize,
        /// Domains that take chunks.
        domains: usize,
        /// The servers that failed meanwhile.
        failed: Vec<(TrackerId, ServerFault)>,
    },
    /// A task of this upload was stopped: the process is shutting down.
    #[error("the upload was stopped")]
    Stopped,
}

fn failures(failed: &[(TrackerId, ServerFault)]) -> String {
    if failed.is_empty() { String::new() } else { format!(" ({})", list(failed)) }
}
