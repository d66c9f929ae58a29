//! Signs a directive that nobody ordered, at the beginning of each stream of directives.

use super::Lie;
use quorate_protocol::{
    ids::{AttemptId, JobId, Stage, TaskId},
    job::{Directive, Work},
    query::Answer,
};

pub(super) struct ForgeDirective;

impl Lie for ForgeDirective {
    fn invents(&self, from: u64) -> Option<Answer> {
        let task = TaskId { job: JobId::new(0xf0_96_ed), stage: Stage::Reduce, index: 0 };
        let attempt = AttemptId { task, attempt: 0 };
        Some(Answer::Directive(from, Directive::Start { attempt, work: Work::Reduce }))
    }
}
