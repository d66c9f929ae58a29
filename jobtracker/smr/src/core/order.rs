//! From votes to executed batches [SMR-4].

use super::{Core, Member};
use crate::{
    action::Action,
    ledger::{Path, ViewLog},
    machine::StateMachine,
    message::{Admits, Header, Standing},
    types::{History, Payload, Seq, View},
};
use quorate_protocol::ids::ReplicaId;

impl<M: StateMachine> Core<M> {
    /// Commits what a quorum of replicas, the primary among them, voted for. Says whether there was anything.
    pub(super) fn commit(&mut self, out: &mut Vec<Action>) -> bool {
        let before = self.ledger.committed;
        let views: Vec<View> = self.ledger.views.keys().rev().copied().collect();
        for view in views {
            self.commit_view(view, out);
        }
        self.ledger.committed != before
    }

    fn commit_view(&mut self, view: View, out: &mut Vec<Action>) {
        let Some(log) = self.ledger.views.get(&view) else { return };
        let mut votes: Vec<Seq> = log.votes.values().map(|(_, seq)| *seq).collect();
        votes.sort_unstable();
        let quorum = self.config.quorum();
        if votes.len() < quorum {
            return;
        }
        // No more than this can have a quorum of votes, whatever their epochs.
        let most = votes[votes.len() - quorum];
        if most > self.ledger.committed.seq
            && let Some(history) = log.history(most)
        {
            match self.ledger.path(history) {
                Path::Known(headers) => {
                    for (history, header) in headers {
                        if !self.has_quorum(view, history.seq, header.admits.as_ref()) {
                            break;
                        }
                        self.commit_one(history, &header);
                        self.ledger.committed_in = Some(view);
                        self.timers.progress = self.now;
                        self.timers.backoff = 0;
                    }
                }
                Path::Missing => self.ask_for_chain(out),
                Path::Contradiction => self.halt(),
            }
        }
        let entered = |log: &ViewLog| self.has_quorum(view, log.start, None);
        let over = self.ledger.views.first_key_value().is_some_and(|(first, _)| *first < view);
        if over && self.ledger.views.get(&view).is_some_and(entered) {
            self.ledger.forget_views_before(view);
        }
    }

    /// Whether a quorum voted for a place in a view. Votes count by the epoch that is admitted before that place,
    /// and for an admission not by its owner [SMR-14].
    fn has_quorum(&self, view: View, seq: Seq, admits: Option<&Admits>) -> bool {
        let Some(log) = self.ledger.views.get(&view) else { return false };
        let owner = admits.map(|admits| &admits.record);
        let owner = owner.filter(|record| Some(record.epoch) > self.ledger.epoch(record.replica)).map(|r| r.replica);
        let voted = |replica: ReplicaId| {
            log.votes.get(&replica).is_some_and(|(epoch, upto)| {
                *upto >= seq && Some(*epoch) == self.ledger.epoch(replica) && Some(replica) != owner
            })
        };
        let primary = view.primary(self.config.replicas());
        let voters = log.votes.keys().filter(|replica| voted(**replica)).count();
        voters >= self.config.quorum() && (voted(primary) || owner == Some(primary))
    }

    /// Appends to the committed history. Whoever calls has a quorum of votes or f + 1 claims for it.
    pub(super) fn commit_one(&mut self, history: History, header: &Header) {
        assert!(history.seq == self.ledger.committed.seq.next(), "SMR-4: committed out of order");
        self.ledger.trunk.insert(history.seq, history.digest);
        self.ledger.committed = history;
        self.ledger.time = self.ledger.time.max(header.time);
        if let Some(admits) = &header.admits {
            self.admit(admits, history);
        }
    }

    /// From here on a replica's votes count in its new epoch only [SMR-14].
    fn admit(&mut self, admits: &Admits, at: History) {
        let replica = admits.record.replica;
        if self.ledger.epoch(replica).is_none_or(|epoch| admits.record.epoch <= epoch) {
            return;
        }
        let standing = Standing::admitted(at, admits.left);
        self.ledger.retire(admits.record.clone(), standing);
        if let Some(peer) = self.peers.get_mut(&replica) {
            peer.admitted = self.now;
            if peer.admission.as_ref().is_some_and(|(admission, _)| admission.record.epoch <= admits.record.epoch) {
                peer.admission = None;
            }
        }
        if replica == self.config.me && self.ledger.own.record == admits.record {
            self.ledger.own.standing = standing;
        }
    }

    /// Executes what is committed, as far as its batches are here. Says whether there was anything.
    pub(super) fn execute(&mut self, out: &mut Vec<Action>) -> bool {
        let before = self.executed;
        while self.executed.seq < self.ledger.committed.seq && self.execute_next(out) {}
        self.executed != before
    }

    fn execute_next(&mut self, out: &mut Vec<Action>) -> bool {
        let seq = self.executed.seq.next();
        let Some(digest) = self.ledger.trunk.get(&seq).copied() else { return false };
        let Some(link) = self.ledger.links.get(&digest) else { return false };
        let header = link.header.clone();
        let Some(body) = self.bodies.get(&header.batch).cloned() else {
            self.missing.insert(header.batch, seq);
            return false;
        };
        let history = History { seq, digest };
        self.machine.advance(header.time);
        for (id, request) in body.ids.iter().zip(&body.batch.requests) {
            let machine = &mut self.machine;
            let run = || Payload::from(machine.apply(header.time, id, request));
            let outcome = self.table.execute(id, history, self.config.limits.sessions_max, run);
            self.pending.remove(id);
            out.push(Action::Reply(*id, outcome));
        }
        self.pending.tidy();
        if let Some(admits) = &header.admits {
            self.change_member(admits, history);
        }
        self.executed = history;
        self.machine.executed(history);
        assert!(self.executed.seq <= self.ledger.committed.seq, "SMR-4: execution ran ahead of the votes");
        if seq.0.is_multiple_of(self.config.limits.checkpoint_interval) {
            self.take_checkpoint(header.time, out);
        }
        true
    }

    fn change_member(&mut self, admits: &Admits, at: History) {
        let standing = Standing::admitted(at, admits.left);
        if let Some(member) = self.members.get_mut(admits.record.replica.number() as usize)
            && member.record.epoch < admits.record.epoch
        {
            *member = Member { record: admits.record.clone(), standing };
        }
    }
}
