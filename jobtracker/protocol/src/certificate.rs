//! A job's certificate: what its output is, shown to whoever has nothing but the cluster's public keys.
//!
//! It is made of a record of the job, [`Completion`], and of two kinds of signatures:
//!
//! * **Votes.** Of each part of the output, f + 1 trackers in distinct failure domains signed that it came of exactly this
//!   job. A vote names its job by [`job_digest`], a digest of the specification (program, arguments, f), the manifests of
//!   the input and the time of submission. All these stand in the record, and whoever checks a certificate computes that digest from
//!   them. So program, input and output belong together unless f + 1 domains lied alike, whatever the job tracker did.
//! * **Endorsements.** `cluster.f + 1` replicas of the job tracker signed the digest of the whole record. They vouch for what
//!   no reduce vote says: that the job was ordered and ended when it says, and that each map task was decided by f + 1
//!   votes, for these ballots. The map votes themselves are too many to be carried along.
//!
//! What must hold: a certificate has exactly one encoding, and no bit of it is free. Lists have one length and one order, and
//! whatever the signatures' own bytes leave open is refused (`verify_strict`).
//!
//! What each replica's trusted log attested is in its endorsement as bytes, which the crate of the replicas reads and checks.

use crate::{
    canonical::{self, DecodeError},
    cluster::Cluster,
    command::History,
    digest::Digest,
    file::{Manifest, Path},
    ids::{AttemptId, Domain, JobId, OrderedTime, ReplicaId, Stage, TaskId, TrackerId},
    job::{Specification, job_digest},
    limits,
    sign::{Rejection, Signed, Statement},
    vote::{Ballot, Counters, Vote},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a certificate's file begins with.
const HEADING: &[u8] = b"quorate certificate v1\n";

/// A tracker's vote for a part of the output. All else that it signed is said by the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartVote {
    /// The voter.
    pub tracker: TrackerId,
    /// The number of its attempt.
    pub attempt: u16,
    /// R and s, the two halves of its signature.
    pub signature: ([u8; 32], [u8; 32]),
}

/// One reduce task's output, with the votes that decided it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The chunks of its file.
    pub manifest: Manifest,
    /// The counters that were voted on with it.
    pub counters: Counters,
    /// f + 1 votes, in the order of their trackers.
    pub votes: Vec<PartVote>,
}

/// A job that succeeded, as every replica records it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Completion {
    /// The cluster.
    pub cluster: Digest,
    /// The job.
    pub job: JobId,
    /// What was asked for: program, arguments, f and the rest.
    pub specification: Specification,
    /// The input files with the digests of their manifests.
    pub inputs: Vec<(Path, Digest)>,
    /// When it was submitted.
    pub submitted: OrderedTime,
    /// When its output appeared.
    pub ended: OrderedTime,
    /// Its map tasks.
    pub maps: u32,
    /// [`verdicts_digest`] of what they came to.
    pub map_verdicts: Digest,
    /// The output, part after part.
    pub parts: Vec<Part>,
}

/// The digest of all map tasks' verdicts: of the list of their agreed ballots' digests.
pub fn verdicts_digest(ballots: &[Digest]) -> Digest {
    canonical::digest(&("quorate map verdicts v1", ballots))
}

/// A replica's signature under a job's record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endorsement {
    /// The cluster.
    pub cluster: Digest,
    /// Who signs.
    pub replica: ReplicaId,
    /// [`Completion::digest`].
    pub completion: Digest,
    /// What it had executed when it signed: the job ended in this history.
    pub executed: History,
    /// Where its trusted log stood then, as the crate of the replicas encodes it.
    pub log: Vec<u8>,
}

impl Statement for Endorsement {
    const CONTEXT: &'static str = "quorate 2026 endorsement v1";
    const BYTES_MAX: usize = 4096;
}

/// A job's certificate. [`Certificate::check`] tells what it is worth.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// What is certified.
    pub completion: Completion,
    /// Those of `cluster.f + 1` replicas, in their order.
    pub endorsements: Vec<Signed<Endorsement>>,
}

/// Why a certificate does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes do not begin as a certificate's do.
    #[error("this is not a certificate of this version of Quorate")]
    Heading,
    /// The bytes are no certificate.
    #[error("its bytes are not those of a certificate: {0}")]
    Malformed(#[from] DecodeError),
    /// The keys are another cluster's.
    #[error("it is of the cluster {}, and the keys are of the cluster {}", .says.short(), .keys.short())]
    Cluster {
        /// Whose it says it is.
        says: Digest,
        /// Whose keys it is checked with.
        keys: Digest,
    },
    /// No job has such a specification.
    #[error("it is of a job that no cluster takes: {0}")]
    Specification(String),
    /// It does not have as many parts as the job.
    #[error("the job has {needed} parts, and {got} are in it")]
    Parts {
        /// How many there are.
        got: usize,
        /// How many there must be.
        needed: u32,
    },
    /// A part is none that a tracker may vote for.
    #[error("the output of {task} is none: {what}")]
    Part {
        /// The reduce task.
        task: TaskId,
        /// What is wrong with it.
        what: String,
    },
    /// A vote is missing, or there is one too many.
    #[error("{task} needs f + 1 = {needed} votes, and has {got}")]
    Votes {
        /// The reduce task.
        task: TaskId,
        /// How many there are.
        got: usize,
        /// How many there must be.
        needed: u32,
    },
    /// A tracker voted twice, or the votes are out of order.
    #[error("the votes for {task} are not of distinct trackers in their order: {tracker} comes too late")]
    VoteTwice {
        /// The reduce task.
        task: TaskId,
        /// The tracker.
        tracker: TrackerId,
    },
    /// Two votes of one failure domain count once.
    #[error("two votes for {task} are of one failure domain, {domain}, and count once")]
    DomainTwice {
        /// The reduce task.
        task: TaskId,
        /// The domain.
        domain: Domain,
    },
    /// A vote is of nobody in the cluster.
    #[error("a vote for {task} is of {tracker}, which is not of this cluster")]
    Voter {
        /// The reduce task.
        task: TaskId,
        /// Who it names.
        tracker: TrackerId,
    },
    /// A tracker did not sign this vote.
    #[error("{tracker} did not sign this vote for {task} of this job")]
    Vote {
        /// The reduce task.
        task: TaskId,
        /// The tracker.
        tracker: TrackerId,
    },
    /// A replica's signature is missing, or there is one too many.
    #[error("it needs the signatures of cluster.f + 1 = {needed} replicas, and has {got}")]
    Endorsements {
        /// How many there are.
        got: usize,
        /// How many there must be.
        needed: u32,
    },
    /// A replica signed twice, or the signatures are out of order.
    #[error("the signatures are not of distinct replicas in their order: {0} comes too late")]
    EndorsedTwice(ReplicaId),
    /// A signature is of nobody in the cluster.
    #[error("a signature is of {0}, which is not of this cluster")]
    Replica(ReplicaId),
    /// A replica did not sign this.
    #[error("{replica} did not sign this: {source}")]
    Endorsement {
        /// The replica.
        replica: ReplicaId,
        /// Why.
        #[source]
        source: Rejection,
    },
    /// A replica signed something else.
    #[error("{0} signed another certificate than this one")]
    Another(ReplicaId),
}

impl Completion {
    /// What replicas sign.
    pub fn digest(&self) -> Digest {
        canonical::digest(self)
    }

    /// What votes name the job by.
    pub fn job_digest(&self) -> Digest {
        job_digest(&self.specification, &self.inputs, self.submitted)
    }

    /// A reduce task of the job.
    pub fn task(&self, partition: u32) -> TaskId {
        TaskId { job: self.job, stage: Stage::Reduce, index: partition }
    }

    /// The votes for a part, as their trackers signed them; none when there is no such part.
    pub fn votes(&self, partition: u32) -> Vec<Signed<Vote>> {
        let (digest, task) = (self.job_digest(), self.task(partition));
        let part = self.parts.get(partition as usize);
        let signed = |part: &Part| {
            let ballot = part.ballot();
            part.votes.iter().map(|vote| self.signed(digest, task, &ballot, vote)).collect()
        };
        part.map(signed).unwrap_or_default()
    }

    fn signed(&self, specification: Digest, task: TaskId, ballot: &Ballot, vote: &PartVote) -> Signed<Vote> {
        let (attempt, tracker) = (AttemptId { task, attempt: vote.attempt }, vote.tracker);
        let f = self.specification.f;
        let said = Vote { cluster: self.cluster, specification, f, attempt, tracker, ballot: ballot.clone() };
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&vote.signature.0);
        signature[32..].copy_from_slice(&vote.signature.1);
        Signed::from_parts(canonical::encode(&said), &signature)
    }

    /// Checks that f + 1 domains of the cluster signed each part as the output of this job.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn check_votes(&self, cluster: &Cluster) -> Result<(), CertificateError> {
        let id = cluster.id();
        if self.cluster != id {
            return Err(CertificateError::Cluster { says: self.cluster, keys: id });
        }
        self.specification.check().map_err(CertificateError::Specification)?;
        let needed = self.specification.partitions;
        if self.parts.len() as u64 != u64::from(needed) {
            return Err(CertificateError::Parts { got: self.parts.len(), needed });
        }
        let digest = self.job_digest();
        (0..).zip(&self.parts).try_for_each(|(partition, part)| self.check_part(cluster, digest, partition, part))
    }

    fn check_part(
        &self,
        cluster: &Cluster,
        digest: Digest,
        partition: u32,
        part: &Part,
    ) -> Result<(), CertificateError> {
        let (task, needed) = (self.task(partition), self.specification.quorum());
        let ballot = part.ballot();
        ballot.check().map_err(|what| CertificateError::Part { task, what })?;
        if part.votes.len() as u64 != u64::from(needed) {
            return Err(CertificateError::Votes { task, got: part.votes.len(), needed });
        }
        if let Some(pair) = part.votes.windows(2).find(|pair| pair[0].tracker >= pair[1].tracker) {
            return Err(CertificateError::VoteTwice { task, tracker: pair[1].tracker });
        }
        let mut domains = BTreeSet::new();
        for vote in &part.votes {
            let tracker = vote.tracker;
            let member = cluster.tracker(tracker).ok_or(CertificateError::Voter { task, tracker })?;
            if !domains.insert(&member.domain) {
                return Err(CertificateError::DomainTwice { task, domain: member.domain.clone() });
            }
            let signed = self.signed(digest, task, &ballot, vote);
            signed.verify_signature(&member.key).map_err(|_| CertificateError::Vote { task, tracker })?;
        }
        Ok(())
    }
}

impl Part {
    /// What its voters agreed on.
    fn ballot(&self) -> Ballot {
        Ballot::Reduce { manifest: self.manifest.clone(), counters: self.counters.clone() }
    }
}

impl Certificate {
    /// The form kept in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        [HEADING, &canonical::encode(self)].concat()
    }

    /// Reads the form kept in a file. Nothing is known of it until it is checked.
    ///
    /// # Errors
    /// [`CertificateError::Heading`] or [`CertificateError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let encoded = bytes.strip_prefix(HEADING).ok_or(CertificateError::Heading)?;
        Ok(canonical::decode(encoded, limits::CERTIFICATE_BYTES_MAX)?)
    }

    /// Checks all signatures with nothing but the cluster's configuration, and gives what the replicas signed. Their trusted
    /// logs are not looked at.
    ///
    /// # Errors
    /// [`CertificateError`]: it certifies nothing.
    pub fn check(&self, cluster: &Cluster) -> Result<Vec<Endorsement>, CertificateError> {
        self.completion.check_votes(cluster)?;
        let (got, needed) = (self.endorsements.len(), cluster.f.saturating_add(1));
        if got as u64 != u64::from(needed) {
            return Err(CertificateError::Endorsements { got, needed });
        }
        let digest = self.completion.digest();
        let mut checked: Vec<Endorsement> = Vec::with_capacity(got);
        for signed in &self.endorsements {
            let endorsement = verify_endorsement(cluster, digest, signed)?;
            if checked.last().is_some_and(|before| before.replica >= endorsement.replica) {
                return Err(CertificateError::EndorsedTwice(endorsement.replica));
            }
            checked.push(endorsement);
        }
        Ok(checked)
    }
}

/// Checks that a replica of the cluster signed the record with this digest.
///
/// # Errors
/// [`CertificateError`].
pub fn verify_endorsement(
    cluster: &Cluster,
    completion: Digest,
    signed: &Signed<Endorsement>,
) -> Result<Endorsement, CertificateError> {
    let replica = signed.peek()?.replica;
    let member = cluster.replica(replica).ok_or(CertificateError::Replica(replica))?;
    let endorsement = signed.verify(&member.key).map_err(|source| CertificateError::Endorsement { replica, source })?;
    let endorsement = endorsement.into_inner();
    if endorsement.cluster != cluster.id() || endorsement.completion != completion {
        return Err(CertificateError::Another(replica));
    }
    Ok(endorsement)
}
