//! What is there before the job: the configuration, the keys, the input, and the job's specification.

use super::Scale;
use crate::Rng;
use quorate_protocol::{
    cluster::{Agreement, Cluster, ReplicaMember, TrackerMember},
    digest::{ChunkId, Digest},
    file::{File, Manifest, Path, Placement},
    ids::{Domain, ReplicaId, Stage, TaskId, TrackerId},
    job::{InputKind, Partitioning, Program, Specification},
    limits,
    sign::{PublicKey, SecretKey},
    vote::{Ballot, Counters},
};

/// The job's f, and the cluster's.
pub(super) const F: u32 = 1;
/// Trackers of one failure domain, unless there are more liars.
const DOMAIN_MIN: u32 = 10;
/// Bytes of input for one map task.
const SPLIT_BYTES: u64 = 8 << 20;
/// Chunks of one input file.
const FILE_CHUNKS: u64 = 8192;
/// One task in so many is a reduce task, up to [`PARTITIONS`].
const TASKS_PER_PARTITION: u32 = 100;
const PARTITIONS: u32 = 10_000;
/// An attempt without progress is overdue after so long.
pub(super) const TIMEOUT_MS: u64 = 60_000;

/// The cluster as configured.
pub(super) struct Site {
    pub(super) cluster: Cluster,
    pub(super) id: Digest,
    pub(super) client: PublicKey,
    keys: Vec<SecretKey>,
    domain_size: u32,
}

impl Site {
    pub(super) fn new(scale: &Scale) -> Self {
        let keys: Vec<SecretKey> = (0..scale.trackers).map(|id| key(b"tracker", id)).collect();
        let domain_size = scale.liars.max(DOMAIN_MIN);
        let member = |(id, key): (u32, &SecretKey)| TrackerMember {
            id: TrackerId::new(id),
            domain: Domain(format!("rack-{}", id / domain_size)),
            key: key.public(),
        };
        let replica = |id| ReplicaMember {
            id: ReplicaId::new(id),
            address: String::new(),
            key: key(b"replica", id).public(),
            log: None,
            tpm: None,
            page: None,
        };
        let client = key(b"client", 0).public();
        let cluster = Cluster {
            name: "scale".to_owned(),
            f: F,
            agreement: Agreement::default(),
            allow_liars: false,
            clients: vec![client],
            authority: None,
            replicas: (0..2 * F + 1).map(replica).collect(),
            trackers: (0..).zip(&keys).map(member).collect(),
        };
        Self { id: cluster.id(), cluster, client, keys, domain_size }
    }

    pub(super) fn key(&self, tracker: TrackerId) -> &SecretKey {
        &self.keys[tracker.number() as usize]
    }

    pub(super) fn domain(&self, tracker: TrackerId) -> u32 {
        tracker.number() / self.domain_size
    }
}

fn key(of: &[u8], id: u32) -> SecretKey {
    SecretKey::from_seed(*Digest::of(&[of, id.to_le_bytes().as_slice()].concat()).as_bytes())
}

/// How many of a job's tasks are reduce tasks.
pub(super) fn partitions(tasks: u32) -> u32 {
    (tasks / TASKS_PER_PARTITION).clamp(1, PARTITIONS)
}

/// Input for so many map tasks, in files of large chunks, each chunk on two servers of distinct domains.
pub(super) fn input(site: &Site, maps: u32, rng: &mut Rng) -> Vec<(Path, File)> {
    let mut left = u64::from(maps) * SPLIT_BYTES;
    let mut files = Vec::new();
    while left > 0 {
        let length = left.min(FILE_CHUNKS * limits::CHUNK_BYTES_MAX);
        left -= length;
        let path = Path::parse(&format!("/in/part-{:05}", files.len())).expect("a path");
        files.push((path, file(site, files.len(), length, rng)));
    }
    files
}

fn file(site: &Site, index: usize, length: u64, rng: &mut Rng) -> File {
    let chunks = length.div_ceil(limits::CHUNK_BYTES_MAX);
    let chunk = |n: u64| {
        let bytes = (length - n * limits::CHUNK_BYTES_MAX).min(limits::CHUNK_BYTES_MAX);
        (ChunkId(Digest::of(format!("chunk {index} {n}").as_bytes())), bytes as u32)
    };
    let mut placement = || {
        let count = site.keys.len() as u64;
        let first = TrackerId::new(rng.below(count) as u32);
        let second = loop {
            let second = TrackerId::new(rng.below(count) as u32);
            if site.domain(second) != site.domain(first) {
                break second;
            }
        };
        Placement { chunks: 1, servers: vec![first, second] }
    };
    File {
        manifest: Manifest { chunks: (0..chunks).map(chunk).collect() },
        placements: (0..chunks).map(|_| placement()).collect(),
    }
}

pub(super) fn specification(partitions: u32) -> Specification {
    Specification {
        name: "scale".to_owned(),
        program: Program::Embedded { digest: Digest::of(b"program") },
        entry: "main".to_owned(),
        arguments: "{}".to_owned(),
        inputs: vec![Path::parse("/in").expect("a path")],
        input_kind: InputKind::Lines,
        split_bytes: SPLIT_BYTES,
        output: Path::parse("/out").expect("a path"),
        partitions,
        partitioning: Partitioning::Hash,
        f: F,
        memory: limits::ATTEMPT_MEMORY_DEFAULT,
        progress_timeout_ms: TIMEOUT_MS,
    }
}

/// What an honest tracker votes; `lie` makes another ballot of it.
pub(super) fn ballot(task: TaskId, lie: u32) -> Ballot {
    let mut name = [0; 9];
    name[..4].copy_from_slice(&task.index.to_le_bytes());
    name[4..8].copy_from_slice(&lie.to_le_bytes());
    name[8] = u8::from(task.stage == Stage::Reduce);
    let digest = Digest::of(&name);
    let count = |name: &str, value: u64| (name.to_owned(), value);
    let counters = Counters::from([count("lines", 50_000 + u64::from(name[0])), count("words", 1_300_000)]);
    match task.stage {
        Stage::Map => Ballot::Map { segments: digest, counters },
        Stage::Reduce => {
            let chunk = |n: u8| (ChunkId(Digest::of(&[digest.as_bytes().as_slice(), &[n]].concat())), 64 << 20);
            Ballot::Reduce { manifest: Manifest { chunks: (0..4).map(chunk).collect() }, counters }
        }
    }
}
