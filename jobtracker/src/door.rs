//! The door: who may come in. Nothing is ordered before its sender is known, its signature checked, and its addresses
//! right.
//!
//! The votes in a report are signed each on their own, since evidence outlives the report. They are checked here too: by
//! many threads before the order, and not by the one that executes.
//!
//! A request comes to each replica twice: from its sender, and in the primary's batch. What was let in a moment ago is
//! remembered by its digest, so that the second time costs a digest instead of its signatures.

use quorate_protocol::{
    canonical::{self, DecodeError},
    cluster::Cluster,
    command::{Command, Envelope, FollowDirectives, History, Request, Sender},
    digest::Digest,
    limits::COMMAND_BYTES_MAX,
    sign::{PublicKey, Rejection, Signed},
};
use quorate_smr::{ClientId, RequestId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tonic::Status;

/// An envelope's bytes beside those of its request.
const ENVELOPE_EXTRA_BYTES_MAX: usize = 256;
/// The longest encoded envelope.
pub(crate) const ENVELOPE_BYTES_MAX: usize = COMMAND_BYTES_MAX + ENVELOPE_EXTRA_BYTES_MAX;
/// Requests that are remembered: at least so many, and at most twice as many.
const REMEMBERED_MIN: usize = 8192;

/// Why an envelope is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the command is refused: {0}")]
    Malformed(#[from] DecodeError),
    #[error("{0} is not of this cluster")]
    Stranger(String),
    #[error("it is for another cluster")]
    Elsewhere,
    #[error("it is in another's name than the one that signed it")]
    Borrowed,
    #[error(transparent)]
    Forged(#[from] Rejection),
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::Malformed(_) => Status::invalid_argument(refused.to_string()),
            Refused::Stranger(_) | Refused::Elsewhere | Refused::Borrowed => {
                Status::permission_denied(refused.to_string())
            }
            Refused::Forged(_) => Status::unauthenticated(refused.to_string()),
        }
    }
}

/// A request that was let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Admitted {
    pub(crate) id: RequestId,
    /// What its sender has seen.
    pub(crate) seen: Option<History>,
}

/// The door of one replica.
pub(crate) struct Door {
    cluster: Arc<Cluster>,
    /// [`Cluster::id`], computed once.
    id: Digest,
    recent: Mutex<Recent>,
}

/// What was let in lately: two generations, of which the older one goes when the younger one is full.
#[derive(Default)]
struct Recent {
    young: HashMap<Digest, Admitted>,
    old: HashMap<Digest, Admitted>,
}

impl Recent {
    fn insert(&mut self, digest: Digest, admitted: Admitted) {
        if self.young.len() >= REMEMBERED_MIN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, admitted);
    }
    fn get(&self, digest: &Digest) -> Option<Admitted> {
        self.young.get(digest).or_else(|| self.old.get(digest)).copied()
    }
}

impl Door {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { id: cluster.id(), cluster, recent: Mutex::default() }
    }

    /// Checks an encoded envelope. Depends on its bytes and the configuration only, so every replica says the same.
    pub(crate) fn admit(&self, bytes: &[u8]) -> Result<Admitted, Refused> {
        let digest = Digest::of(bytes);
        let remembered = self.recent.lock().unwrap_or_else(PoisonError::into_inner).get(&digest);
        if let Some(admitted) = remembered {
            return Ok(admitted);
        }
        let admitted = self.check(bytes)?;
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, admitted);
        Ok(admitted)
    }

    fn check(&self, bytes: &[u8]) -> Result<Admitted, Refused> {
        let Envelope { sender, request } = canonical::decode(bytes, ENVELOPE_BYTES_MAX)?;
        let key = self.key_of(sender)?;
        request.verify_signature(&key)?;
        match (request.peek(), sender) {
            (Ok(request), _) => {
                if let Command::Report(report) = &request.command {
                    report.verify_votes(&key)?;
                }
                self.addressed(sender, &request)
            }
            // A tracker's unreadable request is evidence against it: it is executed, once for each tracker.
            (Err(_), Sender::Tracker(_)) => {
                let client = ClientId(canonical::digest(&("garbled", sender)));
                Ok(Admitted { id: RequestId { client, session: 1, sequence: 1 }, seen: None })
            }
            (Err(error), Sender::Client(_) | Sender::Replica(_)) => Err(error.into()),
        }
    }

    fn addressed(&self, sender: Sender, request: &Request) -> Result<Admitted, Refused> {
        if request.cluster != self.id {
            return Err(Refused::Elsewhere);
        }
        if request.sender != sender {
            return Err(Refused::Borrowed);
        }
        let client = ClientId(canonical::digest(&sender));
        let Request { session, sequence, seen, .. } = *request;
        Ok(Admitted { id: RequestId { client, session, sequence }, seen })
    }

    /// Reads a tracker's wish to follow its directives, and checks that it is the tracker's own.
    pub(crate) fn admit_follower(&self, bytes: &[u8]) -> Result<FollowDirectives, Refused> {
        let signed = Signed::<FollowDirectives>::from_wire(bytes)?;
        let wanted = signed.peek()?;
        signed.verify_signature(&self.key_of(Sender::Tracker(wanted.tracker))?)?;
        if wanted.cluster == self.id { Ok(wanted) } else { Err(Refused::Elsewhere) }
    }

    fn key_of(&self, sender: Sender) -> Result<PublicKey, Refused> {
        let cluster = &self.cluster;
        let (key, name) = match sender {
            Sender::Client(key) => (cluster.clients.contains(&key).then_some(key), format!("the client key {key}")),
            Sender::Tracker(tracker) => (cluster.tracker(tracker).map(|member| member.key), tracker.to_string()),
            Sender::Replica(replica) => (cluster.replica(replica).map(|member| member.key), replica.to_string()),
        };
        key.ok_or(Refused::Stranger(name))
    }
}

#[cfg(test)]
mod tests;
