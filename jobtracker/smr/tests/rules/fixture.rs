//! What every replica of the tests is made of: keys, a state machine that remembers, small bounds.

use quorate_counter::{Epoch, EpochRecord, LogKey};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use quorate_smr::{ClientId, Config, Keys, Limits, Payload, RequestId, StateMachine, Unreadable, message::Signature};
use std::sync::Arc;

pub(crate) fn replica(number: u32) -> ReplicaId {
    ReplicaId::new(number)
}

/// Signs by hashing a secret that only honest test code uses.
pub(crate) struct Hashed(pub(crate) ReplicaId);

impl Hashed {
    pub(crate) fn signature(by: ReplicaId, bytes: &[u8]) -> Signature {
        let mut all = by.number().to_be_bytes().to_vec();
        all.extend_from_slice(bytes);
        let digest = *Digest::of(&all).as_bytes();
        Signature(digest, digest)
    }
}

impl Keys for Hashed {
    fn sign(&self, bytes: &[u8]) -> Signature {
        Self::signature(self.0, bytes)
    }
    fn verify(&self, by: ReplicaId, bytes: &[u8], signature: &Signature) -> bool {
        Self::signature(by, bytes) == *signature
    }
}

/// Remembers what it executed, in order.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) times: Vec<u64>,
    pub(crate) deadline: Option<u64>,
    pub(crate) fired: u64,
}

impl StateMachine for Log {
    fn advance(&mut self, now: OrderedTime) {
        self.times.push(now.0);
        if self.deadline.is_some_and(|deadline| deadline <= now.0) {
            self.deadline = None;
            self.fired += 1;
        }
    }
    fn apply(&mut self, _: OrderedTime, id: &RequestId, request: &[u8]) -> Vec<u8> {
        if let Some(deadline) = request.get(24..).and_then(|text| text.strip_prefix(b"deadline ")) {
            self.deadline = std::str::from_utf8(deadline).ok().and_then(|text| text.parse().ok());
        }
        self.requests.push(request.to_vec());
        format!("{} of {}", self.requests.len(), id.sequence).into_bytes()
    }
    fn deadline(&self) -> Option<OrderedTime> {
        self.deadline.map(OrderedTime)
    }
    fn snapshot(&self) -> Vec<u8> {
        let state = (&self.requests, &self.times, self.deadline, self.fired);
        canonical::encode(&state)
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Unreadable> {
        let state = canonical::decode(snapshot, usize::MAX);
        let (requests, times, deadline, fired) = state.map_err(|error| Unreadable(error.to_string()))?;
        *self = Self { requests, times, deadline, fired };
        Ok(())
    }
}

/// `client`, `session`, `sequence` in eight bytes each, then anything.
pub(crate) fn request(client: u64, session: u64, sequence: u64, text: &str) -> (RequestId, Payload) {
    let mut bytes = Vec::new();
    [client, session, sequence].iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    bytes.extend_from_slice(text.as_bytes());
    (identify(&bytes).expect("well-formed"), bytes.into())
}

pub(crate) fn identify(bytes: &[u8]) -> Option<RequestId> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let client = ClientId(Digest::of(&number(0)?.to_be_bytes()));
    Some(RequestId { client, session: number(8)?, sequence: number(16)? })
}

pub(crate) fn cluster() -> Digest {
    Digest::of(b"a cluster of cores")
}

pub(crate) fn record(number: u32, epoch: u64) -> EpochRecord {
    let key = LogKey::Simulated([number as u8; 32]);
    EpochRecord { cluster: cluster(), replica: replica(number), epoch: Epoch(epoch), key }
}

pub(crate) fn small() -> Limits {
    Limits {
        batch_requests_max: 4,
        checkpoint_interval: 8,
        pipeline_max: 4,
        flush_statements_max: 16,
        flushes_kept_max: 64,
        waiting_max: 64,
        pending_max: 64,
        vouch_interval: 8,
        view_timeout: 1_000,
        status_interval: 50,
        ..Limits::default()
    }
}

pub(crate) fn config(number: u32, replicas: u32, limits: Limits) -> Config {
    config_with(number, (0..replicas).map(|number| record(number, 0)).collect(), limits)
}

pub(crate) fn config_with(number: u32, genesis: Vec<EpochRecord>, limits: Limits) -> Config {
    let (keys, identify) = (Arc::new(Hashed(replica(number))), Arc::new(identify));
    Config::new(cluster(), replica(number), genesis, limits, keys, identify)
}
