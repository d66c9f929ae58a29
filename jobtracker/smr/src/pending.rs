//! Requests that wait to be ordered.

use crate::types::{Payload, RequestId};
use quorate_protocol::ids::OrderedTime;
use serde::Serialize;
use std::collections::BTreeMap;

/// A request that waits.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Waiting {
    pub(crate) request: Payload,
    /// Its place among those that wait.
    order: u64,
    /// When it came here.
    pub(crate) since: OrderedTime,
    /// Whether the primary was told of it.
    pub(crate) forwarded: bool,
}

/// Bounded by number and bytes. What was proposed stays until it is executed: the next view may have to propose it again.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Pending {
    requests: BTreeMap<RequestId, Waiting>,
    /// In the order in which they came.
    unproposed: BTreeMap<u64, RequestId>,
    /// All of them, in the order in which they came.
    arrivals: BTreeMap<u64, RequestId>,
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
        self.unproposed.len()
    }
    pub(crate) fn contains(&self, id: &RequestId) -> bool {
        self.requests.contains_key(id)
    }

    pub(crate) fn insert(&mut self, id: RequestId, request: Payload, since: OrderedTime) {
        self.bytes += request.len();
        let order = self.next;
        self.next += 1;
        self.unproposed.insert(order, id);
        self.arrivals.insert(order, id);
        self.requests.insert(id, Waiting { request, order, since, forwarded: false });
    }

    pub(crate) fn remove(&mut self, id: &RequestId) {
        if let Some(waiting) = self.requests.remove(id) {
            self.bytes -= waiting.request.len();
            self.unproposed.remove(&waiting.order);
            self.arrivals.remove(&waiting.order);
        }
    }

    /// Takes requests to propose, in the order in which they came.
    pub(crate) fn propose(&mut self, requests_max: usize, bytes_max: usize) -> (Vec<RequestId>, Vec<Payload>) {
        let (mut ids, mut requests, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((order, id)) = self.unproposed.first_key_value() {
            let (order, id) = (*order, *id);
            let Some(waiting) = self.requests.get(&id) else { break };
            bytes += waiting.request.len();
            if ids.len() == requests_max || (bytes > bytes_max && !ids.is_empty()) {
                break;
            }
            ids.push(id);
            requests.push(waiting.request.clone());
            self.unproposed.remove(&order);
        }
        (ids, requests)
    }

    /// Bytes of the requests that can be proposed are at least so many.
    pub(crate) fn fills(&self, requests_max: usize) -> bool {
        self.unproposed.len() >= requests_max
    }

    /// A new view: everything is to be proposed again, but what is on its way.
    pub(crate) fn repropose_but(&mut self, on_their_way: impl IntoIterator<Item = RequestId>) {
        self.unproposed = self.arrivals.clone();
        for id in on_their_way {
            if let Some(waiting) = self.requests.get(&id) {
                self.unproposed.remove(&waiting.order);
            }
        }
    }

    /// The request that has waited for the longest.
    pub(crate) fn oldest(&self) -> Option<(RequestId, OrderedTime)> {
        let (_, id) = self.arrivals.first_key_value()?;
        self.requests.get(id).map(|waiting| (*id, waiting.since))
    }

    /// Requests that came before a time and that the primary was not told of, which they now count as.
    pub(crate) fn to_forward(
        &mut self,
        before: OrderedTime,
        requests_max: usize,
        bytes_max: usize,
    ) -> (Vec<RequestId>, Vec<Payload>) {
        let (mut ids, mut requests, mut bytes) = (Vec::new(), Vec::new(), 0);
        for id in self.arrivals.values() {
            let Some(waiting) = self.requests.get_mut(id) else { continue };
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
    }
}
