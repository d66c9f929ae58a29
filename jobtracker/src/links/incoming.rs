//! What comes from the peers: each link has a thread that reads, checks and passes on, in order.

use super::{AGREEMENT, WITNESS};
use super::{
    handshake::{Identity, LinkError},
    seal::{LENGTH_BYTES, MAC_BYTES, Seal},
};
use crate::{node::Event, witness::Inlet};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{Verified, Verifier};
use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read},
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Bytes of one peer's messages that wait for the agreement.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// A peer tells where it is several times a second: one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Messages of one link that are none, before it is closed.
const GARBAGE_MAX: u32 = 16;

/// The links that peers have dialed: one for each of them.
pub(crate) struct Incoming {
    identity: Arc<Identity>,
    verifier: Verifier,
    inbox: SyncSender<Event>,
    /// Where words for this replica's witness go, and those of others.
    inlet: Option<Inlet>,
    links: Mutex<Option<BTreeMap<ReplicaId, Link>>>,
    rooms: Mutex<BTreeMap<ReplicaId, Arc<Room>>>,
}

struct Link {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl Link {
    /// Ends it; its thread notices.
    fn close(&self) {
        // An error says that it is closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Incoming {
    pub(crate) fn new(
        identity: Arc<Identity>,
        verifier: Verifier,
        inbox: SyncSender<Event>,
        inlet: Option<Inlet>,
    ) -> Self {
        let (links, rooms) = (Mutex::new(Some(BTreeMap::new())), Mutex::default());
        Self { identity, verifier, inbox, inlet, links, rooms }
    }

    /// Takes a connection that began like a link.
    pub(crate) async fn welcome(&self, mut stream: tokio::net::TcpStream) {
        let from = stream.peer_addr().map_or_else(|_| "somewhere".to_owned(), |address| address.to_string());
        let result = match self.identity.accept(&mut stream).await {
            Ok((peer, key)) => {
                stream.into_std().and_then(|stream| self.listen(peer, key, stream)).map_err(LinkError::Io)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::warn!(from, why = %error, "a link was refused");
        }
    }

    /// Gives a link its thread. It replaces the one that the peer had before.
    fn listen(&self, peer: ReplicaId, key: [u8; 32], stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let reader = Reader {
            peer,
            stream: BufReader::with_capacity(64 << 10, stream.try_clone()?),
            seal: Seal::new(key),
            verifier: self.verifier.clone(),
            inbox: self.inbox.clone(),
            inlet: self.inlet.clone(),
            room: self.room(peer),
            garbage: 0,
        };
        let mut links = self.links();
        let Some(links) = links.as_mut() else { return Ok(()) };
        let end = stream.try_clone()?;
        let run = move || {
            reader.run();
            // The peer must not go on speaking where nobody listens. An error says that it is closed already.
            let _ = end.shutdown(Shutdown::Both);
        };
        let thread = thread::Builder::new().name(format!("link-{}", peer.number())).spawn(run)?;
        if let Some(before) = links.insert(peer, Link { stream, thread }) {
            before.close();
        }
        Ok(())
    }

    /// A peer's room, whichever link it comes by: a new link must not give it new room.
    fn room(&self, peer: ReplicaId) -> Arc<Room> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rooms.entry(peer).or_default())
    }

    /// Closes all links, and takes no more. Gives what can be joined.
    pub(crate) fn close(&self) -> Vec<JoinHandle<()>> {
        let links = self.links().take().unwrap_or_default();
        links.values().for_each(Link::close);
        links.into_values().map(|link| link.thread).collect()
    }

    /// Each change is a single step, so a panic elsewhere leaves the links whole.
    fn links(&self) -> MutexGuard<'_, Option<BTreeMap<ReplicaId, Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of a peer waits for the agreement.
#[derive(Default)]
struct Room {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// A message's place. Free when it is dropped.
struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Waits until there is room. A message of any length finds room when nothing else waits.
    fn take(self: &Arc<Self>, bytes: usize) -> Place {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken > 0 && taken.saturating_add(bytes) > WAITING_BYTES_MAX;
        let mut taken = self.freed.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
        Place { room: Arc::clone(self), bytes }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.room.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.room.freed.notify_all();
    }
}

/// The thread of one link.
struct Reader<S> {
    peer: ReplicaId,
    stream: S,
    seal: Seal,
    verifier: Verifier,
    inbox: SyncSender<Event>,
    inlet: Option<Inlet>,
    room: Arc<Room>,
    garbage: u32,
}

impl<S: Read> Reader<S> {
    fn run(mut self) {
        let peer = self.peer;
        tracing::debug!(%peer, "listens");
        match self.listen() {
            Err(LinkError::Io(error)) => tracing::debug!(%peer, why = %error, "a link ended"),
            Err(error) => tracing::warn!(%peer, why = %error, "a link was closed"),
            Ok(()) => {}
        }
    }

    /// Passes on what comes until the link breaks, or the replica ends.
    fn listen(&mut self) -> Result<(), LinkError> {
        loop {
            let bytes = self.frame()?;
            let event = match self.read(&bytes) {
                Ok(Some(message)) => Event::Message(self.peer, message, Box::new(self.room.take(bytes.len()))),
                Ok(None) => continue,
                Err(garbage) => {
                    self.garbage += 1;
                    Event::Garbage(self.peer, garbage)
                }
            };
            if self.inbox.send(event).is_err() {
                return Ok(());
            }
            if self.garbage >= GARBAGE_MAX {
                return Err(LinkError::Garbled);
            }
        }
    }

    /// A message for the agreement; none when the frame was for the witness.
    fn read(&self, frame: &[u8]) -> Result<Option<Verified>, String> {
        match (frame.split_first(), &self.inlet) {
            (Some((&AGREEMENT, message)), _) => {
                self.verifier.decode(message).map(Some).map_err(|rejection| rejection.to_string())
            }
            (Some((&WITNESS, word)), Some(inlet)) => {
                inlet.hear(self.peer, word).map(|()| None).map_err(|error| error.to_string())
            }
            (Some(_) | None, _) => Err("a frame of no kind that is known here".to_owned()),
        }
    }

    fn frame(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut length = [0; LENGTH_BYTES];
        self.stream.read_exact(&mut length)?;
        let (length, max) = (u64::from(u32::from_le_bytes(length)), self.verifier.message_bytes_max() + 1);
        if length > max as u64 {
            return Err(LinkError::TooLong { got: length, max });
        }
        // Room is made for what has come, not for what is promised.
        let mut bytes = Vec::new();
        (&mut self.stream).take(length).read_to_end(&mut bytes)?;
        let mut mac = [0; MAC_BYTES];
        self.stream.read_exact(&mut mac)?;
        if self.seal.is_next(&bytes, &mac) { Ok(bytes) } else { Err(LinkError::Changed) }
    }
}

#[cfg(test)]
mod tests;
