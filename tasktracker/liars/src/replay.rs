//! Sends a vote of another job in place of its own. In its first job it is honest: it has nothing to replay yet.

use crate::Lie;
use quorate_protocol::{ids::AttemptId, sign::Signed, vote::Vote};
use std::sync::OnceLock;

#[derive(Debug, Default)]
pub(crate) struct Replay {
    first: OnceLock<(AttemptId, Signed<Vote>)>,
}

impl Lie for Replay {
    fn spoil_signed(&self, attempt: AttemptId, vote: Signed<Vote>) -> Signed<Vote> {
        let (old, replayed) = self.first.get_or_init(|| (attempt, vote.clone()));
        if old.task.job == attempt.task.job { vote } else { replayed.clone() }
    }
}
