//! Streams that f + 1 replicas agree on.
//!
//! Each replica sends the same items in the same order, sooner or later, unless it lies. So only the first item that
//! each replica sent and that is not yet decided, its *head*, is looked at: when f + 1 heads are equal, that item comes
//! next. An honest replica among the f + 1 has already sent everything before it, so nothing is skipped. A replica that
//! runs ahead waits with its head; one that lags drops the heads that were passed.
//!
//! A replica that rejects the stream is tried again, for it may only not know yet. The stream ends with an error when so
//! many reject it, or lie in it, that no f + 1 are left.

use super::{
    ClientError, Shared,
    link::{Backoff, Doubt, Link, history, is_passing},
    memory::Anchor,
};
use crate::topic::Topic;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use quorate_protocol::{
    command::{FollowDirectives, History, seen_to_wire},
    ids::{JobId, ReplicaId, TrackerId},
    job::{Directive, MapVerdict},
    query::Answer,
    sign::Signed,
    wire,
};
use std::{collections::BTreeSet, sync::Arc};
use tonic::{Status, Streaming};

/// Numbered items that f + 1 replicas agree on. After an error it ends.
pub type Following<T> = BoxStream<'static, Result<(u64, T), ClientError>>;

impl Topic {
    async fn open(
        self,
        shared: &Shared,
        link: &Link,
        from: u64,
        seen: Option<History>,
    ) -> Result<Streaming<wire::Reply>, Status> {
        let mut service = link.service()?;
        let response = match self {
            Topic::Directives { tracker, incarnation } => {
                let wanted = FollowDirectives { cluster: shared.id, tracker, incarnation, from, seen };
                let signed = Signed::seal(&wanted, &shared.key).to_wire();
                service.follow_directives(wire::DirectivesRequest { signed }).await
            }
            Topic::Verdicts { job } => {
                let seen = seen_to_wire(seen);
                service.follow_verdicts(wire::VerdictsRequest { job: job.number(), from, seen }).await
            }
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
        Follower { shared, link, topic, take, from, stream: None, backoff: Backoff::default() }
    };
    let steps = links.iter().map(|link| follower(link).step()).collect();
    let shared = Arc::clone(shared);
    let merge = Merge { shared, steps, heads: Vec::new(), from, quorum, lost: BTreeSet::new() };
    stream::unfold(Some(merge), |merge| async move {
        let mut merge = merge?;
        let item = merge.next().await;
        let rest = item.is_ok().then_some(merge);
        Some((item, rest))
    })
    .boxed()
}

/// One replica's open stream.
struct Open {
    replies: Streaming<wire::Reply>,
    /// What was shown to the replica when it was opened.
    seen: Option<Arc<Anchor>>,
}

/// One replica's stream, which reconnects and resumes.
struct Follower<T> {
    shared: Arc<Shared>,
    link: Arc<Link>,
    topic: Topic,
    take: fn(Answer) -> Option<(u64, T)>,
    /// The first number that is wanted.
    from: u64,
    stream: Option<Open>,
    backoff: Backoff,
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

    /// Tries again what failed, later.
    fn again(mut self) -> Step<T> {
        self.stream = None;
        Box::pin(async move {
            self.backoff.wait().await;
            let item = self.next().await;
            (self, item)
        })
    }

    async fn next(&mut self) -> Result<(u64, T), ClientError> {
        loop {
            match self.reply().await {
                Ok(Some((reply, seen))) => match self.read(&reply, seen.as_ref()) {
                    Ok(Some(item)) => return Ok(item),
                    Ok(None) => {}
                    Err(Doubt::Untrustworthy(error)) => return Err(error),
                    Err(Doubt::Behind) => self.reconnect().await,
                },
                Err(status) if !is_passing(&status) => return Err(self.link.rejected(status)),
                Ok(None) | Err(_) => self.reconnect().await,
            }
        }
    }

    async fn reconnect(&mut self) {
        self.stream = None;
        self.backoff.wait().await;
    }

    /// The item of a reply, when it is a wanted one.
    fn read(&mut self, reply: &wire::Reply, seen: Option<&Arc<Anchor>>) -> Result<Option<(u64, T)>, Doubt> {
        let memory = &self.shared.memory;
        let answer = self.link.check(reply, self.topic.digest(), seen, memory)?.answer;
        let Some((number, item)) = (self.take)(answer) else {
            return Err(Doubt::Untrustworthy(self.link.untrustworthy(memory, "it is not of this stream's kind")));
        };
        self.backoff = Backoff::default();
        if number < self.from {
            return Ok(None);
        }
        self.from = number.saturating_add(1);
        Ok(Some((number, item)))
    }

    async fn reply(&mut self) -> Result<Option<(wire::Reply, Option<Arc<Anchor>>)>, Status> {
        if self.stream.is_none() {
            let seen = self.shared.memory.anchor();
            let replies = self.topic.open(&self.shared, &self.link, self.from, history(seen.as_ref())).await?;
            self.stream = Some(Open { replies, seen });
        }
        let Some(Open { replies, seen }) = &mut self.stream else { return Ok(None) };
        Ok(replies.message().await?.map(|reply| (reply, seen.clone())))
    }
}

/// The replicas' streams as one.
struct Merge<T> {
    shared: Arc<Shared>,
    /// Followers that have no head.
    steps: FuturesUnordered<Step<T>>,
    /// Followers with their heads.
    heads: Vec<(Follower<T>, (u64, T))>,
    /// Everything before it is decided.
    from: u64,
    quorum: usize,
    /// Replicas that rejected the stream or lied in it. They are tried again, and may come back.
    lost: BTreeSet<ReplicaId>,
}

impl<T: PartialEq + Send + 'static> Merge<T> {
    async fn next(&mut self) -> Result<(u64, T), ClientError> {
        loop {
            if let Some(item) = self.agreed() {
                // Whatever showed the fork, nothing is believed after it.
                return self.shared.memory.fork().map_or(Ok(item), Err);
            }
            match self.steps.next().await {
                Some((follower, Ok(item))) => {
                    self.lost.remove(&follower.link.replica());
                    if item.0 < self.from {
                        self.steps.push(follower.step());
                    } else {
                        self.heads.push((follower, item));
                    }
                }
                Some((follower, Err(error))) => {
                    self.lost.insert(follower.link.replica());
                    self.steps.push(follower.again());
                    if let Some(fork) = self.shared.memory.fork() {
                        return Err(fork);
                    }
                    if self.lost.len() + self.quorum > self.shared.links.len() {
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
        let (passed, ahead): (Vec<_>, _) =
            std::mem::take(&mut self.heads).into_iter().partition(|(_, head)| head.0 < self.from);
        self.heads = ahead;
        for (follower, head) in passed {
            if head.0 == item.0 && head != item {
                self.shared
                    .memory
                    .distrust(follower.link.replica(), "it signed an item that f + 1 replicas do not have");
            }
            self.steps.push(follower.step());
        }
        Some(item)
    }
}
