//! Answers late, and claims progress all the while.

use crate::{Conduct, Lie};
use quorate_protocol::ids::AttemptId;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Slow;

impl Lie for Slow {
    fn conduct(&self, _attempt: AttemptId) -> Conduct {
        Conduct::Dawdle(Duration::from_secs(60))
    }
}
