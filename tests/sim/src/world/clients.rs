//! Clients and their links to the replicas.

use super::{Event, World};
use crate::{client::Flight, world::ending::Phase};
use quorate_smr::{Input, Outcome, Payload, RequestId};

impl World<'_> {
    /// A client looks at the clock again after so many milliseconds, and not before.
    pub(super) fn plan_client(&mut self, index: usize, ms: u64) {
        self.clients[index].plan += 1;
        self.after(ms, Event::Client(index, self.clients[index].plan));
    }

    /// A client looks at the clock: it sends its next request, or the one in flight again.
    pub(super) fn client(&mut self, index: usize, plan: u64) {
        if self.clients[index].plan != plan {
            return;
        }
        if self.clients[index].flight.is_some() {
            if self.phase == Phase::Faults && self.rng.chance(self.scenario.workload.give_up) {
                self.begin_session(index);
            } else {
                self.coverage.count("requests sent again");
                self.send_request(index, true);
            }
        } else if let Some((id, bytes)) = self.clients[index].next(&self.scenario.workload, &mut self.rng) {
            let known = self.oracle.sent(id, &bytes);
            self.clients[index].flight = Some(Flight::new(id, bytes, known));
            let everywhere = self.rng.chance(self.scenario.workload.everywhere);
            self.send_request(index, everywhere);
            self.replay(index);
        } else {
            return;
        }
        let retry = self.scenario.workload.retry + self.rng.below(10);
        self.plan_client(index, retry);
    }

    fn begin_session(&mut self, index: usize) {
        self.coverage.count("sessions begun");
        // Later sessions have larger numbers, also those of other processes of the same client.
        let session = 16 * (self.tick + 1) + index as u64;
        self.clients[index].begin_session(session);
    }

    fn send_request(&mut self, index: usize, everywhere: bool) {
        let Some((id, bytes)) = self.clients[index].flight.as_ref().map(|flight| (flight.id, flight.bytes.clone()))
        else {
            return;
        };
        let one = self.rng.index(self.nodes.len());
        for to in (0..self.nodes.len()).filter(|node| everywhere || *node == one) {
            self.carry_request(to, id, &bytes);
        }
    }

    /// The network plays an old request back.
    fn replay(&mut self, index: usize) {
        if !self.rng.chance(self.scenario.network.double) {
            return;
        }
        let (id, bytes) = self.rng.pick(&self.clients[index].past).clone();
        let to = self.rng.index(self.nodes.len());
        self.coverage.count("requests played back");
        self.carry_request(to, id, &bytes);
    }

    fn carry_request(&mut self, to: usize, id: RequestId, bytes: &Payload) {
        for delay in self.way_to_replica(to) {
            self.after(delay, Event::Request { to, id, bytes: bytes.clone() });
        }
    }

    /// A request arrives at a replica.
    pub(super) fn request(&mut self, to: usize, id: RequestId, bytes: &Payload) {
        if self.nodes[to].down {
            return;
        }
        if self.verifier.request(bytes) != Ok(id) {
            return self.oracle.violate("BLAME", || format!("the request {id:?} is refused, and it is authentic"));
        }
        self.journal.line(self.tick, || format!("client → {to}: request {}.{}", id.session, id.sequence));
        for brain in 0..self.nodes[to].brains.len() {
            if self.liar_serves(to, brain, &id) {
                self.step(to, brain, Input::Request(id, bytes.clone()));
            }
        }
    }

    /// A replica answers whoever sent a request.
    pub(super) fn reply(&mut self, node: usize, id: RequestId, outcome: Outcome) {
        let waits = |client: &crate::client::Client| client.flight.as_ref().is_some_and(|flight| flight.id == id);
        let Some(client) = self.clients.iter().position(waits) else { return };
        let outcome = self.liar_replies(node, outcome);
        for delay in self.way_to_client(node) {
            self.after(delay, Event::Answer { client, from: node, id, outcome: outcome.clone() });
        }
    }

    /// An answer arrives at a client.
    pub(super) fn answer(&mut self, index: usize, from: usize, id: RequestId, outcome: Outcome) {
        let quorum = self.scenario.bound() + 1;
        if outcome == Outcome::Busy {
            self.coverage.count("answers: busy");
        }
        let Some((flight, agreed)) = self.clients[index].hear(from, id, outcome, quorum) else { return };
        match agreed {
            Outcome::Executed(history, reply) => {
                self.coverage.count("requests answered");
                self.journal.line(self.tick, || {
                    format!("request {}.{} is answered at {}", id.session, id.sequence, history.seq)
                });
                self.oracle.answered(flight.id, history, &reply, flight.known);
            }
            Outcome::Stale | Outcome::Busy => {
                self.coverage.count("answers: stale");
                self.begin_session(index);
            }
        }
        let pause = self.rng.below(self.scenario.workload.pause_max + 1);
        self.plan_client(index, pause);
    }
}
