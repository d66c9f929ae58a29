//! What disputes look like: a lie, a faulty machine, or a program that does not give the same each time.
//!
//! Only signatures prove a lie. Being outvoted is suspicion, whoever it hits, and what is said here of it is a guess with its
//! grounds. A tracker is named when it, and never another, differs from those that agree.

use super::{Camp, Explained, Held, Won, as_text};
use quorate_protocol::{
    ids::{Domain, TaskId, TrackerId},
    query::{JobFailure, JobState, JobView, TrackerView},
};
use quorate_tasktracker::Finding;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A guess, or what is proven.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Nothing was found against anybody.
    Smooth,
    /// No votes differ; some came late or not at all. That is never a lie.
    Late,
    /// What a tracker signed proves that it lied.
    Lied(#[serde(serialize_with = "as_text")] TrackerId),
    /// A tracker's vote does not fit its own bytes, which are as the others': no program does that.
    WrongVote(#[serde(serialize_with = "as_text")] TrackerId),
    /// Something is held against a tracker that proves nothing, and its votes are like the others'.
    Suspected(#[serde(serialize_with = "as_text")] TrackerId),
    /// Each time it is this tracker that differs: it lies, or its machine is faulty.
    OneTracker {
        /// Which.
        #[serde(serialize_with = "as_text")]
        tracker: TrackerId,
        /// Disputed tasks on which it was outvoted.
        tasks: u64,
        /// All its votes, on all jobs, that were agreed.
        agreed: u64,
        /// All that were outvoted.
        outvoted: u64,
    },
    /// One vote differs, once.
    Once(#[serde(serialize_with = "as_text")] TrackerId),
    /// Trackers of more than f domains differ, now these, now those: the program does not give the same each time.
    Program {
        /// Domains that were outvoted.
        domains: usize,
    },
    /// No f + 1 votes agree on a task.
    NobodyAgrees {
        /// Whether each vote differs from each other.
        all_differ: bool,
    },
    /// A tracker ran an attempt of its own again, and gave another output: so the job failed.
    Changes(#[serde(serialize_with = "as_text")] TrackerId),
}

/// What the disputes of a job look like.
pub(super) fn of(
    view: &JobView,
    all: &[(TaskId, Vec<Camp>)],
    looked_into: &[Explained],
    held: &[Held],
    trackers: &[TrackerView],
) -> Vec<Look> {
    let mut looks: Vec<Look> = held.iter().filter(|held| held.proven).map(|held| Look::Lied(held.tracker)).collect();
    let findings = || looked_into.iter().flat_map(|explained| &explained.findings);
    let mut explained: BTreeSet<TrackerId> = held.iter().filter(|held| held.proven).map(|held| held.tracker).collect();
    for finding in findings() {
        if let Finding::NotAsVoted { tracker, is_of: Some(_) } = finding
            && explained.insert(tracker.0)
        {
            looks.push(Look::WrongVote(tracker.0));
        }
    }
    if let JobState::Failed(JobFailure::Nondeterministic { tracker, .. }) = &view.summary.state {
        looks.push(Look::Changes(*tracker));
    }
    if let JobState::Failed(JobFailure::Undecidable { task }) = &view.summary.state {
        let camps = all.iter().find(|(id, _)| id == task).map(|(_, camps)| camps.as_slice()).unwrap_or_default();
        looks.push(Look::NobodyAgrees { all_differ: camps.iter().all(|camp| camp.members.len() == 1) });
    }
    looks.extend(outvoted(view, all, &explained, trackers));
    let named: BTreeSet<TrackerId> = looks.iter().filter_map(Look::points_at).collect();
    let is_new = |held: &&Held| !named.contains(&held.tracker);
    // Several who were outvoted are told together.
    if !looks.iter().any(|look| matches!(look, Look::Program { .. })) {
        looks.extend(held.iter().filter(is_new).map(|held| Look::Suspected(held.tracker)));
    }
    if looks.is_empty() {
        looks.push(if view.disputed == 0 { Look::Smooth } else { Look::Late });
    }
    looks
}

/// What the outvoted have in common, but those of whom more is known.
fn outvoted(
    view: &JobView,
    all: &[(TaskId, Vec<Camp>)],
    explained: &BTreeSet<TrackerId>,
    trackers: &[TrackerView],
) -> Vec<Look> {
    let mut losses: BTreeMap<TrackerId, u64> = BTreeMap::new();
    let mut domains: BTreeSet<&Domain> = BTreeSet::new();
    let losers = all.iter().flat_map(|(_, camps)| camps).filter(|camp| camp.won == Won::Outvoted);
    for member in losers.flat_map(|camp| &camp.members).filter(|member| !explained.contains(&member.tracker)) {
        *losses.entry(member.tracker).or_default() += 1;
        domains.insert(&member.domain);
    }
    if domains.len() as u64 > u64::from(view.summary.f) {
        return vec![Look::Program { domains: domains.len() }];
    }
    let look = |(tracker, tasks): (TrackerId, u64)| match tasks {
        1 => Look::Once(tracker),
        _ => {
            let seen = trackers.iter().find(|view| view.id == tracker);
            let (agreed, outvoted) = seen.map_or((0, tasks), |view| (view.agreed, view.outvoted));
            Look::OneTracker { tracker, tasks, agreed, outvoted }
        }
    };
    losses.into_iter().map(look).collect()
}
