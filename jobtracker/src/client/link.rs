//! One replica as a client sees it: a connection that is made when needed, and the check of every reply.

use super::{
    ClientError,
    memory::{Anchor, Memory},
};
use quorate_protocol::{
    cluster::ReplicaMember,
    command::{History, Reply, seen_to_wire},
    digest::Digest,
    ids::ReplicaId,
    limits::MESSAGE_BYTES_MAX,
    query::{Answer, command_digest, question_digest},
    sign::Signed,
    spent,
    wire::{self, job_tracker_client::JobTrackerClient},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Replicas are a few milliseconds apart: whoever is behind is asked again soon.
const BACKOFF_FIRST: Duration = Duration::from_millis(2);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The two calls with one answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Submit,
    Ask,
}

/// What all replicas are asked, in the same bytes.
pub(super) struct Asked {
    call: Call,
    bytes: Vec<u8>,
    to: Digest,
    seen: Option<Arc<Anchor>>,
}

impl Asked {
    /// An encoded envelope, whose request shows what was seen.
    pub(super) fn command(bytes: Vec<u8>, seen: Option<Arc<Anchor>>) -> Self {
        Self { call: Call::Submit, to: command_digest(&bytes), bytes, seen }
    }
    /// An encoded question.
    pub(super) fn question(bytes: Vec<u8>, seen: Option<Arc<Anchor>>) -> Self {
        let to = question_digest(&bytes, &seen_to_wire(history(seen.as_ref())));
        Self { call: Call::Ask, bytes, to, seen }
    }
    pub(super) fn is_command(&self) -> bool {
        self.call == Call::Submit
    }
}

/// An anchor's history.
pub(super) fn history(anchor: Option<&Arc<Anchor>>) -> Option<History> {
    anchor.map(|anchor| anchor.history)
}

/// Waits longer after each failure.
#[derive(Clone)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_FIRST)
    }
}

impl Backoff {
    pub(super) fn grow(&mut self) {
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.grow();
    }
    /// Waits, and says whether there is time for another try.
    pub(super) async fn wait_until(&mut self, deadline: Instant) -> bool {
        if Instant::now() + self.0 >= deadline {
            return false;
        }
        self.wait().await;
        true
    }
}

/// A reply that this replica signed for this cluster and for what was asked, and that goes with what was seen.
#[derive(Clone)]
pub(super) struct Checked {
    pub(super) replica: ReplicaId,
    pub(super) answer: Answer,
    /// What the replica had executed.
    pub(super) history: History,
    /// In which view it says it is.
    pub(super) view: u64,
    /// All histories that the reply states.
    pub(super) states: Vec<History>,
    pub(super) signed: Signed<Reply>,
}

/// Why a reply does not count.
pub(super) enum Doubt {
    /// It speaks of a state before the one that was seen. The replica may come to it.
    Behind,
    /// It is not to be believed.
    Untrustworthy(ClientError),
}

/// A replica.
pub(super) struct Link {
    member: ReplicaMember,
    cluster: Digest,
    service: OnceLock<JobTrackerClient<Channel>>,
}

impl Link {
    pub(super) fn new(member: ReplicaMember, cluster: Digest) -> Self {
        Self { member, cluster, service: OnceLock::new() }
    }

    pub(super) fn replica(&self) -> ReplicaId {
        self.member.id
    }

    /// The service behind a lazy connection. Fails only when the configured address is none.
    pub(super) fn service(&self) -> Result<JobTrackerClient<Channel>, Status> {
        if let Some(service) = self.service.get() {
            return Ok(service.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", self.member.address))
            .map_err(|error| Status::invalid_argument(format!("{:?}: {error}", self.member.address)))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let service = JobTrackerClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(self.service.get_or_init(|| service).clone())
    }

    /// Calls until there is a reply, the replica rejects the call, or the deadline is over.
    pub(super) async fn call(&self, asked: &Asked, memory: &Memory, deadline: Instant) -> Result<Checked, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let reply = tokio::time::timeout_at(deadline, self.call_once(asked));
            let status = match reply.await {
                Ok(Ok(reply)) => match self.check(&reply, asked.to, asked.seen.as_ref(), memory) {
                    Ok(checked) => return Ok(checked),
                    Err(Doubt::Untrustworthy(error)) => return Err(error),
                    Err(Doubt::Behind) => Status::unavailable("it has not executed what was executed before"),
                },
                Ok(Err(status)) if !is_passing(&status) => return Err(self.rejected(status)),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if !backoff.wait_until(deadline).await {
                return Err(self.unreachable(status));
            }
        }
    }

    async fn call_once(&self, asked: &Asked) -> Result<wire::Reply, Status> {
        let mut service = self.service()?;
        let bytes = asked.bytes.clone();
        spent::sent(bytes.len() as u64);
        let reply = match asked.call {
            Call::Submit => service.submit(wire::Command { signed: bytes }).await,
            Call::Ask => {
                let seen = seen_to_wire(history(asked.seen.as_ref()));
                service.ask(wire::Question { question: bytes, seen }).await
            }
        };
        reply.map(tonic::Response::into_inner)
    }

    /// Checks a reply: who signed it, for what, and whether its history goes with the one that was seen.
    pub(super) fn check(
        &self,
        reply: &wire::Reply,
        to: Digest,
        seen: Option<&Arc<Anchor>>,
        memory: &Memory,
    ) -> Result<Checked, Doubt> {
        spent::received(reply.signed.len() as u64);
        let wrong = |what: String| {
            memory.distrust(self.member.id, &what);
            Doubt::Untrustworthy(ClientError::Untrustworthy { replica: self.member.id, what })
        };
        let signed = Signed::<Reply>::from_wire(&reply.signed).map_err(|error| wrong(error.to_string()))?;
        let reply = signed.verify(&self.member.key).map_err(|error| wrong(error.to_string()))?;
        if reply.cluster != self.cluster {
            return Err(wrong("it is of another cluster".to_owned()));
        }
        if reply.replica != self.member.id {
            return Err(wrong(format!("it is in the name of {}", reply.replica)));
        }
        if reply.to != to {
            return Err(wrong("it answers something else".to_owned()));
        }
        if let (Some(stated), Some(seen)) = (memory.contradiction(seen, &reply, &signed), history(seen)) {
            return Err(wrong(format!("it states the history {stated}, and f + 1 replicas stated {seen}")));
        }
        if history(seen).is_some_and(|seen| reply.history.ordered < seen.ordered) {
            return Err(Doubt::Behind);
        }
        let states = reply.states().collect();
        let Reply { replica, history, answer, view, .. } = reply.into_inner();
        Ok(Checked { replica, answer, history, view, states, signed })
    }

    /// An answer that a replica may give, but not to this.
    pub(super) fn untrustworthy(&self, memory: &Memory, what: &str) -> ClientError {
        memory.distrust(self.member.id, what);
        ClientError::Untrustworthy { replica: self.member.id, what: what.to_owned() }
    }
    pub(super) fn rejected(&self, status: Status) -> ClientError {
        ClientError::Rejected { replica: self.member.id, source: Box::new(status) }
    }
    fn unreachable(&self, status: Status) -> ClientError {
        let address = self.member.address.clone();
        ClientError::Unreachable { replica: self.member.id, address, source: Box::new(status) }
    }
}

/// Whether another try may meet something else: a lost connection, a replica that starts, is behind, is full, or stops.
pub(super) fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => true,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
