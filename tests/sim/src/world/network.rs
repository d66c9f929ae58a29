//! The network: it delays, loses, doubles and reorders, and is cut at places.

use super::{Event, World};
use crate::{
    fault::{CLIENTS, Fault, Side},
    world::ending::Phase,
};
use quorate_counter::Epoch;
use quorate_protocol::{canonical, ids::ReplicaId};
use quorate_smr::{
    Input, Rejection, Verified,
    message::{Message, OwnMessage, WireMessage},
};
use std::rc::Rc;

/// How many of a thousand messages travel as bytes.
const AS_BYTES: u64 = 60;

/// A message on its way, checked once for all that get it.
pub(crate) struct Parcel {
    pub(super) message: WireMessage,
    pub(super) checked: Result<Verified, Rejection>,
}

impl World<'_> {
    /// A core says something.
    pub(super) fn say(&mut self, node: usize, brain: usize, to: Option<ReplicaId>, message: OwnMessage) {
        if self.nodes[node].liar.is_some() {
            return self.liar_says(node, brain, to, message.to_wire());
        }
        let parcel = self.pack(message.to_wire());
        if let Err(rejection) = &parcel.checked {
            let text = format!("replica {node} is honest and sends what is refused: {rejection}");
            self.oracle.violate("BLAME", || text);
        }
        self.post(node, to, &parcel);
    }

    /// Checks a message as its receivers would.
    pub(super) fn pack(&mut self, message: WireMessage) -> Rc<Parcel> {
        let checked = if self.rng.chance(AS_BYTES) {
            let bytes = canonical::encode(&message);
            self.coverage.add("bytes of messages that were encoded", bytes.len() as u64);
            self.verifier.decode(&bytes)
        } else {
            self.verifier.verify(message.clone())
        };
        Rc::new(Parcel { message, checked })
    }

    /// Sends a message to one replica, or to all others.
    pub(super) fn post(&mut self, from: usize, to: Option<ReplicaId>, parcel: &Rc<Parcel>) {
        let all = 0..self.nodes.len();
        for to in all.filter(|peer| *peer != from && to.is_none_or(|to| to.number() as usize == *peer)) {
            for delay in self.journey(1 << from, 1 << to) {
                self.after(delay, Event::Deliver { from, to, parcel: Rc::clone(parcel) });
            }
        }
    }

    /// How long each copy of a message takes.
    pub(super) fn journey(&mut self, from: Side, to: Side) -> Vec<u64> {
        let healed = self.phase != Phase::Faults;
        let network = &self.scenario.network;
        let mut loss = if healed { 0 } else { network.loss };
        for index in &self.active {
            match &self.scenario.faults[*index] {
                Fault::Cut { senders, receivers, .. } if senders & from != 0 && receivers & to != 0 => {
                    return Vec::new();
                }
                Fault::Storm { loss: storm, .. } => loss = loss.max(*storm),
                Fault::Cut { .. } | Fault::Crash { .. } | Fault::SlowLog { .. } | Fault::Liar { .. } => {}
            }
        }
        let copies = if self.rng.chance(loss) { 0 } else { 1 + usize::from(self.rng.chance(network.double)) };
        (0..copies)
            .map(|_| {
                let delay = self.rng.between(network.delay_min, network.delay_max).max(1);
                if !healed && self.rng.chance(network.slow) { delay * 10 } else { delay }
            })
            .collect()
    }

    /// Whether the link between a client and a replica works is up to the same network.
    pub(super) fn way_to_replica(&mut self, to: usize) -> Vec<u64> {
        self.journey(CLIENTS, 1 << to)
    }

    pub(super) fn way_to_client(&mut self, from: usize) -> Vec<u64> {
        self.journey(1 << from, CLIENTS)
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, parcel: &Parcel) {
        if self.nodes[to].down {
            return;
        }
        if self.nodes[to].liar.is_some() {
            return self.liar_hears(from, to, parcel);
        }
        self.journal.line(self.tick, || format!("{from} → {to}: {}", describe(&parcel.message)));
        match &parcel.checked {
            Ok(verified) => self.step(to, 0, Input::Message(ReplicaId::new(from as u32), verified.clone())),
            Err(_) => self.coverage.count("messages refused"),
        }
    }
}

/// A message in one line.
pub(super) fn describe(message: &WireMessage) -> String {
    match message {
        Message::Flush(flush, bodies) => {
            let Epoch(epoch) = flush.epoch;
            format!(
                "log of {} epoch {epoch} after {} with {} bodies: {:?}",
                flush.replica,
                flush.after,
                bodies.len(),
                flush.statements
            )
        }
        Message::Status(status) => format!(
            "status {:?} view {} heads {:?} wants {:?}",
            status.decided.claim,
            status.view,
            status.heads.iter().map(|(epoch, position)| (epoch.0, position.0)).collect::<Vec<_>>(),
            status.wants.as_ref().map(|signed| &signed.claim)
        ),
        Message::Claim(signed) => format!("claim of {}: {:?}", signed.by, signed.claim),
        Message::Chain(history, headers) => format!("{} headers after {}", headers.len(), history.seq),
        Message::Stable(claims) => {
            format!("{} claims of a stable checkpoint: {:?}", claims.len(), claims.first().map(|signed| &signed.claim))
        }
        other => format!("{other:?}"),
    }
}
