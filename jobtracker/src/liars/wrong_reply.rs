//! Signs wrong answers to commands and questions, and shows a page on which nobody lies.

use super::Lie;
use quorate_protocol::{command::Refusal, ids::JobId, query::Answer};

pub(super) struct WrongReply;

impl Lie for WrongReply {
    fn hides_suspects(&self) -> bool {
        true
    }
    fn answers(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Submitted(job) => Answer::Submitted(JobId::new(job.number().wrapping_add(1000))),
            Answer::Jobs(_) => Answer::Jobs(Vec::new()),
            Answer::List(_) => Answer::List(Vec::new()),
            Answer::Files(_) => Answer::Files(Vec::new()),
            // It would not be believed alone to name itself, and streams are another lie's matter.
            kept @ (Answer::Replica(_) | Answer::Directive(..) | Answer::MapVerdict(..)) => kept,
            _ => Answer::Refused(Refusal::NotFound("what you ask for".to_owned())),
        }
    }
}
