//! Why a client got no answer that it may believe.

use quorate_protocol::{
    command::Refusal,
    fork::{Fork, ForkProof},
    ids::ReplicaId,
};

/// Why a command or question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The job tracker understood it and says no.
    #[error("the job tracker refused: {0}")]
    Refused(#[source] Refusal),
    /// No replica answered in time.
    #[error("the job tracker's {replica} at {address} does not answer; is it running, and reachable from here?")]
    Unreachable {
        /// The last replica that was tried.
        replica: ReplicaId,
        /// Its address in the configuration.
        address: String,
        /// What the last attempt met.
        #[source]
        source: Box<tonic::Status>,
    },
    /// A replica does not take what this client sends: a key it does not know, or something it does not have.
    #[error("{replica} does not take this: {}", .source.message())]
    Rejected {
        /// The replica.
        replica: ReplicaId,
        /// What it says.
        #[source]
        source: Box<tonic::Status>,
    },
    /// A replica's answer is not one that it may give: it lies, or is not of this cluster.
    #[error("the answer of {replica} cannot be trusted: {what}")]
    Untrustworthy {
        /// The replica.
        replica: ReplicaId,
        /// What is wrong with the answer.
        what: String,
    },
    /// The replicas contradict each other, and no f + 1 of them agree.
    #[error("no f + 1 replicas gave the same answer")]
    Disagreement,
    /// The replicas' histories contradict what f + 1 of them had signed before. Nothing that they say counts any more, and
    /// trying again does not help: somebody must look.
    #[error("the job tracker has forked: {fork}. Stop using it, keep the proof, and look at its replicas")]
    Fork {
        /// Who signed what.
        fork: Box<Fork>,
        /// The signed replies of both sides.
        proof: Box<ForkProof>,
    },
    /// The answer is not of the kind that was asked for.
    #[error("the answer is not of the kind {expected}: this program and the job tracker differ in version")]
    WrongKind {
        /// The kind asked for.
        expected: &'static str,
    },
    /// The command or question is longer than the job tracker accepts.
    #[error("a command or question of {got} bytes, and at most {max} are allowed; split it into smaller ones")]
    TooLong {
        /// Its length in bytes.
        got: usize,
        /// The limit.
        max: usize,
    },
}
