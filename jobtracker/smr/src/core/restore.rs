//! Starting from what was kept, and comparing it with the trusted log [SMR-13].

use super::{Core, checkpoint::Snapshot, checkpoint::manifest};
use crate::{
    action::{Action, Record},
    config::{Config, Mutant},
    ledger::Ledger,
    machine::StateMachine,
    message::{Claim, Statement},
    types::{History, Payload},
};
use quorate_counter::{EpochRecord, Head};
use quorate_protocol::{canonical, ids::OrderedTime};

/// Why a core cannot start from what was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It is not what this program kept.
    #[error("what was kept of the agreement cannot be used: {0}")]
    Damaged(String),
}

fn damaged(what: impl Into<String>) -> RestoreError {
    RestoreError::Damaged(what.into())
}

impl<M: StateMachine> Core<M> {
    /// A core with a past: the state and ledger of the last compaction, and what was persisted since, in order. What is
    /// to be done first comes out.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        config: Config,
        now: OrderedTime,
        machine: M,
        device: (EpochRecord, Head),
        compaction: Option<(Payload, Vec<u8>)>,
        records: Vec<Record>,
        out: &mut Vec<Action>,
    ) -> Result<Self, RestoreError> {
        let mut core = Self::blank(config, now, machine);
        core.replaying = true;
        if let Some((state, ledger)) = compaction {
            core.restore_compaction(&state, &ledger)?;
        }
        let mut done = Vec::new();
        for record in records {
            core.replay(record, &mut done)?;
            core.settle(&mut done);
            done.clear();
        }
        core.replaying = false;
        core.timers.view = now;
        core.timers.progress = now;
        core.compare_device(device, out);
        // A log that keeps its place on the same disk agrees with that disk, however old it is.
        core.notice_own_past(core.config.me, out);
        Ok(core)
    }

    fn restore_compaction(&mut self, state: &Payload, ledger: &[u8]) -> Result<(), RestoreError> {
        let ledger: Ledger = canonical::decode(ledger, usize::MAX).map_err(|error| damaged(error.to_string()))?;
        if ledger.streams.len() != self.config.replicas() {
            return Err(damaged("it is of a cluster of another size"));
        }
        self.ledger = ledger;
        let claim = self.ledger.stable.first().map(|signed| signed.claim.clone());
        let Some(Claim::Checkpoint { history, root }) = claim else {
            return Err(damaged("there is a state, and no checkpoint that it belongs to"));
        };
        if self.ledger.committed.seq < history.seq {
            return Err(damaged("its checkpoint is ahead of what it says is committed"));
        }
        let manifest = manifest(state);
        if manifest.root() != root {
            return Err(damaged("the state is not that of its checkpoint"));
        }
        self.install_state(history, state).map_err(damaged)?;
        let claim = self.sign(Claim::Checkpoint { history, root });
        self.snapshots.insert(history.seq, Snapshot { state: state.clone(), manifest, claim });
        Ok(())
    }

    fn replay(&mut self, record: Record, out: &mut Vec<Action>) -> Result<(), RestoreError> {
        match record {
            Record::Own(statement) => {
                let own = &mut self.ledger.own;
                let standing = own.standing.follow(&self.config, self.config.me, &statement);
                own.standing = standing.map_err(|rule| damaged(format!("an own statement breaks a rule: {rule}")))?;
                own.queue.push_back(statement);
            }
            Record::Flush(flush) => {
                let own = &mut self.ledger.own;
                if flush.replica == self.config.me
                    && flush.epoch == own.record.epoch
                    && flush.after == own.attested.position
                    && flush.statements.len() <= own.queue.len()
                {
                    own.attested = own.head_after(flush.statements.len());
                    own.queue.drain(..flush.statements.len());
                }
                self.on_flush(flush.replica, flush, Vec::new(), out);
            }
            Record::Body(bytes) => {
                let body = self.verifier.stored_body(&bytes).map_err(|error| damaged(error.to_string()))?;
                self.missing.remove(&body.digest);
                self.kept_bodies.insert(body.digest);
                self.bodies.insert(body.digest, body);
            }
            Record::Learned(headers) => {
                let mut at = self.ledger.committed;
                let mut learned: Vec<(History, _)> = Vec::new();
                let committed = at.seq;
                // The logs that were read before may lead as far already.
                for header in headers.into_iter().filter(|header| header.seq > committed) {
                    if header.seq != at.seq.next() {
                        return Err(damaged(format!(
                            "batch {} was learned after batch {}, and what is between them is missing",
                            header.seq, at.seq
                        )));
                    }
                    at = header.follow(at);
                    learned.push((at, header));
                }
                self.commit_learned(&learned, out);
            }
            Record::Linked(after, headers) => self.link(after, &headers, out),
            Record::Certified(claims) => {
                if let Some(Claim::Position { of, epoch, .. }) = claims.first().map(|signed| &signed.claim)
                    && let Some(log) = self.ledger.log_mut(*of, *epoch)
                {
                    log.certified = claims;
                }
            }
            Record::Resumed(claims) => self.resume_at(&claims),
            Record::Renewed(record, certificate) => {
                if record.epoch > self.ledger.own.record.epoch {
                    self.begin_epoch(record, certificate);
                } else if record == self.ledger.own.record && self.ledger.own.standing.left.0 == u64::MAX {
                    // Kept beside the ledger, which knows the epoch already.
                    self.begin_epoch(record, certificate);
                }
            }
        }
        Ok(())
    }

    /// Equal: go on. The device is behind: it is given the rest. Otherwise the epoch is given up.
    pub(super) fn compare_device(&mut self, (record, head): (EpochRecord, Head), out: &mut Vec<Action>) {
        let own = &mut self.ledger.own;
        if record != own.record {
            return self.renew(out);
        }
        let appended = (0..=own.queue.len()).find(|statements| own.head_after(*statements) == head);
        match appended {
            Some(appended) if own.queue.is_empty() => debug_assert_eq!(appended, 0),
            Some(appended) => {
                let rest = own.queue.iter().skip(appended).map(Statement::digest).collect();
                self.attesting = Some(own.queue.len());
                out.push(Action::Attest(rest));
            }
            None if self.config.mutated(Mutant::CounterFromDisk) => own.attested = head,
            None => self.renew(out),
        }
    }
}
