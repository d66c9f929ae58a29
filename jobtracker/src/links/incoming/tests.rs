use super::*;
use crate::{
    door::Door,
    keys::configuration,
    testing::{cluster_of, replica_key},
};
use quorate_protocol::canonical;
use quorate_smr::{History, Seq, message::WireMessage};
use std::sync::mpsc::{Receiver, sync_channel};

const PEER: ReplicaId = ReplicaId::new(1);
const KEY: [u8; 32] = [5; 32];

fn verifier() -> Verifier {
    let cluster = Arc::new(cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned)));
    let door = Arc::new(Door::new(Arc::clone(&cluster)));
    Verifier::new(&configuration(&cluster, None, ReplicaId::new(0), &replica_key(0), door))
}

/// Frames as a peer sends them.
fn frames(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut seal = Seal::new(KEY);
    let frame =
        |content: &Vec<u8>| [(content.len() as u32).to_le_bytes().as_slice(), content, &seal.mac(content)].concat();
    contents.iter().flat_map(frame).collect()
}

fn hear(bytes: Vec<u8>) -> (Result<(), LinkError>, Receiver<Event>) {
    let (inbox, events) = sync_channel(64);
    let stream = io::Cursor::new(bytes);
    let mut reader = Reader {
        peer: PEER,
        stream,
        seal: Seal::new(KEY),
        verifier: verifier(),
        inbox,
        inlet: None,
        room: Arc::default(),
        garbage: 0,
    };
    (reader.listen(), events)
}

fn message(seq: u64) -> Vec<u8> {
    let digest = quorate_protocol::digest::Digest::of(b"history");
    let message = WireMessage::FetchChain(History { seq: Seq(seq), digest });
    [vec![AGREEMENT], canonical::encode(&message)].concat()
}

#[test]
fn messages_arrive_in_order() {
    let (end, events) = hear(frames(&[message(1), message(2)]));
    assert!(matches!(end, Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
    let heard: Vec<_> = events.try_iter().collect();
    for (seq, event) in (1..).zip(&heard) {
        let Event::Message(PEER, message, _) = event else { panic!("a message") };
        assert!(matches!(message.message(), quorate_smr::message::Message::FetchChain(h) if h.seq == Seq(seq)));
    }
    assert_eq!(heard.len(), 2);
}

#[test]
fn what_was_changed_on_its_way_ends_the_link() {
    let whole = frames(&[message(1)]);
    for bit in LENGTH_BYTES * 8..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (end, events) = hear(bytes);
        assert!(matches!(end, Err(LinkError::Changed)), "bit {bit}");
        assert_eq!(events.try_iter().count(), 0);
    }
    let replayed = [whole.as_slice(), &whole].concat();
    let (end, events) = hear(replayed);
    assert!(matches!(end, Err(LinkError::Changed)));
    assert_eq!(events.try_iter().count(), 1);
}

#[test]
fn a_frame_may_have_the_greatest_length_and_not_one_byte_more() {
    let max = verifier().message_bytes_max() + 1;
    let (end, events) = hear(frames(&[vec![0xff; max]]));
    assert!(matches!(end, Err(LinkError::Io(_))), "it was read to its end");
    assert!(matches!(events.try_iter().next(), Some(Event::Garbage(PEER, _))));
    let (end, events) = hear((max as u32 + 1).to_le_bytes().to_vec());
    assert!(matches!(end, Err(LinkError::TooLong { got, .. }) if got == max as u64 + 1));
    assert_eq!(events.try_iter().count(), 0);
}

#[test]
fn garbage_is_counted_and_too_much_of_it_ends_the_link() {
    let garbage = vec![vec![0xff; 9]; GARBAGE_MAX as usize + 1];
    let (end, events) = hear(frames(&garbage));
    assert!(matches!(end, Err(LinkError::Garbled)));
    assert_eq!(
        events.try_iter().filter(|event| matches!(event, Event::Garbage(PEER, _))).count(),
        GARBAGE_MAX as usize
    );
    let (end, _) = hear(frames(&garbage[..GARBAGE_MAX as usize - 1]));
    assert!(matches!(end, Err(LinkError::Io(_))), "one below the bound it is listened to");
}

#[test]
fn words_of_witnesses_are_garbage_where_there_are_none() {
    let (_, events) = hear(frames(&[vec![WITNESS, 0], Vec::new(), message(1)]));
    let heard: Vec<_> = events.try_iter().collect();
    assert!(matches!(heard.as_slice(), [Event::Garbage(..), Event::Garbage(..), Event::Message(..)]));
}

#[test]
fn a_peers_messages_wait_for_room() {
    let room = Arc::<Room>::default();
    let long = room.take(WAITING_BYTES_MAX - 1);
    let short = room.take(1);
    let waiter = {
        let room = Arc::clone(&room);
        thread::spawn(move || room.take(1).bytes)
    };
    drop(short);
    assert_eq!(waiter.join().expect("it found room"), 1);
    drop(long);
    drop(room.take(10 * WAITING_BYTES_MAX));
    assert_eq!(*room.taken.lock().expect("whole"), 0);
}

#[test]
fn a_new_link_of_a_peer_gets_no_new_room() {
    let identity = Arc::new(Identity::new(
        Arc::new(cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned))),
        None,
        ReplicaId::new(0),
        replica_key(0),
    ));
    let (inbox, _events) = sync_channel(1);
    let incoming = Incoming::new(identity, verifier(), inbox, None);
    assert!(Arc::ptr_eq(&incoming.room(PEER), &incoming.room(PEER)));
    assert!(!Arc::ptr_eq(&incoming.room(PEER), &incoming.room(ReplicaId::new(2))));
}
