//! What is replicated.

use crate::types::{History, RequestId};
use quorate_protocol::ids::OrderedTime;

/// A snapshot that cannot be read, although f + 1 replicas have it: another version of the program wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot cannot be read: {0}")]
pub struct Unreadable(pub String);

/// A deterministic state machine: replicas that give it the same calls hold the same bytes and answer alike.
pub trait StateMachine {
    /// Ordered time passes: called first for each batch. Deadlines at or before `now` are due.
    fn advance(&mut self, now: OrderedTime);

    /// Executes a request, which is authentic and new, and gives the reply to it.
    fn apply(&mut self, now: OrderedTime, id: &RequestId, request: &[u8]) -> Vec<u8>;

    /// The state is now that of this history: said after each batch, and after a state was restored. For those who show the
    /// state and say which one it is; it is no part of the state.
    fn executed(&mut self, _history: History) {}

    /// When [`StateMachine::advance`] would do something: the primary then proposes a batch, an empty one if need be.
    fn deadline(&self) -> Option<OrderedTime>;

    /// The whole state, in its one encoding.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the state by a snapshot.
    ///
    /// # Errors
    /// [`Unreadable`]; the state is then as it was.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Unreadable>;
}
