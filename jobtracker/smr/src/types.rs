//! Names and amounts of the agreement.

use quorate_protocol::{canonical, digest::Digest, ids::ReplicaId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{cmp::Ordering, fmt, ops::Deref, sync::Arc};

/// A view: who is primary. Views are entered in order, and many are skipped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct View(pub u64);

impl View {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
    /// Its primary among `replicas` replicas.
    pub fn primary(self, replicas: usize) -> ReplicaId {
        ReplicaId::new((self.0 % replicas.max(1) as u64) as u32)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A batch's place in the order, from 1. 0 stands before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }
    /// So many places later.
    #[must_use]
    pub fn plus(self, places: u64) -> Self {
        Self(self.0.saturating_add(places))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The ordered history up to a place: two replicas with the same digest have executed the same batches at the same times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct History {
    /// The last batch.
    pub seq: Seq,
    /// `H("quorate history" ‖ digest of the history before ‖ header)`.
    pub digest: Digest,
}

impl History {
    /// The history of a cluster that has ordered nothing.
    pub fn empty(cluster: Digest) -> Self {
        Self { seq: Seq(0), digest: canonical::digest(&("quorate history of", cluster)) }
    }
}

/// A client of the agreement, by the digest of what authenticates it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ClientId(pub Digest);

impl Ord for ClientId {
    /// The order of the digests' bytes, the first eight at once: tables of clients are searched at every request.
    fn cmp(&self, other: &Self) -> Ordering {
        let first = |id: &Self| id.0.as_bytes().first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        first(self).cmp(&first(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for ClientId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Names a request: it is executed once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RequestId {
    /// Whose.
    pub client: ClientId,
    /// One process of the client: later ones have larger numbers.
    pub session: u64,
    /// Counts up within the session.
    pub sequence: u64,
}

/// Bytes that are shared, not copied. Encoded like any bytes: their length and themselves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Payload(Arc<[u8]>);

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(bytes.into())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}
