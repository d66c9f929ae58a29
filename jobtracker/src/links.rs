//! Links between replicas: whose words they are is beyond doubt, and a slow or lying peer holds up nobody.
//!
//! Each replica dials each other one and sends on that connection; what it hears comes by the connections that others
//! dial. The links share the port of the gRPC service: the first byte tells the two apart (`reception`).
//!
//! * A handshake (`handshake`) shows both sides that the other has the key which the configuration has for it, in this
//!   cluster and this version, and gives the link a fresh key. Each frame then carries a keyed BLAKE3 digest of its
//!   number and content (`seal`): nothing can be inserted, changed, exchanged or replayed. Links hide nothing from
//!   listeners: what replicas say is no secret.
//! * A frame's first byte says whether it is for the agreement or for a witness (`crate::witness`).
//! * What waits for a peer is bounded by bytes (`outgoing`). What does not fit, or waits while there is no connection, is
//!   dropped: the agreement heals by its gossip whatever was lost.
//! * What comes in is checked on the link's own thread, in order, and is bounded by bytes as well (`incoming`): a peer
//!   that talks faster than the replica listens waits, and no other with it.

mod handshake;
mod incoming;
mod outgoing;
mod seal;

pub(crate) use handshake::{FIRST_BYTE, Identity};
pub(crate) use incoming::Incoming;

use crate::{liars::Lie, witness::Word};
use outgoing::Queue;
use quorate_protocol::{canonical, ids::ReplicaId};
use quorate_smr::message::{OwnMessage, WireMessage};
use serde::Serialize;
use std::sync::Arc;
use tokio::{sync::watch, task::JoinSet};

/// What a frame's first byte says.
const AGREEMENT: u8 = 0;
const WITNESS: u8 = 1;

/// Where the words of witnesses go: the same links, and the same queues.
#[derive(Clone, Default)]
pub(crate) struct Words {
    peers: Vec<(ReplicaId, Arc<Queue>)>,
}

impl Words {
    /// Sends a word to one replica.
    pub(crate) fn send(&self, to: ReplicaId, word: &Word) {
        if let Some((_, queue)) = self.peers.iter().find(|(peer, _)| *peer == to) {
            queue.push(encoded(WITNESS, word));
        }
    }
}

/// Where the agreement's messages go.
pub(crate) struct Outbox {
    peers: Vec<(ReplicaId, Arc<Queue>)>,
    lie: Option<Arc<dyn Lie>>,
}

impl Outbox {
    /// The way to all other replicas, each with a task in `tasks` that keeps a connection to it until it is told to stop.
    pub(crate) fn start(
        identity: &Arc<Identity>,
        lie: Option<Arc<dyn Lie>>,
        stop: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let mut start = |peer| {
            let queue = Arc::new(Queue::default());
            tasks.spawn(outgoing::run(Arc::clone(identity), peer, Arc::clone(&queue), stop.clone()));
            (peer, queue)
        };
        let peers = identity.peers().map(&mut start).collect();
        Self { peers, lie }
    }

    /// Where the words of witnesses go.
    pub(crate) fn words(&self) -> Words {
        Words { peers: self.peers.clone() }
    }

    /// Whether there is no other replica.
    pub(crate) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    /// Sends a message to one replica.
    pub(crate) fn send(&self, to: ReplicaId, message: &OwnMessage) {
        if let Some((_, queue)) = self.peers.iter().find(|(peer, _)| *peer == to) {
            match &self.lie {
                None => queue.push(encoded(AGREEMENT, message)),
                Some(lie) => tell(lie.says(to, message.to_wire()), queue),
            }
        }
    }

    /// Sends a message to all other replicas.
    pub(crate) fn broadcast(&self, message: &OwnMessage) {
        match &self.lie {
            None => {
                let bytes = encoded(AGREEMENT, message);
                self.peers.iter().for_each(|(_, queue)| queue.push(Arc::clone(&bytes)));
            }
            Some(_) => self.peers.iter().for_each(|(peer, _)| self.send(*peer, message)),
        }
    }
}

fn tell(messages: Vec<WireMessage>, queue: &Queue) {
    messages.iter().for_each(|message| queue.push(encoded(AGREEMENT, message)));
}

fn encoded<T: Serialize>(kind: u8, message: &T) -> Arc<Vec<u8>> {
    let mut frame = vec![kind];
    frame.extend(canonical::encode(message));
    Arc::new(frame)
}

#[cfg(test)]
mod tests;
