//! A job tracker that has forked, before a real tracker: it believes nothing any more, and keeps the proof.

use futures::{StreamExt, stream};
use quorate_protocol::{
    canonical,
    cluster::{Cluster, ReplicaMember, TrackerMember},
    command::{Envelope, FollowDirectives, History, Reply, seen_from_wire},
    digest::Digest,
    fork::ForkProof,
    ids::{AttemptId, Domain, JobId, ReplicaId, Stage, TaskId, TrackerId},
    job::{Directive, Work},
    query::{Answer, command_digest, question_digest, stream_digest},
    sign::{SecretKey, Signed},
    wire::{
        self,
        job_tracker_server::{JobTracker, JobTrackerServer},
    },
};
use quorate_tasktracker::{Neighbours, Options, Programs, Tracker};
use quorate_tests::processes::PATIENCE;
use std::{pin::Pin, sync::Arc};
use tokio::{net::TcpListener, sync::watch};
use tonic::{Request, Response, Status, transport::Server};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// A replica that executed something, one thing or another: it follows a branch of the history, from which a test makes
/// it stray.
struct Replica {
    cluster: Digest,
    number: u8,
    branch: watch::Receiver<u8>,
}

impl Replica {
    fn history(&self, ordered: u64) -> History {
        History { ordered, digest: Digest::of(&[*self.branch.borrow(), ordered as u8]) }
    }
    fn reply(&self, to: Digest, seen: Option<History>, answer: Answer) -> wire::Reply {
        let ordered = 5 + u64::from(*self.branch.borrow());
        let confirms = seen.map(|seen| self.history(seen.ordered));
        let replica = ReplicaId::new(self.number.into());
        let reply =
            Reply { cluster: self.cluster, replica, to, history: self.history(ordered), confirms, view: 0, answer };
        wire::Reply { signed: Signed::seal(&reply, &key(self.number)).to_wire() }
    }
}

type Replies = Pin<Box<dyn futures::Stream<Item = Result<wire::Reply, Status>> + Send>>;

#[tonic::async_trait]
impl JobTracker for Replica {
    type FollowDirectivesStream = Replies;
    type FollowVerdictsStream = Replies;
    async fn submit(&self, request: Request<wire::Command>) -> Result<Response<wire::Reply>, Status> {
        let bytes = request.into_inner().signed;
        let envelope: Envelope = canonical::decode(&bytes, bytes.len()).expect("a tracker's");
        let seen = envelope.request.peek().expect("a tracker's").seen;
        Ok(Response::new(self.reply(command_digest(&bytes), seen, Answer::Done)))
    }
    async fn ask(&self, request: Request<wire::Question>) -> Result<Response<wire::Reply>, Status> {
        let wire::Question { question, seen } = request.into_inner();
        let shown = seen_from_wire(&seen).expect("a tracker's");
        Ok(Response::new(self.reply(question_digest(&question, &seen), shown, Answer::Trackers(Vec::new()))))
    }
    /// Says nothing until it strays. Then it has something to be done.
    async fn follow_directives(&self, request: Request<wire::DirectivesRequest>) -> Result<Response<Replies>, Status> {
        let signed = Signed::<FollowDirectives>::from_wire(&request.into_inner().signed).expect("a tracker's");
        let FollowDirectives { tracker, incarnation, from, seen, .. } = signed.peek().expect("a tracker's");
        let to = stream_digest("directives", &[tracker.number().into(), incarnation]);
        let task = TaskId { job: JobId::new(1), stage: Stage::Reduce, index: 0 };
        let start = Directive::Start { attempt: AttemptId { task, attempt: 0 }, work: Work::Reduce };
        let this = Self { cluster: self.cluster, number: self.number, branch: self.branch.clone() };
        let strayed = async move {
            let mut branch = this.branch.clone();
            let _ = branch.wait_for(|branch| *branch > 0).await;
            Ok(this.reply(to, seen, Answer::Directive(from, start)))
        };
        Ok(Response::new(stream::once(strayed).chain(stream::pending()).boxed()))
    }
    async fn follow_verdicts(&self, _: Request<wire::VerdictsRequest>) -> Result<Response<Replies>, Status> {
        Err(Status::not_found("no such job"))
    }
}

/// Starts three replicas, which follow what `branches` says.
async fn replicas(branches: &[watch::Sender<u8>; 3]) -> Cluster {
    let mut seats = Vec::new();
    for (number, branch) in (0..).zip(branches) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        seats.push((number, listener, branch.subscribe()));
    }
    let member = |(number, listener, _): &(u8, TcpListener, _)| ReplicaMember {
        id: ReplicaId::new((*number).into()),
        address: listener.local_addr().expect("an address").to_string(),
        key: key(*number).public(),
        log: None,
        tpm: None,
        page: None,
    };
    let tracker = TrackerMember { id: TrackerId::new(0), domain: Domain("d".to_owned()), key: key(9).public() };
    let cluster = Cluster {
        name: "forked".to_owned(),
        f: 1,
        agreement: Default::default(),
        allow_liars: false,
        clients: Vec::new(),
        authority: None,
        replicas: seats.iter().map(member).collect(),
        trackers: vec![tracker],
    };
    for (number, listener, branch) in seats {
        let service = JobTrackerServer::new(Replica { cluster: cluster.id(), number, branch });
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_keeps_the_proof_and_does_nothing_that_a_forked_job_tracker_says() {
    let branches: [watch::Sender<u8>; 3] = std::array::from_fn(|_| watch::Sender::new(0));
    let cluster = Arc::new(replicas(&branches).await);
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        cluster: Arc::clone(&cluster),
        id: TrackerId::new(0),
        key: key(9),
        directory: folder.path().to_owned(),
        map_slots: 1,
        reduce_slots: 1,
        liar: None,
        programs: Programs::Children(|_| panic!("it carries something out")),
        neighbours: Neighbours::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let tracker = Tracker::start(options, listener).await.expect("a tracker");
    // All replicas hold a stream of a registered tracker by now.
    let followed = async {
        while branches.iter().any(|branch| branch.receiver_count() < 2) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("it follows its directives");
    branches[1].send_replace(1);
    branches[2].send_replace(1);
    let proof = async {
        loop {
            let text = tokio::fs::read_to_string(folder.path().join("fork-proof")).await.unwrap_or_default();
            if let Some(proof) = ForkProof::from_hex(&text) {
                break proof;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let proof = tokio::time::timeout(PATIENCE, proof).await.expect("a proof");
    let fork = proof.check(&cluster).expect("a third party sees it");
    assert!(fork.exceeds(cluster.f), "{fork}");
    tracker.stop().await;
}
