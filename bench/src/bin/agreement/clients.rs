//! Clients that send one operation after the other, and the requests they send.

use quorate_protocol::digest::Digest;
use quorate_smr::{ClientId, History, Payload, RequestId};
use std::time::{Duration, Instant};

/// The client's number and the operation's: all that identifies a request here.
const HEADER: usize = 16;
const SESSION: u64 = 1;

/// All clients of a run.
pub(crate) struct Clients {
    all: Vec<Client>,
    payload: usize,
    /// How many equal replies a client waits for.
    quorum: usize,
    /// How long each finished operation took.
    pub(crate) latencies: Vec<Duration>,
}

struct Client {
    sequence: u64,
    sent: Instant,
    /// What replies to its present operation said.
    replies: Vec<History>,
}

/// A reply that no correct replica gives here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    /// It is to nobody's request.
    #[error("a reply to a request that nobody sent")]
    Nobody,
    /// It says another history.
    #[error("replicas executed one operation in two histories")]
    Histories,
}

impl Clients {
    pub(crate) fn new(count: usize, payload: usize, quorum: usize) -> Self {
        let client = || Client { sequence: 0, sent: Instant::now(), replies: Vec::new() };
        Self { all: (0..count).map(|_| client()).collect(), payload, quorum, latencies: Vec::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// A client's next operation. It has none waiting.
    pub(crate) fn next(&mut self, number: usize, now: Instant) -> (RequestId, Payload) {
        let client = &mut self.all[number];
        client.sequence += 1;
        client.sent = now;
        client.replies.clear();
        let mut request = vec![0; HEADER + self.payload];
        request[..8].copy_from_slice(&(number as u64).to_le_bytes());
        request[8..HEADER].copy_from_slice(&client.sequence.to_le_bytes());
        (request_id(number as u64, client.sequence), request.into())
    }

    /// Takes a replica's reply. When it is the last one that a client waits for, the client's number comes back.
    pub(crate) fn reply(&mut self, id: &RequestId, history: History, now: Instant) -> Result<Option<usize>, Wrong> {
        let number = client_number(&id.client);
        let client = self.all.get_mut(number).ok_or(Wrong::Nobody)?;
        if id.sequence < client.sequence {
            // From a replica that is slower than f + 1 others.
            return Ok(None);
        }
        if client.replies.iter().any(|other| *other != history) {
            return Err(Wrong::Histories);
        }
        client.replies.push(history);
        if client.replies.len() != self.quorum {
            return Ok(None);
        }
        self.latencies.push(now - client.sent);
        Ok(Some(number))
    }
}

/// Reads a request's header.
pub(crate) fn identify(request: &[u8]) -> Option<RequestId> {
    let (client, rest) = request.split_first_chunk()?;
    let (sequence, _) = rest.split_first_chunk()?;
    Some(request_id(u64::from_le_bytes(*client), u64::from_le_bytes(*sequence)))
}

fn request_id(client: u64, sequence: u64) -> RequestId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&client.to_le_bytes());
    RequestId { client: ClientId(Digest::from_bytes(bytes)), session: SESSION, sequence }
}

fn client_number(client: &ClientId) -> usize {
    let (number, _) = client.0.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*number) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_smr::Seq;

    #[test]
    fn a_request_tells_what_it_is() {
        let mut clients = Clients::new(3, 5, 2);
        let (id, request) = clients.next(2, Instant::now());
        assert_eq!((identify(&request), request.len(), client_number(&id.client)), (Some(id), HEADER + 5, 2));
        assert_eq!(identify(&request[..HEADER - 1]), None);
    }

    #[test]
    fn an_operation_is_done_once_by_enough_equal_replies() {
        let mut clients = Clients::new(1, 0, 2);
        let now = Instant::now();
        let (history, cluster) = (History::empty(Digest::of(b"c")), Digest::of(b"d"));
        let (id, _) = clients.next(0, now);
        assert!(matches!(clients.reply(&id, history, now), Ok(None)));
        assert!(matches!(clients.reply(&id, History { seq: Seq(1), ..history }, now), Err(Wrong::Histories)));
        assert!(matches!(clients.reply(&id, history, now), Ok(Some(0))));
        assert!(matches!(clients.reply(&id, history, now), Ok(None)), "the third replica's");
        let (next, _) = clients.next(0, now);
        assert!(matches!(clients.reply(&id, History::empty(cluster), now), Ok(None)), "too late to matter");
        assert!(matches!(clients.reply(&next, history, now), Ok(None)));
        assert_eq!(clients.latencies.len(), 1);
    }
}
