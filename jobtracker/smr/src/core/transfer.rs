//! Fetching a checkpoint's state, page by page: every page is checked against a root that f + 1 replicas claim, so it does
//! not matter who gives it, and what was fetched stays fetched when somebody else goes on [SMR-12].

use super::{
    Core,
    checkpoint::{Snapshot, State, manifest},
};
use crate::{
    action::Action,
    machine::StateMachine,
    message::{Claim, Manifest, Message, Signed},
    table::Turn,
    types::{History, Payload},
    verify::FETCH_MAX,
};
use quorate_protocol::{canonical, digest::Digest, ids::ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// A state on its way.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    history: History,
    root: Digest,
    claims: Vec<Signed>,
    manifest: Option<Manifest>,
    pages: BTreeMap<Digest, Payload>,
}

impl Transfer {
    fn missing(&self) -> Vec<Digest> {
        let pages = self.manifest.iter().flat_map(|manifest| &manifest.pages);
        let mut missing: Vec<Digest> = Vec::new();
        for page in pages {
            if missing.len() < FETCH_MAX && !self.pages.contains_key(page) && !missing.contains(page) {
                missing.push(*page);
            }
        }
        missing
    }
}

impl<M: StateMachine> Core<M> {
    /// Takes the proof that a checkpoint is stable. When it is ahead of what is executed here, its state is fetched.
    pub(super) fn take_stable(&mut self, claims: Vec<Signed>, out: &mut Vec<Action>) {
        let Some(Claim::Checkpoint { history, root }) = claims.first().map(|signed| signed.claim.clone()) else {
            return;
        };
        let by: BTreeSet<ReplicaId> = claims.iter().map(|signed| signed.by).collect();
        let alike = claims.iter().all(|signed| signed.claim == Claim::Checkpoint { history, root });
        if !alike || by.len() < self.config.vouching() || history.seq <= self.executed.seq {
            return;
        }
        let newer = self.transfer.as_ref().is_none_or(|transfer| transfer.history.seq < history.seq);
        if newer {
            // Pages that did not change are not fetched again.
            let pages = self.transfer.take().map(|transfer| transfer.pages).unwrap_or_default();
            self.transfer = Some(Transfer { history, root, claims, manifest: None, pages });
            self.go_on_with_transfer(out);
        }
    }

    /// Asks the next replica for what is missing of the state.
    pub(super) fn go_on_with_transfer(&mut self, out: &mut Vec<Action>) {
        if self.transfer.as_ref().is_some_and(|transfer| transfer.history.seq <= self.executed.seq) {
            self.transfer = None;
        }
        let Some(transfer) = &self.transfer else { return };
        let question = match &transfer.manifest {
            None => Message::FetchPages(transfer.root),
            Some(_) => Message::FetchPage(transfer.missing()),
        };
        if let Some(replica) = self.somebody() {
            out.push(Action::Send(replica, question));
        }
    }

    pub(super) fn give_manifest(&mut self, to: ReplicaId, root: Digest, out: &mut Vec<Action>) {
        if !self.may_answer(to) {
            return;
        }
        let found = self.snapshots.values().find(|snapshot| snapshot.manifest.root() == root);
        match found {
            Some(snapshot) => out.push(Action::Send(to, Message::Pages(root, snapshot.manifest.clone()))),
            // It is gone for a newer one.
            None if !self.ledger.stable.is_empty() => {
                out.push(Action::Send(to, Message::Stable(self.ledger.stable.clone())));
            }
            None => {}
        }
    }

    pub(super) fn take_manifest(&mut self, from: ReplicaId, root: Digest, manifest: Manifest, out: &mut Vec<Action>) {
        let Some(transfer) = self.transfer.as_mut().filter(|t| t.root == root && t.manifest.is_none()) else { return };
        let wanted: BTreeSet<Digest> = manifest.pages.iter().copied().collect();
        transfer.pages.retain(|page, _| wanted.contains(page));
        transfer.manifest = Some(manifest);
        let missing = transfer.missing();
        if missing.is_empty() {
            self.install(out);
        } else {
            out.push(Action::Send(from, Message::FetchPage(missing)));
        }
    }

    pub(super) fn give_pages(&mut self, to: ReplicaId, digests: &[Digest], out: &mut Vec<Action>) {
        if !self.may_answer(to) {
            return;
        }
        let mut found = false;
        for snapshot in self.snapshots.values() {
            for (page, digest) in snapshot.state.chunks(crate::config::PAGE_BYTES).zip(&snapshot.manifest.pages) {
                if digests.contains(digest) {
                    found = true;
                    out.push(Action::Send(to, Message::Page(page.into())));
                }
            }
            if found {
                return;
            }
        }
        if !self.ledger.stable.is_empty() {
            out.push(Action::Send(to, Message::Stable(self.ledger.stable.clone())));
        }
    }

    pub(super) fn take_page(&mut self, from: ReplicaId, page: Payload, out: &mut Vec<Action>) {
        let Some(transfer) = self.transfer.as_mut() else { return };
        let digest = Digest::of(&page);
        let wanted = transfer.manifest.as_ref().is_some_and(|manifest| manifest.pages.contains(&digest));
        if !wanted || transfer.pages.insert(digest, page).is_some() {
            return;
        }
        let missing = transfer.missing();
        if missing.is_empty() {
            self.install(out);
        } else if transfer.pages.len() % FETCH_MAX == 0 {
            out.push(Action::Send(from, Message::FetchPage(missing)));
        }
    }

    fn install(&mut self, out: &mut Vec<Action>) {
        let Some(transfer) = self.transfer.take().filter(|transfer| transfer.history.seq > self.executed.seq) else {
            return;
        };
        let pages = transfer.manifest.iter().flat_map(|manifest| &manifest.pages);
        let state: Vec<u8> =
            pages.filter_map(|page| transfer.pages.get(page)).flat_map(|p| p.iter().copied()).collect();
        let state = Payload::from(state);
        self.ledger.stable = transfer.claims;
        if self.install_state(transfer.history, &state).is_err() {
            // f + 1 replicas have a state that this program cannot read.
            self.halt();
            return;
        }
        let me = self.config.me;
        let root = transfer.root;
        let claim = self.sign(Claim::Checkpoint { history: transfer.history, root });
        let snapshot = Snapshot { manifest: manifest(&state), state, claim };
        self.ledger.forget(transfer.history.seq);
        self.forget_bodies();
        self.snapshots.clear();
        self.snapshots.insert(transfer.history.seq, snapshot);
        if self.ledger.own.record.epoch < self.ledger.epoch(me).unwrap_or_default() {
            self.renew(out);
        }
        self.compact(transfer.history.seq, out);
    }

    /// Replaces what is executed.
    pub(super) fn install_state(&mut self, history: History, state: &Payload) -> Result<(), String> {
        let decoded: State =
            canonical::decode(state, usize::MAX).map_err(|error| format!("the state cannot be read: {error}"))?;
        if decoded.members.len() != self.config.replicas() {
            return Err("the state is of a cluster of another size".to_owned());
        }
        self.machine.restore(&decoded.machine).map_err(|error| error.to_string())?;
        self.table = decoded.table;
        self.executed = history;
        self.machine.executed(history);
        if self.ledger.committed.seq < history.seq {
            self.ledger.committed = history;
            self.ledger.committed_in = None;
            self.ledger.time = decoded.time;
            for member in &decoded.members {
                if self.ledger.epoch(member.record.replica).is_some_and(|epoch| epoch < member.record.epoch) {
                    self.ledger.retire(member.record.clone(), member.standing);
                }
            }
            let mine = &decoded.members[self.config.me.number() as usize];
            if self.ledger.own.record == mine.record && self.ledger.own.standing.left == crate::types::View(u64::MAX) {
                self.ledger.own.standing = mine.standing;
            }
            self.ledger.trunk.insert(history.seq, history.digest);
        }
        self.members = decoded.members;
        let table = &self.table;
        self.pending.retain(|id| table.turn(id) == Turn::Execute);
        Ok(())
    }
}
