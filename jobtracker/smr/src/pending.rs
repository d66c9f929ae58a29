//! Requests that wait to be ordered.

use crate::types::{Payload, RequestId};
use quorate_protocol::ids::OrderedTime;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

/// Entries of a queue beside the live ones before it is tidied up.
const DEAD_MAX: usize = 1024;

/// A request that waits.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Waiting {
    request: Payload,
    /// Its place among those that wait.
    order: u64,
    /// When it came here.
    since: OrderedTime,
    /// Whether it was proposed here in this view.
    proposed: bool,
    /// Whether the primary was told of it.
    forwarded: bool,
}

/// Bounded by number and bytes. What was proposed stays until it is executed: the next view may have to propose it again.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Pending {
    requests: BTreeMap<RequestId, Waiting>,
    /// All of them, in the order in which they came, among some that are gone.
    arrivals: VecDeque<(u64, RequestId)>,
    /// Those that were not proposed, in the order in which they came, among some that are gone.
    unproposed: VecDeque<(u64, RequestId)>,
    unproposed_len: usize,
    unproposed_bytes: usize,
    bytes: usize,
    next: u64,
}

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(crate) fn unproposed(&self) -> usize {
        self.unproposed_len
    }
    /// Whether those that were not proposed fill a batch.
    pub(crate) fn fills(&self, requests_max: usize, bytes_max: usize) -> bool {
        self.unproposed_len >= requests_max || self.unproposed_bytes >= bytes_max
    }
    pub(crate) fn contains(&self, id: &RequestId) -> bool {
        self.requests.contains_key(id)
    }

    /// Lets a request wait, unless it does already.
    pub(crate) fn insert(&mut self, id: RequestId, request: Payload, since: OrderedTime) {
        let Entry::Vacant(place) = self.requests.entry(id) else { return };
        let order = self.next;
        self.next += 1;
        self.bytes += request.len();
        self.unproposed_bytes += request.len();
        self.unproposed_len += 1;
        place.insert(Waiting { request, order, since, proposed: false, forwarded: false });
        self.arrivals.push_back((order, id));
        self.unproposed.push_back((order, id));
    }

    pub(crate) fn remove(&mut self, id: &RequestId) {
        let Some(waiting) = self.requests.remove(id) else { return };
        self.bytes -= waiting.request.len();
        if !waiting.proposed {
            self.unproposed_len -= 1;
            self.unproposed_bytes -= waiting.request.len();
        }
    }

    /// To be called when some were removed. Keeps the queues proportional to what waits.
    pub(crate) fn tidy(&mut self) {
        let requests = &self.requests;
        let live = |(order, id): &(u64, RequestId)| requests.get(id).is_some_and(|waiting| waiting.order == *order);
        while self.arrivals.front().is_some_and(|entry| !live(entry)) {
            self.arrivals.pop_front();
        }
        if self.arrivals.len() > requests.len() * 2 + DEAD_MAX {
            self.arrivals.retain(live);
        }
        let open = |entry: &(u64, RequestId)| live(entry) && requests.get(&entry.1).is_some_and(|w| !w.proposed);
        while self.unproposed.front().is_some_and(|entry| !open(entry)) {
            self.unproposed.pop_front();
        }
        if self.unproposed.len() > requests.len() * 2 + DEAD_MAX {
            self.unproposed.retain(open);
        }
    }

    /// Takes requests to propose, in the order in which they came.
    pub(crate) fn propose(&mut self, requests_max: usize, bytes_max: usize) -> (Vec<RequestId>, Vec<Payload>) {
        let (mut ids, mut requests, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((order, id)) = self.unproposed.front().copied() {
            match self.requests.get_mut(&id) {
                Some(waiting) if waiting.order == order && !waiting.proposed => {
                    bytes += waiting.request.len();
                    if ids.len() == requests_max || (bytes > bytes_max && !ids.is_empty()) {
                        break;
                    }
                    waiting.proposed = true;
                    self.unproposed_len -= 1;
                    self.unproposed_bytes -= waiting.request.len();
                    ids.push(id);
                    requests.push(waiting.request.clone());
                }
                Some(_) | None => {}
            }
            self.unproposed.pop_front();
        }
        (ids, requests)
    }

    /// A new view: everything is to be proposed again, but what is on its way.
    pub(crate) fn repropose_but(&mut self, on_their_way: impl IntoIterator<Item = RequestId>) {
        self.requests.values_mut().for_each(|waiting| waiting.proposed = false);
        for id in on_their_way {
            if let Some(waiting) = self.requests.get_mut(&id) {
                waiting.proposed = true;
            }
        }
        self.unproposed = self.arrivals.clone();
        let open = || self.requests.values().filter(|waiting| !waiting.proposed);
        self.unproposed_len = open().count();
        self.unproposed_bytes = open().map(|waiting| waiting.request.len()).sum();
        self.tidy();
    }

    /// The request that has waited for the longest.
    pub(crate) fn oldest(&self) -> Option<(RequestId, OrderedTime)> {
        let (_, id) = self.arrivals.front()?;
        self.requests.get(id).map(|waiting| (*id, waiting.since))
    }

    /// Requests that came before a time and that the primary was not told of, which they now count as.
    pub(crate) fn forward(
        &mut self,
        before: OrderedTime,
        requests_max: usize,
        bytes_max: usize,
    ) -> (Vec<RequestId>, Vec<Payload>) {
        let (mut ids, mut requests, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (order, id) in &self.arrivals {
            let Some(waiting) = self.requests.get_mut(id).filter(|waiting| waiting.order == *order) else { continue };
            if waiting.since > before || ids.len() == requests_max {
                break;
            }
            if waiting.forwarded {
                continue;
            }
            bytes += waiting.request.len();
            if bytes > bytes_max && !ids.is_empty() {
                break;
            }
            waiting.forwarded = true;
            ids.push(*id);
            requests.push(waiting.request.clone());
        }
        (ids, requests)
    }

    /// A new view has another primary, who was told of nothing.
    pub(crate) fn forget_forwarded(&mut self) {
        self.requests.values_mut().for_each(|waiting| waiting.forwarded = false);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&RequestId) -> bool) {
        let gone: Vec<RequestId> = self.requests.keys().filter(|id| !keep(id)).copied().collect();
        gone.iter().for_each(|id| self.remove(id));
        self.tidy();
    }
}
