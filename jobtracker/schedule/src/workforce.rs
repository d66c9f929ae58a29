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

/// A target that a tracker has, by a number of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct TargetIndex(u32);

/// The targets that trackers registered for, so that a change of a tracker compares no names.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Targets {
    /// By name, with how many trackers have it.
    known: BTreeMap<String, (TargetIndex, u32)>,
    next: u32,
}

impl Targets {
    fn index(&self, name: &str) -> Option<TargetIndex> {
        self.known.get(name).map(|(index, _)| *index)
    }
    /// One more tracker has it. The empty name is none.
    fn enter(&mut self, name: &str) -> Option<TargetIndex> {
        if name.is_empty() {
            return None;
        }
        if let Some((index, trackers)) = self.known.get_mut(name) {
            *trackers += 1;
            return Some(*index);
        }
        let index = TargetIndex(self.next);
        self.next += 1;
        self.known.insert(name.to_owned(), (index, 1));
        Some(index)
    }
    /// One tracker less has it.
    fn leave(&mut self, name: &str) {
        let Some((_, trackers)) = self.known.get_mut(name) else { return };
        *trackers -= 1;
        if *trackers == 0 {
            self.known.remove(name);
        }
    }
}

/// What came of a tracker's votes. Apart from the tracker: each verdict changes those of f + 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Votes {
    pub(crate) agreed: u64,
    pub(crate) outvoted: u64,
}

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
    by_target: BTreeMap<TargetIndex, Pool>,
}

impl Pools {
    /// Brings the pools that a tracker is in up to date with what it offers.
    fn change(&mut self, tracker: &Tracker, before: Option<Offer>, after: Option<Offer>) {
        let (id, domain) = (tracker.id, tracker.domain);
        self.all.change(id, domain, before, after);
        let Some(target) = tracker.target else { return };
        let pool = self.by_target.entry(target).or_default();
        pool.change(id, domain, before, after);
        if pool.live_domains() == 0 {
            self.by_target.remove(&target);
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
    votes: Table<Votes>,
    targets: Targets,
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
            votes: Table::new(cluster.trackers.iter().map(|member| (member.id, Votes::default()))),
            trackers,
            targets: Targets::default(),
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
        let Some(tracker) = self.trackers.get(id) else { return };
        let is_new = tracker.incarnation() != Some(registration.incarnation);
        let old = if is_new { tracker.target().to_owned() } else { String::new() };
        let target = if is_new { self.targets.enter(&registration.target) } else { tracker.target };
        self.targets.leave(&old);
        self.change(id, |tracker| {
            tracker.target = target;
            tracker.register(registration);
        });
    }

    /// Notes what came of a tracker's vote.
    pub(crate) fn judged(&mut self, id: TrackerId, is_agreed: bool) {
        let Some(votes) = self.votes.get_mut(id) else { return };
        match is_agreed {
            true => votes.agreed += 1,
            false => votes.outvoted += 1,
        }
    }
    /// What came of a tracker's votes.
    pub(crate) fn votes(&self, id: TrackerId) -> Votes {
        self.votes.get(id).copied().unwrap_or_default()
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
        let pools = match stage {
            Stage::Map => &self.maps,
            Stage::Reduce => &self.reduces,
        };
        if target.is_empty() { Some(&pools.all) } else { pools.by_target.get(&self.targets.index(target)?) }
    }
    /// How many domains have a live tracker for both stages of such a program.
    pub(crate) fn live_domains(&self, target: &str) -> usize {
        let of = |stage| self.pool(stage, target).map_or(0, Pool::live_domains);
        of(Stage::Map).min(of(Stage::Reduce))
    }
    /// The targets of live trackers.
    pub(crate) fn live_targets(&self) -> BTreeSet<&str> {
        let is_live = |index| self.maps.by_target.contains_key(index) || self.reduces.by_target.contains_key(index);
        self.targets.known.iter().filter(|(_, (index, _))| is_live(index)).map(|(name, _)| name.as_str()).collect()
    }
}
