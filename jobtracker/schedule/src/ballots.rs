//! Votes and what follows from them: verdicts, charges, and the job's end.

use crate::{
    events::Happening,
    job::{Charge, Ending, Job},
    task::{Attempt, AttemptState, HeardVote, Purpose},
    workforce::Workforce,
};
use quorate_protocol::{
    command::Cost,
    digest::Digest,
    evidence::Evidence,
    ids::{AttemptId, Stage, TaskId, TrackerId},
    query::{Blame, JobFailure},
    sign::Signed,
    vote::{Ballot, Vote},
};
use std::collections::BTreeSet;

impl Job {
    /// Takes over a vote whose signature, voter, cluster and specification were checked. One that is not awaited is
    /// ignored: honest retries look the same. What it shows against anybody is added to `charges`.
    pub(crate) fn vote(
        &mut self,
        workforce: &mut Workforce,
        heard: &HeardVote<'_>,
        cost: &Cost,
        charges: &mut Vec<Charge>,
    ) {
        let (id, voter) = (heard.vote.attempt, heard.vote.tracker);
        let Some(attempt) = self.attempt(id).filter(|attempt| attempt.tracker == voter) else { return };
        let purpose = attempt.purpose;
        match &attempt.state {
            AttemptState::Running | AttemptState::Overdue { .. } | AttemptState::Cancelled => {}
            AttemptState::Voted(_) => {
                charges.extend(self.two_votes(id, heard));
                return;
            }
            AttemptState::Lost(_) | AttemptState::Declined(_) | AttemptState::Withdrawn => return,
        }
        if let Some(task) = self.task_mut(id.task) {
            task.keep(id.attempt, heard);
        }
        workforce.voted(voter, id);
        workforce.tell(self.id, || Happening::Voted { attempt: id, ballot: heard.ballot, cost: *cost });
        self.add_cost(cost);
        match (purpose, self.task(id.task).and_then(|task| task.agreed)) {
            (Purpose::Repeats(of), _) => self.repeated(workforce, id, of, heard.ballot),
            (Purpose::Probes, _) => self.probed(workforce, id, voter, heard.ballot, charges),
            (Purpose::Decides | Purpose::BringsBack, None) => self.count(workforce, heard, charges),
            (Purpose::Decides | Purpose::BringsBack, Some(agreed)) => {
                self.compare_late(workforce, heard, agreed, charges);
            }
        }
        self.refresh(id.task);
    }

    fn add_cost(&mut self, cost: &Cost) {
        self.cost.elapsed_ms = self.cost.elapsed_ms.saturating_add(cost.elapsed_ms);
        self.cost.shuffled = self.cost.shuffled.saturating_add(cost.shuffled);
        self.cost.refetched = self.cost.refetched.saturating_add(cost.refetched);
        self.cost.restarts = self.cost.restarts.saturating_add(cost.restarts);
    }

    /// Counts the votes of an undecided task after one more came.
    fn count(&mut self, workforce: &mut Workforce, heard: &HeardVote<'_>, charges: &mut Vec<Charge>) {
        self.limit_stragglers(workforce, heard.vote.attempt);
        let (id, f) = (heard.vote.attempt.task, self.f());
        let Some(task) = self.task(id) else { return };
        if task.tally().differs {
            self.dispute(id);
        }
        let Some(task) = self.task(id) else { return };
        if task.quorum(f) == Some(heard.ballot) {
            self.agree(workforce, heard, charges);
        } else if task.is_undecidable(f) {
            self.doubt_all(workforce, id);
        }
    }

    /// The verdict: f + 1 equal ballots, of which this was the last.
    fn agree(&mut self, workforce: &mut Workforce, heard: &HeardVote<'_>, charges: &mut Vec<Charge>) {
        let (id, agreed, ballot) = (heard.vote.attempt.task, heard.ballot, &heard.vote.ballot);
        let Some(task) = self.task_mut(id) else { return };
        task.agreed = Some(agreed);
        workforce.tell(id.job, || Happening::Agreed { task: id, ballot: agreed });
        let message = task.votes_for(agreed).next().map_or(String::new(), |(_, _, vote)| vote.message.to_string());
        self.cancel_rest(workforce, id);
        self.judge_voters(workforce, id, agreed, charges);
        self.tasks_mut(id.stage).agreed += 1;
        self.add_counters(ballot);
        match ballot {
            Ballot::Map { .. } => self.publish_map(workforce, id.index),
            Ballot::Reduce { .. } => {
                if self.reduces.are_agreed() {
                    self.end(Ending::Succeeded);
                }
            }
            Ballot::Failed { kind, record } => {
                let (kind, record) = (*kind, *record);
                self.end(Ending::Failed(JobFailure::Program { task: id, kind, record, message }));
            }
        }
    }

    fn judge_voters(&mut self, workforce: &mut Workforce, id: TaskId, agreed: Digest, charges: &mut Vec<Charge>) {
        let Some(task) = self.task(id) else { return };
        let votes: Vec<(TrackerId, bool)> = task
            .attempts
            .iter()
            .filter_map(|attempt| Some((attempt.tracker, attempt.vote()?.ballot == agreed)))
            .collect();
        for (voter, is_agreed) in votes {
            self.judge_voter(workforce, id, voter, is_agreed, charges);
        }
    }

    fn judge_voter(
        &mut self,
        workforce: &mut Workforce,
        id: TaskId,
        voter: TrackerId,
        is_agreed: bool,
        charges: &mut Vec<Charge>,
    ) {
        workforce.judged(voter, is_agreed);
        if is_agreed {
            if let Some(member) = self.crew.get_mut(voter).filter(|_| id.stage == Stage::Map) {
                member.served.push(id.index);
            }
            return;
        }
        self.dispute(id);
        self.doubt_voter(id, voter);
        charges.extend(self.outvoted(workforce, id, voter));
    }

    fn publish_map(&mut self, workforce: &mut Workforce, index: u32) {
        self.log_verdict(index);
        self.check_served(workforce, index);
        self.settle(workforce.now);
    }

    /// A vote on a task that is decided: late, or of an attempt that was to bring its bytes back.
    fn compare_late(
        &mut self,
        workforce: &mut Workforce,
        heard: &HeardVote<'_>,
        agreed: Digest,
        charges: &mut Vec<Charge>,
    ) {
        let id = heard.vote.attempt.task;
        let is_agreed = heard.ballot == agreed;
        self.judge_voter(workforce, id, heard.vote.tracker, is_agreed, charges);
        self.check_contradicted(workforce, id);
        let was_lacking = self.task(id).is_some_and(|task| task.is_lacking);
        if is_agreed && was_lacking && id.stage == Stage::Map {
            self.check_served(workforce, id.index);
            self.log_verdict(id.index);
        }
    }
}

impl Job {
    /// Ends the job when more than f domains contradict a verdict: with at most f liars they cannot. [T-4]
    fn check_contradicted(&mut self, workforce: &Workforce, id: TaskId) {
        let Some(task) = self.task(id) else { return };
        let domains: BTreeSet<_> = task.outvoted().map(|tracker| workforce.domain(tracker)).collect();
        if domains.len() as u64 > u64::from(self.f()) {
            let reason = format!(
                "{} domains gave another output than was agreed: the program does not give the same each time, or \
                 more than f = {} of them lie",
                domains.len(),
                self.f()
            );
            self.end(Ending::Failed(JobFailure::NotRunnable { task: id, reason }));
        }
    }

    /// Two votes of one attempt: proof, if they differ.
    pub(crate) fn two_votes(&self, id: AttemptId, second: &HeardVote<'_>) -> Option<Charge> {
        let attempt =
            self.attempt(id).filter(|attempt| attempt.vote().is_some_and(|vote| vote.ballot != second.ballot))?;
        let evidence = Evidence::TwoVotes(self.signed(id)?, second.signed.clone());
        Some(Charge { about: attempt.tracker, evidence, blame: Blame::Convicted })
    }

    /// The evidence that a voter was outvoted, by f + 1 votes of other domains than its own. There may be none when the
    /// vote is of an attempt that only was to bring bytes back.
    pub(crate) fn outvoted(&self, workforce: &Workforce, id: TaskId, voter: TrackerId) -> Option<Charge> {
        let (task, f) = (self.task(id)?, self.f());
        let agreed = task.agreed?;
        let name = |attempt: u16| AttemptId { task: id, attempt };
        let differs =
            |attempt: &Attempt| attempt.tracker == voter && attempt.vote().is_some_and(|vote| vote.ballot != agreed);
        let own = task.attempts.iter().rposition(differs)? as u16;
        let domain = workforce.domain(voter);
        let others = task.votes_for(agreed).filter(|(_, attempt, _)| workforce.domain(attempt.tracker) != domain);
        let majority: Vec<_> =
            others.take(f as usize + 1).filter_map(|(number, ..)| self.signed(name(number))).collect();
        let is_enough = majority.len() as u64 > u64::from(f);
        let evidence = Evidence::Outvoted { vote: self.signed(name(own))?, majority };
        is_enough.then_some(Charge { about: voter, evidence, blame: Blame::Suspected })
    }

    /// What a tracker signed as its vote of an attempt. All that it says but the ballot is said by the job, since a vote
    /// that says otherwise is not kept; and there is one encoding of it.
    pub(crate) fn signed(&self, id: AttemptId) -> Option<Signed<Vote>> {
        let attempt = self.attempt(id)?;
        let (kept, ballot) = (attempt.vote()?, self.task(id.task)?.ballot(attempt.vote()?.ballot)?);
        let (cluster, specification, f) = (self.cluster, self.digest, self.f());
        Some(kept.signed(&Vote { cluster, specification, f, attempt: id, tracker: attempt.tracker, ballot }))
    }

    /// All votes of a task that came, in the order of their attempts.
    pub(crate) fn votes(&self, id: TaskId) -> Vec<Signed<Vote>> {
        let count = self.task(id).map_or(0, |task| task.attempts.len());
        (0..count as u16).filter_map(|attempt| self.signed(AttemptId { task: id, attempt })).collect()
    }
}
