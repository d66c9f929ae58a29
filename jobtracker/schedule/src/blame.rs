//! Blame: what is held against trackers, and who says so.
//!
//! * **B-1** Only what anybody can check convicts or makes suspect.
//! * **B-2** A peer's word that a majority exists is not taken: evidence of kinds whose weight depends on a job's f
//!   (outvoted, complaints) is made here only. A third party finds the f in the accused's own vote: an accuser would name
//!   a smaller one.
//!
//! Nondeterminism is told from lies in `repeats`; what becomes of the convicted is in `probation`.

use crate::{
    Scheduler,
    bounds::{COMPLAINT_BYTES_MAX, COMPLAINTS_PER_DOMAIN_MAX},
    events::Happening,
    job::{Charge, Job},
    task::{Attempt, AttemptState, HeardVote},
    workforce::{DomainIndex, Workforce},
};
use quorate_protocol::{
    command::{Accusation, Request},
    evidence::Evidence,
    ids::{AttemptId, JobId, Stage, TrackerId},
    job::Directive,
    limits,
    query::Blame,
    sign::Signed,
    vote::{Ballot, Vote},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Complaints within one job, until f + 1 domains agree on one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Complaints {
    about: BTreeMap<TrackerId, BTreeMap<DomainIndex, Signed<Request>>>,
    by: BTreeMap<DomainIndex, usize>,
    charged: BTreeSet<TrackerId>,
}

impl Complaints {
    /// Notes that a domain complains, and returns all reports once those of f + 1 domains are there.
    fn add(
        &mut self,
        about: TrackerId,
        domain: DomainIndex,
        report: &Signed<Request>,
        f: u32,
    ) -> Option<Vec<Signed<Request>>> {
        let count = self.by.get(&domain).copied().unwrap_or(0);
        let is_known = self.about.get(&about).is_some_and(|by| by.contains_key(&domain));
        if self.charged.contains(&about)
            || is_known
            || count >= COMPLAINTS_PER_DOMAIN_MAX
            || report.bytes().len() > COMPLAINT_BYTES_MAX
        {
            return None;
        }
        self.by.insert(domain, count + 1);
        let reports = self.about.entry(about).or_default();
        reports.insert(domain, report.clone());
        if reports.len() as u64 <= u64::from(f) {
            return None;
        }
        self.charged.insert(about);
        self.about.remove(&about).map(|reports| reports.into_values().collect())
    }
}

impl Scheduler {
    /// Enters evidence into the records. A conviction takes its work from the tracker.
    pub(crate) fn charge(&mut self, charge: Charge) {
        let Charge { about, evidence, blame } = charge;
        debug_assert_eq!(evidence.check(&self.cluster), Ok((about, blame)), "B-1: {evidence:?}");
        if let Some(attempt) = evidence.attempt() {
            let kind = || evidence.kind().to_owned();
            let job = attempt.task.job;
            self.workforce.tell(job, || Happening::Blamed { tracker: about, kind: kind(), blame, attempt });
        }
        self.workforce.change(about, |tracker| tracker.record.add(evidence, blame));
        if self.blame_of(about) == Blame::Convicted {
            self.quarantine(about, "it is convicted of a lie", "its tracker is convicted of a lie");
        }
    }

    fn blame_of(&self, tracker: TrackerId) -> Blame {
        self.workforce.tracker(tracker).map_or(Blame::None, |tracker| tracker.record.blame)
    }

    /// Takes all work from a tracker; `tell` it if it may still be at it.
    pub(crate) fn lose_work(&mut self, tracker: TrackerId, why: &str, tell: bool) {
        for attempt in self.workforce.running(tracker, None) {
            let Some(job) = self.jobs.get_mut(&attempt.task.job) else { continue };
            job.lose(&mut self.workforce, attempt, AttemptState::Lost(why.to_owned()));
            if tell {
                self.workforce.direct(tracker, Directive::Cancel { attempt });
            }
        }
        self.close_ended();
    }

    /// Looks in all jobs whether the map output that a tracker serves can still be had.
    pub(crate) fn check_served_by(&mut self, tracker: TrackerId) {
        for job in self.jobs.values_mut() {
            job.check_served_by(&mut self.workforce, tracker);
        }
        self.close_ended();
    }

    /// An authenticated but unreadable request of a tracker: evidence against it.
    pub fn garbled(&mut self, tracker: TrackerId, request: &Signed<Request>) {
        let evidence = Evidence::Garbled { tracker, request: request.clone() };
        if let Ok((about, blame)) = evidence.check(&self.cluster) {
            self.charge(Charge { about, evidence, blame });
        }
    }

    /// Hears an accusation that a tracker's report holds. `checks` counts down what is verified for one report.
    pub(crate) fn accuse(
        &mut self,
        reporter: TrackerId,
        report: &Signed<Request>,
        accusation: &Accusation,
        checks: &mut usize,
    ) {
        // Evidence needs no accuser: what the convicted know, an honest reader finds out as well.
        if !self.workforce.is_fit(reporter) {
            return;
        }
        match accusation {
            Accusation::Evidence(evidence) => self.examine(evidence, checks),
            Accusation::Complaint { about, attempt, what: _ } => self.complain(reporter, report, *about, *attempt),
            Accusation::Unreachable { about, attempt } => self.miss(reporter, *about, *attempt),
            Accusation::StrayVote(signed) => self.stray_vote(signed, checks),
        }
    }

    /// Checks a peer's evidence. Kinds that never count from a peer are not looked at (B-2).
    fn examine(&mut self, evidence: &Evidence, checks: &mut usize) {
        let owed = match evidence {
            Evidence::TwoVotes(..) | Evidence::WrongChunk(_) => true,
            Evidence::WrongSegment { segments, .. } if segments.len() > limits::PARTITIONS_MAX as usize => return,
            Evidence::WrongSegment { vote, .. } => self.is_owed(vote),
            Evidence::Outvoted { .. } | Evidence::Garbled { .. } | Evidence::Complaints { .. } => return,
        };
        if claimed(evidence).is_none_or(|about| self.blame_of(about) == Blame::Convicted) || !take_one(checks) {
            return;
        }
        let Ok((about, blame)) = evidence.check(&self.cluster) else { return };
        if owed || blame == Blame::Convicted {
            self.charge(Charge { about, evidence: evidence.clone(), blame });
        }
    }

    /// Whether a tracker that says it has no segments of this vote ought to have them: once a job has ended, or an
    /// attempt was lost, an honest tracker drops them.
    fn is_owed(&self, vote: &Signed<Vote>) -> bool {
        let Ok(claim) = vote.peek() else { return false };
        self.jobs.get(&claim.attempt.task.job).and_then(|job| job.signed(claim.attempt)).is_some_and(|own| own == *vote)
    }

    fn complain(&mut self, reporter: TrackerId, report: &Signed<Request>, about: TrackerId, attempt: AttemptId) {
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        let charge = job.complain(&mut self.workforce, reporter, report, about, attempt);
        self.close(attempt.task.job);
        if let Some(charge) = charge {
            self.charge(charge);
        }
    }

    /// A reader cannot reach a tracker: that is nobody's fault, but its output may have to be made again.
    fn miss(&mut self, reporter: TrackerId, about: TrackerId, attempt: AttemptId) {
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        job.miss(&mut self.workforce, reporter, about, attempt);
        self.close(attempt.task.job);
    }

    /// Holds a vote that a tracker sent to another against the one that it had ordered. The signature is checked last:
    /// honest trackers send both alike.
    fn stray_vote(&mut self, signed: &Signed<Vote>, checks: &mut usize) {
        let Some(heard) = self.read_vote(signed, "") else { return };
        let Some(job) = self.jobs.get(&heard.vote.attempt.task.job) else { return };
        let (id, voter) = (heard.vote.attempt, heard.vote.tracker);
        let attempt = job.attempt(id).filter(|attempt| attempt.tracker == voter);
        if attempt.and_then(Attempt::vote).is_none_or(|ordered| ordered.ballot == heard.ballot) {
            return;
        }
        if self.blame_of(voter) == Blame::Convicted || !take_one(checks) {
            return;
        }
        let key = self.workforce.tracker(voter).map(|tracker| tracker.key);
        if key.is_none_or(|key| signed.verify_signature(&key).is_err()) {
            return;
        }
        if let Some(charge) = job.two_votes(id, &heard) {
            self.charge(charge);
        }
    }

    /// Reads a vote of a tracker of this cluster on a live job as specified. Anything else is no vote. Its signature is
    /// another matter.
    pub(crate) fn read_vote<'a>(&self, signed: &'a Signed<Vote>, message: &'a str) -> Option<HeardVote<'a>> {
        let vote = signed.peek().ok()?;
        self.workforce.tracker(vote.tracker)?;
        let job = self.jobs.get(&vote.attempt.task.job)?;
        let fits = match (&vote.ballot, vote.attempt.task.stage) {
            (Ballot::Map { .. }, stage) => stage == Stage::Map,
            (Ballot::Reduce { .. }, stage) => stage == Stage::Reduce,
            (Ballot::Failed { .. }, _) => true,
        };
        let is_ours = vote.cluster == self.cluster_id && vote.specification == job.digest && vote.f == job.f();
        let counts = fits && is_ours && vote.ballot.check().is_ok();
        counts.then(|| HeardVote::new(vote, signed, message))
    }

    /// Ends every job that is to end; whether there was one.
    pub(crate) fn close_ended(&mut self) -> bool {
        let ended: Vec<JobId> = self.jobs.values().filter(|job| job.ending.is_some()).map(|job| job.id).collect();
        ended.iter().for_each(|id| self.close(*id));
        !ended.is_empty()
    }
}

/// Whom evidence claims to be against.
fn claimed(evidence: &Evidence) -> Option<TrackerId> {
    match evidence {
        Evidence::TwoVotes(vote, _)
        | Evidence::WrongSegment { vote, .. }
        | Evidence::Outvoted { vote, .. }
        | Evidence::Complaints { vote, .. } => vote.peek().ok().map(|vote| vote.tracker),
        Evidence::WrongChunk(served) => served.peek().ok().map(|served| served.tracker),
        Evidence::Garbled { tracker, .. } => Some(*tracker),
    }
}

/// Takes one of what is left; whether there was one.
fn take_one(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

impl Job {
    /// Notes a complaint of a tracker that works for the job about the output of another.
    fn complain(
        &mut self,
        workforce: &mut Workforce,
        reporter: TrackerId,
        report: &Signed<Request>,
        about: TrackerId,
        id: AttemptId,
    ) -> Option<Charge> {
        let f = self.f();
        if !self.miss(workforce, reporter, about, id) {
            return None;
        }
        let vote = self.signed(id)?;
        let reports = self.complaints.add(about, workforce.domain(reporter), report, f)?;
        let evidence = Evidence::Complaints { vote, reports };
        Some(Charge { about, evidence, blame: Blame::Suspected })
    }

    /// Notes that a reader has no use for the output of an attempt; whether the reader may say so, and it is one that
    /// voted.
    fn miss(&mut self, workforce: &mut Workforce, reporter: TrackerId, about: TrackerId, id: AttemptId) -> bool {
        let takes_part = self.crew.get(reporter).is_some_and(|member| member.takes_part);
        if reporter == about || !takes_part || !workforce.is_fit(reporter) {
            return false;
        }
        let voted = |attempt: &&mut Attempt| attempt.tracker == about && attempt.vote().is_some();
        let Some(attempt) = self.attempt_mut(id).filter(voted) else { return false };
        attempt.is_complained = true;
        if id.task.stage == Stage::Map {
            self.check_served(workforce, id.task.index);
        }
        true
    }
}
