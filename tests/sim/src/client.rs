//! A client: it has one request in flight, sends it again to all replicas until f + 1 of them answer alike [SMR-16], and
//! believes nobody before.

use crate::{
    keys::{Operation, Request},
    rng::Rng,
    scenario::Workload,
};
use quorate_protocol::canonical;
use quorate_smr::{Outcome, Payload, RequestId};
use std::collections::BTreeMap;

/// A request in flight.
pub(crate) struct Flight {
    pub(crate) id: RequestId,
    pub(crate) bytes: Payload,
    /// Places in the list that were known to some client when it was sent.
    pub(crate) known: u64,
    answers: BTreeMap<usize, Outcome>,
}

impl Flight {
    pub(crate) fn new(id: RequestId, bytes: Payload, known: u64) -> Self {
        Self { id, bytes, known, answers: BTreeMap::new() }
    }
}

/// A client.
pub(crate) struct Client {
    number: u32,
    session: u64,
    sequence: u64,
    left: u64,
    /// Which of its looks at the clock counts: the last one that it planned.
    pub(crate) plan: u64,
    pub(crate) flight: Option<Flight>,
    /// What it sent before: a network plays it back.
    pub(crate) past: Vec<(RequestId, Payload)>,
}

impl Client {
    pub(crate) fn new(index: usize, workload: &Workload) -> Self {
        let number = if workload.shared_identity { 0 } else { index as u32 };
        Self {
            number,
            session: index as u64 + 1,
            sequence: 0,
            left: workload.requests,
            plan: 0,
            flight: None,
            past: Vec::new(),
        }
    }

    /// Whether it has got all that it wanted.
    pub(crate) fn done(&self) -> bool {
        self.flight.is_none() && self.left == 0
    }

    /// It wants nothing new any more.
    pub(crate) fn finish(&mut self) {
        self.left = 0;
    }

    /// It wants one thing more.
    pub(crate) fn want_more(&mut self) {
        self.left += 1;
    }

    /// It goes on in a new session, and will never know what became of the request in flight.
    pub(crate) fn begin_session(&mut self, session: u64) {
        self.flight = None;
        self.session = session;
        self.sequence = 0;
    }

    /// Its next request, while it wants something.
    pub(crate) fn next(&mut self, workload: &Workload, rng: &mut Rng) -> Option<(RequestId, Payload)> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        self.sequence += 1;
        let operation = if rng.chance(workload.alarms) {
            Operation::Alarm(rng.between(1, 300))
        } else if workload.ballast > 0 && rng.chance(200) {
            Operation::Ballast(workload.ballast)
        } else {
            Operation::Append(vec![self.sequence as u8; rng.below(workload.bytes_max + 1) as usize])
        };
        let request = Request::new(self.number, self.session, self.sequence, operation);
        let sent = (request.id(), Payload::from(canonical::encode(&request)));
        self.past.push(sent.clone());
        Some(sent)
    }

    /// A replica answers. Gives the flight and the outcome that `quorum` replicas agree on.
    pub(crate) fn hear(
        &mut self,
        from: usize,
        id: RequestId,
        outcome: Outcome,
        quorum: usize,
    ) -> Option<(Flight, Outcome)> {
        let flight = self.flight.as_mut().filter(|flight| flight.id == id)?;
        if outcome == Outcome::Busy {
            return None;
        }
        flight.answers.insert(from, outcome.clone());
        let alike = flight.answers.values().filter(|answer| **answer == outcome).count();
        if alike < quorum {
            return None;
        }
        self.flight.take().map(|flight| (flight, outcome))
    }
}
