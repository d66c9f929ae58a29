//! Noticing what was missed, and fetching it.
//!
//! Every replica says from time to time where it is. Whoever sees by that that it lacks something asks for it: parts of
//! logs, batches, headers that f + 1 replicas have executed [SMR-12]. Answers are checked by themselves, so it does not
//! matter who gives them.

use super::{Core, DECIDED_MAX};
use crate::{
    action::{Action, FaultKind, Record},
    ledger::{Link, Path, ViewLog},
    machine::StateMachine,
    message::{Claim, Header, Message, Signed, Status},
    stream::Stream,
    types::{History, Seq},
    verify::{CHAIN_MAX, FETCH_MAX},
};
use quorate_counter::{Epoch, Position};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use std::{collections::VecDeque, sync::Arc};

/// Flushes in answer to one question.
const FLUSHES_PER_ANSWER_MAX: usize = 32;
/// Position and checkpoint claims of one replica that are remembered.
const CLAIMS_MAX: usize = 32;

fn remember(claims: &mut VecDeque<Signed>, signed: Signed, max: usize) {
    if !claims.contains(&signed) {
        claims.push_back(signed);
        if claims.len() > max {
            claims.pop_front();
        }
    }
}

impl<M: StateMachine> Core<M> {
    /// What is due by the clock.
    pub(super) fn on_time(&mut self, out: &mut Vec<Action>) {
        if self.now < self.timers.status.after(self.config.limits.status_interval) {
            return;
        }
        self.timers.status = self.now;
        self.timers.turn = self.timers.turn.wrapping_add(1);
        self.peers.values_mut().for_each(|peer| peer.answers = 0);
        out.push(Action::Broadcast(self.status()));
        if self.may_speak() {
            if self.suspects() {
                self.want_next_view(out);
            } else if self.timers.progress > self.timers.left {
                // Only what has gone on since withdraws the wish: that it waits longer each time must not.
                self.wants = None;
            }
        }
        self.forward(out);
        self.ask_for_missing(out);
        self.timers.committed_at_status = self.ledger.committed.seq;
        self.settle(out);
    }

    /// A backup tells the primary of requests that it may not have heard of.
    fn forward(&mut self, out: &mut Vec<Action>) {
        let view = self.ledger.view();
        let primary = view.primary(self.config.replicas());
        let limits = &self.config.limits;
        if primary == self.config.me || self.now.0 < limits.view_timeout / 4 {
            return;
        }
        let before = quorate_protocol::ids::OrderedTime(self.now.0 - limits.view_timeout / 4);
        let (ids, requests) = self.pending.forward(before, limits.batch_requests_max, limits.batch_bytes_max);
        if !ids.is_empty() {
            let batch = crate::message::Batch { requests, admission: None };
            let body = self.verifier.own_body(batch, ids);
            out.push(Action::Send(primary, Message::Forward(body)));
        }
    }

    fn ask_for_missing(&mut self, out: &mut Vec<Action>) {
        let tip = self.ledger.views.values().next_back().map(|log| log.tip);
        if let Some(Path::Known(headers)) = tip.map(|tip| self.ledger.path(tip)) {
            let window = self.body_window();
            for (_, header) in headers.iter().take_while(|(history, _)| history.seq <= window) {
                self.want_body(header, out);
            }
        }
        let (bodies, executed) = (&self.bodies, self.executed.seq);
        self.missing.retain(|batch, seq| *seq > executed && !bodies.contains_key(batch));
        if !self.missing.is_empty()
            && let Some(replica) = self.somebody()
        {
            // The first in the order first: what nobody has must not keep the others waiting.
            let mut missing: Vec<(Seq, Digest)> = self.missing.iter().map(|(batch, seq)| (*seq, *batch)).collect();
            missing.sort_unstable();
            let digests = missing.into_iter().take(FETCH_MAX).map(|(_, batch)| batch).collect();
            out.push(Action::Send(replica, Message::FetchBodies(digests)));
        }
        let ahead = self.peers.values().filter_map(|peer| peer.decided.back()).filter_map(|s| s.claim.history());
        let behind = ahead.map(|history| history.seq).max().is_some_and(|seq| seq > self.ledger.committed.seq);
        if behind && self.timers.committed_at_status == self.ledger.committed.seq {
            self.ask_for_chain(out);
        }
        self.go_on_with_transfer(out);
        let logs: Vec<_> = self.ledger.logs().map(|log| (log.record.replica, log.record.epoch)).collect();
        for (of, epoch) in logs {
            if let Some(log) = self.ledger.log_mut(of, epoch) {
                log.on_status();
            }
            let Some(log) = self.ledger.log(of, epoch) else { continue };
            let uncertified = log.read.position.0.saturating_sub(log.certified_position().0);
            let late = uncertified > self.config.limits.vouch_interval * 2 && self.timers.turn.is_multiple_of(4);
            if log.asks_for_position() || late {
                out.push(Action::Broadcast(Message::FetchPosition { of, epoch }));
            }
            if log.is_stuck() {
                self.resume(of, epoch, out);
            }
        }
    }

    /// Asks somebody who is further for the headers that follow what is committed here.
    pub(super) fn ask_for_chain(&mut self, out: &mut Vec<Action>) {
        // What is missing may be asked for at each step: the answers would bring on new questions without an end.
        if self.now < self.timers.chain.after(self.config.limits.status_interval / 2) {
            return;
        }
        self.timers.chain = self.now;
        if let Some(replica) = self.somebody() {
            out.push(Action::Send(replica, Message::FetchChain(self.ledger.committed)));
        }
    }

    pub(super) fn on_status(&mut self, from: ReplicaId, status: Status, out: &mut Vec<Action>) {
        let Status { decided, view: _, heads, retired, wants, checkpoint, admission } = status;
        let own = |signed: &Signed| signed.by == from;
        if !own(&decided) || !wants.iter().all(own) || !checkpoint.iter().all(own) {
            return;
        }
        self.take_decided(from, decided, out);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.wants = wants.filter(|signed| matches!(signed.claim, Claim::ViewChange { .. }));
        }
        if let Some(signed) = checkpoint {
            self.on_claim(signed, out);
        }
        if let Some(admission) = admission
            && let owner = admission.record.replica
            && self.ledger.epoch(owner).is_some_and(|epoch| epoch < admission.record.epoch)
            && let Some(peer) = self.peers.get_mut(&owner)
            && peer.admission.as_ref().is_none_or(|(known, _)| known.record.epoch < admission.record.epoch)
        {
            peer.admission = Some((*admission, self.now));
        }
        self.compare_heads(from, &heads, &retired, out);
    }

    fn compare_heads(
        &mut self,
        from: ReplicaId,
        heads: &[(Epoch, Position)],
        retired: &[(ReplicaId, Epoch, Position)],
        out: &mut Vec<Action>,
    ) {
        let current = heads.iter().enumerate();
        let current = current.map(|(of, (epoch, position))| (ReplicaId::new(of as u32), *epoch, *position));
        for (of, epoch, position) in current.chain(retired.iter().copied()) {
            let Some(log) = self.ledger.log_mut(of, epoch).filter(|log| log.broken.is_none()) else { continue };
            if position > log.head.position {
                log.behind = true;
                out.push(Action::Send(from, Message::FetchFlushes { of, epoch, after: log.head.position }));
            }
        }
        let own = &self.ledger.own;
        let tail = own.tail();
        let mine = heads.get(self.config.me.number() as usize);
        let agrees = mine.is_some_and(|(epoch, position)| {
            *epoch < own.record.epoch || (*epoch == own.record.epoch && *position <= tail)
        });
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.agrees_on_me = agrees;
        }
    }

    fn take_decided(&mut self, from: ReplicaId, signed: Signed, out: &mut Vec<Action>) {
        let Claim::Decided { history } = signed.claim else { return };
        let here = self.ledger.trunk.get(&history.seq).copied();
        if let Some(digest) = here.filter(|digest| *digest != history.digest) {
            let here = History { seq: history.seq, digest };
            self.accuse(from, FaultKind::Divergent { claim: Box::new(signed), here }, out);
            let divergent = |fault: &&crate::action::Fault| matches!(fault.kind, FaultKind::Divergent { .. });
            if self.faults.iter().filter(divergent).count() > self.config.faults() {
                self.halt();
            }
            return;
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            // A replica that was restored from an older disk has less than before.
            remember(&mut peer.decided, signed, DECIDED_MAX);
        }
    }

    pub(super) fn on_claim(&mut self, signed: Signed, out: &mut Vec<Action>) {
        let by = signed.by;
        match &signed.claim {
            Claim::ViewChange { .. } => self.note_wish(signed),
            Claim::Decided { .. } => self.take_decided(by, signed, out),
            Claim::Checkpoint { .. } => {
                if let Some(peer) = self.peers.get_mut(&by) {
                    remember(&mut peer.checkpoints, signed, CLAIMS_MAX);
                }
                self.stabilise(out);
            }
            Claim::Position { of, epoch, .. } => {
                let (of, epoch) = (*of, *epoch);
                match self.peers.get_mut(&by) {
                    Some(peer) => remember(&mut peer.positions, signed.clone(), CLAIMS_MAX),
                    // What it vouched for before it lost its memory is as good as others' word.
                    None => remember(&mut self.own_positions, signed.clone(), CLAIMS_MAX),
                }
                self.certify_late(of, epoch, &signed.claim, out);
                self.resume(of, epoch, out);
            }
        }
    }

    pub(super) fn give_flushes(
        &mut self,
        to: ReplicaId,
        of: ReplicaId,
        epoch: Epoch,
        after: Position,
        out: &mut Vec<Action>,
    ) {
        if !self.may_answer(to) {
            return;
        }
        let Some(stream) = self.ledger.log(of, epoch) else { return };
        match stream.flushes_after(after) {
            Some(flushes) => {
                for flush in flushes.take(FLUSHES_PER_ANSWER_MAX) {
                    out.push(Action::Send(to, Message::Flush(Arc::clone(flush), Vec::new())));
                }
            }
            None => {
                out.push(Action::Send(to, Message::Gone { of, epoch, after }));
                self.give_positions(to, stream, out);
            }
        }
    }

    pub(super) fn give_position(&mut self, to: ReplicaId, of: ReplicaId, epoch: Epoch, out: &mut Vec<Action>) {
        if !self.may_answer(to) {
            return;
        }
        let Some(stream) = self.ledger.log(of, epoch) else { return };
        self.give_positions(to, stream, out);
        let claim = stream.shown();
        out.push(Action::Send(to, Message::Claim(Box::new(self.sign(claim)))));
    }

    fn give_positions(&self, to: ReplicaId, stream: &Stream, out: &mut Vec<Action>) {
        for claim in stream.vouchers() {
            out.push(Action::Send(to, Message::Claim(Box::new(self.sign(claim.clone())))));
        }
        for signed in &stream.certified {
            out.push(Action::Send(to, Message::Claim(Box::new(signed.clone()))));
        }
    }

    /// Vouches for a log up to where it was read, so that f + 1 such claims are there when they are needed.
    pub(super) fn vouch(&mut self, of: ReplicaId, epoch: Epoch, out: &mut Vec<Action>) {
        let Some(stream) = self.ledger.log(of, epoch).filter(|_| !self.replaying) else { return };
        let signed = self.sign(stream.shown());
        self.certify(of, epoch, &signed, out);
        out.push(Action::Broadcast(Message::Claim(Box::new(signed))));
    }

    /// Keeps f + 1 equal claims about a log, this replica's among them.
    fn certify(&mut self, of: ReplicaId, epoch: Epoch, own: &Signed, out: &mut Vec<Action>) {
        let others = self.peers.values().flat_map(|peer| &peer.positions);
        let mut claims = vec![own.clone()];
        claims.extend(others.filter(|signed| signed.claim == own.claim).cloned());
        claims.truncate(self.config.vouching());
        if claims.len() == self.config.vouching()
            && let Some(stream) = self.ledger.log_mut(of, epoch)
            && stream.is_certified_further_by(own)
        {
            out.push(Action::Persist(Record::Certified(claims.clone())));
            stream.certified = claims;
        }
    }

    /// A claim of another replica came after this replica had read as far.
    fn certify_late(&mut self, of: ReplicaId, epoch: Epoch, claim: &Claim, out: &mut Vec<Action>) {
        let Some(stream) = self.ledger.log(of, epoch) else { return };
        if stream.vouchers().any(|own| own == claim) {
            let own = self.sign(claim.clone());
            self.certify(of, epoch, &own, out);
        }
    }

    /// Goes on with a log at a head that f + 1 replicas vouch for, when what is before it is gone or cannot be read
    /// [SMR-12].
    fn resume(&mut self, of: ReplicaId, epoch: Epoch, out: &mut Vec<Action>) {
        let Some(stream) = self.ledger.log(of, epoch) else { return };
        if stream.broken.is_some() || !stream.is_stuck() {
            return;
        }
        let least = stream.read.position;
        let vouched = |signed: &&Signed| match &signed.claim {
            Claim::Position { of: who, epoch: when, head, .. } => *who == of && *when == epoch && head.position > least,
            _ => false,
        };
        let claims: Vec<&Signed> =
            self.peers.values().flat_map(|peer| &peer.positions).chain(&self.own_positions).filter(vouched).collect();
        let support = |claim: &Claim| -> Vec<Signed> {
            claims.iter().filter(|signed| signed.claim == *claim).map(|signed| (*signed).clone()).collect()
        };
        let position = |claim: &Claim| match claim {
            Claim::Position { head, .. } => head.position,
            _ => Position(0),
        };
        let agreed = claims.iter().map(|signed| support(&signed.claim)).filter(|s| s.len() >= self.config.vouching());
        let Some(agreed) = agreed.max_by_key(|support| support.first().map(|signed| position(&signed.claim))) else {
            return;
        };
        out.push(Action::Persist(Record::Resumed(agreed.clone())));
        self.resume_at(&agreed);
        self.notice_resumed_self(of, epoch, out);
    }

    pub(super) fn resume_at(&mut self, claims: &[Signed]) {
        let Some(Claim::Position { of, epoch, head, standing, changes }) =
            claims.first().map(|signed| signed.claim.clone())
        else {
            return;
        };
        let Some(stream) = self.ledger.log_mut(of, epoch) else { return };
        stream.resume(head, standing, &changes);
        stream.certified = claims.to_vec();
        let Some(view) = standing.entered else { return };
        let known = self.ledger.views.first_key_value().map(|(first, _)| *first);
        if view.primary(self.config.replicas()) == of && known.is_some_and(|first| view >= first) {
            let joined = || ViewLog::joined(standing.began, standing.upto);
            let log = self.ledger.views.entry(view).or_insert_with(joined);
            if log.tip.seq < standing.upto.seq {
                log.tip = standing.upto;
                log.prepared.insert(standing.upto.seq, standing.upto.digest);
            }
            log.vote(of, epoch, standing.upto.seq);
            self.entered_view(view);
        }
    }

    /// f + 1 vouch for statements of this replica that it does not know.
    fn notice_resumed_self(&mut self, of: ReplicaId, epoch: Epoch, out: &mut Vec<Action>) {
        if of == self.config.me && epoch == self.ledger.own.record.epoch {
            self.renew(out);
        }
    }

    pub(super) fn give_bodies(&mut self, to: ReplicaId, digests: &[Digest], out: &mut Vec<Action>) {
        if !self.may_answer(to) {
            return;
        }
        if digests.iter().any(|digest| !self.bodies.contains_key(digest)) && !self.ledger.stable.is_empty() {
            // A stable checkpoint has passed it, or it never was here.
            out.push(Action::Send(to, Message::Stable(self.ledger.stable.clone())));
        }
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        for body in digests.iter().filter_map(|digest| self.bodies.get(digest)) {
            bytes += body.bytes;
            if bytes > self.config.limits.batch_bytes_max && !bodies.is_empty() {
                break;
            }
            bodies.push(Arc::clone(body));
        }
        if !bodies.is_empty() {
            out.push(Action::Send(to, Message::Bodies(bodies)));
        }
    }

    /// Gives what follows a history, as far as it is committed here, and beyond that what this view proposes.
    pub(super) fn give_chain(&mut self, to: ReplicaId, after: History, out: &mut Vec<Action>) {
        if !self.may_answer(to) || after.seq > self.ledger.committed.seq {
            return;
        }
        match self.ledger.trunk.get(&after.seq) {
            Some(digest) if *digest == after.digest => {}
            Some(_) => return,
            None => {
                if !self.ledger.stable.is_empty() {
                    out.push(Action::Send(to, Message::Stable(self.ledger.stable.clone())));
                }
                return;
            }
        }
        let trunk = self.ledger.trunk.range(after.seq.next()..).map(|(_, digest)| digest);
        let mut headers: Vec<Header> =
            trunk.filter_map(|digest| self.ledger.links.get(digest)).map(|link| link.header.clone()).collect();
        if let Some(log) = self.ledger.views.values().next_back()
            && let Path::Known(more) = self.ledger.path(log.tip)
        {
            headers.extend(more.into_iter().map(|(_, header)| header));
        }
        headers.truncate(CHAIN_MAX);
        if !headers.is_empty() {
            out.push(Action::Send(to, Message::Chain(after, headers)));
        }
    }

    /// Takes headers that are said to follow a history. They are believed once f + 1 replicas claim what they lead to.
    pub(super) fn take_chain(&mut self, from: ReplicaId, after: History, headers: Vec<Header>) {
        if self.ledger.trunk.get(&after.seq) != Some(&after.digest) {
            return;
        }
        let mut at = after;
        let mut chain = Vec::new();
        for header in headers {
            if header.seq != at.seq.next() {
                return;
            }
            let before = at;
            at = header.follow(at);
            if at.seq > self.ledger.committed.seq {
                if chain.is_empty() && before != self.ledger.committed {
                    return;
                }
                chain.push((at, header));
            }
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.chain = chain;
        }
    }

    /// Commits what f + 1 replicas have executed [SMR-12]. Says whether there was anything.
    pub(super) fn learn(&mut self, out: &mut Vec<Action>) -> bool {
        if self.peers.values().all(|peer| peer.chain.is_empty()) {
            return false;
        }
        let committed = self.ledger.committed;
        let mut learned: Vec<(History, Header)> = Vec::new();
        for peer in self.peers.values_mut() {
            // What was committed meanwhile leads to it, or it is of no use any more.
            let known = peer.chain.iter().position(|(history, _)| *history == committed);
            match known {
                Some(at) => {
                    peer.chain.drain(..=at);
                }
                None => {
                    let follows = |(history, header): &(History, Header)| header.follow(committed) == *history;
                    if !peer.chain.first().is_some_and(follows) {
                        peer.chain.clear();
                    }
                }
            }
        }
        for peer in self.peers.values() {
            let upto = self.supported(&peer.chain);
            if upto > learned.len() {
                learned = peer.chain.get(..upto).unwrap_or_default().to_vec();
            }
        }
        // Uncommitted headers that a new view starts with are found by the same way.
        let chains: Vec<Vec<(History, Header)>> = self.peers.values().map(|peer| peer.chain.clone()).collect();
        let linked = self.link_wanted(&chains, out);
        if learned.is_empty() {
            return linked;
        }
        out.push(Action::Persist(Record::Learned(learned.iter().map(|(_, header)| header.clone()).collect())));
        self.commit_learned(&learned, out);
        true
    }

    /// How many headers of a chain f + 1 replicas claim to have executed.
    fn supported(&self, chain: &[(History, Header)]) -> usize {
        let first = self.ledger.committed.seq;
        let reached = |claims: &VecDeque<Signed>| -> usize {
            let seqs = claims.iter().filter_map(|signed| signed.claim.history()).filter_map(|history| {
                let index = (history.seq.0.checked_sub(first.0)? as usize).checked_sub(1)?;
                chain.get(index).filter(|(at, _)| *at == history).map(|_| index + 1)
            });
            seqs.max().unwrap_or(0)
        };
        let mut reached: Vec<usize> = self.peers.values().map(|peer| reached(&peer.decided)).collect();
        reached.sort_unstable_by_key(|upto| std::cmp::Reverse(*upto));
        reached.get(self.config.vouching() - 1).copied().unwrap_or(0)
    }

    pub(super) fn commit_learned(&mut self, learned: &[(History, Header)], out: &mut Vec<Action>) {
        for (history, header) in learned {
            let before = self.ledger.committed.digest;
            self.ledger.links.insert(history.digest, Link { header: header.clone(), before });
            self.commit_one(*history, header);
            self.want_body(header, out);
        }
        self.timers.progress = self.now;
        self.timers.backoff = 0;
        self.ledger.committed_in = None;
    }

    /// Keeps those headers that lead to what a view starts with, or to what its primary proposed when this replica came
    /// to it half-way.
    fn link_wanted(&mut self, chains: &[Vec<(History, Header)>], out: &mut Vec<Action>) -> bool {
        let mut wanted: Vec<History> = self.ledger.views.values().map(|log| log.tip).collect();
        for stream in self.ledger.logs() {
            if let Some(crate::message::Statement::NewView { start, .. }) = stream.next_statement() {
                wanted.push(*start);
            }
            wanted.extend(stream.changes.values().map(|changed| changed.standing.upto));
        }
        let mut any = false;
        for chain in chains {
            for history in &wanted {
                let unknown = matches!(self.ledger.path(*history), Path::Missing);
                let Some(at) = chain.iter().position(|(at, _)| at == history).filter(|_| unknown) else { continue };
                let headers: Vec<Header> = chain.iter().take(at + 1).map(|(_, header)| header.clone()).collect();
                let after = self.ledger.committed;
                out.push(Action::Persist(Record::Linked(after, headers.clone())));
                self.link(after, &headers, out);
                any = true;
            }
        }
        any
    }

    /// Keeps headers that follow a history. That they are known says nothing of whether they are committed.
    pub(super) fn link(&mut self, after: History, headers: &[Header], out: &mut Vec<Action>) {
        let mut at = after;
        for header in headers {
            let before = at.digest;
            at = header.follow(at);
            self.ledger.links.insert(at.digest, Link { header: header.clone(), before });
            self.want_body(header, out);
        }
        self.ledger.complete_views();
    }
}

/// A place below which nothing is fetched any more.
pub(super) fn floor(seq: Seq, interval: u64) -> Seq {
    Seq(seq.0.saturating_sub(interval))
}
