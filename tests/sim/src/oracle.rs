//! What must hold, by name. Safety is looked at after each event of an honest replica; liveness at the end.
//!
//! * AGREEMENT: no two honest replicas have different histories, or different states, at one place in the order.
//! * VALIDITY: what is executed was sent by the client in whose name it is.
//! * EXACTLY-ONCE: no request is executed twice.
//! * TIME: ordered time never runs backwards.
//! * REPLY: what f + 1 replicas answered alike is in the order, with that reply.
//! * LINEARITY: a request that was sent after another one's answer comes after it in the order.
//! * CHECKPOINT: honest replicas claim equal roots for equal histories.
//! * BOUND: queues are within their limits.
//! * BLAME: nobody honest is proven to be faulty, or sends what is refused.
//! * PANIC: no honest replica stops because of what it was told.
//! * LIVENESS: when everything has healed, each request is answered, and all honest replicas get to the same history.

use crate::machine::{Applied, Observation, Receipt};
use quorate_protocol::{canonical, digest::Digest, ids::OrderedTime};
use quorate_smr::{FaultKind, History, Limits, Payload, RequestId, Seq, core::Report};
use std::{collections::BTreeMap, fmt};

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The name of what must hold.
    pub name: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}

/// What the honest replicas and the clients have shown so far.
#[derive(Default)]
pub(crate) struct Oracle {
    /// The history after each place, and who showed it first.
    order: BTreeMap<Seq, (Digest, usize)>,
    /// The state after each place.
    states: BTreeMap<Seq, (Digest, usize)>,
    roots: BTreeMap<Seq, (Digest, usize)>,
    /// By place in the machine's list.
    applied: BTreeMap<u64, Applied>,
    places: BTreeMap<RequestId, u64>,
    sent: BTreeMap<RequestId, Digest>,
    /// The last place that some client knows of.
    acknowledged: u64,
    /// The last history that some client knows of.
    promised: Seq,
    violation: Option<Violation>,
}

impl Oracle {
    /// The first thing that was wrong.
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) fn violate(&mut self, name: &'static str, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(|| Violation { name, what: what() });
    }

    /// A client sends a request for the first time. Answers that are known by now must come before it.
    pub(crate) fn sent(&mut self, id: RequestId, request: &[u8]) -> u64 {
        self.sent.insert(id, Digest::of(request));
        self.acknowledged
    }

    /// A replica has executed this history.
    pub(crate) fn history(&mut self, node: usize, history: History) {
        let (first, by) = *self.order.entry(history.seq).or_insert((history.digest, node));
        if first != history.digest {
            self.violate("AGREEMENT", || {
                format!("replica {node} has history {} at {}, replica {by} has {first}", history.digest, history.seq)
            });
        }
    }

    /// A replica's machine is in this state after a place in the order.
    pub(crate) fn state(&mut self, node: usize, seq: Seq, state: Digest) {
        let (first, by) = *self.states.entry(seq).or_insert((state, node));
        if first != state {
            self.violate("AGREEMENT", || format!("the states of replicas {by} and {node} differ after {seq}"));
        }
    }

    /// A replica claims the root of a checkpoint.
    pub(crate) fn checkpoint(&mut self, node: usize, history: History, root: Digest) {
        self.history(node, history);
        let (first, by) = *self.roots.entry(history.seq).or_insert((root, node));
        if first != root {
            self.violate("CHECKPOINT", || format!("replicas {by} and {node} claim different roots at {}", history.seq));
        }
    }

    /// A replica's machine did something.
    pub(crate) fn observe(&mut self, node: usize, seen: Observation) {
        match seen {
            Observation::Time { before, now } => self.time(node, before, now),
            Observation::Applied(applied) => self.executed(node, applied),
            Observation::Restored => {}
        }
    }

    fn time(&mut self, node: usize, before: OrderedTime, now: OrderedTime) {
        if now < before {
            self.violate("TIME", || format!("replica {node} went from {} back to {}", before.0, now.0));
        }
    }

    fn executed(&mut self, node: usize, applied: Applied) {
        let Applied { place, id, request, again, .. } = &applied;
        if self.sent.get(id) != Some(request) {
            self.violate("VALIDITY", || format!("replica {node} executed {id:?}, which no client sent"));
        }
        let first = self.applied.entry(*place).or_insert_with(|| applied.clone());
        if *first != applied {
            let text = format!("replica {node} executed {applied:?}, another one {first:?}");
            self.violate("AGREEMENT", || text);
        }
        let other = *self.places.entry(*id).or_insert(*place);
        if *again || other != *place {
            self.violate("EXACTLY-ONCE", || format!("replica {node} executed {id:?} at {place} and {other}"));
        }
    }

    /// A client has f + 1 equal answers to a request that it sent when `known` places were known.
    pub(crate) fn answered(&mut self, id: RequestId, history: History, reply: &Payload, known: u64) {
        let listed = self.places.get(&id).and_then(|place| self.applied.get(place));
        if listed.is_none_or(|applied| applied.reply != **reply) {
            self.violate("REPLY", || format!("f + 1 answers to {id:?} are not what honest replicas executed"));
        }
        if self.order.get(&history.seq).is_none_or(|(digest, _)| *digest != history.digest) {
            self.violate("REPLY", || format!("f + 1 answers to {id:?} name a history that nobody honest has"));
        }
        let place = canonical::decode::<Receipt>(reply, reply.len()).map_or(0, |receipt| receipt.place);
        if place <= known {
            self.violate("LINEARITY", || format!("{id:?} is at {place}, and {known} was answered before it was sent"));
        }
        self.acknowledged = self.acknowledged.max(place);
        self.promised = self.promised.max(history.seq);
    }

    /// The longest history that anybody has executed, or was promised.
    pub(crate) fn longest(&self) -> Option<History> {
        let (seq, (digest, _)) = self.order.last_key_value()?;
        Some(History { seq: (*seq).max(self.promised), digest: *digest })
    }

    /// An honest replica accuses another one.
    pub(crate) fn accused(&mut self, by: usize, of: usize, honest: bool, kind: &FaultKind) {
        if honest {
            self.violate("BLAME", || format!("replica {by} accuses replica {of}, which is honest: {kind:?}"));
        }
    }

    /// A replica's queues.
    pub(crate) fn bounds(&mut self, node: usize, limits: &Limits, report: &Report) {
        if report.pending > limits.pending_max {
            self.violate("BOUND", || format!("replica {node} has {} requests that wait", report.pending));
        }
        if let Some(peer) = report.peers.iter().find(|peer| peer.waiting > limits.waiting_max) {
            self.violate("BOUND", || format!("replica {node} lets {} statements wait", peer.waiting));
        }
    }
}
