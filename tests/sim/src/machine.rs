//! The replicated machine of the simulator: an append-only list with alarms. Its replies name the entry's place, so that
//! the oracle can see from outside whether requests ran once, in one order, and no earlier than they were sent.

use crate::keys::{Operation, Request};
use quorate_protocol::{canonical, digest::Digest, ids::OrderedTime};
use quorate_smr::{ClientId, RequestId, StateMachine, Unreadable};
use serde::{Deserialize, Serialize};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// What the machine saw itself do; the oracle reads it.
#[derive(Clone, Debug)]
pub(crate) enum Observation {
    /// Ordered time went on.
    Time { before: OrderedTime, now: OrderedTime },
    /// A request was executed.
    Applied(Applied),
    /// The state was replaced.
    Restored,
}

/// A request that was executed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Applied {
    /// Its place in the list, from 1.
    pub(crate) place: u64,
    pub(crate) id: RequestId,
    pub(crate) request: Digest,
    pub(crate) now: OrderedTime,
    pub(crate) reply: Vec<u8>,
    /// Whether the state says that it had been executed before.
    pub(crate) again: bool,
}

/// Where a machine writes down what it does.
pub(crate) type Observer = Rc<RefCell<Vec<Observation>>>;

/// A reply to an executed request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The entry's place in the list.
    pub(crate) place: u64,
    /// The list up to it.
    pub(crate) list: Digest,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct State {
    time: OrderedTime,
    places: u64,
    list: Digest,
    /// The last sequence number of each session.
    executed: BTreeMap<(ClientId, u64), u64>,
    alarms: BTreeSet<(OrderedTime, RequestId)>,
    ballast: Vec<u8>,
}

/// The machine.
pub(crate) struct Machine {
    state: State,
    observer: Observer,
}

impl Machine {
    pub(crate) fn new(observer: Observer) -> Self {
        let state = State {
            time: OrderedTime(0),
            places: 0,
            list: Digest::of(b"empty"),
            executed: BTreeMap::new(),
            alarms: BTreeSet::new(),
            ballast: Vec::new(),
        };
        Self { state, observer }
    }

    /// Of everything that distinguishes two states, at little cost.
    pub(crate) fn digest(&self) -> Digest {
        let State { time, places, list, executed, alarms, ballast } = &self.state;
        canonical::digest(&(time, places, list, executed, alarms, ballast.len()))
    }

    /// Entries in the list.
    pub(crate) fn places(&self) -> u64 {
        self.state.places
    }

    fn append<T: Serialize>(&mut self, entry: &T) {
        self.state.places += 1;
        self.state.list = canonical::digest(&(self.state.list, entry));
    }
}

impl StateMachine for Machine {
    fn advance(&mut self, now: OrderedTime) {
        let before = self.state.time;
        self.observer.borrow_mut().push(Observation::Time { before, now });
        self.state.time = now;
        while let Some(alarm) = self.state.alarms.first().copied().filter(|(due, _)| *due <= now) {
            self.state.alarms.remove(&alarm);
            self.append(&("alarm", alarm, now));
        }
    }

    fn apply(&mut self, now: OrderedTime, id: &RequestId, request: &[u8]) -> Vec<u8> {
        self.append(&(now, id, request));
        let again =
            self.state.executed.insert((id.client, id.session), id.sequence).is_some_and(|last| last >= id.sequence);
        match canonical::decode::<Request>(request, request.len()).map(|request| request.operation) {
            Ok(Operation::Alarm(ms)) => {
                self.state.alarms.insert((now.after(ms), *id));
            }
            Ok(Operation::Ballast(bytes)) => {
                let grown = self.state.ballast.len() + bytes as usize;
                let filler = self.state.list.as_bytes()[0];
                self.state.ballast.resize(grown, filler);
            }
            Ok(Operation::Append(_)) | Err(_) => {}
        }
        let reply = canonical::encode(&Receipt { place: self.state.places, list: self.state.list });
        self.observer.borrow_mut().push(Observation::Applied(Applied {
            place: self.state.places,
            id: *id,
            request: Digest::of(request),
            now,
            reply: reply.clone(),
            again,
        }));
        reply
    }

    fn deadline(&self) -> Option<OrderedTime> {
        self.state.alarms.first().map(|(due, _)| *due)
    }

    fn snapshot(&self) -> Vec<u8> {
        canonical::encode(&self.state)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Unreadable> {
        self.state = canonical::decode(snapshot, snapshot.len()).map_err(|cause| Unreadable(cause.to_string()))?;
        self.observer.borrow_mut().push(Observation::Restored);
        Ok(())
    }
}
