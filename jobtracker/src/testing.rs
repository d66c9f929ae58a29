//! A cluster with fixed keys, for this crate's tests.

use quorate_protocol::{
    cluster::{Cluster, ReplicaMember, TrackerMember},
    command::{Command, Envelope, Registration, Request, Sender},
    ids::{Domain, ReplicaId, TrackerId},
    sign::{SecretKey, Signed},
};

/// A sender with a key.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Client,
    Tracker,
    Replica,
    Stranger,
}

pub(crate) const REPLICA: ReplicaId = ReplicaId::new(0);
pub(crate) const TRACKER: TrackerId = TrackerId::new(0);

pub(crate) fn key(who: Who) -> SecretKey {
    SecretKey::from_seed([who as u8 + 1; 32])
}

pub(crate) fn sender(who: Who) -> Sender {
    match who {
        Who::Client | Who::Stranger => Sender::Client(key(who).public()),
        Who::Tracker => Sender::Tracker(TRACKER),
        Who::Replica => Sender::Replica(REPLICA),
    }
}

pub(crate) fn cluster(address: &str) -> Cluster {
    let replica = ReplicaMember { id: REPLICA, address: address.to_owned(), key: key(Who::Replica).public() };
    let tracker = TrackerMember { id: TRACKER, domain: Domain("d0".to_owned()), key: key(Who::Tracker).public() };
    Cluster {
        name: "test".to_owned(),
        f: 0,
        allow_liars: false,
        clients: vec![key(Who::Client).public()],
        replicas: vec![replica],
        trackers: vec![tracker],
    }
}

pub(crate) fn envelope(cluster: &Cluster, who: Who, session: u64, sequence: u64, command: Command) -> Envelope {
    let request = Request { cluster: cluster.id(), sender: sender(who), session, sequence, command };
    Envelope { sender: sender(who), request: Signed::seal(&request, &key(who)) }
}

pub(crate) fn register(incarnation: u64) -> Command {
    Command::Register(Registration {
        address: "127.0.0.1:1".to_owned(),
        incarnation,
        map_slots: 1,
        reduce_slots: 1,
        target: String::new(),
    })
}
