//! Answers to questions.

use crate::{
    Scheduler,
    bounds::ANSWER_BYTES_MAX,
    job::Job,
    task::{Attempt, Purpose},
    tracker::Tracker,
    workforce::Workforce,
};
use quorate_protocol::{
    canonical,
    certificate::Completion,
    command::Refusal,
    file::Path,
    ids::{AttemptId, JobId, OrderedTime, Stage, TaskId, TrackerId},
    job::{JobPlan, Split},
    limits,
    query::{Answer, Blame, Dispute, JobState, JobSummary, JobView, Question, Suspect, TrackerView},
    sign::Signed,
    vote::Vote,
};
use serde::Serialize;
use std::collections::BTreeSet;

impl Scheduler {
    /// Answers a question; changes nothing.
    pub fn ask(&self, question: &Question) -> Answer {
        let answer = match question {
            Question::Jobs => Ok(Answer::Jobs(self.summaries())),
            Question::Job(id) => self.job_view(*id).map(|view| Answer::Job(Box::new(view))),
            Question::Plan(id) => self.plan(*id).map(|plan| Answer::Plan(Box::new(plan))),
            Question::Trackers => {
                let views = self.workforce.trackers().map(|tracker| tracker.view(&self.workforce));
                Ok(Answer::Trackers(views.collect()))
            }
            Question::List(path) => self.namespace.list(path).map(Answer::List),
            Question::File(path) => match self.namespace.file(path) {
                Some(file) => Ok(Answer::File(Box::new(file.clone()))),
                None if self.namespace.exists(path) => Err(Refusal::IsFolder(path.to_string())),
                None => Err(Refusal::NotFound(path.to_string())),
            },
            Question::Files(path) => self.files(path),
            Question::Votes(task) => self.votes(*task).map(|votes| Answer::Votes(fitting(votes))),
            Question::Evidence(id) => self.evidence(*id),
            Question::Unreferenced(server, chunks) => Ok(Answer::Chunks(self.namespace.unreferenced(*server, chunks))),
            Question::Replica => Err(Refusal::Invalid("each replica says itself how it stands".to_owned())),
            Question::Completion(id) => self.completion(*id).map(|it| Answer::Completion(Box::new(it.clone()))),
            Question::Endorsement(_) => Err(Refusal::Invalid("each replica signs for itself".to_owned())),
        };
        let fits = |answer: &Answer| canonical::encode(answer).len() <= ANSWER_BYTES_MAX;
        match answer {
            Ok(answer) if fits(&answer) => answer,
            Ok(_) => Answer::Refused(Refusal::Full("the answer is too long to be sent".to_owned())),
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// The trackers that something is held against, in the order of their numbers. Costs little when there are none.
    pub fn suspects(&self) -> Vec<Suspect> {
        let blamed = |tracker: &&Tracker| tracker.record.blame != Blame::None || !tracker.record.kept.is_empty();
        let suspect = |tracker: &Tracker| {
            let kinds: BTreeSet<&str> = tracker.record.kept.iter().map(|(evidence, _)| evidence.kind()).collect();
            Suspect {
                tracker: tracker.id,
                domain: self.workforce.domain_label(tracker).clone(),
                blame: tracker.record.blame,
                evidence: tracker.record.kept.len() as u32,
                kinds: kinds.into_iter().map(str::to_owned).collect(),
            }
        };
        self.workforce.trackers().filter(blamed).map(suspect).collect()
    }

    /// The ordered time of what was executed last.
    pub fn time(&self) -> OrderedTime {
        self.workforce.now
    }

    /// What a map task of a live job reads: the file, and which bytes of it.
    pub fn input(&self, id: TaskId) -> Option<(&Path, Split)> {
        let job = self.jobs.get(&id.job).filter(|_| id.stage == Stage::Map)?;
        let split = *job.splits.get(id.index as usize)?;
        job.files.get(split.file as usize).map(|(path, _)| (path, split))
    }

    fn summaries(&self) -> Vec<JobSummary> {
        let live = self.jobs.values().map(|job| job.summary(&self.workforce, job.state(&self.workforce)));
        let mut all: Vec<_> = live.chain(self.ended.values().map(|ended| ended.view.summary.clone())).collect();
        all.sort_by_key(|summary| std::cmp::Reverse(summary.job));
        all
    }

    fn job_view(&self, id: JobId) -> Result<JobView, Refusal> {
        match (self.jobs.get(&id), self.ended.get(&id)) {
            (Some(job), _) => Ok(job.view(&self.workforce, job.state(&self.workforce))),
            (None, Some(ended)) => Ok(ended.view.clone()),
            (None, None) => Err(Refusal::NotFound(id.to_string())),
        }
    }

    fn plan(&self, id: JobId) -> Result<JobPlan, Refusal> {
        let job = self.jobs.get(&id).ok_or_else(|| Refusal::NotFound(format!("the plan of {id}")))?;
        Ok(JobPlan {
            job: id,
            digest: job.digest,
            specification: job.specification.clone(),
            files: job.files.clone(),
            maps: job.maps.all.len() as u32,
        })
    }

    fn files(&self, path: &Path) -> Result<Answer, Refusal> {
        let found = self.namespace.files(path).take(limits::FILES_PER_COMMAND_MAX + 1);
        let files: Vec<_> = found.map(|(path, file)| (path.clone(), file.clone())).collect();
        if files.is_empty() && path.as_str() != "/" {
            return Err(Refusal::NotFound(path.to_string()));
        }
        if files.len() > limits::FILES_PER_COMMAND_MAX {
            return Err(Refusal::Full(format!("{path} has more than {} files", limits::FILES_PER_COMMAND_MAX)));
        }
        Ok(Answer::Files(files))
    }

    fn votes(&self, id: TaskId) -> Result<Vec<Signed<Vote>>, Refusal> {
        if let Some(job) = self.jobs.get(&id.job).filter(|job| job.task(id).is_some()) {
            return Ok(job.votes(id));
        }
        self.ended.get(&id.job).map(|ended| ended.votes(id)).ok_or_else(|| Refusal::NotFound(id.to_string()))
    }

    /// What a job came to, as its certificate has it.
    ///
    /// # Errors
    /// [`Refusal`]: there is no such job, it did not succeed, or it is not kept.
    pub fn completion(&self, id: JobId) -> Result<&Completion, Refusal> {
        if let Some(ended) = self.ended.get(&id) {
            return ended.completion();
        }
        match self.jobs.get(&id) {
            Some(_) => Err(Refusal::Invalid(format!("{id} has not ended, and has no certificate yet"))),
            None => Err(Refusal::NotFound(id.to_string())),
        }
    }

    fn evidence(&self, id: TrackerId) -> Result<Answer, Refusal> {
        let tracker = self.workforce.tracker(id).ok_or_else(|| Refusal::NotFound(id.to_string()))?;
        let kept = tracker.record.kept.iter().map(|(evidence, _)| evidence.clone());
        Ok(Answer::Evidence(fitting(kept.collect())))
    }
}

/// The first of these that one answer has room for.
fn fitting<T: Serialize>(all: Vec<T>) -> Vec<T> {
    let mut room = ANSWER_BYTES_MAX - 64;
    let fits = |item: &T| {
        room = room.checked_sub(canonical::encode(item).len())?;
        Some(())
    };
    let count = all.iter().map_while(fits).count();
    all.into_iter().take(count).collect()
}

impl Tracker {
    fn view(&self, workforce: &Workforce) -> TrackerView {
        let votes = workforce.votes(self.id);
        let used = |stage| u16::try_from(self.used(stage)).unwrap_or(u16::MAX);
        TrackerView {
            id: self.id,
            domain: workforce.domain_label(self).clone(),
            address: self.registration.as_ref().map_or(String::new(), |registration| registration.address.clone()),
            live: self.live,
            map_slots: (used(Stage::Map), self.slots(Stage::Map)),
            reduce_slots: (used(Stage::Reduce), self.slots(Stage::Reduce)),
            blame: self.record.blame,
            evidence: self.record.kept.len() as u32,
            overdue: self.overdue,
            agreed: votes.agreed,
            outvoted: votes.outvoted,
            duty: self.duty.clone(),
        }
    }
}

impl Job {
    /// How the job stands while it lives.
    fn state(&self, workforce: &Workforce) -> JobState {
        match self.stuck {
            Some(task) => JobState::Waiting(self.lack(workforce, task)),
            None => JobState::Running,
        }
    }

    fn lack(&self, workforce: &Workforce, task: TaskId) -> String {
        let (needed, have) = (self.f() + 1, workforce.live_domains(&self.target));
        if have < needed as usize {
            return format!(
                "{task} needs a tracker in one more failure domain: f + 1 = {needed} live domains needed, {have} \
                 there; waiting"
            );
        }
        format!(
            "{task} needs a tracker in one more failure domain: {have} live domains there, and each has an attempt of \
             it already; waiting"
        )
    }

    fn summary(&self, workforce: &Workforce, state: JobState) -> JobSummary {
        let count = |stage| (self.tasks(stage).agreed, self.tasks(stage).all.len() as u32);
        JobSummary {
            job: self.id,
            name: self.specification.name.clone(),
            state,
            submitted: self.submitted,
            until: workforce.now,
            f: self.f(),
            maps: count(Stage::Map),
            reduces: count(Stage::Reduce),
        }
    }

    /// The job in full.
    pub(crate) fn view(&self, workforce: &Workforce, state: JobState) -> JobView {
        JobView {
            summary: self.summary(workforce, state),
            output: self.specification.output.clone(),
            attempts: self.attempts,
            cost: self.cost,
            counters: self.counters.clone(),
            disputes: self.disputes.iter().filter_map(|id| self.dispute_view(*id)).collect(),
            disputed: self.disputed,
            tests: self.tests,
        }
    }

    fn dispute_view(&self, id: TaskId) -> Option<Dispute> {
        let task = self.task(id)?;
        // What is only about trackers is shown where it came out otherwise.
        let tells = |attempt: &Attempt| match attempt.purpose {
            Purpose::Decides | Purpose::BringsBack => true,
            Purpose::Probes => attempt.vote().is_some_and(|vote| Some(vote.ballot) != task.agreed),
            Purpose::Repeats(_) => task.is_changed(attempt),
        };
        let numbered = (0u16..).zip(&task.attempts).filter(|(_, attempt)| tells(attempt));
        let attempts = numbered
            .map(|(number, attempt)| (AttemptId { task: id, attempt: number }, attempt.tracker, task.standing(attempt)))
            .collect();
        Some(Dispute { task: id, attempts })
    }
}
