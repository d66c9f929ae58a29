//! What can be followed: the same name for both ends of a stream.

use quorate_protocol::{
    digest::Digest,
    ids::{JobId, TrackerId},
    query::stream_digest,
};

/// A stream of numbered items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Topic {
    /// The directives for one incarnation of a tracker.
    Directives { tracker: TrackerId, incarnation: u64 },
    /// The verdicts of a job's map stage.
    Verdicts { job: JobId },
}

impl Topic {
    /// What the replies of the stream answer.
    pub(crate) fn digest(self) -> Digest {
        match self {
            Topic::Directives { tracker, incarnation } => {
                stream_digest("directives", &[tracker.number().into(), incarnation])
            }
            Topic::Verdicts { job } => stream_digest("verdicts", &[job.number()]),
        }
    }
}
