//! Cheap authenticity: keyed BLAKE3 in place of signatures. Whoever holds this module can forge, and no actor does.

use quorate_protocol::{canonical, digest::Digest, ids::ReplicaId};
use quorate_smr::{ClientId, Keys, RequestId, message::Signature};
use serde::{Deserialize, Serialize};

/// The keys of all replicas, as one of them holds them.
pub(crate) struct SimulatedKeys {
    pub(crate) me: ReplicaId,
}

fn tag(domain: &[u8; 8], number: u64, bytes: &[u8]) -> Digest {
    let mut keyed = Vec::with_capacity(16 + bytes.len());
    keyed.extend_from_slice(domain);
    keyed.extend_from_slice(&number.to_le_bytes());
    keyed.extend_from_slice(bytes);
    Digest::of(&keyed)
}

fn signature(by: ReplicaId, bytes: &[u8]) -> Signature {
    let tag = *tag(b"replica ", u64::from(by.number()), bytes).as_bytes();
    Signature(tag, tag)
}

impl Keys for SimulatedKeys {
    fn sign(&self, bytes: &[u8]) -> Signature {
        signature(self.me, bytes)
    }
    fn verify(&self, by: ReplicaId, bytes: &[u8], given: &Signature) -> bool {
        *given == signature(by, bytes)
    }
}

/// What a client asks of the replicated machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// Put these bytes at the end of the list.
    Append(Vec<u8>),
    /// Put an entry at the end of the list when so many milliseconds have passed.
    Alarm(u64),
    /// Grow the ballast by so many bytes, so that the state has several pages.
    Ballast(u32),
}

/// A request as it travels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) client: u32,
    pub(crate) session: u64,
    pub(crate) sequence: u64,
    pub(crate) operation: Operation,
    tag: Digest,
}

impl Request {
    /// An authentic one.
    pub(crate) fn new(client: u32, session: u64, sequence: u64, operation: Operation) -> Self {
        let mut request = Self { client, session, sequence, operation, tag: Digest::from_bytes([0; 32]) };
        request.tag = request.expected_tag();
        request
    }

    /// One that nobody should take for authentic.
    pub(crate) fn forged(client: u32, session: u64, sequence: u64) -> Self {
        let mut request = Self::new(client, session, sequence, Operation::Append(b"forged".to_vec()));
        request.tag = Digest::of(b"a guess");
        request
    }

    pub(crate) fn id(&self) -> RequestId {
        RequestId { client: client_id(self.client), session: self.session, sequence: self.sequence }
    }

    fn expected_tag(&self) -> Digest {
        let signed = canonical::encode(&(self.client, self.session, self.sequence, &self.operation));
        tag(b"client  ", u64::from(self.client), &signed)
    }
}

/// A client's name in the agreement.
pub(crate) fn client_id(client: u32) -> ClientId {
    ClientId(tag(b"identity", u64::from(client), b""))
}

/// Reads a request; `None` when it is not authentic.
pub(crate) fn identify(bytes: &[u8]) -> Option<RequestId> {
    let request: Request = canonical::decode(bytes, 1 << 20).ok()?;
    (request.tag == request.expected_tag()).then(|| request.id())
}
