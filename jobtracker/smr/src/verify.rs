//! From bytes to messages that may be given to a core. Reads no state of the core, so that shells do it on many threads.
//!
//! What stays to be checked by the core is what depends on its state: certificates of trusted logs (by the admitted epoch)
//! and all that a statement says.

use crate::{
    config::{Config, Identify, Keys, Limits, PAGE_BYTES},
    message::{
        Admission, Batch, Body, Claim, Flush, Message, OwnMessage, Signature, Signed, Statement, Status, WireMessage,
    },
    types::{Payload, RequestId},
};
use quorate_counter::{CERTIFICATE_BYTES_MAX, Certificate, EpochRecord};
use quorate_protocol::{
    canonical::{self, DecodeError},
    digest::Digest,
    ids::ReplicaId,
};
use std::{collections::BTreeSet, sync::Arc};

/// Things asked for by digest in one message.
pub const FETCH_MAX: usize = 16;
/// Headers in one message.
pub const CHAIN_MAX: usize = 512;
/// Pages of a state: 16 GiB.
pub const PAGES_MAX: usize = 1 << 18;

/// VIEW-CHANGEs of one log that are remembered, the newest ones.
pub const CHANGES_MAX: usize = 16;

/// Why a message is not given to the core.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A claim's signature is not its replica's.
    #[error("a claim in the name of {0} is not signed by it")]
    Signature(ReplicaId),
    /// A request is not authentic, or is twice in a batch.
    #[error("a batch has a request that is not authentic, or one twice")]
    Request,
    /// Something is longer than it may be.
    #[error("{what}: {got}, and at most {max} are allowed")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many or how long.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// Something makes no sense by itself.
    #[error("{0}")]
    Senseless(&'static str),
}

/// A message that was checked.
#[derive(Debug, Clone)]
pub struct Verified(pub(crate) OwnMessage);

impl Verified {
    /// The message.
    pub fn message(&self) -> &OwnMessage {
        &self.0
    }
}

/// Checks messages. Cheap to clone, and it knows nothing that changes.
#[derive(Clone)]
pub struct Verifier {
    cluster: Digest,
    replicas: usize,
    limits: Limits,
    keys: Arc<dyn Keys>,
    identify: Arc<Identify>,
}

/// What a claim's signature covers.
pub(crate) fn claim_bytes(cluster: Digest, by: ReplicaId, claim: &Claim) -> Vec<u8> {
    canonical::encode(&("quorate smr claim v1", cluster, by, claim))
}

/// What an admission's signature covers.
pub(crate) fn admission_bytes(record: &EpochRecord, certificate: &Certificate) -> Vec<u8> {
    canonical::encode(&("quorate smr admission v1", record, certificate))
}

fn bound(what: &'static str, got: usize, max: usize) -> Result<(), Rejection> {
    if got <= max { Ok(()) } else { Err(Rejection::TooMany { what, got, max }) }
}

impl Verifier {
    /// The checks of a cluster.
    pub fn new(config: &Config) -> Self {
        Self {
            cluster: config.cluster,
            replicas: config.replicas(),
            limits: config.limits.clone(),
            keys: Arc::clone(&config.keys),
            identify: Arc::clone(&config.identify),
        }
    }

    /// The longest message in bytes.
    pub fn message_bytes_max(&self) -> usize {
        let body = self.limits.batch_bytes_max.max(self.limits.request_bytes_max) + self.limits.batch_requests_max * 8;
        (body + 1024) * 2 + (64 << 10) + PAGES_MAX * 32
    }

    /// Reads and checks a message.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Verified, Rejection> {
        self.verify(canonical::decode(bytes, self.message_bytes_max())?)
    }

    /// Checks a client's request.
    ///
    /// # Errors
    /// [`Rejection::Request`] when it is not authentic, [`Rejection::TooMany`] when it is too long.
    pub fn request(&self, request: &[u8]) -> Result<RequestId, Rejection> {
        bound("bytes of a request", request.len(), self.limits.request_bytes_max)?;
        (self.identify)(request).ok_or(Rejection::Request)
    }

    /// Checks a message.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn verify(&self, message: WireMessage) -> Result<Verified, Rejection> {
        Ok(Verified(match message {
            Message::Flush(flush, batches) => {
                self.flush(&flush)?;
                bound("batches of a flush", batches.len(), flush.statements.len())?;
                Message::Flush(flush, self.bodies(batches)?)
            }
            Message::Status(status) => {
                self.status(&status)?;
                Message::Status(status)
            }
            Message::Claim(signed) => {
                self.claim(&signed)?;
                Message::Claim(signed)
            }
            Message::Forward(batch) => {
                if batch.admission.is_some() {
                    return Err(Rejection::Senseless("an admission is not forwarded as a request"));
                }
                Message::Forward(self.body(batch)?)
            }
            Message::FetchFlushes { of, epoch, after } => {
                self.member(of)?;
                Message::FetchFlushes { of, epoch, after }
            }
            Message::Gone { of, epoch, after } => {
                self.member(of)?;
                Message::Gone { of, epoch, after }
            }
            Message::FetchPosition { of, epoch } => {
                self.member(of)?;
                Message::FetchPosition { of, epoch }
            }
            Message::FetchBodies(digests) => {
                bound("batches asked for", digests.len(), FETCH_MAX)?;
                Message::FetchBodies(digests)
            }
            Message::Bodies(batches) => {
                bound("batches", batches.len(), FETCH_MAX)?;
                Message::Bodies(self.bodies(batches)?)
            }
            Message::FetchChain(history) => Message::FetchChain(history),
            Message::Chain(history, headers) => {
                bound("headers", headers.len(), CHAIN_MAX)?;
                Message::Chain(history, headers)
            }
            Message::Stable(claims) => {
                bound("claims", claims.len(), self.replicas)?;
                claims.iter().try_for_each(|signed| self.claim(signed))?;
                Message::Stable(claims)
            }
            Message::FetchPages(root) => Message::FetchPages(root),
            Message::Pages(root, manifest) => {
                bound("pages of a state", manifest.pages.len(), PAGES_MAX)?;
                let sized = manifest.length.div_ceil(PAGE_BYTES as u64) == manifest.pages.len() as u64;
                if !sized || manifest.root() != root {
                    return Err(Rejection::Senseless(
                        "the pages are not those of the state that they are said to be of",
                    ));
                }
                Message::Pages(root, manifest)
            }
            Message::FetchPage(digests) => {
                bound("pages asked for", digests.len(), FETCH_MAX)?;
                Message::FetchPage(digests)
            }
            Message::Page(page) => {
                bound("bytes of a page", page.len(), PAGE_BYTES)?;
                Message::Page(page)
            }
        }))
    }

    fn member(&self, replica: ReplicaId) -> Result<(), Rejection> {
        let known = (replica.number() as usize) < self.replicas;
        if known { Ok(()) } else { Err(Rejection::Senseless("it speaks of a replica that is not of this cluster")) }
    }

    fn flush(&self, flush: &Flush) -> Result<(), Rejection> {
        self.member(flush.replica)?;
        bound("statements of a flush", flush.statements.len(), self.limits.flush_statements_max)?;
        bound("bytes of a certificate", flush.certificate.0.len(), CERTIFICATE_BYTES_MAX)?;
        if flush.statements.is_empty() {
            return Err(Rejection::Senseless("a flush without statements"));
        }
        flush.statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&self, statement: &Statement) -> Result<(), Rejection> {
        match statement {
            Statement::Prepare { .. } | Statement::Commit { .. } => Ok(()),
            // The signatures are checked by the core: a statement that does not hold up is a breach, not garbage, for it
            // may be relayed by somebody who is honest.
            Statement::ViewChange { requests, .. } => {
                bound("claims of a VIEW-CHANGE", requests.len(), self.replicas)?;
                // What a claim is worth is the core's to say; that it is short is not.
                requests.iter().try_for_each(|signed| match &signed.claim {
                    Claim::Position { changes, .. } => bound("VIEW-CHANGEs of a claim", changes.len(), CHANGES_MAX),
                    Claim::ViewChange { .. } | Claim::Checkpoint { .. } | Claim::Decided { .. } => Ok(()),
                })
            }
            Statement::NewView { changes, .. } => bound("VIEW-CHANGEs of a NEW-VIEW", changes.len(), self.replicas),
        }
    }

    fn status(&self, status: &Status) -> Result<(), Rejection> {
        bound("heads", status.heads.len(), self.replicas)?;
        bound("retired heads", status.retired.len(), self.replicas)?;
        if !matches!(status.decided.claim, Claim::Decided { .. }) {
            return Err(Rejection::Senseless("a status without a decided history"));
        }
        [Some(&status.decided), status.wants.as_ref(), status.checkpoint.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|signed| self.claim(signed))?;
        status.admission.as_ref().map_or(Ok(()), |admission| self.admission(admission))
    }

    pub(crate) fn claim(&self, signed: &Signed) -> Result<(), Rejection> {
        self.member(signed.by)?;
        if let Claim::Position { of, changes, .. } = &signed.claim {
            self.member(*of)?;
            bound("VIEW-CHANGEs of a claim", changes.len(), CHANGES_MAX)?;
        }
        let bytes = claim_bytes(self.cluster, signed.by, &signed.claim);
        let valid = self.keys.verify(signed.by, &bytes, &signed.signature);
        if valid { Ok(()) } else { Err(Rejection::Signature(signed.by)) }
    }

    pub(crate) fn admission(&self, admission: &Admission) -> Result<(), Rejection> {
        let Admission { record, certificate, signature } = admission;
        self.member(record.replica)?;
        if record.cluster != self.cluster {
            return Err(Rejection::Senseless("an epoch of another cluster"));
        }
        if record.verify(record.genesis(), certificate).is_err() {
            return Err(Rejection::Senseless("an epoch whose trusted log does not attest that it is empty"));
        }
        let signed = self.keys.verify(record.replica, &admission_bytes(record, certificate), signature);
        if signed { Ok(()) } else { Err(Rejection::Signature(record.replica)) }
    }

    pub(crate) fn bodies(&self, batches: Vec<Arc<Batch>>) -> Result<Vec<Arc<Body>>, Rejection> {
        batches.into_iter().map(|batch| self.body(batch)).collect()
    }

    /// Checks a batch, whatever its place in the order.
    pub(crate) fn body(&self, batch: Arc<Batch>) -> Result<Arc<Body>, Rejection> {
        bound("requests of a batch", batch.requests.len(), self.limits.batch_requests_max)?;
        let bytes: usize = batch.requests.iter().map(|request| request.len()).sum();
        if batch.requests.len() > 1 {
            bound("bytes of a batch", bytes, self.limits.batch_bytes_max)?;
        }
        if let Some(admission) = &batch.admission {
            self.admission(admission)?;
            if !batch.requests.is_empty() {
                return Err(Rejection::Senseless("a batch with an admission has no requests"));
            }
        }
        let ids = batch.requests.iter().map(|request| self.request(request)).collect::<Result<Vec<_>, _>>()?;
        if ids.len() > 1 && ids.iter().collect::<BTreeSet<_>>().len() != ids.len() {
            return Err(Rejection::Request);
        }
        let digest = batch.digest();
        Ok(Arc::new(Body { batch, ids, digest, bytes }))
    }

    /// Takes a batch that this replica made of requests that it had checked.
    pub(crate) fn own_body(&self, batch: Batch, ids: Vec<RequestId>) -> Arc<Body> {
        let bytes = batch.requests.iter().map(|request| request.len()).sum();
        let digest = batch.digest();
        Arc::new(Body { batch: Arc::new(batch), ids, digest, bytes })
    }

    pub(crate) fn verified_by(&self, by: ReplicaId, bytes: &[u8], signature: &Signature) -> bool {
        self.keys.verify(by, bytes, signature)
    }

    /// Reads a batch from this replica's own disk.
    pub(crate) fn stored_body(&self, bytes: &Payload) -> Result<Arc<Body>, Rejection> {
        self.body(Arc::new(canonical::decode(bytes, self.message_bytes_max())?))
    }
}
