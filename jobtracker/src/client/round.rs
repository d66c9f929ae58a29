//! One command or question to f + 1 replicas, and to all of them when need be, until f + 1 give the same answer.
//!
//! Replicas that execute at different speeds answer a question differently for a moment. Those that have answered are then
//! asked again, soon at first, while a silent one may still come: nobody waits for the slowest, who may be stopped.

use super::{
    ClientError, Shared,
    link::{Asked, Backoff, Checked},
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use quorate_protocol::query::Answer;
use tokio::time::{Instant, sleep_until};

/// A replica's number in the configuration, and what it said.
type Said = (usize, Result<Checked, ClientError>);

/// The replicas' answers as they come.
pub(super) struct Round<'a> {
    shared: &'a Shared,
    asked: &'a Asked,
    deadline: Instant,
    /// The last answer of each replica.
    said: Vec<Option<Checked>>,
    backoffs: Vec<Backoff>,
    /// Who is being asked right now.
    waiting: Vec<bool>,
    /// Who was not asked yet.
    rest: Vec<usize>,
    begun: Instant,
    calls: FuturesUnordered<BoxFuture<'a, Option<Said>>>,
    failed: usize,
}

impl<'a> Round<'a> {
    pub(super) fn new(shared: &'a Shared, asked: &'a Asked, deadline: Instant) -> Self {
        let replicas = shared.links.len();
        let doubted = shared.memory.doubted();
        let (mut order, first) = shared.choice.order(replicas, shared.quorum(), |replica| {
            shared.links.get(replica).is_some_and(|link| doubted.contains(&link.replica()))
        });
        let rest = order.split_off(first);
        let mut round = Self {
            shared,
            asked,
            deadline,
            said: (0..replicas).map(|_| None).collect(),
            backoffs: vec![Backoff::default(); replicas],
            waiting: vec![false; replicas],
            rest,
            begun: Instant::now(),
            calls: FuturesUnordered::new(),
            failed: 0,
        };
        order.into_iter().for_each(|replica| round.ask(replica, None));
        round
    }

    /// The answer that f + 1 replicas give.
    pub(super) async fn agreed(mut self) -> Result<Answer, ClientError> {
        let late = self.begun + self.shared.choice.patience();
        loop {
            let said = tokio::select! {
                said = self.calls.next() => said,
                () = sleep_until(late), if !self.rest.is_empty() => {
                    self.shared.choice.beware();
                    self.ask_rest();
                    continue;
                }
            };
            let Some(said) = said else { break };
            let Some((replica, result)) = said else { continue };
            self.waiting[replica] = false;
            match result {
                Ok(checked) => {
                    self.said[replica] = Some(checked);
                    if let Some(answer) = self.quorum() {
                        return Ok(answer);
                    }
                    self.ask_again();
                }
                // Asked once more when time was almost up: what it said before still stands.
                Err(ClientError::Unreachable { .. }) if self.said[replica].is_some() => {}
                Err(error) => {
                    // It counts as failed once, and is not asked again.
                    self.said[replica] = None;
                    self.fail(error)?;
                    self.ask_rest();
                }
            }
        }
        Err(self.hopeless(ClientError::Disagreement))
    }

    fn ask_rest(&mut self) {
        std::mem::take(&mut self.rest).into_iter().for_each(|replica| self.ask(replica, None));
    }

    fn ask(&mut self, replica: usize, backoff: Option<Backoff>) {
        self.waiting[replica] = true;
        let (link, memory) = (&self.shared.links[replica], &self.shared.memory);
        let (asked, deadline) = (self.asked, self.deadline);
        self.calls.push(Box::pin(async move {
            if let Some(mut backoff) = backoff
                && !backoff.wait_until(deadline).await
            {
                return None;
            }
            Some((replica, link.call(asked, memory, deadline).await))
        }));
    }

    /// When f + 1 have answered and do not agree, they may by and by.
    fn ask_again(&mut self) {
        if self.said.iter().flatten().count() < self.shared.quorum() {
            return;
        }
        self.ask_rest();
        for replica in 0..self.said.len() {
            if self.said[replica].is_some() && !self.waiting[replica] {
                let backoff = self.backoffs[replica].clone();
                self.backoffs[replica].grow();
                self.ask(replica, Some(backoff));
            }
        }
    }

    /// The answer that f + 1 replicas agree on, if there is one.
    fn quorum(&self) -> Option<Answer> {
        let said: Vec<&Checked> = self.said.iter().flatten().collect();
        let alike = |one: &Checked| said.iter().copied().filter(|other| self.alike(one, other)).collect::<Vec<_>>();
        let agreeing = said.iter().map(|one| alike(one)).find(|alike| alike.len() >= self.shared.quorum())?;
        self.shared.memory.learn(&said);
        let view = agreeing.iter().map(|checked| checked.view).min().unwrap_or_default();
        self.shared.choice.learn(self.begun.elapsed(), view);
        let agreed = agreeing.first()?;
        said.iter().filter(|other| self.contradicts(agreed, other)).for_each(|other| {
            self.shared.memory.distrust(other.replica, "it signed another answer to a command than f + 1 replicas did");
        });
        Some(agreed.answer.clone())
    }

    /// Whether a replica executed the same command at the same place and says that something else came of it.
    fn contradicts(&self, agreed: &Checked, other: &Checked) -> bool {
        let refused = |checked: &Checked| matches!(checked.answer, Answer::Refused(_));
        self.asked.is_command()
            && !refused(agreed)
            && !refused(other)
            && agreed.history == other.history
            && agreed.answer != other.answer
    }

    /// A command that was executed has one place in the one history. What was refused has none: each says it when it likes.
    fn alike(&self, one: &Checked, other: &Checked) -> bool {
        let placed = self.asked.is_command() && !matches!(one.answer, Answer::Refused(_));
        one.answer == other.answer && (!placed || one.history == other.history)
    }

    /// A replica has failed for good. That is an error once no f + 1 others are left.
    fn fail(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failed += 1;
        if let Some(fork) = self.shared.memory.fork() {
            return Err(fork);
        }
        let hopeless = self.failed + self.shared.quorum() > self.said.len();
        if hopeless { Err(self.hopeless(error)) } else { Ok(()) }
    }

    /// Whoever contradicted what was seen is a liar, unless nobody is left to say so.
    fn hopeless(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Unreachable { .. } | ClientError::Disagreement | ClientError::Untrustworthy { .. } => {
                self.shared.memory.proof().unwrap_or(error)
            }
            ClientError::Refused(_)
            | ClientError::Rejected { .. }
            | ClientError::Fork { .. }
            | ClientError::WrongKind { .. }
            | ClientError::TooLong { .. } => error,
        }
    }
}
