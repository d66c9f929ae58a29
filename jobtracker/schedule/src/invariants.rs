//! What must hold between commands, as named predicates. Debug builds check them after each command for small jobs, the
//! tests and the simulator for all.

use crate::{
    Scheduler,
    bounds::CHECKED_TASKS_MAX,
    job::Job,
    task::{Attempt, Purpose, Task},
    tracker::Tracker,
    workforce::Workforce,
};
use quorate_protocol::{
    ids::{AttemptId, Stage, TaskId},
    query::Blame,
};
use std::collections::BTreeSet;

/// The names of the invariants that do not hold, with where; empty for a healthy state.
pub fn broken(scheduler: &Scheduler) -> Vec<String> {
    let mut broken = broken_by_trackers(scheduler);
    for job in scheduler.jobs.values() {
        broken.extend(broken_by_job(&scheduler.workforce, job));
    }
    broken
}

/// As [`broken`], without the jobs that are too large to be looked through after every command.
pub(crate) fn broken_in_small(scheduler: &Scheduler) -> Vec<String> {
    let mut broken = broken_by_trackers(scheduler);
    let is_small = |job: &&Job| job.maps.all.len() + job.reduces.all.len() <= CHECKED_TASKS_MAX;
    for job in scheduler.jobs.values().filter(is_small) {
        broken.extend(broken_by_job(&scheduler.workforce, job));
    }
    broken
}

fn broken_by_trackers(scheduler: &Scheduler) -> Vec<String> {
    let mut broken = Vec::new();
    for tracker in scheduler.workforce.trackers() {
        for stage in [Stage::Map, Stage::Reduce] {
            if tracker.used(stage) > usize::from(tracker.slots(stage)) {
                broken.push(format!("slots used are at most slots there: {}", tracker.id));
            }
            if tracker.is_quarantined() && tracker.used(stage) > 0 {
                broken.push(format!("B-3 who is in quarantine does no work: {}", tracker.id));
            }
            let purpose = |id: AttemptId| Some(scheduler.jobs.get(&id.task.job)?.attempt(id)?.purpose);
            let probes = tracker.running(stage).all(|id| purpose(id) == Some(Purpose::Probes));
            if tracker.is_on_probation() && !probes {
                broken.push(format!("B-6 on probation only known answers are given: {}", tracker.id));
            }
            let is_known = |id: AttemptId| {
                let attempt = scheduler.jobs.get(&id.task.job).and_then(|job| job.attempt(id));
                attempt.is_some_and(|attempt| attempt.is_active() && attempt.tracker == tracker.id)
            };
            if !tracker.running(stage).all(is_known) {
                broken.push(format!("a slot is held by an attempt that runs: {}", tracker.id));
            }
        }
    }
    let convicted = |tracker: &&Tracker| tracker.record.blame == Blame::Convicted && !tracker.is_quarantined();
    broken.extend(scheduler.workforce.trackers().filter(convicted).map(|t| format!("B-3 proof quarantines: {}", t.id)));
    if !scheduler.workforce.knows_alarms() {
        broken.push("alarms are those of what runs".to_owned());
    }
    broken
}

fn broken_by_job(workforce: &Workforce, job: &Job) -> Vec<String> {
    let mut broken = Vec::new();
    for stage in [Stage::Map, Stage::Reduce] {
        let tasks = job.tasks(stage);
        for (index, task) in (0u32..).zip(&tasks.all) {
            let id = job.task_id(stage, index);
            let checks = [
                ("T-1 distinct domains", are_domains_distinct(workforce, task)),
                ("T-2 at most 2f + 1 attempts", is_within_places(job.f(), task)),
                ("T-3 agreed by f + 1 equal votes", is_agreed_by_quorum(workforce, job.f(), task)),
                ("B-5 an attempt is repeated once, by its tracker", are_repeats_own(task)),
                ("a running attempt holds a slot", hold_slots(workforce, id, task)),
                ("what is wanted is searched for", wants_are_known(job, id, task)),
                ("a clock that runs has an alarm", have_alarms(workforce, job, id, task)),
            ];
            broken.extend(checks.iter().filter(|(_, holds)| !holds).map(|(name, _)| format!("{name}: {id} {task:?}")));
        }
        if tasks.agreed as usize != tasks.all.iter().filter(|task| task.agreed.is_some()).count() {
            broken.push(format!("verdicts are counted: {} {stage}", job.id));
        }
    }
    if job.ending.is_some() {
        broken.push(format!("a job that is to end has ended: {}", job.id));
    }
    broken
}

/// Attempts that decide.
fn deciding(task: &Task) -> impl Iterator<Item = &Attempt> {
    task.attempts.iter().filter(|attempt| attempt.decides())
}

fn are_domains_distinct(workforce: &Workforce, task: &Task) -> bool {
    let domains: Vec<_> = deciding(task).filter(|a| a.keeps_domain()).map(|a| workforce.domain(a.tracker)).collect();
    domains.iter().collect::<BTreeSet<_>>().len() == domains.len()
}

fn are_repeats_own(task: &Task) -> bool {
    let mut originals = BTreeSet::new();
    task.attempts.iter().all(|attempt| match attempt.purpose {
        Purpose::Repeats(of) => {
            let original = task.attempts.get(usize::from(of));
            let is_own = original.is_some_and(|original| original.tracker == attempt.tracker && original.decides());
            is_own && originals.insert(of)
        }
        Purpose::Decides | Purpose::BringsBack | Purpose::Probes => true,
    })
}

fn is_within_places(f: u32, task: &Task) -> bool {
    deciding(task).filter(|attempt| attempt.keeps_domain()).count() as u64 <= u64::from(2 * f + 1)
}

fn is_agreed_by_quorum(workforce: &Workforce, f: u32, task: &Task) -> bool {
    let Some(agreed) = task.agreed else { return task.quorum(f).is_none() };
    let domains: BTreeSet<_> = task.votes_for(agreed).map(|(_, a, _)| workforce.domain(a.tracker)).collect();
    domains.len() as u64 > u64::from(f)
}

fn hold_slots(workforce: &Workforce, id: TaskId, task: &Task) -> bool {
    (0u16..).zip(&task.attempts).filter(|(_, attempt)| attempt.is_active()).all(|(number, attempt)| {
        let name = AttemptId { task: id, attempt: number };
        workforce.tracker(attempt.tracker).is_some_and(|tracker| tracker.holds(name))
    })
}

fn wants_are_known(job: &Job, id: TaskId, task: &Task) -> bool {
    let urgency = job.tasks(id.stage).wants.urgency(id.index);
    urgency == task.urgency && urgency.is_some() == (task.wanted(job.f()) > 0)
}

fn have_alarms(workforce: &Workforce, job: &Job, id: TaskId, task: &Task) -> bool {
    (0u16..).zip(&task.attempts).filter(|(_, attempt)| attempt.is_active()).all(|(number, attempt)| {
        let alarm = workforce.alarm_of(attempt.tracker, AttemptId { task: id, attempt: number });
        alarm.is_some() || job.clock(id.stage, attempt).is_none()
    })
}
