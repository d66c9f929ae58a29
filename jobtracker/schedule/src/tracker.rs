//! One tracker as the scheduler knows it: its registration, what it runs, what waits for it, and what is held against it.

use crate::{
    bounds::{DIRECTIVES_CLOGGED, EVIDENCE_BYTES_MAX},
    pool::Load,
    workforce::{DomainIndex, TargetIndex},
};
use quorate_protocol::{
    canonical,
    command::Registration,
    evidence::Evidence,
    ids::{AttemptId, JobId, OrderedTime, ReplicaId, Stage, TrackerId},
    job::Directive,
    limits::{DIRECTIVES_MAX, EVIDENCE_PER_TRACKER_MAX},
    query::{Blame, Duty},
    sign::PublicKey,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// Directives that were not acknowledged yet, numbered without gaps.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Directives {
    first: u64,
    waiting: VecDeque<Directive>,
}

impl Directives {
    /// Appends one. Beyond [`DIRECTIVES_MAX`] it is forgotten: only a tracker that stopped listening lets so many pile
    /// up, and what is lost then is the wish to free its disk.
    pub(crate) fn push(&mut self, directive: Directive) {
        if self.waiting.len() < DIRECTIVES_MAX {
            self.waiting.push_back(directive);
        }
    }
    /// Forgets those below a number.
    pub(crate) fn acknowledge(&mut self, below: u64) {
        while self.first < below && self.waiting.pop_front().is_some() {
            self.first += 1;
        }
    }
    /// Those from a number on.
    pub(crate) fn from(&self, from: u64, max: usize) -> Vec<(u64, Directive)> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let numbered = (self.first..).zip(&self.waiting).skip(skip).take(max);
        numbered.map(|(number, directive)| (number, directive.clone())).collect()
    }
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
    /// Numbers anew from 0 for a new process, which knows of no attempt but still has the old one's disk.
    fn restart(&mut self) {
        self.first = 0;
        self.waiting.retain(|directive| match directive {
            Directive::JobEnded { .. } | Directive::DropChunks(_) => true,
            Directive::Start { .. } | Directive::Cancel { .. } => false,
        });
    }
}

/// Evidence kept against a tracker, bounded in number and bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The most that any evidence showed.
    pub(crate) blame: Blame,
    /// The evidence.
    pub(crate) kept: Vec<(Evidence, Blame)>,
    /// So many of these, the oldest, are settled: they count no more.
    settled: usize,
    bytes: usize,
}

impl Record {
    /// Adds evidence that shows `blame`. The first proof takes the place of suspicions when there is no room.
    pub(crate) fn add(&mut self, evidence: Evidence, blame: Blame) {
        if self.kept.iter().any(|(known, _)| is_same(known, &evidence)) {
            return;
        }
        let is_first_of_its_weight = blame > self.blame;
        self.blame = self.blame.max(blame);
        let size = canonical::encode(&evidence).len();
        let fits = |kept: usize, bytes: usize| {
            kept < EVIDENCE_PER_TRACKER_MAX && bytes.saturating_add(size) <= EVIDENCE_BYTES_MAX
        };
        if is_first_of_its_weight && !fits(self.kept.len(), self.bytes) {
            self.kept.clear();
            (self.settled, self.bytes) = (0, 0);
        }
        if is_first_of_its_weight || fits(self.kept.len(), self.bytes) {
            self.bytes = self.bytes.saturating_add(size);
            self.kept.push((evidence, blame));
        }
    }

    /// What is kept so far counts no more.
    pub(crate) fn settle(&mut self) {
        self.settled = self.kept.len();
        self.blame = Blame::None;
    }

    /// Takes back that the tracker was outvoted in a job whose program gives another output each time.
    pub(crate) fn absolve(&mut self, job: JobId) {
        let is_void = |evidence: &Evidence| match evidence {
            Evidence::Outvoted { vote, .. } => vote.peek().is_ok_and(|vote| vote.attempt.task.job == job),
            Evidence::TwoVotes(..)
            | Evidence::WrongSegment { .. }
            | Evidence::WrongChunk(_)
            | Evidence::Garbled { .. }
            | Evidence::Complaints { .. } => false,
        };
        self.settled -= self.kept.iter().take(self.settled).filter(|(evidence, _)| is_void(evidence)).count();
        self.kept.retain(|(evidence, _)| !is_void(evidence));
        self.bytes = self.kept.iter().map(|(evidence, _)| canonical::encode(evidence).len()).sum();
        self.blame = self.kept.iter().skip(self.settled).map(|(_, blame)| *blame).max().unwrap_or_default();
    }
}

/// An attempt that holds a slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Held {
    attempt: AttemptId,
    /// When it must next be looked at; `None` for a reducer whose clock stands still.
    alarm: Option<OrderedTime>,
}

/// Whether two pieces of evidence say the same.
fn is_same(one: &Evidence, other: &Evidence) -> bool {
    match (one, other) {
        (Evidence::TwoVotes(first, second), Evidence::TwoVotes(third, fourth)) => {
            (first, second) == (third, fourth) || (first, second) == (fourth, third)
        }
        _ => one == other,
    }
}

/// A tracker of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Tracker {
    pub(crate) id: TrackerId,
    pub(crate) domain: DomainIndex,
    pub(crate) key: PublicKey,
    /// What it last registered.
    pub(crate) registration: Option<Registration>,
    /// Whether it is there.
    pub(crate) live: bool,
    /// Replicas that miss it since it was last there.
    pub(crate) absent: BTreeSet<ReplicaId>,
    pub(crate) directives: Directives,
    pub(crate) record: Record,
    /// What it is given to do.
    pub(crate) duty: Duty,
    /// The map task where the next search for one with a known answer begins.
    pub(crate) probed: u32,
    /// Whether its latest word on an attempt is that it was overdue.
    pub(crate) is_tardy: bool,
    pub(crate) overdue: u64,
    /// Its registration's target, as the pools know it.
    pub(crate) target: Option<TargetIndex>,
    /// What holds its slots, in order.
    running_maps: Vec<Held>,
    running_reduces: Vec<Held>,
    /// The earliest alarm of what it runs.
    alarm: Option<OrderedTime>,
}

/// What a tracker that has slots for a stage offers, as the pools keep it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    /// Its load when a slot is free.
    pub(crate) load: Option<Load>,
}

impl Tracker {
    /// One that never registered.
    pub(crate) fn new(id: TrackerId, domain: DomainIndex, key: PublicKey) -> Self {
        Self {
            id,
            domain,
            key,
            registration: None,
            live: false,
            absent: BTreeSet::new(),
            directives: Directives::default(),
            record: Record::default(),
            duty: Duty::Full,
            probed: 0,
            is_tardy: false,
            overdue: 0,
            target: None,
            running_maps: Vec::new(),
            running_reduces: Vec::new(),
            alarm: None,
        }
    }

    /// Takes over a registration; the attempts of an older process must have been lost before.
    pub(crate) fn register(&mut self, registration: &Registration) {
        match &mut self.registration {
            Some(old) if old.incarnation == registration.incarnation => old.address.clone_from(&registration.address),
            _ => {
                assert!(
                    self.running_maps.is_empty() && self.running_reduces.is_empty(),
                    "a new process runs none of the old one's attempts"
                );
                self.directives.restart();
                self.registration = Some(registration.clone());
            }
        }
        self.is_back();
    }

    /// It was heard of.
    pub(crate) fn is_back(&mut self) {
        self.live = true;
        self.absent.clear();
    }

    /// The number of its process, when it ever registered.
    pub(crate) fn incarnation(&self) -> Option<u64> {
        self.registration.as_ref().map(|registration| registration.incarnation)
    }

    fn held(&self, stage: Stage) -> &Vec<Held> {
        match stage {
            Stage::Map => &self.running_maps,
            Stage::Reduce => &self.running_reduces,
        }
    }
    fn held_mut(&mut self, stage: Stage) -> &mut Vec<Held> {
        match stage {
            Stage::Map => &mut self.running_maps,
            Stage::Reduce => &mut self.running_reduces,
        }
    }
    fn place(&self, attempt: AttemptId) -> Result<usize, usize> {
        self.held(attempt.task.stage).binary_search_by_key(&attempt, |held| held.attempt)
    }
    /// Attempts that hold one of its slots.
    pub(crate) fn running(&self, stage: Stage) -> impl Iterator<Item = AttemptId> {
        self.held(stage).iter().map(|held| held.attempt)
    }
    /// How many slots are in use.
    pub(crate) fn used(&self, stage: Stage) -> usize {
        self.held(stage).len()
    }
    /// Whether an attempt holds one of its slots.
    pub(crate) fn holds(&self, attempt: AttemptId) -> bool {
        self.place(attempt).is_ok()
    }

    /// Gives one of its slots to an attempt.
    pub(crate) fn hold(&mut self, attempt: AttemptId, alarm: Option<OrderedTime>) {
        if let Err(place) = self.place(attempt) {
            self.held_mut(attempt.task.stage).insert(place, Held { attempt, alarm });
            self.alarm = self.first_alarm().map(|(time, _)| time);
        }
    }
    /// Frees the slot of an attempt, if it still holds one.
    pub(crate) fn let_go(&mut self, attempt: AttemptId) {
        if let Ok(place) = self.place(attempt) {
            self.held_mut(attempt.task.stage).remove(place);
            self.alarm = self.first_alarm().map(|(time, _)| time);
        }
    }

    /// When an attempt that it runs must next be looked at.
    pub(crate) fn alarm_of(&self, attempt: AttemptId) -> Option<OrderedTime> {
        let place = self.place(attempt).ok()?;
        self.held(attempt.task.stage).get(place)?.alarm
    }
    /// Changes that.
    pub(crate) fn set_alarm(&mut self, attempt: AttemptId, alarm: Option<OrderedTime>) {
        let Ok(place) = self.place(attempt) else { return };
        if let Some(held) = self.held_mut(attempt.task.stage).get_mut(place) {
            held.alarm = alarm;
            self.alarm = self.first_alarm().map(|(time, _)| time);
        }
    }
    /// All alarms of what it runs.
    pub(crate) fn alarms(&self) -> impl Iterator<Item = Alarm> {
        let held = self.running_maps.iter().chain(&self.running_reduces);
        held.filter_map(|held| Some((held.alarm?, held.attempt)))
    }
    /// The first of them.
    pub(crate) fn first_alarm(&self) -> Option<Alarm> {
        self.alarms().min()
    }
    /// When the first of them rings.
    pub(crate) fn next_alarm(&self) -> Option<OrderedTime> {
        self.alarm
    }

    /// Its slots for a stage.
    pub(crate) fn slots(&self, stage: Stage) -> u16 {
        self.registration.as_ref().map_or(0, |registration| match stage {
            Stage::Map => registration.map_slots,
            Stage::Reduce => registration.reduce_slots,
        })
    }

    /// Whether it may be given work, now or when a slot is free.
    pub(crate) fn is_fit(&self) -> bool {
        self.live && self.duty == Duty::Full
    }
    /// Whether it is there, and what it stored may be asked for.
    pub(crate) fn serves(&self) -> bool {
        self.live && self.record.blame != Blame::Convicted
    }
    /// Whether it may do nothing.
    pub(crate) fn is_quarantined(&self) -> bool {
        match self.duty {
            Duty::Quarantined(_) => true,
            Duty::Full | Duty::Probation { .. } => false,
        }
    }
    /// Whether it is there and has to show that it works.
    pub(crate) fn is_on_probation(&self) -> bool {
        let is_on_probation = match self.duty {
            Duty::Probation { .. } => true,
            Duty::Full | Duty::Quarantined(_) => false,
        };
        self.live && is_on_probation
    }
    /// Whether it can be given a task to show it.
    pub(crate) fn can_be_probed(&self) -> bool {
        self.is_on_probation()
            && self.slots(Stage::Map) > 0
            && self.used(Stage::Map) == 0
            && self.directives.len() < DIRECTIVES_CLOGGED
    }

    /// Its load, when it has a free slot.
    pub(crate) fn load(&self, stage: Stage) -> Option<Load> {
        let used = self.used(stage);
        let is_free =
            self.is_fit() && used < usize::from(self.slots(stage)) && self.directives.len() < DIRECTIVES_CLOGGED;
        let rank = u8::from(self.is_tardy || self.record.blame != Blame::None);
        is_free.then_some(Load { rank, used: u16::try_from(used).unwrap_or(u16::MAX) })
    }

    /// What it offers to the pools of a stage, when it may be given such work at all.
    pub(crate) fn offer(&self, stage: Stage) -> Option<Offer> {
        (self.is_fit() && self.slots(stage) > 0).then(|| Offer { load: self.load(stage) })
    }

    /// The programs that it runs beside those that run anywhere; empty for none.
    pub(crate) fn target(&self) -> &str {
        self.registration.as_ref().map_or("", |registration| &registration.target)
    }
}

/// When an attempt must next be looked at.
pub(crate) type Alarm = (OrderedTime, AttemptId);

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{digest::Digest, sign::Signed, vote::Served};

    fn ended(n: u64) -> Directive {
        Directive::JobEnded { job: JobId::new(n), publish: Vec::new(), keep: Vec::new() }
    }

    #[test]
    fn directives_keep_their_numbers_until_acknowledged() {
        let mut directives = Directives::default();
        (0..4).for_each(|n| directives.push(ended(n)));
        directives.acknowledge(2);
        assert_eq!(directives.from(0, 9), [(2, ended(2)), (3, ended(3))]);
        assert_eq!(directives.from(3, 9), [(3, ended(3))]);
        assert_eq!(directives.from(2, 1), [(2, ended(2))]);
        directives.acknowledge(u64::MAX);
        directives.push(ended(9));
        assert_eq!(directives.from(0, 9), [(4, ended(9))]);
        directives.restart();
        assert_eq!(directives.from(0, 9), [(0, ended(9))]);
    }

    #[test]
    fn directives_are_bounded() {
        let mut directives = Directives::default();
        (0..=DIRECTIVES_MAX as u64).for_each(|n| directives.push(ended(n)));
        assert_eq!(directives.len(), DIRECTIVES_MAX);
    }

    #[test]
    fn a_proof_finds_room_among_suspicions() {
        let key = quorate_protocol::sign::SecretKey::from_seed([1; 32]);
        let evidence = |n: u8| {
            let subject = quorate_protocol::vote::Subject::Chunk(quorate_protocol::digest::ChunkId(Digest::of(&[n])));
            let served = Served {
                cluster: Digest::of(b""),
                tracker: TrackerId::new(0),
                subject,
                vote: None,
                sent: Some((Digest::of(b""), 0)),
            };
            Evidence::WrongChunk(Signed::seal(&served, &key))
        };
        let mut record = Record::default();
        (0..=EVIDENCE_PER_TRACKER_MAX as u8).for_each(|n| record.add(evidence(n), Blame::Suspected));
        record.add(evidence(0), Blame::Suspected);
        assert_eq!(record.kept.len(), EVIDENCE_PER_TRACKER_MAX);
        record.add(evidence(200), Blame::Convicted);
        assert_eq!((record.blame, record.kept), (Blame::Convicted, vec![(evidence(200), Blame::Convicted)]));
    }
}
