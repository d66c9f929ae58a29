//! The replica's gRPC service: commands, questions, and streams of what is executed.
//!
//! Whatever comes in is bounded: messages by bytes, calls and streams by number. Whatever goes out is signed, and states
//! the history that it belongs to. Whoever has seen another history than the one here is told so, and nothing else.

use crate::{
    application::Application,
    certificate::Attested,
    door::{Admitted, Door, ENVELOPE_BYTES_MAX},
    histories::Judgement,
    liars::Lie,
    liveness::{OpenStream, Streams},
    order::{Order, Stopped, Submitted},
    topic::Topic,
};
use futures::stream::{self, BoxStream, StreamExt};
use quorate_protocol::{
    canonical,
    certificate::{Completion, Endorsement},
    command::{FollowDirectives, History, Refusal, Reply, seen_from_wire},
    digest::Digest,
    ids::{JobId, ReplicaId},
    limits::{MESSAGE_BYTES_MAX, REPLY_BYTES_MAX},
    query::{Answer, QUESTION_BYTES_MAX, Question, command_digest, question_digest},
    sign::{SecretKey, Signed},
    wire::{
        self,
        job_tracker_server::{JobTracker, JobTrackerServer},
    },
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
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
pub(crate) struct Notary {
    cluster: Digest,
    replica: ReplicaId,
    key: SecretKey,
    lie: Option<Arc<dyn Lie>>,
    view: Arc<AtomicU64>,
}

impl Notary {
    pub(crate) fn new(
        cluster: Digest,
        replica: ReplicaId,
        key: SecretKey,
        lie: Option<Arc<dyn Lie>>,
        view: Arc<AtomicU64>,
    ) -> Self {
        Self { cluster, replica, key, lie, view }
    }

    fn endorse(&self, completion: Digest, executed: History, log: &Attested) -> Signed<Endorsement> {
        let log = canonical::encode(log);
        let endorsement = Endorsement { cluster: self.cluster, replica: self.replica, completion, executed, log };
        Signed::seal(&endorsement, &self.key)
    }

    fn reply(&self, to: Digest, history: History, confirms: Option<History>, answer: Answer) -> wire::Reply {
        let answer = match &self.lie {
            Some(lie) => lie.answers(answer),
            None => answer,
        };
        let view = self.view.load(Ordering::Relaxed);
        let reply = Reply { cluster: self.cluster, replica: self.replica, to, history, confirms, view, answer };
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
    door: Arc<Door>,
    notary: Notary,
    order: Order,
    streams: Streams,
    stopping: watch::Receiver<bool>,
    calls: Semaphore,
    /// Apart from commands, so that whoever only asks keeps nobody from being served, and the other way round.
    questions: Semaphore,
    open: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(
        door: Arc<Door>,
        notary: Notary,
        order: Order,
        streams: Streams,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let (calls, questions) = (Semaphore::new(CALLS_MAX), Semaphore::new(CALLS_MAX));
        let open = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { door, notary, order, streams, stopping, calls, questions, open }
    }

    pub(crate) fn into_server(self) -> JobTrackerServer<Self> {
        JobTrackerServer::new(self)
            .max_decoding_message_size(RECEIVED_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Has a request executed, unless its sender has seen another history. A request may wait for ever when too few
    /// replicas are there, but not longer than the replica runs.
    async fn execute(&self, bytes: &[u8]) -> Result<wire::Reply, Status> {
        let Admitted { id, seen } = self.door.admit(bytes)?;
        let to = command_digest(bytes);
        let judgement = self.order.judge_now(seen);
        if let Some(refusal) = self.forked(judgement, seen) {
            return Ok(self.notary.reply(to, self.order.history(), judgement.confirms(), refusal));
        }
        let mut stopping = self.stopping.clone();
        let submitted = tokio::select! {
            submitted = self.order.submit(id, bytes) => submitted,
            _ = stopping.wait_for(|stopping| *stopping) => Err(Stopped),
        };
        match submitted.map_err(unavailable)? {
            Submitted::Executed(history, answer) => {
                Ok(self.notary.reply(to, history, self.order.judge_now(seen).confirms(), answer))
            }
            Submitted::Busy => Err(Status::resource_exhausted("too many commands wait to be ordered")),
        }
    }

    async fn answer(&self, question: Question) -> Result<Answer, Status> {
        let answer = match question {
            Question::Replica => self.order.report().await.map(|view| Answer::Replica(Box::new(view))),
            Question::Endorsement(job) => self.endorse(job).await,
            other => self.order.read(move |state| state.scheduler().ask(&other)).await,
        };
        answer.map_err(unavailable)
    }

    /// Signs what a job came to. What it had executed is looked up after the job's end was seen, so that it covers that.
    async fn endorse(&self, job: JobId) -> Result<Answer, Stopped> {
        let read = move |state: &Application| state.scheduler().completion(job).map(Completion::digest);
        let completion = match self.order.read(read).await? {
            Ok(digest) => digest,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        let (executed, log) = self.order.standing().await?;
        let nothing = || Answer::Refused(Refusal::Invalid("this replica's log has attested nothing yet".to_owned()));
        Ok(match Attested::of(log) {
            Some(log) => Answer::Endorsement(Box::new(self.notary.endorse(completion, executed, &log))),
            None => nothing(),
        })
    }

    /// Compares with what an asker has seen, so that nobody reads an older state than before.
    async fn caught_up(&self, seen: Option<History>) -> Result<Judgement, Status> {
        match self.order.judge(seen).await {
            Judgement::Ahead => Err(Status::unavailable("this replica has not executed yet what the asker has seen")),
            judgement @ (Judgement::Confirmed(_) | Judgement::Unknown | Judgement::Forked { .. }) => Ok(judgement),
        }
    }

    /// The refusal for whoever has seen another history.
    fn forked(&self, judgement: Judgement, seen: Option<History>) -> Option<Answer> {
        let (Judgement::Forked { here }, Some(seen)) = (judgement, seen) else { return None };
        tracing::warn!(%here, %seen, "somebody has seen another history than the one that was executed here");
        Some(Answer::Refused(Refusal::Fork { here, seen }))
    }

    fn follow(
        &self,
        topic: Topic,
        from: u64,
        seen: Option<History>,
        life: Option<OpenStream>,
    ) -> Result<Response<Replies>, Status> {
        let full = |_| Status::resource_exhausted(format!("{STREAMS_MAX} streams are open already"));
        let place = Arc::clone(&self.open).try_acquire_owned().map_err(full)?;
        let judgement = self.order.judge_now(seen);
        if let Some(refusal) = self.forked(judgement, seen) {
            let reply = self.notary.reply(topic.digest(), self.order.history(), judgement.confirms(), refusal);
            return Ok(Response::new(stream::iter([Ok(reply)]).boxed()));
        }
        let invented = match topic {
            Topic::Directives { .. } => self.notary.lie.as_ref().and_then(|lie| lie.invents(from)),
            Topic::Verdicts { .. } => None,
        };
        let live = Live {
            topic,
            next: from,
            seen,
            items: invented.into_iter().collect(),
            notary: self.notary.clone(),
            order: self.order.clone(),
            executed: self.order.executed(),
            stopping: self.stopping.clone(),
            _place: place,
            _life: life,
        };
        Ok(Response::new(live.into_stream()))
    }
}

fn unavailable(stopped: Stopped) -> Status {
    Status::unavailable(stopped.to_string())
}

fn read_seen(bytes: &[u8]) -> Result<Option<History>, Status> {
    // Whoever shows nothing has seen nothing.
    if bytes.is_empty() {
        return Ok(None);
    }
    let refused = |error| Status::invalid_argument(format!("what was seen is refused: {error}"));
    seen_from_wire(bytes).map_err(refused)
}

type Replies = BoxStream<'static, Result<wire::Reply, Status>>;

#[tonic::async_trait]
impl JobTracker for Service {
    type FollowDirectivesStream = Replies;
    type FollowVerdictsStream = Replies;

    async fn submit(&self, request: Request<wire::Command>) -> Result<Response<wire::Reply>, Status> {
        let _place = self.calls.acquire().await.map_err(|_| unavailable(Stopped))?;
        self.execute(&request.into_inner().signed).await.map(Response::new)
    }

    async fn ask(&self, request: Request<wire::Question>) -> Result<Response<wire::Reply>, Status> {
        let _place = self.questions.acquire().await.map_err(|_| unavailable(Stopped))?;
        let wire::Question { question: bytes, seen: seen_bytes } = request.into_inner();
        let question: Question = canonical::decode(&bytes, QUESTION_BYTES_MAX)
            .map_err(|error| Status::invalid_argument(format!("the question is refused: {error}")))?;
        let seen = read_seen(&seen_bytes)?;
        let judgement = self.caught_up(seen).await?;
        // Taken before the state is read, which may be of a later one.
        let history = self.order.history();
        let answer = match self.forked(judgement, seen) {
            Some(refusal) => refusal,
            None => self.answer(question).await?,
        };
        Ok(Response::new(self.notary.reply(
            question_digest(&bytes, &seen_bytes),
            history,
            judgement.confirms(),
            answer,
        )))
    }

    async fn follow_directives(
        &self,
        request: Request<wire::DirectivesRequest>,
    ) -> Result<Response<Self::FollowDirectivesStream>, Status> {
        let FollowDirectives { tracker, incarnation, from, seen, .. } =
            self.door.admit_follower(&request.into_inner().signed)?;
        self.caught_up(seen).await?;
        let life = self.streams.open(tracker, incarnation);
        self.follow(Topic::Directives { tracker, incarnation }, from, seen, Some(life))
    }

    async fn follow_verdicts(
        &self,
        request: Request<wire::VerdictsRequest>,
    ) -> Result<Response<Self::FollowVerdictsStream>, Status> {
        let wire::VerdictsRequest { job, from, seen } = request.into_inner();
        let seen = read_seen(&seen)?;
        self.caught_up(seen).await?;
        self.follow(Topic::Verdicts { job: JobId::new(job) }, from, seen, None)
    }
}

/// One stream: what was executed from a position on, then what is executed. It ends with an error, when the replica
/// stops or there is nothing to follow any more, or when the other side goes.
struct Live {
    topic: Topic,
    next: u64,
    /// What the follower had seen when it came.
    seen: Option<History>,
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
                let confirms = self.order.judge_now(self.seen).confirms();
                return Ok(self.notary.reply(self.topic.digest(), self.order.history(), confirms, answer));
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
        application::Shared,
        histories::Histories,
        testing::{REPLICA, TRACKER, Who, cluster, key},
    };
    use quorate_smr::Seq;
    use std::sync::mpsc::sync_channel;

    fn notary() -> Notary {
        Notary::new(Digest::of(b"cluster"), REPLICA, key(Who::Replica), None, Arc::default())
    }
    fn history() -> quorate_smr::History {
        quorate_smr::History { seq: Seq(7), digest: Digest::of(b"history") }
    }
    /// A service before a state that nobody changes.
    fn service() -> (Service, watch::Sender<bool>) {
        let cluster = Arc::new(cluster("127.0.0.1:1"));
        let state = Shared::new(Application::new((*cluster).clone()));
        let histories = Arc::new(Histories::new(history(), |_| None));
        let order = Order::new(sync_channel(1).0, state, histories, watch::channel(7).1, Arc::default());
        let (stop, stopping) = watch::channel(false);
        (Service::new(Arc::new(Door::new(cluster)), notary(), order, Streams::default(), stopping), stop)
    }
    fn read(reply: &wire::Reply) -> Reply {
        let signed = Signed::<Reply>::from_wire(&reply.signed).expect("within the limit");
        signed.verify(&key(Who::Replica).public()).expect("signed").into_inner()
    }
    async fn ask(service: &Service, seen: Option<History>) -> Result<Reply, Status> {
        let question = canonical::encode(&Question::Jobs);
        let seen = quorate_protocol::command::seen_to_wire(seen);
        let request = Request::new(wire::Question { question, seen });
        service.ask(request).await.map(|reply| read(&reply.into_inner()))
    }

    #[tokio::test]
    async fn streams_are_bounded_and_a_closed_one_makes_room() {
        let (mut service, _stop) = service();
        service.open = Arc::new(Semaphore::new(2));
        let topic = Topic::Directives { tracker: TRACKER, incarnation: 1 };
        let first = service.follow(topic, 0, None, None).expect("one");
        let _second = service.follow(topic, 0, None, None).expect("two, at the bound");
        let third = service.follow(topic, 0, None, None).err().expect("one above");
        assert_eq!(third.code(), tonic::Code::ResourceExhausted);
        drop(first);
        assert!(service.follow(topic, 0, None, None).is_ok());
    }

    #[tokio::test]
    async fn an_answer_states_its_history_and_confirms_what_was_seen() {
        let (service, _stop) = service();
        let here = crate::histories::to_wire(history());
        for seen in [None, Some(here)] {
            let reply = ask(&service, seen).await.expect("answered");
            assert_eq!((reply.history, reply.confirms, reply.answer), (here, seen, Answer::Jobs(Vec::new())));
        }
        let ahead = ask(&service, Some(History { ordered: 8, ..here })).await;
        assert_eq!(ahead.expect_err("not there yet").code(), tonic::Code::Unavailable);
    }

    #[tokio::test]
    async fn whoever_has_seen_another_history_is_told_so_and_nothing_else() {
        let (service, _stop) = service();
        let here = crate::histories::to_wire(history());
        let seen = Some(History { digest: Digest::of(b"another"), ..here });
        let refusal = |reply: &Reply| {
            assert_eq!(reply.confirms, Some(here));
            assert!(matches!(reply.answer, Answer::Refused(Refusal::Fork { .. })), "{:?}", reply.answer);
        };
        refusal(&ask(&service, seen).await.expect("answered"));
        let topic = Topic::Directives { tracker: TRACKER, incarnation: 1 };
        let mut stream = service.follow(topic, 0, seen, None).expect("opened").into_inner();
        refusal(&read(&stream.next().await.expect("an item").expect("a reply")));
        assert!(stream.next().await.is_none());
    }

    #[test]
    fn an_answer_that_is_too_long_becomes_a_refusal() {
        let here = crate::histories::to_wire(history());
        let answer = |length| Answer::Refused(Refusal::NotFound("x".repeat(length)));
        let said = |length| read(&notary().reply(Digest::of(b"question"), here, None, answer(length))).answer;
        let empty = Reply {
            cluster: Digest::of(b"cluster"),
            replica: REPLICA,
            to: Digest::of(b"question"),
            history: here,
            confirms: None,
            view: 0,
            answer: answer(0),
        };
        // The text's length takes four bytes instead of one.
        let fits = REPLY_BYTES_MAX - canonical::encode(&empty).len() - 3;
        assert_eq!(said(fits), answer(fits));
        assert!(matches!(said(fits + 1), Answer::Refused(Refusal::Full(_))));
    }
}
