//! A cluster with fixed keys, for this crate's tests.

use quorate_protocol::{
    cluster::{Cluster, ReplicaMember, TrackerMember},
    command::{Command, Envelope, Registration, Request, Sender},
    file::{File, Manifest, Path},
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
/// The key of one of several replicas.
pub(crate) fn replica_key(number: u32) -> SecretKey {
    if number == 0 { key(Who::Replica) } else { SecretKey::from_seed([100 + number as u8; 32]) }
}

pub(crate) fn sender(who: Who) -> Sender {
    match who {
        Who::Client | Who::Stranger => Sender::Client(key(who).public()),
        Who::Tracker => Sender::Tracker(TRACKER),
        Who::Replica => Sender::Replica(REPLICA),
    }
}

/// A cluster of one replica.
pub(crate) fn cluster(address: &str) -> Cluster {
    cluster_of(&[address.to_owned()])
}

/// A cluster with a replica at each address.
pub(crate) fn cluster_of(addresses: &[String]) -> Cluster {
    let replica = |(number, address): (u32, &String)| ReplicaMember {
        id: ReplicaId::new(number),
        address: address.clone(),
        key: replica_key(number).public(),
        log: None,
        tpm: None,
        page: None,
    };
    let tracker = TrackerMember { id: TRACKER, domain: Domain("d0".to_owned()), key: key(Who::Tracker).public() };
    Cluster {
        name: "test".to_owned(),
        f: addresses.len() as u32 / 2,
        agreement: Default::default(),
        allow_liars: false,
        clients: vec![key(Who::Client).public()],
        authority: None,
        replicas: (0..).zip(addresses).map(replica).collect(),
        trackers: vec![tracker],
    }
}

pub(crate) fn envelope(cluster: &Cluster, who: Who, session: u64, sequence: u64, command: Command) -> Envelope {
    let request = Request { cluster: cluster.id(), sender: sender(who), session, sequence, seen: None, command };
    Envelope { sender: sender(who), request: Signed::seal(&request, &key(who)) }
}

/// Makes an empty file.
pub(crate) fn create(path: &str) -> Command {
    let file = File { manifest: Manifest::default(), placements: Vec::new() };
    Command::CreateFiles(vec![(Path::parse(path).expect("a path"), file)])
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
