//! Answers from a job's record: its stages, the vote matrix, and the story of a task.

use super::answers::{
    Attempt, AttemptCounts, AttemptOfTracker, Ballot, Cost, Disputed, DisputedAttempt, Durations, Events, Job,
    JobDetail, Moment, Slow, Stage, TaskCounts, TaskDetail, Tasks, attempt_letter, attempt_state, purpose, repeats,
    task_letter, task_name, task_state,
};
use crate::record::{AttemptRecord, AttemptStanding, End, JobRecord, StageRecord, TaskRecord, TaskStanding};
use quorate_protocol::{
    ids::{self, TaskId, TrackerId},
    limits,
    query::{Blame, JobView},
};
use quorate_schedule::events::{AttemptEnd, Purpose};
use std::fmt::Write;

/// Attempts that are listed as the slowest of a stage.
const SLOWEST_MAX: usize = 10;

/// A stage's name.
pub(crate) const fn stage_name(stage: ids::Stage) -> &'static str {
    match stage {
        ids::Stage::Map => "map",
        ids::Stage::Reduce => "reduce",
    }
}

/// What a record is made of.
pub(crate) fn events(record: &JobRecord) -> Events {
    Events { count: record.events, gaps: record.has_gaps, digest: record.digest.finalize().to_hex().to_string() }
}

/// What a record adds to a job's answer.
pub(crate) struct Story {
    entry: String,
    inputs: Vec<String>,
    stages: Vec<Stage>,
    events: Events,
    is_live: bool,
    revision: u64,
}

impl Story {
    /// Looks at each attempt: not for an async task.
    pub(crate) fn of(record: &JobRecord) -> Self {
        Self {
            entry: record.about.entry.clone(),
            inputs: record.about.inputs.iter().map(ToString::to_string).collect(),
            stages: stages(record),
            events: events(record),
            is_live: record.closed.is_none(),
            revision: record.events,
        }
    }

    /// The answer without anything but the record.
    pub(crate) fn alone(self, job: Job, record: &JobRecord) -> JobDetail {
        let (attempts, cost) = totals(record);
        let detail = JobDetail {
            job,
            output: record.about.output.to_string(),
            attempts,
            cost,
            counters: record.counters().cloned().unwrap_or_default(),
            disputes: disputes(record),
            entry: None,
            inputs: Vec::new(),
            stages: Vec::new(),
            events: None,
            record: "kept",
        };
        self.dress(detail)
    }

    /// The answer with the story.
    pub(crate) fn with(self, view: &JobView) -> JobDetail {
        let mut detail = JobDetail::new(view);
        detail.job.revision = self.revision;
        self.dress(detail)
    }

    fn dress(self, mut detail: JobDetail) -> JobDetail {
        detail.entry = Some(self.entry);
        (detail.inputs, detail.stages, detail.events) = (self.inputs, self.stages, Some(self.events));
        detail.record = if self.is_live { "live" } else { "kept" };
        detail
    }
}

/// The first tasks that did not go smoothly, as the scheduler tells them of a job that it remembers.
fn disputes(record: &JobRecord) -> Vec<Disputed> {
    let all = [ids::Stage::Map, ids::Stage::Reduce].into_iter().flat_map(|stage| {
        let tasks = (0u32..).zip(&record.stage(stage).tasks);
        tasks.map(move |(index, task)| (TaskId { job: record.job, stage, index }, task))
    });
    let disputed = all.filter(|(_, task)| task.is_disputed()).take(limits::DISPUTES_PER_JOB_MAX);
    disputed
        .map(|(id, task)| {
            let attempts = (0u16..).zip(&task.attempts).map(|(attempt, told)| DisputedAttempt {
                attempt,
                tracker: told.tracker.number(),
                state: attempt_state(task.standing_of(told)),
                ballot: match &told.end {
                    Some((_, End::Voted { ballot, .. })) => Some(ballot.short()),
                    Some((_, End::Not(_))) | None => None,
                },
                why: why(told),
            });
            Disputed { task: task_name(id), attempts: attempts.collect() }
        })
        .collect()
}

/// Attempts, and what those cost that voted.
fn totals(record: &JobRecord) -> (u64, Cost) {
    let (mut attempts, mut sum) = (0u64, Cost::default());
    for attempt in record.maps.tasks.iter().chain(&record.reduces.tasks).flat_map(|task| &task.attempts) {
        attempts = attempts.saturating_add(1);
        let Some(cost) = attempt.cost() else { continue };
        sum.elapsed_ms = sum.elapsed_ms.saturating_add(cost.elapsed_ms);
        sum.shuffled = sum.shuffled.saturating_add(cost.shuffled);
        sum.refetched = sum.refetched.saturating_add(cost.refetched);
        sum.restarts = sum.restarts.saturating_add(cost.restarts);
    }
    (attempts, sum)
}

fn stages(record: &JobRecord) -> Vec<Stage> {
    [ids::Stage::Map, ids::Stage::Reduce].into_iter().map(|stage| self::stage(record, stage)).collect()
}

fn stage(record: &JobRecord, stage: ids::Stage) -> Stage {
    let told = record.stage(stage);
    let is_known = told.tasks.len() == told.all as usize;
    let mut took: Vec<(u64, u32, u16, TrackerId)> = Vec::new();
    for (index, task) in (0u32..).zip(&told.tasks) {
        for (number, attempt) in (0u16..).zip(&task.attempts) {
            if let Some((ended, End::Voted { .. })) = attempt.end {
                took.push((ended.since(attempt.placed), index, number, attempt.tracker));
            }
        }
    }
    took.sort_unstable_by(|a, b| b.cmp(a));
    let slow = |(ms, index, attempt, tracker): &(u64, u32, u16, TrackerId)| Slow {
        task: task_name(TaskId { job: record.job, stage, index: *index }),
        attempt: *attempt,
        tracker: tracker.number(),
        ms: *ms,
    };
    Stage {
        stage: stage_name(stage),
        all: told.all,
        agreed: told.agreed,
        settled: record.is_settled(),
        states: is_known.then(|| count_tasks(told)),
        attempts: is_known.then(|| count_attempts(told)),
        left_ms: left(record, told),
        durations: durations(&took.iter().map(|(ms, ..)| *ms).collect::<Vec<_>>()),
        slowest: took.iter().take(SLOWEST_MAX).map(slow).collect(),
    }
}

fn count_tasks(told: &StageRecord) -> TaskCounts {
    let mut counts = TaskCounts::default();
    for task in &told.tasks {
        let count = match task.standing() {
            TaskStanding::Pending => &mut counts.pending,
            TaskStanding::Running => &mut counts.running,
            TaskStanding::Voted => &mut counts.voted,
            TaskStanding::Disputed => &mut counts.disputed,
            TaskStanding::Agreed => &mut counts.agreed,
            TaskStanding::Contested => &mut counts.contested,
            TaskStanding::Lacking => &mut counts.lacking,
            TaskStanding::Failed => &mut counts.failed,
        };
        *count += 1;
    }
    counts
}

fn count_attempts(told: &StageRecord) -> AttemptCounts {
    let mut counts = AttemptCounts::default();
    for task in &told.tasks {
        for attempt in &task.attempts {
            let count = match task.standing_of(attempt) {
                AttemptStanding::Running => &mut counts.running,
                AttemptStanding::Overdue => &mut counts.overdue,
                AttemptStanding::Voted => &mut counts.voted,
                AttemptStanding::Agreed => &mut counts.agreed,
                AttemptStanding::Outvoted => &mut counts.outvoted,
                AttemptStanding::Lost => &mut counts.lost,
                AttemptStanding::Withdrawn => &mut counts.withdrawn,
                AttemptStanding::Cancelled => &mut counts.cancelled,
            };
            *count += 1;
        }
    }
    counts
}

/// How long the rest of a stage will take if it goes on as it did.
fn left(record: &JobRecord, told: &StageRecord) -> Option<u64> {
    if record.closed.is_some() {
        return None;
    }
    let rest = told.all.saturating_sub(told.agreed);
    if rest == 0 {
        return Some(0);
    }
    let first = told.tasks.iter().flat_map(|task| &task.attempts).map(|attempt| attempt.placed).min()?;
    let took = record.until.since(first);
    (told.agreed > 0).then(|| took.saturating_mul(rest.into()) / u64::from(told.agreed))
}

/// Of durations from the longest to the shortest.
fn durations(took: &[u64]) -> Option<Durations> {
    let longest = *took.first()?;
    // The shortest that so many of a hundred did not exceed.
    let percentile = |of_hundred: usize| {
        let above = took.len() - (took.len() * of_hundred).div_ceil(100);
        took.get(above).copied().unwrap_or(longest)
    };
    let p50_ms = percentile(50);
    let skew = if p50_ms == 0 { 1.0 } else { longest as f64 / p50_ms as f64 };
    let skew = (skew * 100.0).round() / 100.0;
    let count = took.len() as u64;
    Some(Durations { count, p50_ms, p90_ms: percentile(90), p99_ms: percentile(99), max_ms: longest, skew })
}

/// The letters of a task: its own, those of its attempts, and their trackers.
pub(crate) fn letters(task: &TaskRecord, f: u32, attempts: &mut String, trackers: &mut String) -> char {
    for (number, attempt) in task.attempts.iter().enumerate() {
        let letter = attempt_letter(task.standing_of(attempt));
        attempts.push(if attempt.is_extra(number, f) { letter.to_ascii_uppercase() } else { letter });
        if number > 0 {
            trackers.push(',');
        }
        // Writing to text does not fail.
        let _ = write!(trackers, "{}", attempt.tracker.number());
    }
    task_letter(task.standing())
}

/// A task's number and letters.
pub(crate) fn change(record: &JobRecord, stage: ids::Stage, index: u32) -> Option<(u32, char, String, String)> {
    let task = record.stage(stage).tasks.get(index as usize)?;
    let (mut attempts, mut trackers) = (String::new(), String::new());
    let letter = letters(task, record.about.f, &mut attempts, &mut trackers);
    Some((index, letter, attempts, trackers))
}

/// The vote matrix of a stage, from a task on.
pub(crate) fn tasks(record: &JobRecord, stage: ids::Stage, from: u32, max: u32) -> Tasks {
    let told = record.stage(stage);
    let (mut states, mut attempts, mut trackers) = (String::new(), String::new(), String::new());
    for (place, task) in told.tasks.iter().skip(from as usize).take(max as usize).enumerate() {
        if place > 0 {
            attempts.push(' ');
            trackers.push(' ');
        }
        states.push(letters(task, record.about.f, &mut attempts, &mut trackers));
    }
    Tasks {
        job: record.job.number(),
        stage: stage_name(stage),
        revision: record.events,
        all: told.all,
        from,
        settled: record.is_settled(),
        states,
        attempts,
        trackers,
    }
}

/// A task in full, but for what its record does not have. `domain` knows the trackers' domains.
pub(crate) fn task(record: &JobRecord, id: TaskId, domain: impl Fn(TrackerId) -> Option<String>) -> Option<TaskDetail> {
    let task = record.task(id)?;
    let attempts = (0u16..).zip(&task.attempts).map(|(number, told)| Attempt {
        attempt: number,
        tracker: told.tracker.number(),
        domain: domain(told.tracker),
        state: attempt_state(task.standing_of(told)),
        placed: told.placed.0,
        ended: told.end.as_ref().map(|(time, _)| time.0),
        ballot: ballot(told),
        rerun: told.purpose != Purpose::Decides,
        purpose: purpose(told.purpose),
        repeats: repeats(told.purpose),
        differs: task.differs(told),
        overdue: told.overdue.is_some(),
        cost: told.cost().map(Cost::from),
        why: why(told),
    });
    Some(TaskDetail {
        job: record.job.number(),
        task: task_name(id),
        stage: stage_name(id.stage),
        index: id.index,
        state: task_state(task.standing()),
        f: record.about.f,
        agreed: task.agreed.map(|(_, ballot)| ballot.to_string()),
        disputed: task.is_disputed(),
        input: None,
        attempts: attempts.collect(),
        ballots: ballots(task),
        timeline: timeline(record, id, task),
        accusations: Vec::new(),
    })
}

/// What a tracker ran for a job, in no order.
pub(crate) fn attempts_of(record: &JobRecord, tracker: TrackerId) -> Vec<AttemptOfTracker> {
    let mut all = Vec::new();
    for stage in [ids::Stage::Map, ids::Stage::Reduce] {
        for (index, task) in (0u32..).zip(&record.stage(stage).tasks) {
            let ran = (0u16..).zip(&task.attempts).filter(|(_, attempt)| attempt.tracker == tracker);
            all.extend(ran.map(|(number, attempt)| AttemptOfTracker {
                job: record.job.number(),
                task: task_name(TaskId { job: record.job, stage, index }),
                attempt: number,
                purpose: purpose(attempt.purpose),
                repeats: repeats(attempt.purpose),
                differs: task.differs(attempt),
                state: attempt_state(task.standing_of(attempt)),
                placed: attempt.placed.0,
                ended: attempt.end.as_ref().map(|(time, _)| time.0),
            }));
        }
    }
    all
}

fn ballot(attempt: &AttemptRecord) -> Option<String> {
    attempt.ballot().map(|ballot| ballot.to_string())
}

fn why(attempt: &AttemptRecord) -> Option<String> {
    match &attempt.end {
        Some((_, End::Not(end))) => match &**end {
            AttemptEnd::Lost(why) | AttemptEnd::Declined(why) => Some(why.clone()),
            AttemptEnd::Withdrawn => Some("another job could use its slot".to_owned()),
            AttemptEnd::Cancelled => None,
        },
        Some((_, End::Voted { .. })) | None => None,
    }
}

/// What was voted by those whose votes count.
fn ballots(task: &TaskRecord) -> Vec<Ballot> {
    let mut ballots: Vec<Ballot> = Vec::new();
    let agreed = task.agreed.map(|(_, ballot)| ballot.to_string());
    let counts = |(_, attempt): &(u16, &AttemptRecord)| attempt.purpose == Purpose::Decides;
    for (number, attempt) in (0u16..).zip(&task.attempts).filter(counts) {
        let Some(digest) = ballot(attempt) else { continue };
        match ballots.iter_mut().find(|ballot| ballot.digest == digest) {
            Some(ballot) => ballot.attempts.push(number),
            None => {
                let is_agreed = agreed.as_ref() == Some(&digest);
                ballots.push(Ballot { digest, agreed: is_agreed, attempts: vec![number], kind: None, summary: None });
            }
        }
    }
    ballots
}

fn timeline(record: &JobRecord, id: TaskId, task: &TaskRecord) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (number, attempt) in (0u16..).zip(&task.attempts) {
        moments.extend(story(number, attempt));
    }
    moments.extend(task.agreed.map(|(time, ballot)| Moment {
        time: time.0,
        what: "agreed",
        attempt: None,
        tracker: None,
        text: format!("the verdict: {} votes for {}", record.about.f.saturating_add(1), ballot.short()),
    }));
    let about = record.charges.iter().filter(|charge| charge.attempt.task == id);
    moments.extend(about.map(|charge| Moment {
        time: charge.time.0,
        what: "blamed",
        attempt: Some(charge.attempt.attempt),
        tracker: Some(charge.tracker.number()),
        text: match charge.blame {
            Blame::None => format!("{}: {}", charge.tracker, charge.kind),
            Blame::Suspected => format!("{} is suspected: {}", charge.tracker, charge.kind),
            Blame::Convicted => format!("{} is convicted: {}", charge.tracker, charge.kind),
        },
    }));
    // What is of one time stays in the order above: placed, voted, agreed, blamed.
    moments.sort_by_key(|moment| moment.time);
    moments
}

fn story(number: u16, attempt: &AttemptRecord) -> Vec<Moment> {
    let tracker = attempt.tracker;
    let moment = |time: ids::OrderedTime, what, text| {
        let (attempt, tracker) = (Some(number), Some(tracker.number()));
        Moment { time: time.0, what, attempt, tracker, text }
    };
    let again = match attempt.purpose {
        Purpose::Decides => String::new(),
        Purpose::BringsBack => ", to bring its bytes back".to_owned(),
        Purpose::Repeats(of) => format!(", to repeat attempt {of}"),
        Purpose::Probes => ", to show that it works".to_owned(),
    };
    let mut moments = vec![moment(attempt.placed, "placed", format!("attempt {number} was given to {tracker}{again}"))];
    moments.extend(
        attempt.overdue.map(|time| moment(time, "overdue", format!("attempt {number} on {tracker} is overdue"))),
    );
    match &attempt.end {
        None => {}
        Some((time, End::Voted { ballot, cost })) => {
            if cost.restarts > 0 {
                let text = format!("attempt {number} on {tracker} started over {} times", cost.restarts);
                moments.push(moment(*time, "restarted", text));
            }
            moments.push(moment(*time, "voted", format!("{tracker} voted {}", ballot.short())));
        }
        Some((time, End::Not(end))) => {
            let (what, text) = match &**end {
                AttemptEnd::Lost(why) => ("lost", format!("attempt {number} on {tracker} was lost: {why}")),
                AttemptEnd::Declined(why) => ("declined", format!("{tracker} could not run attempt {number}: {why}")),
                AttemptEnd::Withdrawn => ("withdrawn", format!("attempt {number} was taken back from {tracker}")),
                AttemptEnd::Cancelled => ("cancelled", format!("attempt {number} on {tracker} was not needed")),
            };
            moments.push(moment(*time, what, text));
        }
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_durations() {
        let took: Vec<u64> = (1..=100).rev().collect();
        let told = durations(&took).expect("some");
        assert_eq!((told.p50_ms, told.p90_ms, told.p99_ms, told.max_ms, told.count), (50, 90, 99, 100, 100));
        assert!((told.skew - 2.0).abs() < f64::EPSILON);
        let one = durations(&[7]).expect("one");
        assert_eq!((one.p50_ms, one.p99_ms, one.max_ms), (7, 7, 7));
        assert_eq!(durations(&[]), None);
    }
}
