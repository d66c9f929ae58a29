//! How jobs, votes and trackers are shown to people.

use crate::{
    amounts::{count, show_bytes, show_duration},
    table,
};
use quorate_protocol::{
    cluster::Cluster,
    evidence::Evidence,
    ids::{JobId, TrackerId},
    query::{Blame, Dispute, Duty, JobFailure, JobState, JobSummary, JobView, Standing, TrackerView},
    vote::FailureKind,
};
use std::{cmp::Reverse, fmt::Write};

/// Aligns the columns of a table; the first row is the heading. [`terminal::print_table`](crate::terminal::print_table) shows it
/// as wide as the terminal is.
pub fn table(rows: &[Vec<String>]) -> String {
    table::text(rows, None, false)
}

/// The list of jobs, as rows of a table.
pub fn jobs(jobs: &[JobSummary]) -> Vec<Vec<String>> {
    let heading = ["JOB", "NAME", "STATE", "MAPS", "REDUCES", "F", "TIME"].map(str::to_owned).to_vec();
    let row = |job: &JobSummary| {
        vec![
            job.job.to_string(),
            job.name.clone(),
            state(&job.state).to_owned(),
            format!("{}/{}", job.maps.0, job.maps.1),
            format!("{}/{}", job.reduces.0, job.reduces.1),
            job.f.to_string(),
            show_duration(job.until.since(job.submitted)),
        ]
    };
    std::iter::once(heading).chain(jobs.iter().map(row)).collect()
}

/// The list of trackers, as rows of a table.
pub fn trackers(trackers: &[TrackerView]) -> Vec<Vec<String>> {
    let heading =
        ["TRACKER", "DOMAIN", "ADDRESS", "LIVE", "MAPS", "REDUCES", "AGREED", "OUTVOTED", "OVERDUE", "BLAME", "DUTY"];
    let row = |tracker: &TrackerView| {
        vec![
            tracker.id.to_string(),
            tracker.domain.to_string(),
            tracker.address.clone(),
            if tracker.live { "yes" } else { "no" }.to_owned(),
            format!("{}/{}", tracker.map_slots.0, tracker.map_slots.1),
            format!("{}/{}", tracker.reduce_slots.0, tracker.reduce_slots.1),
            tracker.agreed.to_string(),
            tracker.outvoted.to_string(),
            tracker.overdue.to_string(),
            blame(tracker.blame).to_owned(),
            duty(&tracker.duty),
        ]
    };
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(trackers.iter().map(row)).collect()
}

/// A job's state in a word.
pub fn state(state: &JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Waiting(_) => "waiting",
        JobState::Succeeded => "succeeded",
        JobState::Failed(_) => "failed",
        JobState::Killed => "killed",
    }
}

/// What is held against a tracker, in a word.
pub fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::None => "-",
        Blame::Suspected => "suspected",
        Blame::Convicted => "convicted",
    }
}

/// What a tracker is given to do, in a word or two.
pub fn duty(duty: &Duty) -> String {
    match duty {
        Duty::Full => "all".to_owned(),
        Duty::Quarantined(_) => "quarantine".to_owned(),
        Duty::Probation { passed, needed } => format!("probation {passed}/{needed}"),
    }
}

/// A job in full: its state, its disputes, its totals, its counters.
pub fn job(view: &JobView) -> String {
    let summary = &view.summary;
    let mut text = format!("{} {}: {}\n", summary.job, summary.name, state(&summary.state));
    match &summary.state {
        JobState::Waiting(reason) => text.push_str(&format!("  {reason}\n")),
        JobState::Failed(why) => text.push_str(&format!("  {}\n", failure(why))),
        JobState::Running | JobState::Succeeded | JobState::Killed => {}
    }
    let _ = writeln!(
        text,
        "  maps {}/{}, reduces {}/{}, f = {}, output {}",
        summary.maps.0, summary.maps.1, summary.reduces.0, summary.reduces.1, summary.f, view.output
    );
    for (name, value) in &view.counters {
        let _ = writeln!(text, "  {name} = {value}");
    }
    for line in disputes(view) {
        let _ = writeln!(text, "  {line}");
    }
    let _ = writeln!(text, "  {}", totals(view));
    text
}

/// Why a job failed, in a sentence.
pub fn failure(failure: &JobFailure) -> String {
    match failure {
        JobFailure::Program { task, kind, record, message } => {
            let at = record.map_or(String::new(), |record| format!(" at record {record}"));
            format!("{} in {task}{at}: {message}", failure_kind(*kind))
        }
        JobFailure::Undecidable { task } => format!(
            "{task} is undecidable: its attempts gave different outputs and no f + 1 agree. The program may be \
             nondeterministic (clock, random numbers, hash map order), or more than f trackers lie"
        ),
        JobFailure::Nondeterministic { task, tracker } => format!(
            "{task} is nondeterministic: {tracker} ran it twice and gave two outputs. Usual causes are the clock, random \
             numbers and the order of a hash map; a flaky processor is rare. Nobody is blamed for it"
        ),
        JobFailure::NotRunnable { task, reason } => format!("no tracker could run {task}: {reason}"),
    }
}

/// How a program failed, as the beginning of a sentence.
pub fn failure_kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::UserError => "the program returned an error",
        FailureKind::UserPanic => "the program panicked",
        FailureKind::BadInput => "the input is not what the job's format says",
        FailureKind::Died => "the program's process died",
    }
}

/// One line for each disputed task, in the order of the tasks: who said what, who was outvoted, what was done again.
pub fn disputes(view: &JobView) -> Vec<String> {
    let mut disputes: Vec<&Dispute> = view.disputes.iter().collect();
    disputes.sort_by_key(|dispute| dispute.task);
    let mut lines: Vec<String> = disputes.into_iter().map(|d| dispute(d, view.summary.f)).collect();
    let more = view.disputed.saturating_sub(view.disputes.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Who said what about one task. Trackers that said the same are named together.
pub fn dispute(dispute: &Dispute, f: u32) -> String {
    let mut groups: Vec<(String, Vec<TrackerId>)> = Vec::new();
    for (_, tracker, standing) in &dispute.attempts {
        let said = said(standing);
        match groups.iter_mut().find(|(other, _)| *other == said) {
            Some((_, trackers)) => trackers.push(*tracker),
            None => groups.push((said, vec![*tracker])),
        }
    }
    let parts: Vec<String> = groups.iter().map(|(said, trackers)| format!("{} {said}", names(trackers))).collect();
    let task = dispute.task;
    let more = (dispute.attempts.len() as u64).saturating_sub(u64::from(f) + 1);
    let again = if more > 0 { format!("; {} more than planned", count(more, "attempt")) } else { String::new() };
    format!("{}-{}: {}{again}", task.stage, task.index, parts.join(", "))
}

fn said(standing: &Standing) -> String {
    match standing {
        Standing::Running => "still at work".to_owned(),
        Standing::Overdue => "overdue".to_owned(),
        Standing::Voted(ballot) => format!("said {ballot}"),
        Standing::Agreed(ballot) => format!("said {ballot} (agreed)"),
        Standing::Outvoted(ballot) => format!("said {ballot} (outvoted)"),
        Standing::Lost(reason) => format!("gave no answer ({reason})"),
        Standing::Cancelled => "not needed".to_owned(),
    }
}

/// `tracker-0, tracker-1 and tracker-2`.
fn names(trackers: &[TrackerId]) -> String {
    match trackers {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => {
            format!("{} and {last}", first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

/// What a job took.
pub fn totals(view: &JobView) -> String {
    let summary = &view.summary;
    format!(
        "{} for {}, {} disputed, {} refetched, {}, {}",
        count(view.attempts, "attempt"),
        count(u64::from(summary.maps.1) + u64::from(summary.reduces.1), "task"),
        view.disputed,
        show_bytes(view.cost.refetched),
        count(view.cost.restarts.into(), "restart"),
        show_duration(summary.until.since(summary.submitted)),
    )
}

/// What a piece of evidence says, in a sentence about the accused.
pub fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::TwoVotes(..) => "signed two different votes for one attempt (proof)".to_owned(),
        Evidence::WrongSegment { served, .. } => match served.peek() {
            Ok(served) if served.sent.is_none() => "did not serve a segment that it voted (suspicion)".to_owned(),
            Ok(_) | Err(_) => "served a segment unlike its own vote (proof)".to_owned(),
        },
        Evidence::WrongChunk(_) => "served other bytes than the chunk's name says (proof)".to_owned(),
        Evidence::Outvoted { vote, majority, .. } => match vote.peek() {
            Ok(vote) => {
                format!("was outvoted on {} by {} (suspicion)", vote.attempt.task, count(majority.len() as u64, "vote"))
            }
            Err(_) => "was outvoted (suspicion)".to_owned(),
        },
        Evidence::Garbled { .. } => "signed a command that nobody can read (suspicion)".to_owned(),
        Evidence::Complaints { reports, .. } => {
            format!("did not serve what it voted, say {} (suspicion)", count(reports.len() as u64, "tracker"))
        }
    }
}

/// What is held against a tracker, in a line: its weightiest piece of evidence, and how many more there are. With `jobs`,
/// only evidence that names one of them counts. `None` when nothing does: what cannot be checked is not repeated.
pub fn held_against(
    cluster: &Cluster,
    tracker: TrackerId,
    evidence: &[Evidence],
    jobs: Option<&[JobId]>,
) -> Option<String> {
    let concerns = |piece: &Evidence| jobs.is_none_or(|jobs| job_of(piece).is_some_and(|job| jobs.contains(&job)));
    let mut checked = Vec::new();
    for piece in evidence.iter().filter(|piece| concerns(piece)) {
        if let Some((_, blame)) = piece.check(cluster).ok().filter(|(accused, _)| *accused == tracker) {
            checked.push((blame, piece));
        }
    }
    checked.sort_by_key(|(blame, _)| Reverse(*blame));
    let (level, weightiest) = checked.first()?;
    let more = match checked.len() {
        1 => String::new(),
        2 => "; 1 more piece of evidence".to_owned(),
        n => format!("; {} more pieces of evidence", n - 1),
    };
    Some(format!("{tracker} is {}: it {}{more}", blame(*level), self::evidence(weightiest)))
}

/// The job that a piece of evidence is about, when it names one.
pub(crate) fn job_of(evidence: &Evidence) -> Option<JobId> {
    match evidence {
        Evidence::TwoVotes(vote, _)
        | Evidence::WrongSegment { vote, .. }
        | Evidence::Outvoted { vote, .. }
        | Evidence::Complaints { vote, .. } => Some(vote.peek().ok()?.attempt.task.job),
        Evidence::WrongChunk(_) | Evidence::Garbled { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{
        cluster::TrackerMember,
        digest::Digest,
        ids::{AttemptId, Domain, Stage, TaskId},
        sign::{SecretKey, Signed},
        vote::{Ballot, Vote},
    };

    #[test]
    fn a_dispute_names_both_sides() {
        let task = TaskId { job: JobId::new(1), stage: Stage::Map, index: 3 };
        let attempt = |attempt| AttemptId { task, attempt };
        let attempts = vec![
            (attempt(0), TrackerId::new(2), Standing::Outvoted("1a2b3c4d".to_owned())),
            (attempt(1), TrackerId::new(0), Standing::Agreed("99ff0011".to_owned())),
            (attempt(2), TrackerId::new(1), Standing::Agreed("99ff0011".to_owned())),
        ];
        assert_eq!(
            dispute(&Dispute { task, attempts }, 1),
            "map-3: tracker-2 said 1a2b3c4d (outvoted), tracker-0 and tracker-1 said 99ff0011 (agreed); \
             1 attempt more than planned"
        );
    }

    #[test]
    fn the_weightiest_evidence_of_the_job_is_told() {
        let key = |number: u32| SecretKey::from_seed([number as u8 + 1; 32]);
        let member = |number| TrackerMember {
            id: TrackerId::new(number),
            domain: Domain(format!("domain-{number}")),
            key: key(number).public(),
        };
        let cluster = Cluster {
            name: "test".to_owned(),
            f: 0,
            agreement: Default::default(),
            allow_liars: true,
            clients: Vec::new(),
            authority: None,
            replicas: Vec::new(),
            trackers: (0..3).map(member).collect(),
        };
        let vote = |job, number, record| {
            let task = TaskId { job: JobId::new(job), stage: Stage::Map, index: 0 };
            let vote = Vote {
                cluster: cluster.id(),
                specification: Digest::of(b"specification"),
                f: 1,
                attempt: AttemptId { task, attempt: 0 },
                tracker: TrackerId::new(number),
                ballot: Ballot::Failed { kind: FailureKind::UserError, record: Some(record) },
            };
            Signed::seal(&vote, &key(number))
        };
        let outvoted =
            |job| Evidence::Outvoted { vote: vote(job, 0, 9), majority: vec![vote(job, 1, 5), vote(job, 2, 5)] };
        let evidence = [outvoted(1), Evidence::TwoVotes(vote(1, 0, 1), vote(1, 0, 2)), outvoted(2), outvoted(2)];
        let told = |jobs: Option<&[JobId]>| held_against(&cluster, TrackerId::new(0), &evidence, jobs);
        let (first, second, third) = (JobId::new(1), JobId::new(2), JobId::new(3));
        assert_eq!(
            told(Some(&[first])).as_deref(),
            Some(
                "tracker-0 is convicted: it signed two different votes for one attempt (proof); 1 more piece of evidence"
            )
        );
        assert!(told(Some(&[second])).is_some_and(|line| line.starts_with("tracker-0 is suspected: it was outvoted")));
        assert_eq!(told(Some(&[third])), None);
        assert!(told(None).is_some_and(|line| line.ends_with("; 3 more pieces of evidence")));
        assert_eq!(held_against(&cluster, TrackerId::new(1), &evidence, None), None, "it is about another");
    }
}
