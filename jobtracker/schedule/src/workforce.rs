//! All trackers, the pools that tell who can take work, and the alarms of running attempts.
//!
//! Jobs act on trackers through this type only, so that the pools always say what the trackers' own states say.

use crate::{
    pool::{Found, Pool},
    tracker::{Alarm, Offer, Tracker},
};
use quorate_protocol::{
    cluster::Cluster,
    command::Registration,
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

const STAGES: [Stage; 2] = [Stage::Map, Stage::Reduce];

/// The pools of both stages, by the target of the programs that they run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Pools {
    maps: BTreeMap<String, Pool>,
    reduces: BTreeMap<String, Pool>,
}

impl Pools {
    fn of(&self, stage: Stage) -> &BTreeMap<String, Pool> {
        match stage {
            Stage::Map => &self.maps,
            Stage::Reduce => &self.reduces,
        }
    }
    fn of_mut(&mut self, stage: Stage) -> &mut BTreeMap<String, Pool> {
        match stage {
            Stage::Map => &mut self.maps,
            Stage::Reduce => &mut self.reduces,
        }
    }

    /// Brings the pools that a tracker is in up to date with what it offers.
    fn change(&mut self, stage: Stage, tracker: &Tracker, before: Option<Offer>, after: Option<Offer>) {
        let pools = self.of_mut(stage);
        let own = Some(tracker.target()).filter(|target| !target.is_empty());
        for target in [""].into_iter().chain(own) {
            if !pools.contains_key(target) {
                pools.insert(target.to_owned(), Pool::default());
            }
            let Some(pool) = pools.get_mut(target) else { continue };
            pool.change(tracker.id, tracker.domain, before, after);
            if pool.live_domains() == 0 {
                pools.remove(target);
            }
        }
    }
}

/// All trackers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Workforce {
    /// The ordered time.
    pub(crate) now: OrderedTime,
    domains: Vec<Domain>,
    trackers: BTreeMap<TrackerId, Tracker>,
    pools: Pools,
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
        Self { now: OrderedTime::default(), domains, trackers, pools: Pools::default(), alarms: BTreeSet::new() }
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
        let before = STAGES.map(|stage| tracker.offer(stage));
        change(tracker);
        for (stage, before) in STAGES.into_iter().zip(before) {
            let after = tracker.offer(stage);
            if before != after {
                self.pools.change(stage, tracker, before, after);
            }
        }
    }

    /// Takes over a registration. The new process may run other programs than the old one, so it leaves the pools first.
    pub(crate) fn register(&mut self, id: TrackerId, registration: &Registration) {
        self.change(id, |tracker| tracker.live = false);
        self.change(id, |tracker| tracker.register(registration));
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
    /// Notes that a tracker voted, which frees the attempt's slot if it still held it: then it has an alarm.
    pub(crate) fn voted(&mut self, id: TrackerId, attempt: AttemptId, alarm: Option<OrderedTime>) {
        if let Some(alarm) = alarm {
            self.alarms.remove(&(alarm, attempt));
        }
        self.change(id, |tracker| {
            tracker.running_mut(attempt.task.stage).remove(&attempt);
            tracker.is_tardy = false;
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
        target.is_empty() || tracker.target() == target
    }

    /// The pool of a stage and target, when any live tracker is in it.
    pub(crate) fn pool(&self, stage: Stage, target: &str) -> Option<&Pool> {
        self.pools.of(stage).get(target)
    }
    /// How many domains have a live tracker for both stages of such a program.
    pub(crate) fn live_domains(&self, target: &str) -> usize {
        let of = |stage| self.pool(stage, target).map_or(0, Pool::live_domains);
        of(Stage::Map).min(of(Stage::Reduce))
    }
    /// The targets of live trackers.
    pub(crate) fn live_targets(&self) -> BTreeSet<&str> {
        let all = STAGES.into_iter().flat_map(|stage| self.pools.of(stage).keys());
        all.map(String::as_str).filter(|target| !target.is_empty()).collect()
    }
}
