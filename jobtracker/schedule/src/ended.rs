//! A job's end: the output appears, its trackers are told, and little is kept.

use crate::{
    Scheduler,
    bounds::{ENDED_DIFFERING_BYTES_MAX, ENDED_VOTES_BYTES_MAX},
    events::{Closed, Happening},
    job::{Ending, Job},
    submit::named,
    task::{Attempt, AttemptState, KeptVote, Task},
};
use quorate_protocol::{
    canonical,
    certificate::{Completion, Part, PartVote, verdicts_digest},
    command::Refusal,
    file::{File, Path},
    ids::{AttemptId, JobId, OrderedTime, Stage, TaskId, TrackerId},
    job::{Directive, OutputPart, Program, part_name},
    limits,
    query::{JobFailure, JobState, JobView},
    sign::Signed,
    vote::{Ballot, Vote},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is kept of a job after its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) view: JobView,
    /// The votes of the task that failed it, and of tasks whose votes differ: of the first ones that there is room for.
    votes: BTreeMap<TaskId, Vec<Signed<Vote>>>,
    /// What it came to when it succeeded, with the votes that show it. None when that is too long.
    completion: Option<Box<Completion>>,
    /// The length of the completion's encoding.
    completion_bytes: u64,
}

impl Ended {
    fn keep(&mut self, completion: Option<Completion>) {
        let bytes = |completion: &Completion| canonical::encode(completion).len() as u64;
        let sized = completion.map(|completion| (bytes(&completion), Box::new(completion)));
        let kept = sized.filter(|(bytes, _)| *bytes <= limits::COMPLETION_BYTES_MAX as u64);
        (self.completion_bytes, self.completion) = kept.map_or((0, None), |(bytes, it)| (bytes, Some(it)));
    }

    /// The votes of a task, as far as they are kept.
    pub(crate) fn votes(&self, id: TaskId) -> Vec<Signed<Vote>> {
        match (self.votes.get(&id), &self.completion, id.stage) {
            (Some(votes), ..) => votes.clone(),
            (None, Some(completion), Stage::Reduce) => completion.votes(id.index),
            (None, Some(_), Stage::Map) | (None, None, _) => Vec::new(),
        }
    }

    /// What the job came to.
    pub(crate) fn completion(&self) -> Result<&Completion, Refusal> {
        let job = self.view.summary.job;
        let why = match (&self.completion, &self.view.summary.state) {
            (Some(completion), _) => return Ok(completion),
            (None, JobState::Succeeded) => {
                "what the job tracker keeps for it was too long, or gave way to that of later jobs"
            }
            (None, JobState::Failed(_) | JobState::Killed | JobState::Running | JobState::Waiting(_)) => {
                "it did not succeed"
            }
        };
        Err(Refusal::Invalid(format!("{job} has no certificate: {why}")))
    }
}

impl Scheduler {
    /// Ends a job if it is to end.
    pub(crate) fn close(&mut self, id: JobId) {
        if self.jobs.get(&id).is_none_or(|job| job.ending.is_none()) {
            return;
        }
        let Some(mut job) = self.jobs.remove(&id) else { return };
        self.stop_attempts(&mut job);
        if let Program::Binary { file, .. } = &job.specification.program {
            self.namespace.release(file);
        }
        let state = match job.ending.take() {
            Some(Ending::Succeeded) => self.publish(&job),
            Some(Ending::Failed(failure)) => JobState::Failed(failure),
            Some(Ending::Killed) | None => JobState::Killed,
        };
        if matches!(state, JobState::Failed(JobFailure::Nondeterministic { .. })) {
            self.absolve(&job);
        }
        self.tell_trackers(&job, &state);
        let mut votes = job.differing_votes();
        votes.extend(job.votes_of(&state));
        let completion = match state {
            JobState::Succeeded => job.completion(self.workforce.now),
            JobState::Failed(_) | JobState::Killed | JobState::Running | JobState::Waiting(_) => None,
        };
        let view = job.view(&self.workforce, state);
        self.workforce.tell(id, || {
            let (state, counters) = (view.summary.state.clone(), view.counters.clone());
            Happening::Closed(Box::new(Closed { state, counters }))
        });
        let mut ended = Ended { view, votes, completion_bytes: 0, completion: None };
        ended.keep(completion);
        self.ended.insert(id, ended);
        self.forget_ended();
    }

    /// Keeps what is kept of ended jobs within its bounds.
    fn forget_ended(&mut self) {
        while self.ended.len() > limits::ENDED_JOBS_MAX {
            self.ended.pop_first();
        }
        let mut kept = 0;
        for ended in self.ended.values_mut().rev() {
            kept += ended.completion_bytes;
            if kept > limits::COMPLETIONS_BYTES_MAX as u64 {
                ended.keep(None);
            }
        }
    }

    /// Takes back what the program made look like lies.
    fn absolve(&mut self, job: &Job) {
        for tracker in job.participants() {
            self.workforce.change(tracker, |tracker| tracker.record.absolve(job.id));
        }
    }

    fn stop_attempts(&mut self, job: &mut Job) {
        for tracker in job.participants().collect::<Vec<_>>() {
            for id in self.workforce.running(tracker, Some(job.id)) {
                if let Some(attempt) = job.attempt_mut(id) {
                    attempt.state = AttemptState::Cancelled;
                    self.workforce.release(tracker, id);
                }
            }
        }
    }

    /// Makes the output's files, all at once.
    fn publish(&mut self, job: &Job) -> JobState {
        let made = job.output_files().and_then(|files| self.namespace.create(files).map_err(|error| error.to_string()));
        match made {
            Ok(()) => JobState::Succeeded,
            Err(reason) => {
                let reason = format!("the output cannot be written: {reason}");
                JobState::Failed(JobFailure::NotRunnable { task: job.task_id(Stage::Reduce, 0), reason })
            }
        }
    }

    fn tell_trackers(&mut self, job: &Job, state: &JobState) {
        let mut keep = job.differing_attempts();
        let mut publish = match state {
            JobState::Succeeded => job.published(),
            JobState::Failed(_) | JobState::Killed | JobState::Running | JobState::Waiting(_) => BTreeMap::new(),
        };
        for tracker in job.participants() {
            let publish = publish.remove(&tracker).unwrap_or_default();
            let keep = keep.remove(&tracker).unwrap_or_default();
            self.workforce.direct(tracker, Directive::JobEnded { job: job.id, publish, keep });
        }
    }
}

impl Job {
    /// The agreed parts as files.
    fn output_files(&self) -> Result<Vec<(Path, File)>, String> {
        let mut files = Vec::with_capacity(self.reduces.all.len());
        for (index, task) in (0u32..).zip(&self.reduces.all) {
            let path = self.specification.output.join(&part_name(index))?;
            let agreed = task.agreed.ok_or("a part has no verdict")?;
            let servers: Vec<TrackerId> = task.votes_for(agreed).map(|(_, attempt, _)| attempt.tracker).collect();
            let Some(Ballot::Reduce { manifest, .. }) = task.ballot(agreed) else {
                return Err("a part's verdict names no chunks".to_owned());
            };
            files.push((path, OutputPart { manifest, servers }.into_file()));
        }
        Ok(files)
    }

    /// Each tracker's reduce attempts whose output became a file.
    fn published(&self) -> BTreeMap<TrackerId, Vec<AttemptId>> {
        let mut published: BTreeMap<TrackerId, Vec<AttemptId>> = BTreeMap::new();
        for (index, task) in (0u32..).zip(&self.reduces.all) {
            let id = self.task_id(Stage::Reduce, index);
            for (number, attempt, _) in task.agreed.iter().flat_map(|agreed| task.votes_for(*agreed)) {
                published.entry(attempt.tracker).or_default().push(AttemptId { task: id, attempt: number });
            }
        }
        published
    }

    /// What the job came to, when all of its parts are agreed.
    fn completion(&self, ended: OrderedTime) -> Option<Completion> {
        let parts = self.reduces.all.iter().map(|task| self.part(task)).collect::<Option<_>>()?;
        let verdicts = self.maps.all.iter().map(|task| task.agreed).collect::<Option<Vec<_>>>()?;
        Some(Completion {
            cluster: self.cluster,
            job: self.id,
            specification: self.specification.clone(),
            inputs: named(&self.files),
            submitted: self.submitted,
            ended,
            maps: self.maps.all.len() as u32,
            map_verdicts: verdicts_digest(&verdicts),
            parts,
        })
    }

    /// An agreed part with f + 1 of its votes. [T-1, T-3]
    fn part(&self, task: &Task) -> Option<Part> {
        let agreed = task.agreed?;
        let Ballot::Reduce { manifest, counters } = task.ballot(agreed)? else { return None };
        let vote = |(number, attempt, vote): (u16, &Attempt, &KeptVote)| PartVote {
            tracker: attempt.tracker,
            attempt: number,
            signature: vote.signature(),
        };
        let mut votes: Vec<_> = task.votes_for(agreed).take(self.f() as usize + 1).map(vote).collect();
        votes.sort_by_key(|vote| vote.tracker);
        Some(Part { manifest, counters, votes })
    }

    /// Disputed tasks with votes that are not all alike.
    fn differing(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        let tasks = self.disputes.iter().filter_map(|id| Some((*id, self.task(*id)?)));
        tasks.filter(|(_, task)| {
            let mut ballots = task.attempts.iter().filter_map(Attempt::vote).map(|vote| vote.ballot);
            let first = ballots.next();
            ballots.any(|ballot| Some(ballot) != first)
        })
    }

    /// Each tracker's attempts that voted on such a task.
    fn differing_attempts(&self) -> BTreeMap<TrackerId, Vec<AttemptId>> {
        let mut attempts: BTreeMap<TrackerId, Vec<AttemptId>> = BTreeMap::new();
        for (id, task) in self.differing() {
            for (number, attempt) in (0u16..).zip(&task.attempts).filter(|(_, attempt)| attempt.vote().is_some()) {
                attempts.entry(attempt.tracker).or_default().push(AttemptId { task: id, attempt: number });
            }
        }
        attempts
    }

    fn differing_votes(&self) -> BTreeMap<TaskId, Vec<Signed<Vote>>> {
        let mut room = ENDED_DIFFERING_BYTES_MAX;
        let mut kept = BTreeMap::new();
        for (id, _) in self.differing() {
            let votes = self.votes(id);
            let bytes: usize = votes.iter().map(|vote| vote.bytes().len()).sum();
            if let Some(left) = room.checked_sub(bytes) {
                room = left;
                kept.insert(id, votes);
            }
        }
        kept
    }

    /// All votes of the task that failed the job, unless they are too large.
    fn votes_of(&self, state: &JobState) -> BTreeMap<TaskId, Vec<Signed<Vote>>> {
        let votes = match state {
            JobState::Failed(
                JobFailure::Program { task, .. }
                | JobFailure::Undecidable { task }
                | JobFailure::Nondeterministic { task, .. },
            ) => BTreeMap::from([(*task, self.votes(*task))]),
            JobState::Failed(JobFailure::NotRunnable { .. })
            | JobState::Succeeded
            | JobState::Killed
            | JobState::Running
            | JobState::Waiting(_) => BTreeMap::new(),
        };
        let bytes: usize = votes.values().flatten().map(|vote| vote.bytes().len()).sum();
        if bytes <= ENDED_VOTES_BYTES_MAX { votes } else { BTreeMap::new() }
    }
}
