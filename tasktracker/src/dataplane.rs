//! The data plane: segments as raw bytes over TCP.
//!
//! It shares its port with the tracker's gRPC services. A connection that begins with [`MAGIC`] belongs here, every other
//! one is gRPC's. The server lends the file's pages to the socket [sendfile(2)], and the reader copies them once, into a
//! buffer that is still in its cache when it is digested.
//!
//! ```text
//! reader: "QSG1", then for each request
//!         length: u32, request: canonical bytes of SegmentKey
//! server: found: u8 (1, or 0 and nothing more), length: u64, the segment's bytes
//! ```
//!
//! Numbers are little endian. Requests on a connection follow each other. Nothing here is signed: what a reader gets counts
//! only when it has the digest that the server voted, and a server that sends anything else is asked for a signed
//! statement over gRPC.

mod fetch;
mod router;
mod serve;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    fetch::{Connections, FetchFault, receive},
    router::accept,
    serve::SegmentServer,
};

use quorate_protocol::ids::{AttemptId, TrackerId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a connection of the data plane begins. HTTP/2 begins with `PRI`.
const MAGIC: [u8; 4] = *b"QSG1";
/// The longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 64;
const FOUND: u8 = 1;
const NOT_FOUND: u8 = 0;

/// The time that a whole segment may take, before its server or its reader is given up: a trickle never ends by itself.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(20);
/// A second more for each of so many bytes.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// How long a segment of so many bytes may take.
pub(crate) fn patience(length: u64) -> Duration {
    SEGMENT_PATIENCE + Duration::from_secs(length / BYTES_PER_SECOND_MIN)
}

/// Which segment a reader wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SegmentKey {
    /// The map attempt.
    pub(crate) attempt: AttemptId,
    /// The partition.
    pub(crate) partition: u32,
    /// Who asks, by its own account.
    pub(crate) reader: TrackerId,
}
