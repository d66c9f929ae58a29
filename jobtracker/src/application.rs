//! What every replica executes, request by request in the agreed order: the scheduler.
//!
//! Pure and deterministic: replicas that execute the same requests at the same ordered times hold the same bytes. That a
//! request is executed once, and that it is authentic, is seen to before.

use crate::{door::ENVELOPE_BYTES_MAX, histories::to_wire, record::Desk, standings::Standings};
use quorate_protocol::{
    canonical,
    cluster::Cluster,
    command::{Command, Envelope, History, Refusal, Request, Sender},
    ids::{OrderedTime, TrackerId},
    query::{Answer, Question},
};
use quorate_schedule::Scheduler;
use quorate_smr::{RequestId, StateMachine, Unreadable};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError},
};

/// The executed state.
#[derive(Serialize, Deserialize)]
pub(crate) struct Application {
    scheduler: Scheduler,
    /// The incarnation that each tracker registered last.
    registered: BTreeMap<TrackerId, u64>,
    /// For those who look at the state: no part of it.
    #[serde(skip)]
    margin: Margin,
}

/// What stands beside the state for those who look at it.
#[derive(Default)]
struct Margin {
    /// The history that the state is of.
    history: Option<History>,
    /// Kept while somebody wants to know; `None` costs nothing.
    standings: Option<Standings>,
    /// Where what happens to jobs is told, when a record of it is kept.
    desk: Option<Desk>,
}

impl Application {
    pub(crate) fn new(mut cluster: Cluster) -> Self {
        // What is not a part of the cluster's identity may differ in the configurations of its replicas, whose states must
        // not: checkpoints compare them byte for byte.
        for replica in &mut cluster.replicas {
            replica.address.clear();
            replica.page = None;
        }
        cluster.allow_liars = false;
        Self { scheduler: Scheduler::new(cluster), registered: BTreeMap::new(), margin: Margin::default() }
    }

    /// The history that this state is of; `None` before the agreement has begun.
    pub(crate) fn history(&self) -> Option<History> {
        self.margin.history
    }
    /// Who is suspected at each of the newest places, when that is kept.
    pub(crate) fn standings(&self) -> Option<&Standings> {
        self.margin.standings.as_ref()
    }
    /// From now on it is kept who is suspected.
    pub(crate) fn watch(&mut self) {
        let standings = self.margin.standings.get_or_insert_default();
        if let Some(history) = self.margin.history {
            standings.note(history.ordered, true, self.scheduler.suspects());
        }
    }

    /// From now on what happens to jobs is told there.
    pub(crate) fn tell(&mut self, desk: Desk) {
        self.scheduler.listen();
        self.margin.desk = Some(desk);
    }
    fn hand_in(&mut self) {
        if let Some(desk) = &self.margin.desk {
            desk.hand_in(self.scheduler.take_events());
        }
    }

    fn executed(&mut self, history: History) {
        let before = self.margin.history.replace(history);
        if let Some(standings) = &mut self.margin.standings {
            let follows = before.is_some_and(|before| before.ordered.checked_add(1) == Some(history.ordered));
            standings.note(history.ordered, follows, self.scheduler.suspects());
        }
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }
    /// The trackers that the scheduler takes for live, with the incarnation that registered.
    pub(crate) fn live(&self) -> BTreeMap<TrackerId, u64> {
        let Answer::Trackers(trackers) = self.scheduler.ask(&Question::Trackers) else { return BTreeMap::new() };
        let live = trackers.into_iter().filter(|tracker| tracker.live);
        live.filter_map(|tracker| Some((tracker.id, *self.registered.get(&tracker.id)?))).collect()
    }

    /// Executes the next request. The door let it in, so its signature and its addresses are right; what it says was not
    /// looked at.
    fn execute(&mut self, now: OrderedTime, bytes: &[u8]) -> Answer {
        let garbled = || Answer::Refused(Refusal::Invalid("the signed bytes are not a request".to_owned()));
        let Ok(envelope) = canonical::decode::<Envelope>(bytes, ENVELOPE_BYTES_MAX) else { return garbled() };
        let Ok(request) = envelope.request.peek() else {
            if let Sender::Tracker(tracker) = envelope.sender {
                self.scheduler.garbled(tracker, &envelope.request);
            }
            return garbled();
        };
        let answer = self.scheduler.apply(now, request.sender, &envelope.request, &request.command);
        self.note_registration(&request, &answer);
        answer
    }

    fn note_registration(&mut self, request: &Request, answer: &Answer) {
        if let (Sender::Tracker(tracker), Command::Register(registration)) = (request.sender, &request.command)
            && !matches!(answer, Answer::Refused(_))
        {
            self.registered.insert(tracker, registration.incarnation);
        }
    }
}

/// The executed state, shared between the thread that executes and those that read. Clones are the same state.
#[derive(Clone)]
pub(crate) struct Shared(Arc<RwLock<Application>>);

impl Shared {
    pub(crate) fn new(application: Application) -> Self {
        Self(Arc::new(RwLock::new(application)))
    }

    /// Looks at the state, or gives the closure back while a request is being executed.
    ///
    /// A panic half-way through a request leaves a state that nobody may see: `None` then.
    pub(crate) fn read_now<R, F: FnOnce(&Application) -> R>(&self, look: F) -> Result<Option<R>, F> {
        match self.0.try_read() {
            Ok(state) => Ok(Some(look(&state))),
            Err(TryLockError::Poisoned(_)) => Ok(None),
            Err(TryLockError::WouldBlock) => Err(look),
        }
    }

    /// Looks at the state, and waits while a request is being executed.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Application) -> R) -> Option<R> {
        self.0.read().ok().map(|state| look(&state))
    }

    /// From now on it is kept who is suspected.
    pub(crate) fn watch(&self) {
        if let Ok(mut state) = self.0.write() {
            state.watch();
        }
    }

    fn own(&self) -> RwLockReadGuard<'_, Application> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    /// Only the executing thread writes, and it ends when it panics.
    fn write(&self) -> RwLockWriteGuard<'_, Application> {
        self.0.write().expect("the executing thread panicked before")
    }
}

impl StateMachine for Shared {
    fn advance(&mut self, now: OrderedTime) {
        let mut state = self.write();
        state.scheduler.advance(now);
        state.hand_in();
    }
    fn apply(&mut self, now: OrderedTime, _: &RequestId, request: &[u8]) -> Vec<u8> {
        let mut state = self.write();
        let answer = state.execute(now, request);
        state.hand_in();
        canonical::encode(&answer)
    }
    fn executed(&mut self, history: quorate_smr::History) {
        self.write().executed(to_wire(history));
    }
    fn deadline(&self) -> Option<OrderedTime> {
        self.own().scheduler.next_deadline()
    }
    fn snapshot(&self) -> Vec<u8> {
        canonical::encode(&*self.own())
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Unreadable> {
        let state: Application = postcard::from_bytes(snapshot).map_err(|error| Unreadable(error.to_string()))?;
        let mut own = self.write();
        let margin = std::mem::take(&mut own.margin);
        *own = Application { margin, ..state };
        if own.margin.desk.is_some() {
            own.scheduler.listen();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TRACKER, Who, cluster, create, envelope, register};
    use quorate_protocol::{digest::Digest, sign::Signed};
    use quorate_smr::ClientId;

    const ID: RequestId = RequestId { client: ClientId(Digest::from_bytes([0; 32])), session: 1, sequence: 1 };

    fn apply(state: &mut Shared, envelope: &Envelope) -> Answer {
        let reply = state.apply(OrderedTime(5), &ID, &canonical::encode(envelope));
        canonical::decode(&reply, 1 << 20).expect("an answer")
    }

    #[test]
    fn a_snapshot_is_the_whole_state() {
        let cluster = cluster("127.0.0.1:1");
        let mut state = Shared::new(Application::new(cluster.clone()));
        assert_eq!(apply(&mut state, &envelope(&cluster, Who::Client, 1, 1, create("/a"))), Answer::Done);
        assert_eq!(apply(&mut state, &envelope(&cluster, Who::Tracker, 1, 1, register(7))), Answer::Done);
        let snapshot = state.snapshot();
        let mut other = Shared::new(Application::new(cluster));
        assert_ne!(other.snapshot(), snapshot);
        other.restore(&snapshot).expect("readable");
        assert_eq!(other.snapshot(), snapshot);
        assert_eq!(other.read(Application::live), Some([(TRACKER, 7)].into()));
    }

    #[test]
    fn smr_11_replicas_that_know_each_other_by_other_addresses_hold_the_same_bytes() {
        let mut other = cluster("127.0.0.1:2");
        other.allow_liars = true;
        let snapshot = |cluster| Shared::new(Application::new(cluster)).snapshot();
        assert_eq!(snapshot(cluster("127.0.0.1:1")), snapshot(other));
    }

    #[test]
    fn a_snapshot_that_cannot_be_read_changes_nothing() {
        let mut state = Shared::new(Application::new(cluster("127.0.0.1:1")));
        let before = state.snapshot();
        assert!(state.restore(&[0xff; 40]).is_err());
        assert_eq!(state.snapshot(), before);
    }

    #[test]
    fn a_trackers_unreadable_request_is_kept_as_evidence() {
        let mut state = Shared::new(Application::new(cluster("127.0.0.1:1")));
        let request = Signed::seal_bytes(vec![0xff; 9], &crate::testing::key(Who::Tracker));
        let answer = apply(&mut state, &Envelope { sender: Sender::Tracker(TRACKER), request });
        assert!(matches!(answer, Answer::Refused(Refusal::Invalid(_))));
        let evidence = state.read(|state| state.scheduler().ask(&Question::Evidence(TRACKER)));
        assert!(matches!(evidence, Some(Answer::Evidence(pieces)) if pieces.len() == 1));
    }
}
