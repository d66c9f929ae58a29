//! All trackers, the pools that tell who can take work, and the alarms of running attempts.
//!
//! Jobs act on trackers through this type only, so that the pools always say what the trackers' own states say.

use crate::{
    events::Events,
    pool::{Found, Pool},
    table::Table,
    tracker::{Alarm, Offer, Tracker},
};
use quorate_protocol::{
    cluster::{Cluster, TrackerMember},
    command::Registration,
    ids::{AttemptId, Domain, JobId, OrderedTime, Stage, TrackerId},
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

/// The pools of one stage.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Pools {
    /// All trackers: for programs that run anywhere.
    all: Pool,
    /// The trackers of each target.
    by_target: BTreeMap<String, Pool>,
}

impl Pools {
    fn get(&self, target: &str) -> Option<&Pool> {
        if target.is_empty() { Some(&self.all) } else { self.by_target.get(target) }
    }

    /// Brings the pools that a tracker is in up to date with what it offers.
    fn change(&mut self, tracker: &Tracker, before: Option<Offer>, after: Option<Offer>) {
        let (id, domain, target) = (tracker.id, tracker.domain, tracker.target());
        self.all.change(id, domain, before, after);
        if target.is_empty() {
            return;
        }
        if !self.by_target.contains_key(target) {
            self.by_target.insert(target.to_owned(), Pool::default());
        }
        let Some(pool) = self.by_target.get_mut(target) else { return };
        pool.change(id, domain, before, after);
        if pool.live_domains() == 0 {
            self.by_target.remove(target);
        }
    }
}

/// All trackers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Workforce {
    /// The ordered time.
    pub(crate) now: OrderedTime,
    domains: Vec<Domain>,
    trackers: Table<Tracker>,
    maps: Pools,
    reduces: Pools,
    /// Trackers that are there and on probation.
    probation: BTreeSet<TrackerId>,
    /// Of each tracker that runs something with an alarm, when the first one rings.
    alarms: BTreeSet<(OrderedTime, TrackerId)>,
    /// What happens, for whoever listens.
    pub(crate) events: Events,
}

impl Workforce {
    /// The trackers of a configuration, none of them there.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let domains: BTreeSet<&Domain> = cluster.trackers.iter().map(|member| &member.domain).collect();
        let domains: Vec<Domain> = domains.into_iter().cloned().collect();
        let index = |domain: &Domain| DomainIndex(domains.partition_point(|other| other < domain) as u32);
        let row = |member: &TrackerMember| (member.id, Tracker::new(member.id, index(&member.domain), member.key));
        let trackers = Table::new(cluster.trackers.iter().map(row));
        Self {
            now: OrderedTime::default(),
            domains,
            trackers,
            maps: Pools::default(),
            reduces: Pools::default(),
            probation: BTreeSet::new(),
            alarms: BTreeSet::new(),
            events: Events::default(),
        }
    }

    /// All trackers in the order of their numbers.
    pub(crate) fn trackers(&self) -> impl Iterator<Item = &Tracker> {
        self.trackers.iter().map(|(_, tracker)| tracker)
    }
    /// One tracker.
    pub(crate) fn tracker(&self, id: TrackerId) -> Option<&Tracker> {
        self.trackers.get(id)
    }
    /// A tracker's domain.
    ///
    /// # Panics
    /// For a tracker outside the configuration: attempts are given to members only.
    pub(crate) fn domain(&self, id: TrackerId) -> DomainIndex {
        self.trackers.get(id).expect("attempts run on members of the configuration").domain
    }
    /// The label of a tracker's domain.
    pub(crate) fn domain_label(&self, tracker: &Tracker) -> &Domain {
        &self.domains[tracker.domain.0 as usize]
    }
    /// Whether a tracker is there, and what it stored may be asked for.
    pub(crate) fn serves(&self, id: TrackerId) -> bool {
        self.trackers.get(id).is_some_and(Tracker::serves)
    }
    /// The trackers that are there and on probation.
    pub(crate) fn on_probation(&self) -> Vec<TrackerId> {
        self.probation.iter().copied().collect()
    }
    /// Whether a tracker is there and may be given work.
    pub(crate) fn is_fit(&self, id: TrackerId) -> bool {
        self.trackers.get(id).is_some_and(Tracker::is_fit)
    }

    /// Changes a tracker and brings the pools and the alarms up to date with it.
    pub(crate) fn change(&mut self, id: TrackerId, change: impl FnOnce(&mut Tracker)) {
        let Some(tracker) = self.trackers.get_mut(id) else { return };
        let offers = |tracker: &Tracker| [Stage::Map, Stage::Reduce].map(|stage| tracker.offer(stage));
        let (before, alarm) = (offers(tracker), tracker.next_alarm());
        let was_on_probation = tracker.is_on_probation();
        change(tracker);
        let after = offers(tracker);
        if was_on_probation != tracker.is_on_probation() {
            if was_on_probation {
                self.probation.remove(&id)
            } else {
                self.probation.insert(id)
            };
        }
        if alarm != tracker.next_alarm() {
            alarm.map(|alarm| self.alarms.remove(&(alarm, id)));
            self.alarms.extend(tracker.next_alarm().map(|alarm| (alarm, id)));
        }
        for ((pools, before), after) in [&mut self.maps, &mut self.reduces].into_iter().zip(before).zip(after) {
            if before != after {
                pools.change(tracker, before, after);
            }
        }
    }

    /// Takes over a registration. The new process may run other programs than the old one, so it leaves the pools first.
    pub(crate) fn register(&mut self, id: TrackerId, registration: &Registration) {
        self.change(id, |tracker| tracker.live = false);
        self.change(id, |tracker| tracker.register(registration));
    }

    /// Gives an attempt to a tracker.
    pub(crate) fn start(&mut self, id: TrackerId, attempt: AttemptId, work: Work, alarm: Option<OrderedTime>) {
        self.change(id, |tracker| {
            tracker.hold(attempt, alarm);
            tracker.directives.push(Directive::Start { attempt, work });
        });
    }
    /// Takes an attempt back: its slot is free.
    pub(crate) fn release(&mut self, id: TrackerId, attempt: AttemptId) {
        self.change(id, |tracker| tracker.let_go(attempt));
    }
    /// Notes that a tracker voted, which frees the attempt's slot if it still held it.
    pub(crate) fn voted(&mut self, id: TrackerId, attempt: AttemptId) {
        self.change(id, |tracker| {
            tracker.let_go(attempt);
            tracker.is_tardy = false;
        });
    }
    /// Tells a tracker something.
    pub(crate) fn direct(&mut self, id: TrackerId, directive: Directive) {
        self.change(id, |tracker| tracker.directives.push(directive));
    }
    /// What a tracker runs of one job, or of all.
    pub(crate) fn running(&self, id: TrackerId, job: Option<JobId>) -> Vec<AttemptId> {
        let Some(tracker) = self.trackers.get(id) else { return Vec::new() };
        let of = |stage| tracker.running(stage).filter(|attempt| job.is_none_or(|job| attempt.task.job == job));
        of(Stage::Map).chain(of(Stage::Reduce)).collect()
    }

    /// Moves an attempt's alarm to when there is to be one.
    pub(crate) fn set_alarm(&mut self, id: TrackerId, attempt: AttemptId, to: Option<OrderedTime>) {
        self.change(id, |tracker| tracker.set_alarm(attempt, to));
    }
    /// When an attempt that runs on a tracker must next be looked at.
    pub(crate) fn alarm_of(&self, id: TrackerId, attempt: AttemptId) -> Option<OrderedTime> {
        self.tracker(id)?.alarm_of(attempt)
    }
    /// The next alarm.
    pub(crate) fn next_alarm(&self) -> Option<Alarm> {
        let (_, tracker) = self.alarms.first()?;
        self.tracker(*tracker)?.first_alarm()
    }
    /// When it rings.
    pub(crate) fn next_alarm_time(&self) -> Option<OrderedTime> {
        self.alarms.first().map(|(time, _)| *time)
    }
    /// All attempts that have an alarm: those that run, but for reducers that wait for maps.
    pub(crate) fn alarmed(&self) -> Vec<AttemptId> {
        self.trackers().flat_map(Tracker::alarms).map(|(_, attempt)| attempt).collect()
    }
    /// Whether the alarms that are kept are those of the trackers.
    pub(crate) fn knows_alarms(&self) -> bool {
        let first = |tracker: &Tracker| Some((tracker.first_alarm()?.0, tracker.id));
        self.trackers().filter_map(first).collect::<BTreeSet<_>>() == self.alarms
    }

    /// Finds a tracker for a task: one that holds its input when such a one is free and above suspicion.
    pub(crate) fn find(&self, need: &Need<'_>) -> Found {
        let Some(pool) = self.pool(need.stage, need.target) else { return Found::Nobody };
        let suits = |tracker: &&Tracker| {
            !need.occupied.contains(&tracker.domain)
                && !need.spoiled.contains(&tracker.id)
                && self.runs(tracker, need.target)
        };
        let local = need.preferred.iter().filter_map(|id| self.trackers.get(*id)).filter(suits);
        let local = local.filter_map(|tracker| Some((tracker.load(need.stage)?, tracker.id)));
        match local.filter(|(load, _)| load.rank == 0).min() {
            Some((_, id)) => Found::Tracker(id),
            None => pool.find(&need.occupied, &need.spoiled),
        }
    }
    fn runs(&self, tracker: &Tracker, target: &str) -> bool {
        target.is_empty() || tracker.target() == target
    }

    /// The pool of a stage and target, when there is one.
    pub(crate) fn pool(&self, stage: Stage, target: &str) -> Option<&Pool> {
        match stage {
            Stage::Map => self.maps.get(target),
            Stage::Reduce => self.reduces.get(target),
        }
    }
    /// How many domains have a live tracker for both stages of such a program.
    pub(crate) fn live_domains(&self, target: &str) -> usize {
        let of = |stage| self.pool(stage, target).map_or(0, Pool::live_domains);
        of(Stage::Map).min(of(Stage::Reduce))
    }
    /// The targets of live trackers.
    pub(crate) fn live_targets(&self) -> BTreeSet<&str> {
        self.maps.by_target.keys().chain(self.reduces.by_target.keys()).map(String::as_str).collect()
    }
}
