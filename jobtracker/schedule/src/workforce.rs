//! All trackers, the pools that tell who can take work, and the alarms of running attempts.
//!
//! Jobs act on trackers through this type only, so that the pools always say what the trackers' own states say.

use crate::{
    pool::{Found, Pool},
    tracker::{Alarm, Tracker},
};
use quorate_protocol::{
    cluster::Cluster,
    ids::{AttemptId, Domain, JobId, OrderedTime, Stage, TaskId, TrackerId},
    job::{Directive, Work},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A failure domain, by its place in the sorted list of all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct DomainIndex(pub(crate) u32);

/// What a task needs of a tracker.
#[derive(Debug)]
pub(crate) struct Need<'a> {
    /// Its stage.
    pub(crate) stage: Stage,
    /// The program's target, empty for one that runs anywhere.
    pub(crate) target: &'a str,
    /// Domains that may not run it.
    pub(crate) occupied: Vec<DomainIndex>,
    /// Trackers that should not.
    pub(crate) spoiled: Vec<TrackerId>,
    /// Trackers that hold its input.
    pub(crate) preferred: &'a [TrackerId],
}

/// All trackers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Workforce {
    /// The ordered time.
    pub(crate) now: OrderedTime,
    domains: Vec<Domain>,
    trackers: BTreeMap<TrackerId, Tracker>,
    pools: BTreeMap<(Stage, String), Pool>,
    alarms: BTreeSet<Alarm>,
}

impl Workforce {
    /// The trackers of a configuration, none of them there.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let domains: BTreeSet<&Domain> = cluster.trackers.iter().map(|member| &member.domain).collect();
        let domains: Vec<Domain> = domains.into_iter().cloned().collect();
        let index = |domain: &Domain| DomainIndex(domains.partition_point(|other| other < domain) as u32);
        let trackers = cluster
            .trackers
            .iter()
            .map(|member| (member.id, Tracker::new(member.id, index(&member.domain), member.key)))
            .collect();
        Self { now: OrderedTime::default(), domains, trackers, pools: BTreeMap::new(), alarms: BTreeSet::new() }
    }

    /// All trackers in the order of their numbers.
    pub(crate) fn trackers(&self) -> impl Iterator<Item = &Tracker> {
        self.trackers.values()
    }
    /// One tracker.
    pub(crate) fn tracker(&self, id: TrackerId) -> Option<&Tracker> {
        self.trackers.get(&id)
    }
    /// A tracker's domain.
    ///
    /// # Panics
    /// For a tracker outside the configuration: attempts are given to members only.
    pub(crate) fn domain(&self, id: TrackerId) -> DomainIndex {
        self.trackers.get(&id).expect("attempts run on members of the configuration").domain
    }
    /// The label of a tracker's domain.
    pub(crate) fn domain_label(&self, tracker: &Tracker) -> &Domain {
        &self.domains[tracker.domain.0 as usize]
    }
    /// Whether a tracker is there and not convicted.
    pub(crate) fn is_fit(&self, id: TrackerId) -> bool {
        self.trackers.get(&id).is_some_and(Tracker::is_fit)
    }

    /// Changes a tracker and brings the pools up to date with it.
    pub(crate) fn change(&mut self, id: TrackerId, change: impl FnOnce(&mut Tracker)) {
        let Some(tracker) = self.trackers.get_mut(&id) else { return };
        let before = tracker.offers();
        change(tracker);
        let after = tracker.offers();
        if before == after {
            return;
        }
        let domain = tracker.domain;
        for offer in before {
            if let Some(pool) = self.pools.get_mut(&(offer.stage, offer.target)) {
                pool.leave(id, domain, offer.load);
            }
        }
        for offer in after {
            self.pools.entry((offer.stage, offer.target)).or_default().enter(id, domain, offer.load);
        }
        self.pools.retain(|_, pool| pool.live_domains() > 0);
    }

    /// Gives an attempt to a tracker.
    pub(crate) fn start(&mut self, id: TrackerId, attempt: AttemptId, work: Work, alarm: OrderedTime) {
        self.alarms.insert((alarm, attempt));
        self.change(id, |tracker| {
            tracker.running_mut(attempt.task.stage).insert(attempt);
            tracker.directives.push(Directive::Start { attempt, work });
        });
    }
    /// Takes an attempt back: its slot is free.
    pub(crate) fn release(&mut self, id: TrackerId, attempt: AttemptId, alarm: OrderedTime) {
        self.alarms.remove(&(alarm, attempt));
        self.change(id, |tracker| {
            tracker.running_mut(attempt.task.stage).remove(&attempt);
        });
    }
    /// Tells a tracker something.
    pub(crate) fn direct(&mut self, id: TrackerId, directive: Directive) {
        self.change(id, |tracker| tracker.directives.push(directive));
    }
    /// What a tracker runs of one job, or of all.
    pub(crate) fn running(&self, id: TrackerId, job: Option<JobId>) -> Vec<AttemptId> {
        let Some(tracker) = self.trackers.get(&id) else { return Vec::new() };
        let of = |stage| {
            let first = |job| AttemptId { task: TaskId { job, stage, index: 0 }, attempt: 0 };
            let from = first(job.unwrap_or(JobId::new(0)));
            tracker.running(stage).range(from..).take_while(move |a| job.is_none_or(|job| a.task.job == job)).copied()
        };
        of(Stage::Map).chain(of(Stage::Reduce)).collect()
    }

    /// Moves an attempt's alarm.
    pub(crate) fn move_alarm(&mut self, attempt: AttemptId, from: OrderedTime, to: OrderedTime) {
        self.alarms.remove(&(from, attempt));
        self.alarms.insert((to, attempt));
    }
    /// The next alarm.
    pub(crate) fn next_alarm(&self) -> Option<Alarm> {
        self.alarms.first().copied()
    }

    /// All attempts that have an alarm: those that run.
    pub(crate) fn alarmed(&self) -> Vec<AttemptId> {
        self.alarms.iter().map(|(_, attempt)| *attempt).collect()
    }

    /// Finds a tracker for a task: one that holds its input when such a one is free and above suspicion.
    pub(crate) fn find(&self, need: &Need<'_>) -> Found {
        let Some(pool) = self.pool(need.stage, need.target) else { return Found::Nobody };
        let suits = |tracker: &&Tracker| {
            !need.occupied.contains(&tracker.domain)
                && !need.spoiled.contains(&tracker.id)
                && self.runs(tracker, need.target)
        };
        let local = need.preferred.iter().filter_map(|id| self.trackers.get(id)).filter(suits);
        let local = local.filter_map(|tracker| Some((tracker.load(need.stage)?, tracker.id)));
        match local.filter(|(load, _)| load.rank == 0).min() {
            Some((_, id)) => Found::Tracker(id),
            None => pool.find(&need.occupied, &need.spoiled),
        }
    }
    fn runs(&self, tracker: &Tracker, target: &str) -> bool {
        target.is_empty() || tracker.registration.as_ref().is_some_and(|registration| registration.target == target)
    }

    /// The pool of a stage and target, when any live tracker is in it.
    pub(crate) fn pool(&self, stage: Stage, target: &str) -> Option<&Pool> {
        // The map's key owns its text; looking up by reference would need a type of its own.
        self.pools.get(&(stage, target.to_owned()))
    }
    /// How many domains have a live tracker for both stages of such a program.
    pub(crate) fn live_domains(&self, target: &str) -> usize {
        let of = |stage| self.pool(stage, target).map_or(0, Pool::live_domains);
        of(Stage::Map).min(of(Stage::Reduce))
    }
    /// The targets of live trackers.
    pub(crate) fn live_targets(&self) -> BTreeSet<&str> {
        self.pools.keys().map(|(_, target)| target.as_str()).filter(|target| !target.is_empty()).collect()
    }
}
