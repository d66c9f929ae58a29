//! A job's end: the output appears, its trackers are told, and little is kept.

use crate::{
    Scheduler,
    bounds::ENDED_VOTES_BYTES_MAX,
    job::{Ending, Job},
    task::{AttemptState, Task},
};
use quorate_protocol::{
    file::{File, Path},
    ids::{AttemptId, JobId, Stage, TaskId, TrackerId},
    job::{Directive, OutputPart, Program},
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
    /// The votes that show why it ended so: the output's, or those of the task that failed it.
    pub(crate) votes: BTreeMap<TaskId, Vec<Signed<Vote>>>,
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
        self.tell_trackers(&job, &state);
        let votes = job.votes_of(&state);
        let view = job.view(&self.workforce, state);
        self.ended.insert(id, Ended { view, votes });
        while self.ended.len() > limits::ENDED_JOBS_MAX {
            self.ended.pop_first();
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
        let keep_segments = matches!(state, JobState::Failed(JobFailure::Undecidable { .. }));
        let mut publish = match state {
            JobState::Succeeded => job.published(),
            JobState::Failed(_) | JobState::Killed | JobState::Running | JobState::Waiting(_) => BTreeMap::new(),
        };
        for tracker in job.participants() {
            let publish = publish.remove(&tracker).unwrap_or_default();
            self.workforce.direct(tracker, Directive::JobEnded { job: job.id, publish, keep_segments });
        }
    }
}

impl Job {
    /// The agreed parts as files.
    fn output_files(&self) -> Result<Vec<(Path, File)>, String> {
        let mut files = Vec::with_capacity(self.reduces.all.len());
        for (index, task) in self.reduces.all.iter().enumerate() {
            let path = self.specification.output.join(&format!("part-r-{index:05}"))?;
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

    /// The votes worth keeping, unless they are too large.
    fn votes_of(&self, state: &JobState) -> BTreeMap<TaskId, Vec<Signed<Vote>>> {
        let agreed = |id: TaskId, task: &Task| {
            let votes = task.agreed.iter().flat_map(|agreed| task.votes_for(*agreed));
            let names = votes.map(|(attempt, ..)| AttemptId { task: id, attempt });
            (id, names.filter_map(|name| self.signed(name)).collect::<Vec<_>>())
        };
        let votes: BTreeMap<TaskId, Vec<Signed<Vote>>> = match state {
            JobState::Succeeded => {
                (0u32..).zip(&self.reduces.all).map(|(i, task)| agreed(self.task_id(Stage::Reduce, i), task)).collect()
            }
            JobState::Failed(JobFailure::Program { task, .. } | JobFailure::Undecidable { task }) => {
                BTreeMap::from([(*task, self.votes(*task))])
            }
            JobState::Failed(JobFailure::NotRunnable { .. })
            | JobState::Killed
            | JobState::Running
            | JobState::Waiting(_) => BTreeMap::new(),
        };
        let bytes: usize = votes.values().flatten().map(|vote| vote.bytes().len()).sum();
        if bytes <= ENDED_VOTES_BYTES_MAX { votes } else { BTreeMap::new() }
    }
}
