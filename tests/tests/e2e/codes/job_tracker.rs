//! A job tracker made by hand. It says what an honest one does not, or not when a test wants it.

use futures::stream;
use quorate::connection;
use quorate_protocol::{
    canonical,
    cluster::{Agreement, Cluster, ReplicaMember, TrackerMember},
    command::{Envelope, History, Refusal, Reply, seen_from_wire},
    digest::Digest,
    ids::{Domain, ReplicaId, TrackerId},
    query::{Answer, command_digest, question_digest},
    sign::{SecretKey, Signed},
    wire::{
        self,
        job_tracker_server::{JobTracker, JobTrackerServer},
    },
};
use std::{
    path::Path,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server};

/// How its replicas answer.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// All alike.
    Alike(Box<Answer>),
    /// Each refuses with its own number.
    EachItsOwn,
    /// With another's signature.
    Forged,
    /// They do not take it.
    Reject,
    /// Alike at first, and then as if the first answer had never been.
    Stray(Box<Answer>),
}

pub(crate) fn refuses(refusal: Refusal) -> Manner {
    Manner::Alike(Box::new(Answer::Refused(refusal)))
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

struct Replica {
    cluster: Digest,
    number: u8,
    manner: Manner,
    answered: AtomicU64,
}

impl Replica {
    fn reply(&self, to: Digest, seen: Option<History>) -> Result<Response<wire::Reply>, Status> {
        let before = self.answered.fetch_add(1, Ordering::Relaxed);
        let (mut branch, mut signer) = (0, key(self.number));
        let answer = match &self.manner {
            Manner::Alike(answer) => (**answer).clone(),
            Manner::EachItsOwn => Answer::Refused(Refusal::Full(format!("{} jobs", self.number))),
            Manner::Forged => {
                signer = key(77);
                Answer::Done
            }
            Manner::Reject => return Err(Status::permission_denied("the key is not one of this cluster")),
            Manner::Stray(answer) => {
                branch = u8::from(before > 0);
                (**answer).clone()
            }
        };
        let history = |ordered: u64| History { ordered, digest: Digest::of(&[branch, ordered as u8]) };
        let reply = Reply {
            cluster: self.cluster,
            replica: ReplicaId::new(self.number.into()),
            to,
            history: history(5 + u64::from(branch)),
            confirms: seen.map(|seen| history(seen.ordered)),
            view: 0,
            answer,
        };
        Ok(Response::new(wire::Reply { signed: Signed::seal(&reply, &signer).to_wire() }))
    }
}

type Replies = Pin<Box<dyn futures::Stream<Item = Result<wire::Reply, Status>> + Send>>;

#[tonic::async_trait]
impl JobTracker for Replica {
    type FollowDirectivesStream = Replies;
    type FollowVerdictsStream = Replies;
    async fn submit(&self, request: Request<wire::Command>) -> Result<Response<wire::Reply>, Status> {
        let bytes = request.into_inner().signed;
        let envelope: Envelope = canonical::decode(&bytes, bytes.len()).expect("a client's");
        let seen = envelope.request.peek().expect("a client's").seen;
        self.reply(command_digest(&bytes), seen)
    }
    async fn ask(&self, request: Request<wire::Question>) -> Result<Response<wire::Reply>, Status> {
        let wire::Question { question, seen } = request.into_inner();
        let shown = seen_from_wire(&seen).expect("a client's");
        self.reply(question_digest(&question, &seen), shown)
    }
    async fn follow_directives(&self, _: Request<wire::DirectivesRequest>) -> Result<Response<Replies>, Status> {
        Ok(Response::new(Box::pin(stream::pending())))
    }
    async fn follow_verdicts(&self, _: Request<wire::VerdictsRequest>) -> Result<Response<Replies>, Status> {
        Err(Status::not_found("no such job"))
    }
}

/// Starts three replicas of this manner, and writes the folder where clients find them.
pub(crate) async fn start(folder: &Path, manner: Manner) {
    let mut seats = Vec::new();
    for number in 0..3u8 {
        seats.push((number, TcpListener::bind("127.0.0.1:0").await.expect("a port")));
    }
    let member = |(number, listener): &(u8, TcpListener)| ReplicaMember {
        id: ReplicaId::new((*number).into()),
        address: listener.local_addr().expect("an address").to_string(),
        key: key(*number).public(),
        log: None,
        tpm: None,
        page: None,
    };
    let cluster = Cluster {
        name: "made by hand".to_owned(),
        f: 1,
        agreement: Agreement::Minbft,
        allow_liars: false,
        clients: vec![key(9).public()],
        authority: None,
        replicas: seats.iter().map(member).collect(),
        trackers: vec![TrackerMember { id: TrackerId::new(0), domain: Domain("d".to_owned()), key: key(8).public() }],
    };
    connection::save(folder, &cluster, &key(9)).expect("written");
    for (number, listener) in seats {
        let replica = Replica { cluster: cluster.id(), number, manner: manner.clone(), answered: AtomicU64::new(0) };
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(Server::builder().add_service(JobTrackerServer::new(replica)).serve_with_incoming(incoming));
    }
}
