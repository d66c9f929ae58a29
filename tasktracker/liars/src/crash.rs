//! Goes down at its first attempt, without a word.

use crate::{Conduct, Lie};
use quorate_protocol::ids::AttemptId;

#[derive(Debug)]
pub(crate) struct Crash;

impl Lie for Crash {
    fn conduct(&self, _attempt: AttemptId) -> Conduct {
        Conduct::Crash
    }
}
