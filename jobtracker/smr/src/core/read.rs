//! Reading logs: everybody's statements, in order [SMR-1].

use super::Core;
use crate::{
    action::{Action, FaultKind, Record},
    config::Mutant,
    ledger::{Link, Path, ViewLog},
    machine::StateMachine,
    message::{Body, Change, Claim, Flush, Header, Left, Signed, Statement},
    stream::Taken,
    types::{History, Seq, View},
    verify::claim_bytes,
};
use quorate_counter::Epoch;
use quorate_protocol::ids::ReplicaId;
use std::{collections::BTreeSet, sync::Arc};

/// Whose statement it is, in which epoch.
type Speaker = (ReplicaId, Epoch);

/// What became of the next statement of a log.
enum Reading {
    /// It holds, and does nothing more than to change its speaker's standing.
    Done,
    /// What it depends on has not been read yet.
    Wait,
    /// It breaks this rule.
    Breach(&'static str),
}

/// The VIEW-CHANGEs of a NEW-VIEW.
enum Certificate {
    /// They make the view start with this.
    Start(History),
    /// Some of them were not read yet.
    Wait,
    /// They are none.
    Breach(&'static str),
}

impl<M: StateMachine> Core<M> {
    pub(super) fn on_flush(
        &mut self,
        from: ReplicaId,
        flush: Arc<Flush>,
        bodies: Vec<Arc<Body>>,
        out: &mut Vec<Action>,
    ) {
        let (of, epoch) = (flush.replica, flush.epoch);
        let limits = self.config.limits.clone();
        let Some(stream) = self.ledger.log_mut(of, epoch) else { return };
        let mut next = Some((flush, bodies));
        while let Some((flush, bodies)) = next.take() {
            match stream.take(flush, bodies, &limits) {
                Taken::New(flush, bodies) => {
                    out.push(Action::Persist(Record::Flush(flush)));
                    next = stream.take_ahead().map(|flush| (flush, Vec::new()));
                    self.stash.extend(bodies);
                }
                Taken::Gap => {
                    // Each flush beyond the gap shows it again.
                    let again = self.now.since(stream.asked.1) >= limits.status_interval;
                    if stream.asked.0 != stream.head.position || again {
                        stream.asked = (stream.head.position, self.now);
                        let after = stream.head.position;
                        out.push(Action::Send(from, crate::message::Message::FetchFlushes { of, epoch, after }));
                    }
                }
                Taken::Nothing | Taken::Full | Taken::Invalid => {
                    next = stream.take_ahead().map(|flush| (flush, Vec::new()));
                }
                Taken::Forked(fork) => {
                    stream.break_off("its trusted log attested two histories".to_owned());
                    self.accuse(of, FaultKind::Forked { epoch, fork }, out);
                    break;
                }
            }
        }
        self.stash(Vec::new());
        self.notice_own_past(of, out);
    }

    /// Others have statements of this replica that it does not know: its disk or its trusted log was rolled back
    /// [SMR-13].
    pub(super) fn notice_own_past(&mut self, of: ReplicaId, out: &mut Vec<Action>) {
        let own = &self.ledger.own;
        let stream = &self.ledger.streams[self.config.me.number() as usize];
        let same = of == self.config.me && stream.record == own.record && !self.replaying && !self.renewing;
        let unknown = stream.broken.is_some() || stream.head.position > own.tail();
        if same && unknown && !self.config.mutated(Mutant::CounterFromDisk) {
            self.renew(out);
        }
    }

    /// Reads whatever can be read. Says whether there was any.
    pub(super) fn read_streams(&mut self, out: &mut Vec<Action>) -> bool {
        let mut any = false;
        let logs: Vec<_> = self.ledger.logs().map(|log| (log.record.replica, log.record.epoch)).collect();
        for (replica, epoch) in logs {
            while self.read_next(replica, epoch, out) {
                any = true;
            }
        }
        any
    }

    fn read_next(&mut self, replica: ReplicaId, epoch: Epoch, out: &mut Vec<Action>) -> bool {
        let Some(stream) = self.ledger.log(replica, epoch) else { return false };
        let Some(statement) = stream.next_statement().cloned() else { return false };
        let standing = match stream.standing.follow(&self.config, replica, &statement) {
            Ok(standing) => standing,
            Err(rule) => {
                self.breach(replica, epoch, rule, statement, out);
                return false;
            }
        };
        let reading = match &statement {
            Statement::Prepare { view, header } => self.read_prepare((replica, epoch), *view, header, out),
            Statement::Commit { view, upto } => self.read_commit((replica, epoch), *view, *upto),
            Statement::ViewChange { target, requests } => self.read_view_change(*target, requests),
            Statement::NewView { view, changes, start } => {
                self.read_new_view((replica, epoch), *view, changes, *start, out)
            }
        };
        match reading {
            Reading::Done => {
                let limits = &self.config.limits;
                let log = self.ledger.log_mut(replica, epoch);
                if log.is_some_and(|log| log.advance(standing, limits)) {
                    self.vouch(replica, epoch, out);
                }
                true
            }
            Reading::Wait => false,
            Reading::Breach(rule) => {
                self.breach(replica, epoch, rule, statement, out);
                false
            }
        }
    }

    fn breach(
        &mut self,
        replica: ReplicaId,
        epoch: Epoch,
        rule: &'static str,
        statement: Statement,
        out: &mut Vec<Action>,
    ) {
        let Some(stream) = self.ledger.log_mut(replica, epoch) else { return };
        stream.break_off(rule.to_owned());
        let kind = FaultKind::Breach { epoch, what: rule.to_owned(), statement: Box::new(statement) };
        self.accuse(replica, kind, out);
    }

    /// A view that no later one can start from any more: what is said of it changes nothing.
    fn is_over(&self, view: View) -> bool {
        self.ledger.views.first_key_value().is_some_and(|(first, _)| view < *first)
    }

    fn read_prepare(&mut self, speaker: Speaker, view: View, header: &Header, out: &mut Vec<Action>) -> Reading {
        let interval = self.config.limits.checkpoint_interval;
        if header.seq > self.ledger.stable_seq().max(self.executed.seq).plus(interval * 2) {
            return Reading::Wait;
        }
        if self.is_over(view) {
            return Reading::Done;
        }
        let Some(log) = self.ledger.views.get_mut(&view) else { return Reading::Wait };
        let history = header.follow(log.tip);
        let before = log.tip.digest;
        if log.tip.seq <= self.ledger.committed.seq {
            // Nothing was on its way: waiting for it begins now.
            self.timers.progress = self.now;
        }
        if header.seq != log.tip.seq.next() {
            // The view was begun in another epoch of its primary.
            return Reading::Breach("SMR-9: a PREPARE that does not follow the view's last one");
        }
        log.tip = history;
        log.prepared.insert(history.seq, history.digest);
        log.vote(speaker.0, speaker.1, history.seq);
        self.ledger.links.insert(history.digest, Link { header: header.clone(), before });
        if header.seq <= self.body_window() {
            self.want_body(header, out);
        }
        Reading::Done
    }

    /// Batches beyond are not taken yet: headers are small, and what follows them in their log must be readable, but a
    /// primary that runs ahead must not fill the memory.
    pub(super) fn body_window(&self) -> Seq {
        self.ledger.committed.seq.plus(self.config.limits.pipeline_max * 2)
    }

    fn read_commit(&mut self, speaker: Speaker, view: View, upto: History) -> Reading {
        if self.is_over(view) {
            return Reading::Done;
        }
        let covered = self.ledger.covers(upto);
        let Some(log) = self.ledger.views.get_mut(&view) else { return Reading::Wait };
        if upto.seq < log.start {
            return Reading::Breach("SMR-10: a COMMIT for less than its view starts with");
        }
        match log.prepared.get(&upto.seq) {
            Some(digest) if *digest != upto.digest => {
                return Reading::Breach("SMR-3: a COMMIT for something else than was proposed");
            }
            Some(_) => {}
            // What is committed here, or was before the last stable checkpoint, needs no PREPARE any more: every later view
            // starts with it, by votes in this view or a later one.
            None if covered => return Reading::Done,
            None => return Reading::Wait,
        }
        log.vote(speaker.0, speaker.1, upto.seq);
        Reading::Done
    }

    fn read_view_change(&mut self, target: View, requests: &[Signed]) -> Reading {
        let wants = |signed: &&Signed| match signed.claim {
            Claim::ViewChange { target: wanted } => wanted >= target,
            _ => false,
        };
        let signed = |signed: &&Signed| {
            let bytes = claim_bytes(self.config.cluster, signed.by, &signed.claim);
            self.verifier.verified_by(signed.by, &bytes, &signed.signature)
        };
        let askers: BTreeSet<ReplicaId> = requests.iter().filter(wants).filter(signed).map(|s| s.by).collect();
        if askers.len() < self.config.vouching() && !self.config.mutated(Mutant::LoneViewChange) {
            return Reading::Breach("SMR-7: a VIEW-CHANGE that f + 1 replicas did not ask for");
        }
        for signed in requests {
            self.note_wish(signed.clone());
        }
        Reading::Done
    }

    fn read_new_view(
        &mut self,
        speaker: Speaker,
        view: View,
        changes: &[Change],
        start: History,
        out: &mut Vec<Action>,
    ) -> Reading {
        if self.is_over(view) {
            return Reading::Done;
        }
        let own = self.ledger.log(speaker.0, speaker.1).map(|log| log.read.position);
        if changes.iter().any(|change| (change.replica, change.epoch) == speaker && Some(change.position) > own) {
            return Reading::Breach("SMR-9: a NEW-VIEW that names a VIEW-CHANGE of its own speaker that comes later");
        }
        match self.certificate(view, changes) {
            Certificate::Wait => return Reading::Wait,
            Certificate::Breach(rule) => return Reading::Breach(rule),
            Certificate::Start(computed) if computed != start => {
                return Reading::Breach(
                    "SMR-9: a NEW-VIEW that starts with something else than its VIEW-CHANGEs make it",
                );
            }
            Certificate::Start(_) => {}
        }
        let headers = match self.ledger.path(start) {
            Path::Known(headers) => headers,
            Path::Missing => {
                self.ask_for_chain(out);
                return Reading::Wait;
            }
            // A view that came to nothing may have started with what a later one left out: it is over as soon as that one
            // is known here to have begun.
            Path::Contradiction => {
                if self.ledger.must_agree(view) {
                    self.halt();
                }
                return Reading::Wait;
            }
        };
        // [SMR-14] Whoever has a new epoch in what the view starts with takes part by that one only.
        let ended = |replica: ReplicaId, epoch: Epoch| {
            let admitted = headers.iter().filter_map(|(_, header)| header.admits.as_ref()).map(|admits| &admits.record);
            let epochs = admitted.filter(|record| record.replica == replica).map(|record| record.epoch);
            // What is too long ago to be known is covered by the committed history.
            let counted = self.ledger.epoch_at(replica, start.seq);
            counted.is_some_and(|counted| epochs.max().unwrap_or(counted).max(counted) != epoch)
        };
        let (replica, epoch) = speaker;
        if ended(replica, epoch) || changes.iter().any(|change| ended(change.replica, change.epoch)) {
            return Reading::Breach("SMR-14: a NEW-VIEW by an epoch that has ended");
        }
        if self.ledger.views.contains_key(&view) {
            return Reading::Breach("SMR-9: a second NEW-VIEW for a view");
        }
        let mut log = ViewLog::new(start);
        log.vote(replica, epoch, start.seq);
        self.ledger.views.insert(view, log);
        for (_, header) in &headers {
            self.want_body(header, out);
        }
        self.entered_view(view);
        Reading::Done
    }

    /// What the VIEW-CHANGEs of a NEW-VIEW make it start with [SMR-9].
    fn certificate(&self, view: View, changes: &[Change]) -> Certificate {
        let speakers: BTreeSet<ReplicaId> = changes.iter().map(|change| change.replica).collect();
        if speakers.len() != changes.len() || speakers.len() < self.config.quorum() {
            return Certificate::Breach("SMR-9: a NEW-VIEW without VIEW-CHANGEs of a quorum of distinct replicas");
        }
        let mut read = Vec::new();
        for change in changes {
            match self.find_change(view, change) {
                Some(Ok(changed)) => read.push(changed),
                Some(Err(rule)) => return Certificate::Breach(rule),
                None => return Certificate::Wait,
            }
        }
        match self.start_from(read.iter().copied()) {
            Some(start) => Certificate::Start(start),
            None => Certificate::Breach("SMR-12: a NEW-VIEW of replicas that remember nothing"),
        }
    }

    /// The last view that any of them voted in, and the most that was voted for there.
    pub(super) fn start_from(&self, changes: impl Iterator<Item = Left>) -> Option<History> {
        let standings = changes.map(|changed| changed.standing).filter(|standing| standing.entered.is_some());
        if self.config.mutated(Mutant::MixedCounters) {
            return standings.map(|standing| standing.upto).max_by_key(|upto| upto.seq);
        }
        standings.max_by_key(|standing| (standing.entered, standing.upto.seq)).map(|standing| standing.upto)
    }

    /// The VIEW-CHANGE that a NEW-VIEW names; `None` when it was not read yet.
    fn find_change(&self, view: View, change: &Change) -> Option<Result<Left, &'static str>> {
        let log = self.ledger.log(change.replica, change.epoch)?;
        let changes = &log.changes;
        let stale = self.config.mutated(Mutant::StaleCertificate);
        let found = match changes.get(&view) {
            Some(changed) if changed.position == change.position => Some(*changed),
            _ if stale => changes.values().find(|changed| changed.position == change.position).copied(),
            _ => None,
        };
        if let Some(changed) = found {
            return Some(Ok(changed));
        }
        // A log that was resumed half-way, or a VIEW-CHANGE so old that it is forgotten: nothing is known of it.
        let unknown = change.position > log.read.position || log.may_have_missed(change.position);
        if unknown { None } else { Some(Err("SMR-9: a NEW-VIEW with a VIEW-CHANGE that is none, or for another view")) }
    }
}
