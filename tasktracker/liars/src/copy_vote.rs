//! Signs a neighbour's map vote without doing the work: found out by whoever asks it for the bytes.

use crate::{Conduct, Lie};
use quorate_protocol::ids::{AttemptId, Stage};

#[derive(Debug)]
pub(crate) struct CopyVote;

impl Lie for CopyVote {
    fn conduct(&self, attempt: AttemptId) -> Conduct {
        match attempt.task.stage {
            Stage::Map => Conduct::CopyVote,
            Stage::Reduce => Conduct::Work,
        }
    }
}
