//! What the API answers: its types, from which its description is made too.
//!
//! They are of their own, not the protocol's: what is signed and ordered may change its encoding, and this may not. Numbers
//! stand for ids, text for digests, lower-case words for cases; times are ordered time in milliseconds since 1970.

mod cluster;
mod job;
mod storage;
mod task;
mod tracker;

pub(crate) use cluster::*;
pub(crate) use job::*;
pub(crate) use storage::*;
pub(crate) use task::*;
pub(crate) use tracker::*;

use quorate_protocol::command::History;
use serde::Serialize;
use utoipa::ToSchema;

/// A place in the ordered history: honest replicas with equal `ordered` have equal `digest`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Position {
    /// How many batches of commands were executed.
    pub(crate) ordered: u64,
    /// The chained digest of all of them.
    pub(crate) digest: String,
}

impl From<History> for Position {
    fn from(history: History) -> Self {
        Self { ordered: history.ordered, digest: history.digest.to_string() }
    }
}

/// Why something was not answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Failed {
    pub(crate) error: Reason,
}

/// A reason, for programs and people.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Reason {
    /// A word that stays the same.
    #[schema(example = "not-found")]
    pub(crate) code: &'static str,
    /// A sentence.
    pub(crate) message: String,
    /// What may help.
    pub(crate) hint: Option<&'static str>,
}
