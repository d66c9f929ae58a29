//! A simulated tracker: how it behaves, what it runs, and what it has to tell.

use crate::Rng;
use quorate_protocol::{
    command::{AttemptReport, Report},
    ids::{AttemptId, TrackerId},
};
use std::collections::{BTreeMap, BTreeSet};

/// How a tracker behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// As it should.
    Honest,
    /// As it should, and slowly.
    Slow,
    /// It takes work, and never says anything about it.
    Silent,
    /// All its votes are wrong, and those of its kind agree.
    Lies,
    /// Some of its votes are wrong.
    LiesAtTimes,
    /// It votes rightly, and then otherwise.
    VotesTwice,
}

impl Manner {
    /// The manner of a tracker. The first `liars` of them lie.
    pub(super) fn of(id: u32, liars: u32, rng: &mut Rng) -> Self {
        let lies = [Self::Lies, Self::LiesAtTimes, Self::VotesTwice, Self::Silent];
        match rng.below(1000) {
            _ if id < liars => lies[id as usize % lies.len()],
            0 => Self::Silent,
            1..=10 => Self::Slow,
            _ => Self::Honest,
        }
    }
}

/// A tracker with its process.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) id: TrackerId,
    pub(super) manner: Manner,
    /// The process, counted up with each start.
    pub(super) incarnation: u64,
    pub(super) is_up: bool,
    /// Directives taken over, and those that it has said it took over.
    pub(super) taken: u64,
    told: u64,
    /// When it reported last.
    pub(super) told_at: u64,
    /// Whether it is to say something although it has no news.
    pub(super) tells_alone: bool,
    /// What runs, with the work done as it last said.
    pub(super) running: BTreeMap<AttemptId, u64>,
    pub(super) news: Vec<AttemptReport>,
    /// Progress that goes along with the next report.
    progress: BTreeSet<AttemptId>,
}

impl Tracker {
    pub(super) fn new(id: u32, manner: Manner) -> Self {
        Self {
            id: TrackerId::new(id),
            manner,
            incarnation: 1,
            is_up: true,
            taken: 0,
            told: 0,
            told_at: 0,
            tells_alone: false,
            running: BTreeMap::new(),
            news: Vec::new(),
            progress: BTreeSet::new(),
        }
    }

    /// Whether it is this process of it that is there.
    pub(super) fn is(&self, incarnation: u64) -> bool {
        self.is_up && self.incarnation == incarnation
    }

    /// Its process ends, with all that it did.
    pub(super) fn crash(&mut self) {
        self.is_up = false;
        self.running.clear();
        self.news.clear();
        self.progress.clear();
        (self.taken, self.told, self.tells_alone) = (0, 0, false);
    }

    /// A new process begins.
    pub(super) fn start(&mut self) {
        self.is_up = true;
        self.incarnation += 1;
    }

    /// Whether it has taken directives over that it has not acknowledged.
    pub(super) fn owes_word(&self) -> bool {
        self.told < self.taken
    }

    /// Notes an attempt's progress; whether it must be told at once, because what was noted before still waits.
    pub(super) fn progress(&mut self, attempt: AttemptId) -> bool {
        let waits_already = !self.progress.insert(attempt);
        self.tells_alone |= waits_already;
        waits_already
    }

    fn take_progress(&mut self) -> Vec<AttemptReport> {
        let mut progress = Vec::new();
        for attempt in std::mem::take(&mut self.progress) {
            if let Some(units) = self.running.get_mut(&attempt) {
                *units += 1 << 20;
                progress.push(AttemptReport::Progress { attempt, units: *units });
            }
        }
        progress
    }

    /// Its next report, if there is anything to tell.
    pub(super) fn report(&mut self, now: u64) -> Option<Report> {
        let is_due = std::mem::take(&mut self.tells_alone) && (self.owes_word() || !self.progress.is_empty());
        if self.news.is_empty() && !is_due {
            return None;
        }
        (self.told, self.told_at) = (self.taken, now);
        let mut attempts = std::mem::take(&mut self.news);
        attempts.extend(self.take_progress());
        Some(Report { incarnation: self.incarnation, acknowledged: self.taken, attempts, accusations: Vec::new() })
    }
}
