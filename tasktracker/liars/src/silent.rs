//! Accepts attempts and stays silent.

use crate::{Conduct, Lie};
use quorate_protocol::ids::AttemptId;

#[derive(Debug)]
pub(crate) struct Silent;

impl Lie for Silent {
    fn conduct(&self, _attempt: AttemptId) -> Conduct {
        Conduct::Ignore
    }
}
