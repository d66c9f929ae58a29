//! The client among several replicas, some of which lie: scripted replicas on real sockets, f = 1.

mod fixture;

use fixture::*;
use futures::{StreamExt, stream};
use quorate_jobtracker::client::{Client, ClientError};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::{Envelope, FollowDirectives, History, Refusal, Reply, seen_from_wire},
    digest::Digest,
    ids::{AttemptId, JobId, ReplicaId, Stage, TaskId, TrackerId},
    job::Directive,
    query::{Answer, Question, command_digest, question_digest, stream_digest},
    sign::Signed,
    wire::{
        self,
        job_tracker_server::{JobTracker, JobTrackerServer},
    },
};
use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tonic::{Request, Response, Status, transport::Server};

/// A replica's history, which a test may change while the replica runs.
#[derive(Clone, Default)]
struct Past(Arc<Mutex<(u8, u64)>>);

impl Past {
    /// What is the same on one branch and different on two.
    fn at(branch: u8, ordered: u64) -> History {
        History { ordered, digest: Digest::of(&[branch, ordered as u8]) }
    }
    fn set(&self, branch: u8, ordered: u64) {
        *self.0.lock().expect("not poisoned") = (branch, ordered);
    }
    fn get(&self) -> (u8, u64) {
        *self.0.lock().expect("not poisoned")
    }
}

/// What a scripted replica does.
#[derive(Clone)]
struct Script {
    /// Its answers to questions, one after the other; the last one stays. None: it never answers.
    answers: Vec<Answer>,
    /// Whether it signs replies to something else than what was asked.
    beside: bool,
    directives: Vec<(u64, Directive)>,
    /// How many directives it sends before it cuts the stream.
    cut_after: usize,
    past: Past,
    /// The view that it says it is in.
    view: u64,
    /// How often it was asked.
    heard: Arc<AtomicUsize>,
}

impl Script {
    fn honest() -> Self {
        let directives = (0..6).map(|number| (number, cancel(number))).collect();
        let past = Past::default();
        Self {
            answers: vec![submitted(1)],
            beside: false,
            directives,
            cut_after: usize::MAX,
            past,
            view: 0,
            heard: Arc::default(),
        }
    }
    fn saying(answer: Answer) -> Self {
        Self { answers: vec![answer], ..Self::honest() }
    }
    fn with_past(past: &Past) -> Self {
        Self { past: past.clone(), ..Self::honest() }
    }
}

fn submitted(job: u64) -> Answer {
    Answer::Submitted(JobId::new(job))
}

fn cancel(index: u64) -> Directive {
    let index = u32::try_from(index).expect("small");
    Directive::Cancel {
        attempt: AttemptId { task: TaskId { job: JobId::new(1), stage: Stage::Map, index }, attempt: 0 },
    }
}

struct Actor {
    script: Script,
    cluster: Digest,
    replica: u8,
}

impl Actor {
    fn reply(&self, to: Digest, seen: Option<History>, answer: Answer) -> wire::Reply {
        let to = if self.script.beside { Digest::of(b"something else") } else { to };
        let (branch, ordered) = self.script.past.get();
        let confirms = seen.filter(|seen| seen.ordered <= ordered).map(|seen| Past::at(branch, seen.ordered));
        let (replica, history) = (ReplicaId::new(self.replica.into()), Past::at(branch, ordered));
        let reply = Reply { cluster: self.cluster, replica, to, history, confirms, view: self.script.view, answer };
        wire::Reply { signed: Signed::seal(&reply, &key(REPLICA_SEED + self.replica)).to_wire() }
    }
    async fn answer(&self, to: Digest, seen: Option<History>) -> Result<Response<wire::Reply>, Status> {
        let asked = self.script.heard.fetch_add(1, Ordering::Relaxed);
        match self.script.answers.get(asked).or(self.script.answers.last()) {
            Some(answer) => Ok(Response::new(self.reply(to, seen, answer.clone()))),
            None => std::future::pending().await,
        }
    }
}

type Replies = Pin<Box<dyn futures::Stream<Item = Result<wire::Reply, Status>> + Send>>;

#[tonic::async_trait]
impl JobTracker for Actor {
    type FollowDirectivesStream = Replies;
    type FollowVerdictsStream = Replies;
    async fn submit(&self, request: Request<wire::Command>) -> Result<Response<wire::Reply>, Status> {
        let signed = request.into_inner().signed;
        let envelope: Envelope = canonical::decode(&signed, signed.len()).expect("a client's");
        self.answer(command_digest(&signed), envelope.request.peek().expect("a client's").seen).await
    }
    async fn ask(&self, request: Request<wire::Question>) -> Result<Response<wire::Reply>, Status> {
        let wire::Question { question, seen } = request.into_inner();
        self.answer(question_digest(&question, &seen), seen_from_wire(&seen).expect("a client's")).await
    }
    async fn follow_directives(&self, request: Request<wire::DirectivesRequest>) -> Result<Response<Replies>, Status> {
        let signed = Signed::<FollowDirectives>::from_wire(&request.into_inner().signed).expect("a client's");
        let FollowDirectives { tracker, incarnation, from, seen, .. } = signed.peek().expect("a client's");
        let to = stream_digest("directives", &[tracker.number().into(), incarnation]);
        let wanted = self.script.directives.iter().filter(|(number, _)| *number >= from).take(self.script.cut_after);
        let mut items: Vec<_> = wanted
            .map(|(number, directive)| Ok(self.reply(to, seen, Answer::Directive(*number, directive.clone()))))
            .collect();
        if items.len() == self.script.cut_after {
            items.push(Err(Status::unavailable("cut")));
            return Ok(Response::new(stream::iter(items).boxed()));
        }
        Ok(Response::new(stream::iter(items).chain(stream::pending()).boxed()))
    }
    async fn follow_verdicts(&self, _: Request<wire::VerdictsRequest>) -> Result<Response<Replies>, Status> {
        Err(Status::not_found("no such job"))
    }
}

async fn play(scripts: [Script; 3]) -> Cluster {
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (listener, address) = listener().await;
        listeners.push(listener);
        addresses.push(address);
    }
    let cluster = cluster(&addresses);
    for (replica, (script, listener)) in (0..).zip(scripts.into_iter().zip(listeners)) {
        let service = JobTrackerServer::new(Actor { script, cluster: cluster.id(), replica });
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    }
    cluster
}

#[tokio::test]
async fn f_liars_change_no_answer() {
    let liars = [
        Script::saying(submitted(666)),
        Script::saying(Answer::Refused(Refusal::Stale)),
        Script { beside: true, ..Script::honest() },
        Script { answers: Vec::new(), ..Script::honest() },
    ];
    for liar in liars {
        let cluster = play([liar, Script::honest(), Script::honest()]).await;
        let answer = client(&cluster).submit(create("/x")).await;
        assert!(matches!(answer, Ok(Answer::Submitted(job)) if job == JobId::new(1)), "{answer:?}");
    }
}

/// How often each of three replicas is asked in so many rounds.
async fn heard(scripts: [Script; 3], rounds: usize) -> [usize; 3] {
    let heard = scripts.each_ref().map(|script| Arc::clone(&script.heard));
    let cluster = play(scripts).await;
    let client = client(&cluster);
    for _ in 0..rounds {
        client.submit(create("/x")).await.expect("an answer");
    }
    heard.map(|heard| heard.load(Ordering::Relaxed))
}

#[tokio::test]
async fn while_all_is_well_f_plus_1_are_asked_and_backups_take_turns() {
    // A machine that stalls makes answers late, and then more are asked.
    let heard = until("f + 1 were asked each time", async || {
        let heard = heard([Script::honest(), Script::honest(), Script::honest()], 10).await;
        (heard.iter().sum::<usize>() == 20).then_some(heard)
    });
    let heard = heard.await;
    assert_eq!(heard[0], 10, "the primary orders");
    assert!(heard[1] > 0 && heard[2] > 0, "{heard:?}");
}

#[tokio::test]
async fn the_primary_of_the_view_that_replicas_tell_is_asked_first() {
    let heard = until("f + 1 were asked each time", async || {
        let in_view_1 = || Script { view: 1, ..Script::honest() };
        let heard = heard([in_view_1(), in_view_1(), in_view_1()], 10).await;
        (heard.iter().sum::<usize>() == 20).then_some(heard)
    });
    let heard = heard.await;
    assert!(heard[1] >= 9, "known from the second round on: {heard:?}");
    assert!(heard[0] > 0 && heard[2] > 0, "{heard:?}");
}

#[tokio::test]
async fn the_others_are_asked_when_one_lies_and_whoever_was_caught_comes_last() {
    let forger = || Script { beside: true, ..Script::honest() };
    let heard = until("the liar was asked once", async || {
        let heard = heard([Script::honest(), forger(), Script::honest()], 10).await;
        (heard[1] == 1).then_some(heard)
    });
    let heard = heard.await;
    assert!(heard[0] == 10 && heard[2] >= 9, "{heard:?}");
}

#[tokio::test]
async fn more_than_f_liars_give_no_answer_at_all() {
    let say = |job| Script::saying(submitted(job));
    let cluster = play([say(2), say(3), Script::honest()]).await;
    let client = client(&cluster).with_patience(Duration::from_millis(300));
    let answer = client.submit(create("/x")).await;
    assert!(matches!(answer, Err(ClientError::Disagreement)), "{answer:?}");
}

async fn followed(scripts: [Script; 3]) -> Vec<(u64, Directive)> {
    let cluster = Arc::new(play(scripts).await);
    let stream = tracker_client(&cluster, 0).directives(TrackerId::new(0), 1, 0);
    let items = stream.take(6).map(|item| item.expect("an item")).collect();
    tokio::time::timeout(DEADLINE, items).await.expect("all items")
}

#[tokio::test]
async fn a_stream_holds_what_f_plus_1_replicas_sent_in_order() {
    let honest = Script::honest().directives;
    let lie: Vec<_> = (0..6).map(|number| (number, cancel(100 + number))).collect();
    let ahead = honest[4..].to_vec();
    let invented = vec![(0, cancel(0)), (3, cancel(3)), (u64::MAX, cancel(9))];
    for directives in [lie, ahead, invented, Vec::new()] {
        let liar = Script { directives, ..Script::honest() };
        assert_eq!(followed([liar, Script::honest(), Script::honest()]).await, honest);
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_goes_on_where_it_was() {
    let cut = Script { cut_after: 2, ..Script::honest() };
    let other = Script { cut_after: 3, ..Script::honest() };
    let silent = Script { directives: Vec::new(), ..Script::honest() };
    assert_eq!(followed([cut, other, silent]).await, Script::honest().directives);
}

#[tokio::test]
async fn a_stream_ends_with_an_error_when_no_quorum_has_it() {
    let cluster = play([Script::honest(), Script::honest(), Script::honest()]).await;
    let mut stream = client(&cluster).verdicts(JobId::new(9), 0);
    let first = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time");
    assert!(matches!(first, Some(Err(ClientError::Rejected { .. }))), "{first:?}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn the_same_answer_at_two_places_of_the_order_is_not_the_same() {
    let (here, there) = (Past::default(), Past::default());
    there.set(0, 7);
    let silent = Script { answers: Vec::new(), ..Script::honest() };
    let cluster = play([Script::with_past(&here), Script::with_past(&there), silent]).await;
    let client = client(&cluster).with_patience(Duration::from_millis(300));
    let answer = client.submit(create("/x")).await;
    assert!(matches!(answer, Err(ClientError::Disagreement)), "{answer:?}");
    assert!(client.ask(Question::Jobs).await.is_ok(), "a question is answered whenever");
}

#[tokio::test]
async fn replicas_that_come_to_agree_are_asked_again_while_another_is_silent() {
    let late = Script { answers: vec![submitted(7), submitted(8), submitted(1)], ..Script::honest() };
    let silent = Script { answers: Vec::new(), ..Script::honest() };
    let cluster = play([silent, Script::honest(), late]).await;
    let asked = tokio::time::timeout(DEADLINE / 2, async { client(&cluster).ask(Question::Jobs).await });
    assert!(matches!(asked.await, Ok(Ok(Answer::Submitted(job))) if job == JobId::new(1)));
}

/// Three replicas with these pasts, and a client that has seen the place 5 of the branch 0.
async fn anchored(pasts: &[Past; 3]) -> (Cluster, Client) {
    pasts.iter().for_each(|past| past.set(0, 5));
    let cluster = play(pasts.each_ref().map(Script::with_past)).await;
    let client = client(&cluster).with_patience(Duration::from_secs(2));
    client.submit(create("/x")).await.expect("an answer");
    (cluster, client)
}

#[tokio::test]
async fn one_replica_with_another_history_is_a_liar_and_the_others_are_believed() {
    let pasts: [Past; 3] = Default::default();
    let (_cluster, client) = anchored(&pasts).await;
    pasts[1].set(0, 4);
    pasts[2].set(1, 9);
    let catches_up = async {
        until("the liar was heard", async || (!client.distrusted().is_empty()).then_some(())).await;
        pasts[1].set(0, 9);
    };
    let (answer, ()) = tokio::join!(client.ask(Question::Jobs), catches_up);
    answer.expect("two are honest");
    assert_eq!(client.distrusted()[0].replica, ReplicaId::new(2));
    pasts[0].set(0, 9);
    client.submit(create("/y")).await.expect("two are honest");
    assert_eq!(client.distrusted().len(), 1);
}

#[tokio::test]
async fn f_plus_1_replicas_with_another_history_are_a_fork_with_proof() {
    let pasts: [Past; 3] = Default::default();
    let (cluster, client) = anchored(&pasts).await;
    pasts[1].set(1, 9);
    pasts[2].set(1, 9);
    let Err(ClientError::Fork { fork, proof }) = client.ask(Question::Jobs).await else { panic!("a fork") };
    assert!(fork.exceeds(cluster.f));
    assert_eq!(proof.check(&cluster).as_ref(), Ok(&*fork), "a third party sees it too");
    let sides = (fork.one.0, fork.other.0);
    assert_eq!(sides, (Past::at(0, 5), Past::at(1, 5)));
    assert!(fork.other.1.is_subset(&BTreeSet::from([1, 2].map(ReplicaId::new))));
    pasts.iter().for_each(|past| past.set(0, 20));
    let again = client.submit(create("/y")).await;
    assert!(matches!(again, Err(ClientError::Fork { .. })), "it is never forgotten: {again:?}");
}

#[tokio::test]
async fn a_fork_ends_a_stream() {
    let pasts: [Past; 3] = Default::default();
    let (cluster, _) = anchored(&pasts).await;
    let tracker = tracker_client(&cluster, 0);
    tracker.ask(Question::Jobs).await.expect("an answer");
    pasts[0].set(1, 9);
    pasts[1].set(1, 9);
    let first = tracker.directives(TrackerId::new(0), 1, 0).next().await;
    assert!(matches!(first, Some(Err(ClientError::Fork { .. }))), "{first:?}");
}

#[tokio::test]
async fn what_is_from_before_the_seen_does_not_count_until_it_catches_up() {
    let pasts: [Past; 3] = Default::default();
    let (_cluster, client) = anchored(&pasts).await;
    pasts[0].set(0, 3);
    pasts[1].set(0, 4);
    let behind = client.clone().with_patience(Duration::from_millis(200)).ask(Question::Jobs).await;
    assert!(matches!(behind, Err(ClientError::Unreachable { .. })), "{behind:?}");
    let (catches_up, answer) = (pasts[1].clone(), client.ask(Question::Jobs));
    let (answer, ()) = tokio::join!(answer, async move { catches_up.set(0, 5) });
    assert!(answer.is_ok(), "{answer:?}");
    assert!(client.distrusted().is_empty(), "who is behind does not lie");
}
