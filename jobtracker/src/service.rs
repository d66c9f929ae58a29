//! The replica's gRPC service: commands, questions, and streams of what is executed.
//!
//! Whatever comes in is bounded: messages by bytes, calls and streams by number. Whatever goes out is signed.

use crate::{
    application::Application,
    door::{self, ENVELOPE_BYTES_MAX},
    liveness::{OpenStream, Streams},
    order::{Order, Stopped},
    topic::Topic,
};
use futures::stream::{self, BoxStream, StreamExt};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::{FollowDirectives, Refusal, Reply, Sender},
    digest::Digest,
    ids::{JobId, ReplicaId},
    limits::{MESSAGE_BYTES_MAX, REPLY_BYTES_MAX},
    query::{Answer, QUESTION_BYTES_MAX, Question, question_digest},
    sign::{SecretKey, Signed},
    wire::{
        self,
        job_tracker_server::{JobTracker, JobTrackerServer},
    },
};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Request, Response, Status};

/// Commands and questions at work at once; more wait.
const CALLS_MAX: usize = 1024;
/// Streams open at once; more are refused. A tracker has one for itself and one for each job that it reduces.
const STREAMS_MAX: usize = 1 << 16;
/// Items that a stream takes from the state at once.
const ITEMS_MAX: usize = 64;
/// The longest message that a sender may have for a replica: an envelope in its protobuf frame.
const RECEIVED_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 64;

/// Signs what the replica says.
#[derive(Clone)]
struct Notary {
    cluster: Digest,
    replica: ReplicaId,
    key: SecretKey,
}

impl Notary {
    fn reply(&self, to: Digest, answer: Answer) -> wire::Reply {
        let reply = Reply { cluster: self.cluster, replica: self.replica, to, answer };
        let mut bytes = canonical::encode(&reply);
        if bytes.len() > REPLY_BYTES_MAX {
            let what =
                format!("the answer is {} bytes long, and at most {REPLY_BYTES_MAX} fit; ask for less", bytes.len());
            bytes = canonical::encode(&Reply { answer: Answer::Refused(Refusal::Full(what)), ..reply });
        }
        wire::Reply { signed: Signed::<Reply>::seal_bytes(bytes, &self.key).to_wire() }
    }
}

/// The service of one replica.
pub(crate) struct Service {
    cluster: Arc<Cluster>,
    notary: Notary,
    order: Order,
    streams: Streams,
    stopping: watch::Receiver<bool>,
    calls: Semaphore,
    open: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        replica: ReplicaId,
        key: SecretKey,
        order: Order,
        streams: Streams,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let notary = Notary { cluster: cluster.id(), replica, key };
        let (calls, open) = (Semaphore::new(CALLS_MAX), Arc::new(Semaphore::new(STREAMS_MAX)));
        Self { cluster, notary, order, streams, stopping, calls, open }
    }

    pub(crate) fn into_server(self) -> JobTrackerServer<Self> {
        JobTrackerServer::new(self)
            .max_decoding_message_size(RECEIVED_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn execute(&self, bytes: &[u8]) -> Result<Answer, Status> {
        let envelope = door::admit(&self.cluster, bytes)?;
        match envelope.request.peek() {
            // What was executed already, or never will be, is not ordered: played back, it would fill the log.
            Ok(request) => {
                let sender = envelope.sender;
                let settled = self.order.read(move |state| state.settled(sender, &request)).await;
                if let Some(answer) = settled.map_err(unavailable)? {
                    return Ok(answer);
                }
            }
            // A tracker's unreadable command is evidence against it.
            Err(error) => match envelope.sender {
                Sender::Tracker(_) => {}
                Sender::Client(_) | Sender::Replica(_) => return Err(Status::invalid_argument(error.to_string())),
            },
        }
        self.order.submit(envelope).await.map_err(unavailable)
    }

    fn follow(&self, topic: Topic, from: u64, life: Option<OpenStream>) -> Result<Response<Replies>, Status> {
        let full = |_| Status::resource_exhausted(format!("{STREAMS_MAX} streams are open already"));
        let live = Live {
            topic,
            next: from,
            items: VecDeque::new(),
            notary: self.notary.clone(),
            order: self.order.clone(),
            executed: self.order.executed(),
            stopping: self.stopping.clone(),
            _place: Arc::clone(&self.open).try_acquire_owned().map_err(full)?,
            _life: life,
        };
        Ok(Response::new(live.into_stream()))
    }
}

fn unavailable(stopped: Stopped) -> Status {
    Status::unavailable(stopped.to_string())
}

type Replies = BoxStream<'static, Result<wire::Reply, Status>>;

#[tonic::async_trait]
impl JobTracker for Service {
    type FollowDirectivesStream = Replies;
    type FollowVerdictsStream = Replies;

    async fn submit(&self, request: Request<wire::Command>) -> Result<Response<wire::Reply>, Status> {
        let _place = self.calls.acquire().await.map_err(|_| unavailable(Stopped))?;
        let bytes = request.into_inner().signed;
        let answer = self.execute(&bytes).await?;
        Ok(Response::new(self.notary.reply(question_digest(&bytes), answer)))
    }

    async fn ask(&self, request: Request<wire::Question>) -> Result<Response<wire::Reply>, Status> {
        let _place = self.calls.acquire().await.map_err(|_| unavailable(Stopped))?;
        let bytes = request.into_inner().question;
        let question: Question = canonical::decode(&bytes, QUESTION_BYTES_MAX)
            .map_err(|error| Status::invalid_argument(format!("the question is refused: {error}")))?;
        let answer = self.order.read(move |state| state.scheduler().ask(&question)).await.map_err(unavailable)?;
        Ok(Response::new(self.notary.reply(question_digest(&bytes), answer)))
    }

    async fn follow_directives(
        &self,
        request: Request<wire::DirectivesRequest>,
    ) -> Result<Response<Self::FollowDirectivesStream>, Status> {
        let FollowDirectives { tracker, incarnation, from, .. } =
            door::admit_follower(&self.cluster, self.notary.cluster, &request.into_inner().signed)?;
        let life = self.streams.open(tracker, incarnation);
        self.follow(Topic::Directives { tracker, incarnation }, from, Some(life))
    }

    async fn follow_verdicts(
        &self,
        request: Request<wire::VerdictsRequest>,
    ) -> Result<Response<Self::FollowVerdictsStream>, Status> {
        let wire::VerdictsRequest { job, from } = request.into_inner();
        self.follow(Topic::Verdicts { job: JobId::new(job) }, from, None)
    }
}

/// One stream: what was executed from a position on, then what is executed. It ends with an error, when the replica
/// stops or there is nothing to follow any more, or when the other side goes.
struct Live {
    topic: Topic,
    next: u64,
    items: VecDeque<Answer>,
    notary: Notary,
    order: Order,
    executed: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
    _life: Option<OpenStream>,
}

impl Live {
    fn into_stream(self) -> Replies {
        stream::unfold(Some(self), |live| async move {
            let mut live = live?;
            let item = live.next_item().await;
            let rest = item.is_ok().then_some(live);
            Some((item, rest))
        })
        .boxed()
    }

    async fn next_item(&mut self) -> Result<wire::Reply, Status> {
        while !*self.stopping.borrow() {
            if let Some(answer) = self.items.pop_front() {
                return Ok(self.notary.reply(self.topic.digest(), answer));
            }
            // Marked as seen before the state is read, so that nothing is executed unnoticed in between.
            self.executed.borrow_and_update();
            let (topic, from) = (self.topic, self.next);
            let items = self.order.read(move |state| fetch(state, topic, from)).await.map_err(unavailable)?;
            let items = items.ok_or_else(|| Status::not_found("there is no such job any more"))?;
            if let Some((last, _)) = items.last() {
                self.next = last.saturating_add(1);
                self.items.extend(items.into_iter().map(|(_, answer)| answer));
                continue;
            }
            let waited = tokio::select! {
                stop = self.stopping.changed() => stop,
                executed = self.executed.changed() => executed,
            };
            waited.map_err(|_| unavailable(Stopped))?;
        }
        Err(unavailable(Stopped))
    }
}

/// The items of a topic from a position on; `None` when there is no such topic any more.
fn fetch(state: &Application, topic: Topic, from: u64) -> Option<Vec<(u64, Answer)>> {
    let scheduler = state.scheduler();
    match topic {
        Topic::Directives { tracker, incarnation } => {
            let directives = scheduler.directives(tracker, incarnation, from, ITEMS_MAX);
            Some(directives.into_iter().map(|(number, item)| (number, Answer::Directive(number, item))).collect())
        }
        Topic::Verdicts { job } => {
            let verdicts = scheduler.verdicts(job, from, ITEMS_MAX)?;
            Some(verdicts.into_iter().map(|(number, item)| (number, Answer::MapVerdict(number, item))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        order::Solo,
        testing::{REPLICA, TRACKER, Who, cluster, key},
    };

    #[tokio::test]
    async fn streams_are_bounded_and_a_closed_one_makes_room() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let cluster = Arc::new(cluster("127.0.0.1:1"));
        let (_solo, order) = Solo::open(&cluster, REPLICA, directory.path()).expect("a new log");
        let (_stop, stopping) = watch::channel(false);
        let mut service = Service::new(cluster, REPLICA, key(Who::Replica), order, Streams::default(), stopping);
        service.open = Arc::new(Semaphore::new(2));
        let topic = Topic::Directives { tracker: TRACKER, incarnation: 1 };
        let first = service.follow(topic, 0, None).expect("one");
        let _second = service.follow(topic, 0, None).expect("two, at the bound");
        let third = service.follow(topic, 0, None).err().expect("one above");
        assert_eq!(third.code(), tonic::Code::ResourceExhausted);
        drop(first);
        assert!(service.follow(topic, 0, None).is_ok());
    }

    #[test]
    fn an_answer_that_is_too_long_becomes_a_refusal() {
        let notary = Notary { cluster: Digest::of(b"cluster"), replica: REPLICA, key: key(Who::Replica) };
        let answer = |length| Answer::Refused(Refusal::NotFound("x".repeat(length)));
        let said = |length| {
            let reply = notary.reply(Digest::of(b"question"), answer(length));
            let signed = Signed::<Reply>::from_wire(&reply.signed).expect("within the limit");
            signed.verify(&key(Who::Replica).public()).expect("signed").into_inner().answer
        };
        let empty = Reply { cluster: notary.cluster, replica: REPLICA, to: Digest::of(b"question"), answer: answer(0) };
        // The text's length takes four bytes instead of one.
        let fits = REPLY_BYTES_MAX - canonical::encode(&empty).len() - 3;
        assert_eq!(said(fits), answer(fits));
        assert!(matches!(said(fits + 1), Answer::Refused(Refusal::Full(_))));
    }
}
