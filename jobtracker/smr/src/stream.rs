//! One replica's log as this replica reads it [SMR-1].
//!
//! What must hold: statements are read in the order of their positions, none is left out, and each follows from those
//! before it. What a statement may say depends on its speaker's own log only (and on other logs that it names, which
//! are read first), so that all correct replicas accept alike [SMR-6]. A statement that breaks a rule is proof of a
//! fault: nothing after it counts in this epoch.

use crate::{
    action::Fork,
    config::{Config, Limits, Mutant},
    message::{Body, Claim, Flush, Left, Signed, Standing, Statement},
    types::{History, View},
    verify::CHANGES_MAX,
};
use quorate_counter::{Certificate, EpochRecord, Head, Position};
use quorate_protocol::{
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Flushes that are kept although those before them are missing.
const AHEAD_MAX: usize = 64;
/// Heads that this replica vouches for.
const VOUCHERS_MAX: usize = 4;

impl Standing {
    /// Before the first statement of a cluster's first epoch: everybody is in view 0.
    pub(crate) fn genesis(empty: History) -> Self {
        Self { left: View(0), entered: Some(View(0)), upto: empty, began: empty.seq, fresh: false }
    }

    /// Before the first statement of an epoch that was admitted later. It remembers no vote, and none from before counts.
    pub(crate) fn admitted(at: History, left: View) -> Self {
        Self { left, entered: None, upto: at, began: at.seq, fresh: true }
    }

    /// The first view that it may still leave for.
    pub(crate) fn least_target(&self) -> View {
        if self.fresh { self.left } else { self.left.next() }
    }

    /// The standing after a statement, or the rule that the statement breaks. Reads the speaker's own log only.
    pub(crate) fn follow(
        &self,
        config: &Config,
        speaker: ReplicaId,
        statement: &Statement,
    ) -> Result<Self, &'static str> {
        let view = statement.view();
        let primary = view.primary(config.replicas()) == speaker;
        match statement {
            Statement::Prepare { header, .. } => {
                if !primary {
                    return Err("SMR-4: a PREPARE for a view that has another primary");
                }
                if view < self.left && !config.mutated(Mutant::VoteAfterViewChange) {
                    return Err("SMR-2: a PREPARE after it left the view");
                }
                if self.entered != Some(view) {
                    return Err("SMR-9: a PREPARE for a view that it did not begin");
                }
                if header.seq != self.upto.seq.next() {
                    return Err("SMR-3: a PREPARE that leaves places out or repeats one");
                }
                Ok(Self { upto: header.follow(self.upto), fresh: false, ..*self })
            }
            Statement::Commit { upto, .. } => {
                if primary {
                    return Err("SMR-4: a COMMIT of the primary");
                }
                if view < self.left && !config.mutated(Mutant::VoteAfterViewChange) {
                    return Err("SMR-2: a COMMIT after it left the view");
                }
                match self.entered {
                    Some(entered) if view < entered => Err("SMR-3: a COMMIT for an earlier view"),
                    Some(entered) if view == entered && upto.seq <= self.upto.seq => {
                        Err("SMR-3: a COMMIT that votes for nothing new")
                    }
                    _ => Ok(Self { entered: Some(view), upto: *upto, fresh: false, ..*self }),
                }
            }
            Statement::ViewChange { target, .. } => {
                if *target < self.least_target() || self.entered.is_some_and(|entered| *target <= entered) {
                    return Err("SMR-2: a VIEW-CHANGE that goes back");
                }
                Ok(Self { left: *target, fresh: false, ..*self })
            }
            Statement::NewView { start, .. } => {
                if !primary {
                    return Err("SMR-9: a NEW-VIEW for a view that has another primary");
                }
                if view < self.left || self.entered.is_some_and(|entered| view <= entered) || view == View(0) {
                    return Err("SMR-9: a NEW-VIEW for a view that it left or began already");
                }
                Ok(Self { entered: Some(view), upto: *start, began: start.seq, fresh: false, ..*self })
            }
        }
    }
}

/// One epoch of one replica's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) record: EpochRecord,
    /// Up to here the certificates were checked.
    pub(crate) head: Head,
    /// Up to here the statements were read.
    pub(crate) read: Head,
    pub(crate) standing: Standing,
    /// What was checked and waits to be read, because of what it depends on.
    waiting: VecDeque<Statement>,
    /// The last flushes with the heads they end at, for others.
    kept: VecDeque<(Arc<Flush>, Head)>,
    /// Heads that all replicas vouch for alike.
    vouchers: VecDeque<Claim>,
    /// The last f + 1 equal claims about this log, for whoever lacks what is no longer kept.
    pub(crate) certified: Vec<Signed>,
    /// By target.
    pub(crate) changes: BTreeMap<View, Left>,
    /// Nothing before it was read: it was resumed here.
    pub(crate) resumed_at: Position,
    /// VIEW-CHANGEs up to here may have been forgotten.
    pub(crate) changes_forgotten_to: Position,
    /// Why nothing more of it counts.
    pub(crate) broken: Option<String>,
    /// Flushes beyond a gap, by the position before them. Lost at a restart, and fetched again.
    #[serde(skip)]
    read_at_status: Position,
    /// Statuses that went out since anything was read, although there is more.
    #[serde(skip)]
    stuck: u32,
    /// Somebody said since the last status that there is more of it.
    #[serde(skip)]
    pub(crate) behind: bool,
    /// Somebody said that what follows is no longer kept.
    #[serde(skip)]
    pub(crate) gone: bool,
    /// After which position it was asked for last, and when.
    #[serde(skip)]
    pub(crate) asked: (Position, OrderedTime),
    #[serde(skip)]
    ahead: BTreeMap<Position, Arc<Flush>>,
}

/// What a flush brought.
pub(crate) enum Taken {
    /// Statements to read, and the batches that came with them.
    New(Arc<Flush>, Vec<Arc<Body>>),
    /// Nothing that was not known.
    Nothing,
    /// The flushes before it are missing.
    Gap,
    /// Too much waits already; it is fetched again later.
    Full,
    /// Its certificate is not of the log that was read so far.
    Invalid,
    /// The log attested two histories.
    Forked(Box<Fork>),
}

impl Stream {
    pub(crate) fn new(record: EpochRecord, standing: Standing) -> Self {
        let head = record.genesis();
        Self {
            record,
            head,
            read: head,
            standing,
            waiting: VecDeque::new(),
            kept: VecDeque::new(),
            vouchers: VecDeque::new(),
            certified: Vec::new(),
            read_at_status: Position(0),
            stuck: 0,
            behind: false,
            gone: false,
            asked: (Position(u64::MAX), OrderedTime::default()),
            changes: BTreeMap::new(),
            resumed_at: Position(0),
            changes_forgotten_to: Position(0),
            broken: None,
            ahead: BTreeMap::new(),
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
    pub(crate) fn vouchers(&self) -> impl Iterator<Item = &Claim> {
        self.vouchers.iter()
    }
    /// What this log has shown so far: all replicas that have read as far claim it alike.
    pub(crate) fn shown(&self) -> Claim {
        Claim::Position {
            of: self.record.replica,
            epoch: self.record.epoch,
            head: self.read,
            standing: self.standing,
            changes: self.changes.values().copied().collect(),
        }
    }
    pub(crate) fn next_statement(&self) -> Option<&Statement> {
        self.waiting.front()
    }

    /// Takes a flush whose replica and epoch are this log's.
    pub(crate) fn take(&mut self, flush: Arc<Flush>, bodies: Vec<Arc<Body>>, limits: &Limits) -> Taken {
        if self.broken.is_some() {
            return Taken::Nothing;
        }
        if flush.end() <= self.head.position {
            return self.compare(&flush);
        }
        if flush.after > self.head.position {
            // Nothing can be checked of it yet: its batches are fetched later, and the nearest ones are kept.
            self.ahead.insert(flush.after, flush);
            if self.ahead.len() > AHEAD_MAX {
                self.ahead.pop_last();
            }
            return Taken::Gap;
        }
        self.forget_certified(limits);
        if self.waiting.len() + flush.statements.len() > limits.waiting_max
            || self.kept.len() >= limits.flushes_kept_max
        {
            return Taken::Full;
        }
        let known = (self.head.position.0 - flush.after.0) as usize;
        let new = flush.statements.get(known..).unwrap_or_default();
        let head = self.record.extend(self.head, new.iter().map(Statement::digest));
        if self.record.verify(head, &flush.certificate).is_err() {
            return match self.compare(&flush) {
                Taken::Forked(fork) => Taken::Forked(fork),
                _ => Taken::Invalid,
            };
        }
        self.waiting.extend(new.iter().cloned());
        self.head = head;
        self.gone = false;
        self.kept.push_back((Arc::clone(&flush), head));
        Taken::New(flush, bodies)
    }

    /// Up to here f + 1 replicas vouch for what this log shows: whoever lacks it needs no flush from before.
    pub(crate) fn certified_position(&self) -> Position {
        match self.certified.first().map(|signed| &signed.claim) {
            Some(Claim::Position { head, .. }) => head.position,
            _ => Position(0),
        }
    }

    /// Forgets what others vouch for, but for the last of it: who lags a little need not resume.
    pub(crate) fn forget_old(&mut self, vouch_interval: u64) {
        let certified = self.certified_position().0;
        while self.kept.front().is_some_and(|(_, end)| end.position.0 + 2 * vouch_interval <= certified) {
            self.kept.pop_front();
        }
    }

    /// Whether a claim is about more of this log than what is certified: an old one may come late.
    pub(crate) fn is_certified_further_by(&self, signed: &Signed) -> bool {
        match &signed.claim {
            Claim::Position { head, .. } => head.position > self.certified_position(),
            Claim::ViewChange { .. } | Claim::Checkpoint { .. } | Claim::Decided { .. } => false,
        }
    }

    /// Makes room. What f + 1 replicas do not vouch for is never forgotten: nobody could read on.
    fn forget_certified(&mut self, limits: &Limits) {
        let certified = self.certified_position();
        while self.kept.len() >= limits.flushes_kept_max
            && self.kept.front().is_some_and(|(_, end)| end.position <= certified)
        {
            self.kept.pop_front();
        }
    }

    /// The next flush that was beyond a gap and no longer is.
    pub(crate) fn take_ahead(&mut self) -> Option<Arc<Flush>> {
        let (after, _) = self.ahead.first_key_value()?;
        if *after > self.head.position { None } else { self.ahead.pop_first().map(|(_, ahead)| ahead) }
    }

    /// Looks whether a flush shows that the log was cloned or rolled back: from a head that was read, it goes on
    /// otherwise than what was read, and both are attested.
    fn compare(&self, flush: &Flush) -> Taken {
        let Some((from, mine, certificate)) = self.known_between(flush.after, flush.end()) else {
            return Taken::Nothing;
        };
        let other: Vec<Digest> = flush.statements.iter().map(Statement::digest).collect();
        let differs = mine.iter().zip(&other).any(|(mine, other)| mine != other);
        let attested = || self.record.verify(self.record.extend(from, other.iter().copied()), &flush.certificate);
        if !differs || attested().is_err() {
            return Taken::Nothing;
        }
        Taken::Forked(Box::new(Fork { from, one: (mine, certificate), other: (other, flush.certificate.clone()) }))
    }

    /// The head at a position, what was read from there to another or a little further, and the certificate of its end.
    fn known_between(&self, after: Position, upto: Position) -> Option<(Head, Vec<Digest>, Certificate)> {
        let first = self.kept.partition_point(|(_, end)| end.position <= after);
        let mut head = match first.checked_sub(1).and_then(|before| self.kept.get(before)) {
            Some((_, end)) => *end,
            None => self.kept.front().filter(|(flush, _)| flush.after == Position(0)).map(|_| self.record.genesis())?,
        };
        let (mut from, mut digests) = (None, Vec::new());
        for (flush, end) in self.kept.iter().skip(first) {
            // A kept flush may begin before the one before it ends.
            let known = (head.position.0 - flush.after.0) as usize;
            for digest in flush.statements.iter().skip(known).map(Statement::digest) {
                if head.position == after {
                    from = Some(head);
                }
                if from.is_some() {
                    digests.push(digest);
                }
                head = self.record.extend(head, [digest]);
            }
            if end.position >= upto {
                return from.map(|from| (from, digests, flush.certificate.clone()));
            }
        }
        let (last, _) = self.kept.back()?;
        from.map(|from| (from, digests, last.certificate.clone()))
    }

    /// The next statement was read, and this is how its speaker stands after it.
    ///
    /// Says whether this is a place that replicas vouch for.
    pub(crate) fn advance(&mut self, standing: Standing, limits: &Limits) -> bool {
        let statement = self.waiting.pop_front().expect("SMR-1: a statement was read that did not wait");
        self.read = self.record.extend(self.read, [statement.digest()]);
        self.standing = standing;
        if let Statement::ViewChange { target, .. } = statement {
            self.changes.insert(target, Left { target, position: self.read.position, standing });
            if self.changes.len() > CHANGES_MAX
                && let Some((_, forgotten)) = self.changes.pop_first()
            {
                self.changes_forgotten_to = forgotten.position;
            }
        }
        assert!(self.read.position <= self.head.position, "SMR-1: read beyond what was checked");
        let vouched = self.read.position.0.is_multiple_of(limits.vouch_interval);
        if vouched {
            self.vouchers.push_back(self.shown());
            if self.vouchers.len() > VOUCHERS_MAX {
                self.vouchers.pop_front();
            }
        }
        vouched
    }

    /// Goes on at a later head that f + 1 replicas vouch for [SMR-12].
    pub(crate) fn resume(&mut self, head: Head, standing: Standing, changes: &[Left]) {
        if head.position <= self.read.position {
            return;
        }
        if head.position <= self.head.position {
            let passed = (head.position.0 - self.read.position.0) as usize;
            self.waiting.drain(..passed.min(self.waiting.len()));
        } else {
            self.waiting.clear();
            self.kept.clear();
            self.ahead.retain(|after, _| *after >= head.position);
            self.head = head;
        }
        (self.read, self.standing) = (head, standing);
        self.resumed_at = head.position;
        self.gone = false;
        self.changes = changes.iter().map(|left| (left.target, *left)).collect();
        self.vouchers.clear();
        self.vouchers.push_back(self.shown());
    }

    /// A status goes out: notes whether anything was read since the last one.
    pub(crate) fn on_status(&mut self) {
        let more = self.behind || !self.waiting.is_empty() || !self.ahead.is_empty();
        self.stuck = if more && self.read.position == self.read_at_status { self.stuck + 1 } else { 0 };
        (self.read_at_status, self.behind) = (self.read.position, false);
    }

    /// Whether it is time to ask what it has shown: seldom, for everybody answers.
    pub(crate) fn asks_for_position(&self) -> bool {
        self.stuck % 4 == 2
    }

    /// Whether it could not be read on for some time: something that it depends on, or a part of it, is missing.
    pub(crate) fn is_stuck(&self) -> bool {
        // What was not given may only have been lost on the way, and is worth more than what replaces it.
        self.stuck >= 2 && (self.gone || !self.waiting.is_empty())
    }

    /// Whether a VIEW-CHANGE at this position may be unknown although the log was read as far.
    pub(crate) fn may_have_missed(&self, position: Position) -> bool {
        position <= self.resumed_at || position <= self.changes_forgotten_to
    }

    /// What follows a position; `None` when it is no longer kept.
    pub(crate) fn flushes_after(&self, after: Position) -> Option<impl Iterator<Item = &Arc<Flush>>> {
        let first = self.kept.front().map_or(self.head.position, |(flush, _)| flush.after);
        if after < first {
            return None;
        }
        let from = self.kept.partition_point(|(_, end)| end.position <= after);
        Some(self.kept.iter().skip(from).map(|(flush, _)| flush))
    }

    /// Nothing more of this epoch counts.
    pub(crate) fn break_off(&mut self, why: String) {
        self.waiting.clear();
        self.ahead.clear();
        self.broken = Some(why);
    }
}
