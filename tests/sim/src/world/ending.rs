//! The phases of a run, and whether it ended well.

use super::{Event, World};
use crate::{client::Client, machine::Machine};
use quorate_smr::{Core, StateMachine};

/// Milliseconds between two looks at whether a run is over.
const LOOK_MS: u64 = 25;

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Anything may happen.
    Faults,
    /// Everything has healed, and all must be done by this tick.
    Healing(u64),
    /// All is done, and must stay so until the second tick: who came back last may still be reading what it missed.
    Resting(u64, u64),
    /// Some honest replicas have stopped, and the others must be done by this tick.
    Without(u64),
    /// It is over.
    Over,
}

impl World<'_> {
    /// Looks whether the phase is over, and whether it should have been.
    pub(super) fn look(&mut self) {
        match self.phase {
            Phase::Faults => self.heal(),
            Phase::Healing(deadline) if self.settled() => {
                self.phase = Phase::Resting(deadline, self.tick + self.rest())
            }
            Phase::Resting(deadline, _) if !self.settled() => self.phase = Phase::Healing(deadline),
            Phase::Resting(_, until) if self.tick > until => self.thin_out(),
            Phase::Without(_) if self.settled() => self.phase = Phase::Over,
            Phase::Healing(deadline) | Phase::Without(deadline) if self.tick > deadline => {
                let text = self.unsettled();
                self.oracle.violate("LIVENESS", || text);
            }
            Phase::Healing(_) | Phase::Resting(..) | Phase::Without(_) | Phase::Over => {}
        }
        self.after(LOOK_MS, Event::Look);
    }

    /// Timeouts have grown while nothing went on, and must run out first.
    fn patience(&self) -> u64 {
        let latency = self.scenario.log_latency.iter().max().copied().unwrap_or_default();
        20_000 + 8 * self.scenario.heals + 100 * (self.scenario.limits.view_timeout + latency)
    }

    fn rest(&self) -> u64 {
        let latency = self.scenario.log_latency.iter().max().copied().unwrap_or_default();
        20 * self.scenario.limits.status_interval + 5 * (latency + self.scenario.network.delay_max)
    }

    fn heal(&mut self) {
        self.journal.line(self.tick, || "everything heals".to_owned());
        assert!(
            self.active.iter().all(|fault| self.scenario.faults[*fault].span().1 == u64::MAX),
            "a fault outlives its phase"
        );
        self.phase = Phase::Healing(self.tick + self.patience());
        for index in 0..self.clients.len() {
            self.clients[index].finish();
            self.clients[index].want_more();
            self.plan_client(index, 1);
        }
    }

    /// Stops as many honest replicas as may still fail.
    fn thin_out(&mut self) {
        let liars = self.nodes.iter().filter(|node| node.liar.is_some()).count();
        let mut honest: Vec<_> = (0..self.nodes.len()).filter(|node| self.nodes[*node].liar.is_none()).collect();
        for _ in liars..self.scenario.bound() {
            let node = honest.swap_remove(self.rng.index(honest.len()));
            self.journal.line(self.tick, || format!("replica {node} stops for good"));
            self.coverage.count("honest replicas done without");
            self.stop(node);
        }
        self.phase = Phase::Without(self.tick + self.patience());
        for index in 0..self.clients.len() {
            self.clients[index].want_more();
            self.plan_client(index, 1);
        }
    }

    /// Everything that was wanted is done, and all honest replicas know.
    fn settled(&self) -> bool {
        self.clients.iter().all(Client::done) && {
            let longest = self.oracle.longest();
            self.honest().all(|(_, core)| {
                Some(core.executed()) == longest && core.machine().deadline().is_none() && core.report().voting
            })
        }
    }

    fn honest(&self) -> impl Iterator<Item = (usize, &Core<Machine>)> {
        let running = self.nodes.iter().enumerate().filter(|(_, node)| node.liar.is_none());
        running.filter_map(|(index, node)| node.brains[0].core.as_ref().map(|core| (index, core)))
    }

    fn unsettled(&self) -> String {
        let waiting = self.clients.iter().filter(|client| !client.done()).count();
        let longest = self.oracle.longest().map_or(0, |history| history.seq.0);
        let mut text =
            format!("{:?}: {waiting} clients still wait, the longest history has {longest} batches", self.phase);
        for (node, core) in self.honest() {
            let report = core.report();
            text += &format!(
                "; replica {node}: view {}{}, executed {}, stable {}, epoch {}{}, {} pending, {} places",
                report.view,
                report.changing_to.map_or_else(String::new, |view| format!(" changing to {view}")),
                report.executed.seq,
                report.stable,
                report.epoch.0,
                if report.voting { "" } else { " not admitted" },
                report.pending,
                core.machine().places(),
            );
            for peer in &report.peers {
                text += &format!(
                    ", reads {} at {}@{}+{}",
                    peer.replica.number(),
                    peer.position,
                    peer.epoch.0,
                    peer.waiting
                );
            }
        }
        text
    }
}
