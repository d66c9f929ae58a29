//! What every replica executes, command by command in the agreed order: the scheduler behind the client table.
//!
//! Pure and deterministic: replicas that execute the same commands at the same ordered times hold the same bytes.

use crate::sessions::{Sessions, Turn};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::{Command, Envelope, Refusal, Request, Sender},
    digest::Digest,
    ids::{OrderedTime, TrackerId},
    query::{Answer, Question},
};
use quorate_schedule::Scheduler;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The executed state.
#[derive(Serialize, Deserialize)]
pub(crate) struct Application {
    /// [`Cluster::id`], computed once.
    cluster: Digest,
    /// The ordered time of the last command.
    now: OrderedTime,
    scheduler: Scheduler,
    sessions: Sessions,
    /// The incarnation that each tracker registered last.
    registered: BTreeMap<TrackerId, u64>,
}

impl Application {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster: cluster.id(),
            now: OrderedTime::default(),
            scheduler: Scheduler::new(cluster),
            sessions: Sessions::default(),
            registered: BTreeMap::new(),
        }
    }

    /// The ordered time of the last command.
    pub(crate) fn now(&self) -> OrderedTime {
        self.now
    }
    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }
    /// The trackers that the scheduler takes for live, with the incarnation that registered.
    pub(crate) fn live(&self) -> BTreeMap<TrackerId, u64> {
        let Answer::Trackers(trackers) = self.scheduler.ask(&Question::Trackers) else { return BTreeMap::new() };
        let live = trackers.into_iter().filter(|tracker| tracker.live);
        live.filter_map(|tracker| Some((tracker.id, *self.registered.get(&tracker.id)?))).collect()
    }
    /// The state's one encoding, for snapshots and comparison.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Executes the next command. Its signature was checked; what it says was not.
    pub(crate) fn execute(&mut self, now: OrderedTime, envelope: &Envelope) -> Answer {
        assert!(now >= self.now, "ordered time ran backwards");
        self.now = now;
        let Ok(request) = envelope.request.peek() else {
            if let Sender::Tracker(tracker) = envelope.sender {
                self.scheduler.garbled(tracker, &envelope.request);
            }
            return Answer::Refused(Refusal::Invalid("the signed bytes are not a request".to_owned()));
        };
        if let Some(answer) = self.settled(envelope.sender, &request) {
            return answer;
        }
        let answer = self.scheduler.apply(now, request.sender, &envelope.request, &request.command);
        self.note_registration(&request, &answer);
        self.sessions.executed(request.sender, request.session, request.sequence, answer.clone());
        answer
    }

    /// The answer to a request that is not to be executed: wrongly addressed, or executed already.
    pub(crate) fn settled(&self, sender: Sender, request: &Request) -> Option<Answer> {
        let refused = |why: &str| Some(Answer::Refused(Refusal::NotAllowed(why.to_owned())));
        if request.cluster != self.cluster {
            return refused("the request is for another cluster");
        }
        if request.sender != sender {
            return refused("the request is in another's name");
        }
        match self.sessions.turn(&request.sender, request.session, request.sequence) {
            Turn::Execute => None,
            Turn::Executed(answer) => Some(answer),
            Turn::Stale => Some(Answer::Refused(Refusal::Stale)),
        }
    }

    fn note_registration(&mut self, request: &Request, answer: &Answer) {
        if let (Sender::Tracker(tracker), Command::Register(registration)) = (request.sender, &request.command)
            && !matches!(answer, Answer::Refused(_))
        {
            self.registered.insert(tracker, registration.incarnation);
        }
    }
}
