//! Evidence against a tracker that anybody with the cluster's configuration can check.

use crate::{
    cluster::Cluster,
    command::{Request, Sender},
    digest::Digest,
    ids::{AttemptId, Domain, JobId, TrackerId},
    query::Blame,
    sign::{Rejection, Signed},
    vote::{Ballot, Segment, Served, Subject, Vote, segments_digest},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is held against a tracker. [`Evidence::check`] tells whom it is against and how much it proves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Evidence {
    /// Two different votes of one tracker for one attempt: proof.
    TwoVotes(Signed<Vote>, Signed<Vote>),
    /// A segment served unlike the server's own vote: proof. Served not at all: suspicion, since disks die.
    WrongSegment {
        /// What it voted.
        vote: Signed<Vote>,
        /// The segments that the vote names.
        segments: Vec<Segment>,
        /// What it says it sent.
        served: Signed<Served>,
    },
    /// A chunk served with other bytes than its name says: proof.
    WrongChunk(Signed<Served>),
    /// A vote that f+1 votes of other domains contradict: suspicion, since a program may be nondeterministic.
    Outvoted {
        /// The vote.
        vote: Signed<Vote>,
        /// The votes that agreed on something else: f+1, by the f that the vote itself names.
        majority: Vec<Signed<Vote>>,
    },
    /// A command that it signed and that is not readable: suspicion.
    Garbled {
        /// Whose.
        tracker: TrackerId,
        /// The command.
        request: Signed<Request>,
    },
    /// f+1 domains complained, so one of them at least is honest: suspicion.
    Complaints {
        /// A vote of the accused that names the job and its f.
        vote: Signed<Vote>,
        /// The reports that hold the complaints.
        reports: Vec<Signed<Request>>,
    },
}

/// Why evidence proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// A signature or encoding is wrong.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It names a tracker outside the configuration.
    #[error("{0} is not of this cluster")]
    Stranger(TrackerId),
    /// All signatures hold, and still nothing is wrong with what they say.
    #[error("the statements do not contradict each other: {0}")]
    NoContradiction(&'static str),
}

impl From<crate::canonical::DecodeError> for EvidenceError {
    fn from(error: crate::canonical::DecodeError) -> Self {
        Self::Rejected(Rejection::Decode(error))
    }
}

/// Verifies a vote of a tracker of this cluster.
///
/// # Errors
/// [`EvidenceError`] when it is of another cluster, of no member, or wrongly signed.
pub fn verify_vote(cluster: &Cluster, signed: &Signed<Vote>) -> Result<(Vote, Domain), EvidenceError> {
    let claimed = signed.peek()?;
    let member = cluster.tracker(claimed.tracker).ok_or(EvidenceError::Stranger(claimed.tracker))?;
    let vote = signed.verify(&member.key)?.into_inner();
    if vote.cluster != cluster.id() {
        return Err(EvidenceError::NoContradiction("a vote of another cluster"));
    }
    Ok((vote, member.domain.clone()))
}

fn verify_served(cluster: &Cluster, signed: &Signed<Served>) -> Result<Served, EvidenceError> {
    let claimed = signed.peek()?;
    let member = cluster.tracker(claimed.tracker).ok_or(EvidenceError::Stranger(claimed.tracker))?;
    let served = signed.verify(&member.key)?.into_inner();
    if served.cluster != cluster.id() {
        return Err(EvidenceError::NoContradiction("a statement of another cluster"));
    }
    Ok(served)
}

impl Evidence {
    /// What kind of evidence it is, in a word or two for people and programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Evidence::TwoVotes(..) => "two-votes",
            Evidence::WrongSegment { .. } => "wrong-segment",
            Evidence::WrongChunk(_) => "wrong-chunk",
            Evidence::Outvoted { .. } => "outvoted",
            Evidence::Garbled { .. } => "garbled",
            Evidence::Complaints { .. } => "complaints",
        }
    }

    /// The attempt that it is about, when it names one.
    pub fn attempt(&self) -> Option<AttemptId> {
        match self {
            Evidence::TwoVotes(vote, _)
            | Evidence::WrongSegment { vote, .. }
            | Evidence::Outvoted { vote, .. }
            | Evidence::Complaints { vote, .. } => Some(vote.peek().ok()?.attempt),
            Evidence::WrongChunk(_) | Evidence::Garbled { .. } => None,
        }
    }

    /// Checks the evidence with nothing but the cluster's configuration.
    ///
    /// Returns whom it is against and how much it proves.
    ///
    /// # Errors
    /// [`EvidenceError`] when it proves nothing.
    pub fn check(&self, cluster: &Cluster) -> Result<(TrackerId, Blame), EvidenceError> {
        use EvidenceError::NoContradiction;
        match self {
            Evidence::TwoVotes(first, second) => {
                let (first, _) = verify_vote(cluster, first)?;
                let (second, _) = verify_vote(cluster, second)?;
                if (first.tracker, first.attempt, first.specification)
                    != (second.tracker, second.attempt, second.specification)
                {
                    return Err(NoContradiction("the votes are not for one attempt of one job"));
                }
                if first.ballot == second.ballot {
                    return Err(NoContradiction("the votes are alike"));
                }
                Ok((first.tracker, Blame::Convicted))
            }
            Evidence::WrongSegment { vote: signed, segments, served } => {
                let (vote, _) = verify_vote(cluster, signed)?;
                let served = verify_served(cluster, served)?;
                if served.vote != Some(Digest::of(signed.bytes())) {
                    return Err(NoContradiction("the statement is not about what was voted"));
                }
                let Ballot::Map { segments: root, .. } = &vote.ballot else {
                    return Err(NoContradiction("the vote is not of a map attempt"));
                };
                let Subject::Segment { attempt, partition } = served.subject else {
                    return Err(NoContradiction("the statement is not about a segment"));
                };
                if segments_digest(segments) != *root || vote.attempt != attempt || vote.tracker != served.tracker {
                    return Err(NoContradiction("vote, segments and statement do not belong together"));
                }
                let segment = segments.get(partition as usize).ok_or(NoContradiction("there is no such partition"))?;
                match served.sent {
                    None => Ok((vote.tracker, Blame::Suspected)),
                    Some(sent) if sent == (segment.digest, segment.length) => {
                        Err(NoContradiction("it says it sent what it voted"))
                    }
                    Some(_) => Ok((vote.tracker, Blame::Convicted)),
                }
            }
            Evidence::WrongChunk(served) => {
                let served = verify_served(cluster, served)?;
                match (served.subject, served.sent) {
                    (Subject::Chunk(chunk), Some((digest, _))) if digest != chunk.0 => {
                        Ok((served.tracker, Blame::Convicted))
                    }
                    _ => Err(NoContradiction("no chunk was sent with other bytes")),
                }
            }
            Evidence::Outvoted { vote, majority } => {
                let (vote, domain) = verify_vote(cluster, vote)?;
                let mut domains = BTreeSet::new();
                let mut agreed: Option<Ballot> = None;
                for other in majority {
                    let (other, its_domain) = verify_vote(cluster, other)?;
                    if other.attempt.task != vote.attempt.task || other.specification != vote.specification {
                        return Err(NoContradiction("the votes are not for one task"));
                    }
                    if other.f != vote.f {
                        return Err(NoContradiction("the votes name different f"));
                    }
                    if *agreed.get_or_insert_with(|| other.ballot.clone()) != other.ballot {
                        return Err(NoContradiction("the majority does not agree"));
                    }
                    domains.insert(its_domain);
                }
                if domains.contains(&domain) || domains.len() as u64 <= u64::from(vote.f) {
                    return Err(NoContradiction("the majority does not span f + 1 other domains"));
                }
                if agreed == Some(vote.ballot) {
                    return Err(NoContradiction("the vote agrees with the majority"));
                }
                Ok((vote.tracker, Blame::Suspected))
            }
            Evidence::Garbled { tracker, request } => {
                let member = cluster.tracker(*tracker).ok_or(EvidenceError::Stranger(*tracker))?;
                request.verify_signature(&member.key)?;
                match request.peek() {
                    Err(_) => Ok((*tracker, Blame::Suspected)),
                    Ok(_) => Err(NoContradiction("the command is readable")),
                }
            }
            Evidence::Complaints { vote, reports } => {
                let (vote, _) = verify_vote(cluster, vote)?;
                let (about, job) = (vote.tracker, vote.attempt.task.job);
                let mut domains = BTreeSet::new();
                for signed in reports {
                    let Sender::Tracker(reader) = signed.peek()?.sender else {
                        return Err(NoContradiction("a complaint is not a tracker's"));
                    };
                    let member = cluster.tracker(reader).ok_or(EvidenceError::Stranger(reader))?;
                    let request = signed.verify(&member.key)?;
                    let complains = request.command.complains_about(about, job);
                    if reader != about && request.cluster == cluster.id() && complains {
                        domains.insert(member.domain.clone());
                    }
                }
                if domains.len() as u64 <= u64::from(vote.f) {
                    return Err(NoContradiction("the complaints do not span f + 1 domains"));
                }
                Ok((about, Blame::Suspected))
            }
        }
    }
}

impl crate::command::Command {
    /// Whether this is a report that complains about a tracker's output in a job.
    pub fn complains_about(&self, tracker: TrackerId, job: JobId) -> bool {
        use crate::command::{Accusation, Command};
        match self {
            Command::Report(report) => report.accusations.iter().any(|accusation| match accusation {
                Accusation::Complaint { about, attempt, .. } => *about == tracker && attempt.task.job == job,
                Accusation::Evidence(_) | Accusation::Unreachable { .. } | Accusation::StrayVote(_) => false,
            }),
            _ => false,
        }
    }
}
