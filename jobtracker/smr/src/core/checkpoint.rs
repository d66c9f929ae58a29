//! Checkpoints [SMR-11]: f + 1 equal claims make one stable, and what it covers is forgotten.

use super::{Core, Member, learn::floor};
use crate::{
    action::{Action, Compaction, Record},
    config::PAGE_BYTES,
    machine::StateMachine,
    message::{Claim, Manifest, Message, Signed, Statement},
    table::ClientTable,
    types::{Payload, Seq},
};
use quorate_protocol::{canonical, digest::Digest, ids::OrderedTime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Own checkpoints that are kept, the stable one included.
const SNAPSHOTS_MAX: usize = 4;

/// All that is replicated.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) machine: Payload,
    pub(super) table: ClientTable,
    pub(super) members: Vec<Member>,
    pub(super) time: OrderedTime,
}

/// The replicated state after a batch.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(super) state: Payload,
    pub(super) manifest: Manifest,
    pub(super) claim: Signed,
}

pub(super) fn manifest(state: &[u8]) -> Manifest {
    Manifest { length: state.len() as u64, pages: state.chunks(PAGE_BYTES).map(Digest::of).collect() }
}

impl<M: StateMachine> Core<M> {
    pub(super) fn take_checkpoint(&mut self, time: OrderedTime, out: &mut Vec<Action>) {
        let machine = Payload::from(self.machine.snapshot());
        let members = self.members.clone();
        let state = canonical::encode(&State { machine, table: self.table.clone(), members, time });
        let manifest = manifest(&state);
        let history = self.executed;
        let claim = self.sign(Claim::Checkpoint { history, root: manifest.root() });
        out.push(Action::Broadcast(Message::Claim(Box::new(claim.clone()))));
        self.snapshots.insert(history.seq, Snapshot { state: state.into(), manifest, claim });
        if self.snapshots.len() > SNAPSHOTS_MAX {
            // The oldest one that is not the stable one.
            let stable = self.ledger.stable_seq();
            if let Some(seq) = self.snapshots.keys().find(|seq| **seq != stable).copied() {
                self.snapshots.remove(&seq);
            }
        }
        self.stabilise(out);
    }

    /// Makes the newest checkpoint stable that f + 1 replicas, this one among them, have alike.
    pub(super) fn stabilise(&mut self, out: &mut Vec<Action>) {
        let stable = self.ledger.stable_seq();
        let newest = self.snapshots.range(stable.next()..).rev().find_map(|(seq, snapshot)| {
            let claims = self.claims_like(&snapshot.claim);
            (claims.len() >= self.config.vouching()).then_some((*seq, claims))
        });
        let Some((seq, claims)) = newest else { return };
        self.ledger.stable = claims;
        self.forget_before(seq, stable);
        self.compact(seq, out);
    }

    fn claims_like(&self, own: &Signed) -> Vec<Signed> {
        let mut by = BTreeSet::from([own.by]);
        let mut claims = vec![own.clone()];
        for signed in self.peers.values().flat_map(|peer| &peer.checkpoints) {
            if signed.claim == own.claim && by.insert(signed.by) {
                claims.push(signed.clone());
            }
        }
        claims.truncate(self.config.vouching());
        claims
    }

    /// Batches are kept for one checkpoint longer, so that who lags a little need not fetch the state.
    fn forget_before(&mut self, stable: Seq, before: Seq) {
        let kept_from = before.max(floor(stable, self.config.limits.checkpoint_interval));
        self.ledger.forget(kept_from);
        let interval = self.config.limits.vouch_interval;
        self.ledger.logs_mut().for_each(|log| log.forget_old(interval));
        self.forget_bodies();
        self.snapshots.retain(|seq, _| *seq >= stable);
    }

    pub(super) fn forget_bodies(&mut self) {
        let mut known: BTreeSet<Digest> = self.ledger.links.values().map(|link| link.header.batch).collect();
        // What is proposed here is linked only when it is attested.
        known.extend(self.ledger.own.queue.iter().filter_map(Statement::proposed_batch));
        self.bodies.retain(|digest, _| known.contains(digest));
        self.missing.retain(|digest, _| known.contains(digest));
    }

    pub(super) fn compact(&mut self, seq: Seq, out: &mut Vec<Action>) {
        if self.replaying {
            return;
        }
        let Some(snapshot) = self.snapshots.get(&seq) else { return };
        let ahead = self.ledger.links.values().filter(|link| link.header.seq > seq).map(|link| link.header.batch);
        let mut ahead: BTreeSet<Digest> = ahead.collect();
        ahead.extend(self.ledger.own.queue.iter().filter_map(Statement::proposed_batch));
        self.kept_bodies = ahead.iter().copied().filter(|batch| self.bodies.contains_key(batch)).collect();
        let bodies = ahead.into_iter().filter_map(|batch| self.bodies.get(&batch));
        let mut records: Vec<Record> =
            bodies.map(|body| Record::Body(canonical::encode(&*body.batch).into())).collect();
        if let Some(admission) = &self.admission {
            records.push(Record::Renewed(admission.record.clone(), admission.certificate.clone()));
        }
        let ledger = canonical::encode(&self.ledger);
        out.push(Action::Compact(Compaction { state: snapshot.state.clone(), ledger, records }));
    }
}
