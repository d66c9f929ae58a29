//! What must hold of a run.
//!
//! * **VERDICT** Each map verdict is the honest ballot, by voters of f + 1 distinct domains that all voted so.
//! * **VOTES** Of each map task f + 1 votes of distinct domains that do not lie are kept, for what was agreed, and a
//!   sample of the signatures holds.
//! * **OUTPUT** The job succeeds, and each part is the honest one, on servers of f + 1 distinct domains.
//! * **BLAME** Only liars are blamed, by evidence that anybody can check.

use super::{
    figures::Reached,
    site::{self, F, Site},
};
use crate::Violation;
use quorate_protocol::{
    digest::Digest,
    file::Path,
    ids::{JobId, Stage, TaskId, TrackerId},
    job::MapVerdict,
    query::{Answer, Blame, JobState, JobView, Question, TrackerView},
    sign::Signed,
    vote::{Ballot, Vote},
};
use quorate_schedule::Scheduler;
use std::collections::BTreeSet;

/// The signature of one vote in so many is verified.
const SAMPLE: u32 = 97;

/// What was seen of the job so far.
pub(super) struct Checks {
    job: JobId,
    digest: Digest,
    partitions: u32,
    verdicts: u64,
    /// For each map task, whether it has a verdict.
    agreed: Vec<bool>,
    missing: u32,
}

fn violation<T>(name: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation { name, what })
}

impl Checks {
    pub(super) fn new(job: JobId, digest: Digest, maps: u32, partitions: u32) -> Self {
        Self { job, digest, partitions, verdicts: 0, agreed: vec![false; maps as usize], missing: maps }
    }

    /// Verdicts heard.
    pub(super) fn verdicts(&self) -> u64 {
        self.verdicts
    }

    pub(super) fn are_maps_agreed(&self) -> bool {
        self.missing == 0
    }

    fn map(&self, index: u32) -> TaskId {
        TaskId { job: self.job, stage: Stage::Map, index }
    }

    /// Looks at new verdicts.
    pub(super) fn hear(&mut self, site: &Site, new: Vec<(u64, MapVerdict)>) -> Result<(), Violation> {
        for (at, verdict) in new {
            if at != self.verdicts {
                return violation("VERDICT", format!("verdict {at} comes after {} others", self.verdicts));
            }
            self.verdicts += 1;
            let right = site::ballot(self.map(verdict.map), 0);
            let Ballot::Map { segments, .. } = &right else { unreachable!("a map task's ballot") };
            let domains: BTreeSet<u32> = verdict.voters.iter().map(|(tracker, _)| site.domain(*tracker)).collect();
            let is_right = verdict.ballot == right.digest() && verdict.segments == *segments;
            if !is_right || domains.len() <= F as usize {
                return violation("VERDICT", format!("{verdict:?}"));
            }
            match self.agreed.get_mut(verdict.map as usize) {
                Some(agreed) => self.missing -= u32::from(!std::mem::replace(agreed, true)),
                None => return violation("VERDICT", format!("there is no such map: {verdict:?}")),
            }
        }
        Ok(())
    }

    /// Looks at the votes that are kept of all map tasks.
    pub(super) fn look_at_votes(&self, site: &Site, scheduler: &Scheduler) -> Result<(), Violation> {
        for index in 0..self.agreed.len() as u32 {
            let task = self.map(index);
            let Answer::Votes(votes) = scheduler.ask(&Question::Votes(task)) else {
                return violation("VOTES", format!("none are kept of {task}"));
            };
            let right = site::ballot(task, 0);
            let mut domains = BTreeSet::new();
            for signed in votes {
                let vote = self.read(site, &signed, index % SAMPLE == 0)?;
                if vote.attempt.task != task {
                    return violation("VOTES", format!("{vote:?} is kept for {task}"));
                }
                if vote.ballot == right {
                    domains.insert(site.domain(vote.tracker));
                }
            }
            if domains.len() <= F as usize {
                return violation("VOTES", format!("{task} is agreed by {} domains", domains.len()));
            }
        }
        Ok(())
    }

    fn read(&self, site: &Site, signed: &Signed<Vote>, verifies: bool) -> Result<Vote, Violation> {
        let Ok(vote) = signed.peek() else { return violation("VOTES", "a vote is unreadable".to_owned()) };
        if vote.specification != self.digest || vote.cluster != site.id {
            return violation("VOTES", format!("{vote:?} is on another job"));
        }
        if verifies && signed.verify_signature(&site.key(vote.tracker).public()).is_err() {
            return violation("VOTES", format!("{vote:?} is not signed"));
        }
        Ok(vote)
    }

    /// Looks at what is there after the job's end.
    pub(super) fn end(
        &self,
        site: &Site,
        scheduler: &Scheduler,
        is_liar: &dyn Fn(TrackerId) -> bool,
        reached: &mut Reached,
    ) -> Result<(), Violation> {
        let Answer::Job(view) = scheduler.ask(&Question::Job(self.job)) else {
            return violation("OUTPUT", "the job is forgotten".to_owned());
        };
        let JobView { summary, attempts, disputed, .. } = *view;
        if summary.state != JobState::Succeeded {
            return violation("OUTPUT", format!("{:?}", summary.state));
        }
        (reached.attempts, reached.disputed) = (attempts, disputed);
        self.look_at_output(site, scheduler)?;
        let Answer::Trackers(trackers) = scheduler.ask(&Question::Trackers) else {
            return violation("BLAME", "the trackers are not known".to_owned());
        };
        for tracker in trackers {
            reached.outvoted += tracker.outvoted;
            reached.overdue += tracker.overdue;
            reached.suspected += u64::from(tracker.blame == Blame::Suspected);
            reached.convicted += u64::from(tracker.blame == Blame::Convicted);
            look_at_blame(site, scheduler, &tracker, is_liar(tracker.id))?;
        }
        Ok(())
    }

    fn look_at_output(&self, site: &Site, scheduler: &Scheduler) -> Result<(), Violation> {
        let out = Path::parse("/out").expect("a path");
        let Answer::Files(files) = scheduler.ask(&Question::Files(out)) else {
            return violation("OUTPUT", "there is none".to_owned());
        };
        if files.len() != self.partitions as usize {
            return violation("OUTPUT", format!("{} parts", files.len()));
        }
        for (index, (path, file)) in (0..).zip(files) {
            let right = site::ballot(TaskId { job: self.job, stage: Stage::Reduce, index }, 0);
            let is_right = matches!(right, Ballot::Reduce { manifest, .. } if manifest == file.manifest);
            let domains: BTreeSet<u32> = file.servers(0).iter().map(|server| site.domain(*server)).collect();
            if !is_right || domains.len() <= F as usize {
                return violation("OUTPUT", format!("{path} is wrong, or in {} domains only", domains.len()));
            }
        }
        Ok(())
    }
}

fn look_at_blame(site: &Site, scheduler: &Scheduler, tracker: &TrackerView, lies: bool) -> Result<(), Violation> {
    if tracker.blame == Blame::None {
        return Ok(());
    }
    if !lies {
        return violation("BLAME", format!("{} is {:?}, and honest", tracker.id, tracker.blame));
    }
    let Answer::Evidence(evidence) = scheduler.ask(&Question::Evidence(tracker.id)) else {
        return violation("BLAME", format!("no evidence against {}", tracker.id));
    };
    let shown: Option<Blame> = evidence
        .iter()
        .map(|evidence| evidence.check(&site.cluster).ok().filter(|(about, _)| *about == tracker.id))
        .try_fold(Blame::None, |most, shown| Some(most.max(shown?.1)));
    match shown {
        Some(shown) if shown == tracker.blame => Ok(()),
        _ => violation("BLAME", format!("{} is {:?}, and the evidence shows {shown:?}", tracker.id, tracker.blame)),
    }
}
