//! Changing views [SMR-7 to SMR-10].

use super::Core;
use crate::{
    action::Action,
    config::Mutant,
    ledger::Path,
    machine::StateMachine,
    message::{Change, Claim, Left, Message, Signed, Statement},
    table::Turn,
    types::{RequestId, View},
};
use quorate_counter::Epoch;
use quorate_protocol::ids::ReplicaId;

/// Timeouts double at most so often.
const BACKOFF_MAX: u32 = 6;

fn target(signed: &Signed) -> View {
    match signed.claim {
        Claim::ViewChange { target } => target,
        Claim::Checkpoint { .. } | Claim::Decided { .. } | Claim::Position { .. } => View(0),
    }
}

impl<M: StateMachine> Core<M> {
    /// How long to wait before another view is asked for, in milliseconds.
    fn patience(&self) -> u64 {
        self.config.limits.view_timeout << self.timers.backoff.min(BACKOFF_MAX)
    }

    /// A view began here: everything has a fresh chance in it.
    pub(super) fn entered_view(&mut self, view: View) {
        if view != self.ledger.view() {
            return;
        }
        self.timers.view = self.now;
        self.timers.progress = self.now;
        if self.wants.as_ref().is_some_and(|signed| target(signed) <= view) {
            self.wants = None;
        }
        self.pending.forget_forwarded();
        let headers = match self.ledger.views.get(&view).map(|log| self.ledger.path(log.tip)) {
            Some(Path::Known(headers)) => headers,
            Some(Path::Missing | Path::Contradiction) | None => Vec::new(),
        };
        let admitted = headers.iter().filter_map(|(_, header)| header.admits.as_ref()).map(|admits| &admits.record);
        self.proposed_admissions = admitted.map(|record| (record.replica, record.epoch)).collect();
        let bodies = headers.iter().filter_map(|(_, header)| self.bodies.get(&header.batch));
        let on_their_way: Vec<RequestId> = bodies.flat_map(|body| body.ids.iter().copied()).collect();
        self.pending.repropose_but(on_their_way);
    }

    /// Whether this replica has waited too long for something in its view.
    pub(super) fn suspects(&mut self) -> bool {
        let patience = self.patience();
        let over = |since: quorate_protocol::ids::OrderedTime| self.now.since(since) >= patience;
        let view = self.ledger.view();
        if self.has_left(view) {
            return over(self.timers.left);
        }
        while let Some((id, since)) = self.pending.oldest() {
            if self.table.turn(&id) == Turn::Execute {
                if over(since.max(self.timers.view)) {
                    return true;
                }
                break;
            }
            // Its client has gone on: nobody orders it any more.
            self.pending.remove(&id);
            self.pending.tidy();
        }
        let late = self.machine.deadline().is_some_and(|deadline| over(deadline.max(self.timers.view)));
        let tip = self.ledger.views.get(&view).map_or(self.ledger.committed, |log| log.tip);
        let stuck = tip.seq > self.ledger.committed.seq && over(self.timers.progress.max(self.timers.view));
        let waiting = self.peers.values().filter_map(|peer| peer.admission.as_ref().map(|(_, since)| (peer, since)));
        let kept_out = waiting.into_iter().any(|(peer, since)| over((*since).max(peer.admitted).max(self.timers.view)));
        late || stuck || kept_out || self.primary_is_out(view)
    }

    /// Whether this replica left a view by its own VIEW-CHANGE. One that was admitted in it only waits for the next.
    fn has_left(&self, view: View) -> bool {
        let standing = self.ledger.own.standing;
        standing.left > view && !standing.fresh
    }

    /// The view's primary can propose nothing more in it.
    fn primary_is_out(&self, view: View) -> bool {
        let primary = view.primary(self.config.replicas());
        let Some(stream) = self.ledger.stream(primary) else { return false };
        stream.broken.is_some() || stream.standing.left > view
    }

    /// REQ-VIEW-CHANGE: asks for another view [SMR-7].
    pub(super) fn want_next_view(&mut self, out: &mut Vec<Action>) {
        let (view, left) = (self.ledger.view(), self.ledger.own.standing.left);
        let stays = !self.has_left(view) || self.config.mutated(Mutant::CurrentViewInRequest);
        let wanted = if stays { view.next() } else { left.next() };
        if self.wants.as_ref().is_some_and(|signed| target(signed) >= wanted) {
            return;
        }
        let signed = self.sign(Claim::ViewChange { target: wanted });
        self.wants = Some(signed.clone());
        self.timers.backoff = self.timers.backoff.saturating_add(1);
        // A wish that nobody shares is repeated by the statuses, not raised, and withdrawn when its cause is gone.
        self.timers.left = self.now;
        out.push(Action::Broadcast(Message::Claim(Box::new(signed))));
    }

    /// Remembers the highest view that somebody asked for.
    pub(super) fn note_wish(&mut self, signed: Signed) {
        let wanted = target(&signed);
        if let Some(peer) = self.peers.get_mut(&signed.by)
            && peer.wants.as_ref().is_none_or(|known| target(known) < wanted)
        {
            peer.wants = Some(signed);
        }
    }

    /// VIEW-CHANGE: joins the latest view that f + 1 replicas asked for [SMR-7].
    pub(super) fn join(&mut self, out: &mut Vec<Action>) {
        if !self.may_speak() || self.queue_is_full() {
            return;
        }
        let least = self.ledger.view().next().max(self.ledger.own.standing.least_target());
        let mut wishes: Vec<&Signed> = self.peers.values().filter_map(|peer| peer.wants.as_ref()).collect();
        wishes.extend(&self.wants);
        wishes.sort_by_key(|signed| std::cmp::Reverse(target(signed)));
        // One honest replica has waited too long, and the others follow when they see that this one has left.
        let enough = self.config.vouching();
        let mut wanted = wishes.get(enough - 1).map_or(View(0), |signed| target(signed));
        if self.config.mutated(Mutant::CurrentViewInRequest) {
            let same = self.ledger.view().next();
            wishes.retain(|signed| target(signed) == same);
            wanted = if wishes.len() >= enough { same } else { View(0) };
        }
        if self.config.mutated(Mutant::LoneViewChange)
            && let Some(own) = &self.wants
        {
            wanted = wanted.max(target(own));
        }
        if wanted < least {
            return;
        }
        let asked = wishes.into_iter().filter(|signed| target(signed) >= wanted);
        let requests = asked.take(enough).cloned().collect();
        self.timers.left = self.now;
        self.say(Statement::ViewChange { target: wanted, requests }, out);
    }

    fn queue_is_full(&self) -> bool {
        self.ledger.own.queue.len() >= self.config.limits.flush_statements_max
    }

    /// NEW-VIEW: the primary of the view that was asked for begins it, once a quorum of VIEW-CHANGEs for it is read whose
    /// outcome it can vouch for [SMR-9].
    pub(super) fn begin_view(&mut self, out: &mut Vec<Action>) {
        let view = self.ledger.own.standing.left;
        let mine = view.primary(self.config.replicas()) == self.config.me;
        let begun = self.ledger.own.standing.entered.is_some_and(|entered| entered >= view);
        if !mine || begun || view <= self.ledger.view() || !self.may_speak() || self.queue_is_full() {
            return;
        }
        let mut read: Vec<(Change, Left)> = Vec::new();
        for stream in &self.ledger.streams {
            if let Some(changed) = stream.changes.get(&view) {
                let (replica, epoch) = (stream.record.replica, stream.record.epoch);
                read.push((Change { replica, epoch, position: changed.position }, *changed));
            }
        }
        let mixed = self.config.mutated(Mutant::MixedCounters);
        read.sort_by_key(|(_, changed)| {
            let entered = changed.standing.entered.filter(|_| !mixed);
            std::cmp::Reverse((entered, changed.standing.upto.seq))
        });
        let quorum = self.config.quorum();
        for first in 0..read.len().saturating_sub(quorum - 1) {
            let candidates = &read[first..];
            let Some(start) = self.start_from(candidates.iter().map(|(_, changed)| *changed)) else { return };
            let headers = match self.ledger.path(start) {
                Path::Known(headers) => headers,
                Path::Missing => {
                    self.ask_for_chain(out);
                    continue;
                }
                Path::Contradiction => continue,
            };
            if headers.last().is_some_and(|(last, _)| self.sound_upto(&headers, None) != *last) {
                headers.iter().for_each(|(_, header)| self.want_body(header, out));
                continue;
            }
            // [SMR-14] By the epochs that count where the view starts.
            let ended = |replica: ReplicaId, epoch: Epoch| {
                headers
                    .iter()
                    .filter_map(|(_, header)| header.admits.as_ref())
                    .any(|admits| admits.record.replica == replica && admits.record.epoch > epoch)
            };
            if ended(self.config.me, self.ledger.own.record.epoch) {
                return;
            }
            let mut changes: Vec<Change> =
                candidates.iter().map(|(change, _)| *change).filter(|c| !ended(c.replica, c.epoch)).collect();
            changes.truncate(quorum);
            let highest = candidates.first().map(|(change, _)| *change);
            if changes.len() == quorum && changes.first().copied() == highest {
                return self.say(Statement::NewView { view, changes, start }, out);
            }
        }
    }
}
