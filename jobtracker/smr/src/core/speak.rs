//! The replica's own statements: PREPARE and COMMIT, and the trusted log that binds them.

use super::Core;
use crate::{
    action::{Action, Record},
    config::Mutant,
    ledger::{Own, Path},
    machine::StateMachine,
    message::{Admission, Admits, Batch, Body, Flush, Header, Message, Standing, Statement},
    types::{History, RequestId, Seq, View},
    verify::admission_bytes,
};
use quorate_counter::{Attestation, Certificate, Epoch, EpochRecord};
use quorate_protocol::ids::OrderedTime;
use std::sync::Arc;

/// Places in the queue that PREPARE leaves to the other statements, at most half of them.
const RESERVED: usize = 4;

impl<M: StateMachine> Core<M> {
    /// Takes the next position of the own log. It counts once it is attested and read, like everybody's.
    pub(super) fn say(&mut self, statement: Statement, out: &mut Vec<Action>) {
        assert!(self.may_speak(), "SMR-12: a replica that may not vote takes no position");
        let own = &mut self.ledger.own;
        let standing = own.standing.follow(&self.config, self.config.me, &statement);
        own.standing = standing.unwrap_or_else(|rule| panic!("an own statement breaks a rule: {rule}"));
        own.queue.push_back(statement.clone());
        out.push(Action::Persist(Record::Own(statement)));
    }

    /// Whether enough of what this replica said was read by others. Who speaks on while nobody hears could not be followed
    /// later: what f + 1 replicas do not vouch for must be kept, and that is bounded.
    fn is_heard(&self) -> bool {
        let certified = self.ledger.streams[self.config.me.number() as usize].certified_position();
        let unheard = self.ledger.own.tail().0.saturating_sub(certified.0);
        unheard <= self.config.limits.flushes_kept_max as u64 / 4 * 3
    }

    fn queue_room(&self) -> usize {
        self.config.limits.flush_statements_max.saturating_sub(self.ledger.own.queue.len())
    }

    /// Whether a replica may vote for a batch that follows one of this time: it is here, it is what its header says, and
    /// its time is neither before that nor far ahead [SMR-5, SMR-15].
    pub(super) fn sound(&self, header: &Header, after: OrderedTime, proposed_in: Option<View>) -> bool {
        let Some(body) = self.bodies.get(&header.batch) else { return false };
        let admission = match (&header.admits, &body.batch.admission) {
            (None, None) => true,
            (Some(admits), Some(admission)) => self.admissible(admits, admission, proposed_in),
            (Some(_), None) | (None, Some(_)) => false,
        };
        let latest = self.now.after(self.config.limits.clock_ahead_max);
        admission && after <= header.time && header.time <= latest
    }

    /// An epoch that is admitted already, or an older one, is sound and without effect: how much is committed here must not
    /// decide what can be voted for. `proposed_in` is the view, when the batch was proposed in it and not before.
    pub(super) fn admissible(&self, admits: &Admits, admission: &Admission, proposed_in: Option<View>) -> bool {
        let record = &admits.record;
        let Some(genesis) = self.config.genesis.get(record.replica.number() as usize) else { return false };
        *record == admission.record
            // A replica does not move to another kind of device by itself, nor to another TPM, nor to other witnesses.
            && record.may_follow(genesis)
            && proposed_in.is_none_or(|view| admits.left == view.next())
    }

    /// How far the headers are sound, one after the other from the committed history on.
    pub(super) fn sound_upto(&self, headers: &[(History, Header)], start: Option<(View, Seq)>) -> History {
        let (mut upto, mut time) = (self.ledger.committed, self.ledger.time);
        for (history, header) in headers {
            let proposed_in = start.filter(|(_, start)| history.seq > *start).map(|(view, _)| view);
            if self.sound(header, time, proposed_in) {
                (upto, time) = (*history, header.time);
            } else if !self.config.mutated(Mutant::SkippedCommits) {
                break;
            }
        }
        upto
    }

    /// COMMIT: a backup votes for all that is sound. Votes wait while the trusted log is busy, and are then one [SMR-3].
    pub(super) fn vote(&mut self, out: &mut Vec<Action>) {
        let view = self.ledger.view();
        let own = &self.ledger.own;
        let backup = view.primary(self.config.replicas()) != self.config.me;
        if !backup || !self.may_speak() || own.standing.left > view || !own.queue.is_empty() || !self.is_heard() {
            return;
        }
        let Some(log) = self.ledger.views.get(&view) else { return };
        let entering = own.standing.entered != Some(view);
        if !entering && own.standing.upto.seq >= log.tip.seq {
            return;
        }
        let upto = match self.ledger.path(log.tip) {
            Path::Known(headers) if headers.is_empty() => log.tip,
            Path::Known(headers) => self.sound_upto(&headers, Some((view, log.start))),
            Path::Missing => return self.ask_for_chain(out),
            // The view started with what a later one left out: it came to nothing.
            Path::Contradiction if self.ledger.must_agree(view) => return self.halt(),
            Path::Contradiction => return,
        };
        let ours = log.prepared.get(&upto.seq) == Some(&upto.digest);
        if upto.seq >= log.start && ours && (entering || upto.seq > own.standing.upto.seq) {
            self.say(Statement::Commit { view, upto }, out);
        }
    }

    /// PREPARE: the primary proposes what waits, up to W batches ahead of what it has executed.
    pub(super) fn propose(&mut self, out: &mut Vec<Action>) {
        let view = self.ledger.view();
        if view.primary(self.config.replicas()) != self.config.me || !self.may_speak() {
            return;
        }
        let standing = self.ledger.own.standing;
        if standing.left > view || standing.entered != Some(view) || !self.ledger.views.contains_key(&view) {
            return;
        }
        let reserved = RESERVED.min(self.config.limits.flush_statements_max / 2);
        while self.queue_room() > reserved && self.window_is_open() && self.is_heard() {
            let Some((batch, ids, admits)) = self.next_batch(view) else { return };
            self.propose_batch(view, batch, ids, admits, out);
        }
    }

    fn window_is_open(&self) -> bool {
        let limits = &self.config.limits;
        let tip = self.ledger.own.standing.upto.seq;
        let executed = self.executed.seq.plus(limits.pipeline_max);
        let kept = self.ledger.stable_seq().plus(limits.checkpoint_interval * 2);
        tip < executed && tip < kept
    }

    /// A batch closes on count, on bytes, or when the trusted log is idle.
    fn next_batch(&mut self, view: View) -> Option<(Batch, Vec<RequestId>, Option<Admits>)> {
        if let Some(admission) = self.next_admission(view) {
            let admits = Admits { record: admission.record.clone(), left: view.next() };
            let batch = Batch { requests: Vec::new(), admission: Some(admission) };
            return Some((batch, Vec::new(), Some(admits)));
        }
        let limits = &self.config.limits;
        let idle = self.attesting.is_none();
        let full = self.pending.fills(limits.batch_requests_max, limits.batch_bytes_max);
        let nothing_on_its_way = self.ledger.own.standing.upto.seq == self.executed.seq;
        let due = self.machine.deadline().is_some_and(|deadline| deadline <= self.now) && nothing_on_its_way;
        if !(full || idle && (self.pending.unproposed() > 0 || due)) {
            return None;
        }
        let (ids, requests) = self.pending.propose(limits.batch_requests_max, limits.batch_bytes_max);
        (due || !ids.is_empty()).then_some((Batch { requests, admission: None }, ids, None))
    }

    fn next_admission(&mut self, view: View) -> Option<Admission> {
        // Seldom enough that a replica cannot fill the order with its epochs.
        let pause = self.config.limits.view_timeout / 2;
        let rested = self.peers.values().filter(|peer| self.now.since(peer.admitted) >= pause);
        let waiting = rested.filter_map(|peer| peer.admission.as_ref().map(|(admission, _)| admission));
        let new = |admission: &&Admission| {
            let record = &admission.record;
            let admits = Admits { record: record.clone(), left: view.next() };
            !self.proposed_admissions.contains(&(record.replica, record.epoch))
                && self.ledger.epoch(record.replica).is_some_and(|epoch| record.epoch > epoch)
                && self.admissible(&admits, admission, Some(view))
        };
        let admission = waiting.filter(new).min_by_key(|admission| admission.record.replica)?.clone();
        self.proposed_admissions.insert((admission.record.replica, admission.record.epoch));
        Some(admission)
    }

    fn propose_batch(
        &mut self,
        view: View,
        batch: Batch,
        ids: Vec<RequestId>,
        admits: Option<Admits>,
        out: &mut Vec<Action>,
    ) {
        let upto = self.ledger.own.standing.upto;
        let before = self.ledger.links.get(&upto.digest).map_or(self.ledger.time, |link| link.header.time);
        let time = self.now.max(before).max(self.proposed_time);
        let body = self.verifier.own_body(batch, ids);
        let header = Header { seq: upto.seq.next(), time, batch: body.digest, admits };
        self.proposed_time = time;
        self.keep_body(body, out);
        self.say(Statement::Prepare { view, header }, out);
    }

    /// Gives the trusted log all that waits for it: one attestation, however many statements.
    pub(super) fn attest(&mut self, out: &mut Vec<Action>) {
        let own = &self.ledger.own;
        if self.attesting.is_some() || own.queue.is_empty() || self.renewing || self.replaying {
            return;
        }
        self.attesting = Some(own.queue.len());
        out.push(Action::Attest(own.queue.iter().map(Statement::digest).collect()));
    }

    pub(super) fn on_attested(&mut self, attestation: Attestation, out: &mut Vec<Action>) {
        let Some(statements) = self.attesting.take() else { return };
        if self.renewing {
            return;
        }
        let own = &mut self.ledger.own;
        if own.head_after(statements) != attestation.head
            || own.record.verify(attestation.head, &attestation.certificate).is_err()
        {
            // The device did something else than it was told, or another process uses it.
            return self.renew(out);
        }
        let flush = Arc::new(Flush {
            replica: self.config.me,
            epoch: own.record.epoch,
            after: own.attested.position,
            statements: own.queue.drain(..statements).collect(),
            certificate: attestation.certificate,
        });
        own.attested = attestation.head;
        let bodies = self.proposed_in(&flush);
        out.push(Action::Broadcast(Message::Flush(Arc::clone(&flush), bodies)));
        self.on_flush(self.config.me, flush, Vec::new(), out);
    }

    fn proposed_in(&self, flush: &Flush) -> Vec<Arc<Body>> {
        let batch = |statement: &Statement| match statement {
            Statement::Prepare { header, .. } => self.bodies.get(&header.batch).cloned(),
            Statement::Commit { .. } | Statement::ViewChange { .. } | Statement::NewView { .. } => None,
        };
        flush.statements.iter().filter_map(batch).collect()
    }

    /// The trusted log has given its epoch up by itself.
    pub(super) fn on_lost(&mut self, out: &mut Vec<Action>) {
        self.attesting = None;
        self.renew(out);
    }

    /// Gives the own epoch up: what it said can no longer be known for sure [SMR-13].
    pub(super) fn renew(&mut self, out: &mut Vec<Action>) {
        if self.renewing {
            return;
        }
        self.renewing = true;
        self.attesting = None;
        let known = self.ledger.own.record.epoch.max(self.ledger.epoch(self.config.me).unwrap_or_default());
        let next = Epoch(known.0.saturating_add(1).max(self.now.0));
        out.push(Action::Renew(next));
    }

    pub(super) fn on_renewed(&mut self, record: EpochRecord, certificate: Certificate, out: &mut Vec<Action>) {
        if !self.renewing || record.replica != self.config.me || record.epoch <= self.ledger.own.record.epoch {
            return;
        }
        out.push(Action::Persist(Record::Renewed(record.clone(), certificate.clone())));
        self.begin_epoch(record, certificate);
    }

    pub(super) fn begin_epoch(&mut self, record: EpochRecord, certificate: Certificate) {
        self.renewing = false;
        self.attesting = None;
        // What it stands for is known once the epoch is admitted.
        let standing = Standing::admitted(self.ledger.committed, View(u64::MAX));
        let signature = self.config.keys.sign(&admission_bytes(&record, &certificate));
        self.ledger.own = Own::new(record.clone(), standing);
        self.admission = Some(Admission { record, certificate, signature });
    }
}
