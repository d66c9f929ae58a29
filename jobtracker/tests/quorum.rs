//! The client among several replicas, some of which lie: scripted replicas on real sockets, f = 1.

mod fixture;

use fixture::*;
use futures::{StreamExt, stream};
use quorate_jobtracker::client::ClientError;
use quorate_protocol::{
    cluster::Cluster,
    command::{FollowDirectives, Refusal, Reply},
    digest::Digest,
    ids::{AttemptId, JobId, ReplicaId, Stage, TaskId, TrackerId},
    job::Directive,
    query::{Answer, question_digest, stream_digest},
    sign::Signed,
    wire::{
        self,
        job_tracker_server::{JobTracker, JobTrackerServer},
    },
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tonic::{Request, Response, Status, transport::Server};

/// What a scripted replica does.
#[derive(Clone)]
struct Script {
    /// Its answer to every question, or none: it never answers.
    answer: Option<Answer>,
    /// Whether it signs replies to something else than what was asked.
    beside: bool,
    directives: Vec<(u64, Directive)>,
    /// How many directives it sends before it cuts the stream.
    cut_after: usize,
}

impl Script {
    fn honest() -> Self {
        let directives = (0..6).map(|number| (number, cancel(number))).collect();
        Self { answer: Some(Answer::Submitted(JobId::new(1))), beside: false, directives, cut_after: usize::MAX }
    }
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
    fn reply(&self, to: Digest, answer: Answer) -> wire::Reply {
        let to = if self.script.beside { Digest::of(b"something else") } else { to };
        let reply = Reply { cluster: self.cluster, replica: ReplicaId::new(self.replica.into()), to, answer };
        wire::Reply { signed: Signed::seal(&reply, &key(REPLICA_SEED + self.replica)).to_wire() }
    }
    async fn answer(&self, bytes: &[u8]) -> Result<Response<wire::Reply>, Status> {
        match &self.script.answer {
            Some(answer) => Ok(Response::new(self.reply(question_digest(bytes), answer.clone()))),
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
        self.answer(&request.into_inner().signed).await
    }
    async fn ask(&self, request: Request<wire::Question>) -> Result<Response<wire::Reply>, Status> {
        self.answer(&request.into_inner().question).await
    }
    async fn follow_directives(&self, request: Request<wire::DirectivesRequest>) -> Result<Response<Replies>, Status> {
        let signed = Signed::<FollowDirectives>::from_wire(&request.into_inner().signed).expect("a client's");
        let FollowDirectives { tracker, incarnation, from, .. } = signed.peek().expect("a client's");
        let to = stream_digest("directives", &[tracker.number().into(), incarnation]);
        let wanted = self.script.directives.iter().filter(|(number, _)| *number >= from).take(self.script.cut_after);
        let mut items: Vec<_> = wanted
            .map(|(number, directive)| Ok(self.reply(to, Answer::Directive(*number, directive.clone()))))
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
        Script { answer: Some(Answer::Submitted(JobId::new(666))), ..Script::honest() },
        Script { answer: Some(Answer::Refused(Refusal::Stale)), ..Script::honest() },
        Script { beside: true, ..Script::honest() },
        Script { answer: None, ..Script::honest() },
    ];
    for liar in liars {
        let cluster = play([liar, Script::honest(), Script::honest()]).await;
        let answer = client(&cluster).submit(create("/x")).await;
        assert!(matches!(answer, Ok(Answer::Submitted(job)) if job == JobId::new(1)), "{answer:?}");
    }
}

#[tokio::test]
async fn more_than_f_liars_give_no_answer_at_all() {
    let say = |job| Script { answer: Some(Answer::Submitted(JobId::new(job))), ..Script::honest() };
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
