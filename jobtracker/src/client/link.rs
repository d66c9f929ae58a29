//! One replica as a client sees it: a connection that is made when needed, and the check of every reply.

use super::ClientError;
use quorate_protocol::{
    cluster::ReplicaMember,
    command::Reply,
    digest::Digest,
    limits::MESSAGE_BYTES_MAX,
    query::Answer,
    sign::Signed,
    wire::{self, job_tracker_client::JobTrackerClient},
};
use std::{sync::OnceLock, time::Duration};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The two calls with one answer.
#[derive(Clone, Copy)]
pub(super) enum Call {
    Submit,
    Ask,
}

/// Waits longer after each failure.
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_FIRST)
    }
}

impl Backoff {
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
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
    pub(super) async fn call(
        &self,
        call: Call,
        bytes: &[u8],
        to: Digest,
        deadline: Instant,
    ) -> Result<Answer, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let reply = tokio::time::timeout_at(deadline, self.call_once(call, bytes));
            let status = match reply.await {
                Ok(Ok(reply)) => return self.check(&reply, to),
                Ok(Err(status)) if !is_passing(&status) => return Err(self.rejected(status)),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if !backoff.wait_until(deadline).await {
                return Err(self.unreachable(status));
            }
        }
    }

    async fn call_once(&self, call: Call, bytes: &[u8]) -> Result<wire::Reply, Status> {
        let mut service = self.service()?;
        let reply = match call {
            Call::Submit => service.submit(wire::Command { signed: bytes.to_vec() }).await,
            Call::Ask => service.ask(wire::Question { question: bytes.to_vec() }).await,
        };
        reply.map(tonic::Response::into_inner)
    }

    /// The answer, when this replica signed it for this cluster and for what was asked.
    pub(super) fn check(&self, reply: &wire::Reply, to: Digest) -> Result<Answer, ClientError> {
        let signed =
            Signed::<Reply>::from_wire(&reply.signed).map_err(|error| self.untrustworthy(error.to_string()))?;
        let reply = signed.verify(&self.member.key).map_err(|error| self.untrustworthy(error.to_string()))?;
        if reply.cluster != self.cluster {
            return Err(self.untrustworthy("it is of another cluster".to_owned()));
        }
        if reply.replica != self.member.id {
            return Err(self.untrustworthy(format!("it is in the name of {}", reply.replica)));
        }
        if reply.to != to {
            return Err(self.untrustworthy("it answers something else".to_owned()));
        }
        Ok(reply.into_inner().answer)
    }

    pub(super) fn untrustworthy(&self, what: String) -> ClientError {
        ClientError::Untrustworthy { replica: self.member.id, what }
    }
    pub(super) fn rejected(&self, status: Status) -> ClientError {
        ClientError::Rejected { replica: self.member.id, source: Box::new(status) }
    }
    fn unreachable(&self, status: Status) -> ClientError {
        let address = self.member.address.clone();
        ClientError::Unreachable { replica: self.member.id, address, source: Box::new(status) }
    }
}

/// Whether another try may meet something else: a lost connection, a replica that starts, is full, or stops.
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
