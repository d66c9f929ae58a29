//! Streams that f + 1 replicas agree on.
//!
//! Each replica sends the same items in the same order, sooner or later, unless it lies. So only the first item that
//! each replica sent and that is not yet decided, its *head*, is looked at: when f + 1 heads are equal, that item comes
//! next. An honest replica among the f + 1 has already sent everything before it, so nothing is skipped. A replica that
//! runs ahead waits with its head; one that lags drops the heads that were passed.

use super::{
    ClientError, Shared,
    link::{Backoff, Link, is_passing},
};
use crate::topic::Topic;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use quorate_protocol::{
    command::FollowDirectives,
    ids::{JobId, TrackerId},
    job::{Directive, MapVerdict},
    query::Answer,
    sign::Signed,
    wire,
};
use std::sync::Arc;
use tonic::{Status, Streaming};

/// Numbered items that f + 1 replicas agree on. After an error it ends.
pub type Following<T> = BoxStream<'static, Result<(u64, T), ClientError>>;

impl Topic {
    async fn open(self, shared: &Shared, link: &Link, from: u64) -> Result<Streaming<wire::Reply>, Status> {
        let mut service = link.service()?;
        let response = match self {
            Topic::Directives { tracker, incarnation } => {
                let wanted = FollowDirectives { cluster: shared.id, tracker, incarnation, from };
                let signed = Signed::seal(&wanted, &shared.key).to_wire();
                service.follow_directives(wire::DirectivesRequest { signed }).await
            }
            Topic::Verdicts { job } => service.follow_verdicts(wire::VerdictsRequest { job: job.number(), from }).await,
        };
        response.map(tonic::Response::into_inner)
    }
}

/// Directives of a tracker.
pub(super) fn directives(
    shared: &Arc<Shared>,
    tracker: TrackerId,
    incarnation: u64,
    from: u64,
) -> Following<Directive> {
    follow(shared, Topic::Directives { tracker, incarnation }, from, |answer| match answer {
        Answer::Directive(number, directive) => Some((number, directive)),
        _ => None,
    })
}

/// Verdicts of a job.
pub(super) fn verdicts(shared: &Arc<Shared>, job: JobId, from: u64) -> Following<MapVerdict> {
    follow(shared, Topic::Verdicts { job }, from, |answer| match answer {
        Answer::MapVerdict(number, verdict) => Some((number, verdict)),
        _ => None,
    })
}

fn follow<T: PartialEq + Send + 'static>(
    shared: &Arc<Shared>,
    topic: Topic,
    from: u64,
    take: fn(Answer) -> Option<(u64, T)>,
) -> Following<T> {
    let (links, quorum) = (&shared.links, shared.quorum());
    let follower = |link: &Arc<Link>| {
        let (shared, link) = (Arc::clone(shared), Arc::clone(link));
        Follower { shared, link, topic, take, from, stream: None }
    };
    let steps = links.iter().map(|link| follower(link).step()).collect();
    let merge = Merge { steps, heads: Vec::new(), from, quorum, replicas: links.len(), lost: 0 };
    stream::unfold(Some(merge), |merge| async move {
        let mut merge = merge?;
        let item = merge.next().await;
        let rest = item.is_ok().then_some(merge);
        Some((item, rest))
    })
    .boxed()
}

/// One replica's stream, which reconnects and resumes.
struct Follower<T> {
    shared: Arc<Shared>,
    link: Arc<Link>,
    topic: Topic,
    take: fn(Answer) -> Option<(u64, T)>,
    /// The first number that is wanted.
    from: u64,
    stream: Option<Streaming<wire::Reply>>,
}

/// A follower that looks for its next item, and comes back with it.
type Step<T> = BoxFuture<'static, (Follower<T>, Result<(u64, T), ClientError>)>;

impl<T: Send + 'static> Follower<T> {
    fn step(mut self) -> Step<T> {
        Box::pin(async move {
            let item = self.next().await;
            (self, item)
        })
    }

    async fn next(&mut self) -> Result<(u64, T), ClientError> {
        let mut backoff = Backoff::default();
        loop {
            match self.message().await {
                Ok(Some(reply)) => {
                    let answer = self.link.check(&reply, self.topic.digest())?;
                    let wrong = || self.link.untrustworthy("it is not of this stream's kind".to_owned());
                    let (number, item) = (self.take)(answer).ok_or_else(wrong)?;
                    if number >= self.from {
                        self.from = number.saturating_add(1);
                        return Ok((number, item));
                    }
                }
                Err(status) if !is_passing(&status) => return Err(self.link.rejected(status)),
                Ok(None) | Err(_) => {
                    self.stream = None;
                    backoff.wait().await;
                }
            }
        }
    }

    async fn message(&mut self) -> Result<Option<wire::Reply>, Status> {
        if self.stream.is_none() {
            self.stream = Some(self.topic.open(&self.shared, &self.link, self.from).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.message().await,
            None => Ok(None),
        }
    }
}

/// The replicas' streams as one.
struct Merge<T> {
    /// Followers that have no head.
    steps: FuturesUnordered<Step<T>>,
    /// Followers with their heads.
    heads: Vec<(Follower<T>, (u64, T))>,
    /// Everything before it is decided.
    from: u64,
    quorum: usize,
    replicas: usize,
    /// Replicas that are no longer followed.
    lost: usize,
}

impl<T: PartialEq + Send + 'static> Merge<T> {
    async fn next(&mut self) -> Result<(u64, T), ClientError> {
        loop {
            if let Some(item) = self.agreed() {
                return Ok(item);
            }
            match self.steps.next().await {
                Some((follower, Ok((number, _)))) if number < self.from => self.steps.push(follower.step()),
                Some((follower, Ok(item))) => self.heads.push((follower, item)),
                Some((_, Err(error))) => {
                    self.lost += 1;
                    if self.lost + self.quorum > self.replicas {
                        return Err(error);
                    }
                }
                None => return Err(ClientError::Disagreement),
            }
        }
    }

    /// The item that f + 1 heads agree on. Heads that it passes go on to their next.
    fn agreed(&mut self) -> Option<(u64, T)> {
        let equal = |item: &(u64, T)| self.heads.iter().filter(|(_, head)| head == item).count();
        let decided = self.heads.iter().position(|(_, head)| equal(head) >= self.quorum)?;
        let (follower, item) = self.heads.swap_remove(decided);
        self.steps.push(follower.step());
        self.from = item.0.saturating_add(1);
        let (passed, ahead) = std::mem::take(&mut self.heads).into_iter().partition(|(_, head)| head.0 < self.from);
        self.heads = ahead;
        let passed: Vec<(Follower<T>, (u64, T))> = passed;
        self.steps.extend(passed.into_iter().map(|(follower, _)| follower.step()));
        Some(item)
    }
}
