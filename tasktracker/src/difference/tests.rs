//! The search against a naive oracle, against hostile sources, and over real sockets.

use super::{
    index::Place,
    peer::Peer,
    search::{Fault, Shown, Source, Tree, describe, first_difference},
    tree::{self, BLOCK_BYTES},
};
use crate::{
    outputs::{Output, Outputs},
    peers::Peers,
    service::TrackerService,
};
use bytes::Bytes;
use proptest::prelude::*;
use quorate_engine::{digest::digest_spans, program::Span, record};
use quorate_liars::{Honest, Kind, Lie};
use quorate_protocol::{
    digest::Digest,
    ids::{AttemptId, Domain, JobId, Stage, TaskId, TrackerId},
    query::{Blame, TrackerView},
    sign::{SecretKey, Signed},
    vote::{Ballot, Counters, Segment, Vote, segments_digest},
    wire::tracker_server::TrackerServer,
};
use std::{os::unix::fs::FileExt, path::Path, sync::Arc};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// How a source lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trick {
    Honest,
    /// Changes a bit of every answer on this level.
    Spoils(u32),
    /// Leaves the last byte of every answer on this level out.
    Shortens(u32),
    /// Adds a node's worth of bytes to every answer on this level.
    Lengthens(u32),
    Silent(u32),
    /// Names another record.
    Misplaces,
}

/// A segment in memory.
struct Memory {
    bytes: Vec<u8>,
    trick: Trick,
}

impl Source for Memory {
    async fn node(&self, level: u32, index: u64) -> Result<Bytes, Fault> {
        let (start, covered) = tree::span(self.bytes.len() as u64, level, index).expect("no honest reader asks that");
        let part = &self.bytes[start as usize..(start + covered) as usize];
        let reach = tree::reach(level.saturating_sub(1)) as usize;
        let mut answer: Vec<u8> = match level {
            0 => part.to_vec(),
            _ => part.chunks(reach).zip(0..).flat_map(|(p, n)| tree::value_of(p, start + n * reach as u64)).collect(),
        };
        match self.trick {
            Trick::Spoils(at) if at == level => *answer.last_mut().expect("it is not empty") ^= 1,
            Trick::Shortens(at) if at == level => answer.truncate(answer.len() - 1),
            Trick::Lengthens(at) if at == level => answer.extend([7; 32]),
            Trick::Silent(at) if at == level => return Err(Fault::None("gone".to_owned())),
            _ => {}
        }
        Ok(answer.into())
    }

    async fn record_at(&self, byte: u64) -> Result<Place, Fault> {
        let mut place = Place { start: 0, number: 0 };
        for (key, value) in record::records(&self.bytes).map_while(Result::ok) {
            let mut own = Vec::new();
            record::append(key, value, &mut own);
            let end = place.start + own.len() as u64;
            if end > byte {
                break;
            }
            place = Place { start: end, number: place.number + 1 };
        }
        Ok(if self.trick == Trick::Misplaces { Place { start: byte, number: 0 } } else { place })
    }
}

fn segment(bytes: &[u8]) -> Segment {
    let records = record::records(bytes).filter(Result::is_ok).count() as u64;
    Segment { digest: Digest::of(bytes), length: bytes.len() as u64, records }
}

fn tree_of(bytes: &[u8], trick: Trick) -> Tree<Memory> {
    Tree::new(Memory { bytes: bytes.to_vec(), trick }, segment(bytes))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    futures::executor::block_on(work)
}

/// What a naive comparison finds.
fn naive(left: &[u8], right: &[u8]) -> Option<u64> {
    let same = left.iter().zip(right).take_while(|(one, other)| one == other).count();
    (same < left.len() || same < right.len()).then_some(same as u64)
}

/// A change of bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index),
    Insert(prop::sample::Index),
    Cut(prop::sample::Index),
    Append(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Change::Flip),
        index().prop_map(Change::Insert),
        index().prop_map(Change::Cut),
        (1usize..3 << 20).prop_map(Change::Append),
    ]
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        match change {
            Change::Flip(at) if !bytes.is_empty() => *at.get_mut(&mut bytes) ^= 1,
            Change::Flip(_) => {}
            Change::Insert(at) => bytes.insert(at.index(bytes.len() + 1), 9),
            Change::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Change::Append(more) => bytes.extend((0..*more).map(|n| n as u8)),
        }
    }
    bytes
}

/// Records with keys in order.
fn records_of(lengths: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, length) in (0u32..).zip(lengths) {
        record::append(&number.to_be_bytes(), &vec![number as u8; usize::from(*length)], &mut bytes);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_first_difference_of_any_two_segments_is_found(
        length in prop_oneof![0usize..200, (0usize..60, -2i64..3).prop_map(|(blocks, off)| {
            ((blocks as i64) * BLOCK_BYTES as i64 + off).max(0) as usize
        })],
        changes in prop::collection::vec(change(), 0..3),
    ) {
        let left: Vec<u8> = (0..length).map(|n| ((n * 31) >> 5) as u8).collect();
        let right = changed(&left, &changes);
        let mut trees = [tree_of(&left, Trick::Honest), tree_of(&right, Trick::Honest)];
        let found = block_on(first_difference(&mut trees)).expect("both are honest");
        prop_assert_eq!(found, naive(&left, &right));
        let levels = tree::root_level(left.len().max(right.len()) as u64);
        for tree in &trees {
            prop_assert!(tree.rounds <= levels, "{} rounds for {levels} levels", tree.rounds);
            prop_assert!(tree.fetched <= u64::from(levels) * 512 + BLOCK_BYTES);
        }
    }

    #[test]
    fn the_record_of_the_first_difference_is_named(
        lengths in prop::collection::vec(0u16..20_000, 1..120),
        at in any::<prop::sample::Index>(),
    ) {
        let left = records_of(&lengths);
        let mut right = left.clone();
        *at.get_mut(&mut right) ^= 1;
        let byte = naive(&left, &right).expect("they differ");
        let mut trees = [tree_of(&left, Trick::Honest), tree_of(&right, Trick::Honest)];
        let (record, [ours, _]) = block_on(describe(&mut trees, byte)).expect("both are honest");
        let mut end = 0;
        let covers = |(_, (key, value)): &(u64, (&[u8], &[u8]))| {
            let mut own = Vec::new();
            record::append(key, value, &mut own);
            end += own.len() as u64;
            end > byte
        };
        let mut all = (0..).zip(record::records(&left).map(|r| r.expect("own bytes")));
        let (number, (key, _)) = all.find(covers).expect("some record has it");
        prop_assert_eq!(record.map(|(number, _)| number), Some(number));
        let Shown::Record { key: shown, .. } = ours else { panic!("{ours:?}") };
        prop_assert_eq!(shown, format!("\"{}\"", key.escape_ascii()));
    }
}

#[test]
fn a_source_that_lies_is_named_and_nothing_that_it_says_is_believed() {
    let left: Vec<u8> = (0..40 * BLOCK_BYTES).map(|n| (n >> 3) as u8).collect();
    let mut right = left.clone();
    right[17 * BLOCK_BYTES as usize + 5] ^= 1;
    for level in 0..=tree::root_level(left.len() as u64) {
        for trick in [Trick::Spoils(level), Trick::Shortens(level), Trick::Lengthens(level)] {
            let mut trees = [tree_of(&left, Trick::Honest), tree_of(&right, trick)];
            let found = block_on(first_difference(&mut trees));
            assert!(matches!(found, Err((1, Fault::Unlike(_)))), "{trick:?}: {found:?}");
        }
        let mut trees = [tree_of(&left, Trick::Silent(level)), tree_of(&right, Trick::Honest)];
        assert_eq!(block_on(first_difference(&mut trees)), Err((0, Fault::None("gone".to_owned()))));
    }
}

#[test]
fn bytes_that_are_the_others_are_known_under_a_wrong_digest() {
    for length in [100, BLOCK_BYTES as usize + 1, 3 << 20] {
        let bytes = vec![5; length];
        let wrong = Segment { digest: Digest::of(b"no output"), ..segment(&bytes) };
        let liar = Tree::new(Memory { bytes: bytes.clone(), trick: Trick::Honest }, wrong);
        let found = block_on(first_difference(&mut [tree_of(&bytes, Trick::Honest), liar]));
        assert_eq!(found, Err((1, Fault::Unlike(Some(segment(&bytes).digest)))), "{length}");
    }
}

#[test]
fn a_source_that_names_another_record_is_not_alone_believed() {
    let left = records_of(&[10, 20, 30, 40]);
    let mut right = left.clone();
    *right.last_mut().expect("bytes") ^= 1;
    let byte = left.len() as u64 - 1;
    let told = |tricks: [Trick; 2]| {
        let mut trees = [tree_of(&left, tricks[0]), tree_of(&right, tricks[1])];
        block_on(describe(&mut trees, byte)).expect("the bytes are right").0
    };
    assert_eq!(told([Trick::Honest, Trick::Honest]), Some((3, None)));
    assert_eq!(told([Trick::Honest, Trick::Misplaces]), Some((3, Some(0))), "the first side's word, and it is said");
}

#[test]
fn a_segment_that_ends_early_ends_in_nothing() {
    let left = records_of(&[10, 20, 30]);
    let right = records_of(&[10, 20]);
    let byte = naive(&left, &right).expect("they differ");
    let mut trees = [tree_of(&left, Trick::Honest), tree_of(&right, Trick::Honest)];
    let (record, [ours, theirs]) = block_on(describe(&mut trees, byte)).expect("both are honest");
    assert_eq!((record, theirs), (Some((2, None)), Shown::Nothing));
    assert!(matches!(ours, Shown::Record { .. }));
}

fn attempt(number: u16) -> AttemptId {
    AttemptId { task: TaskId { job: JobId::new(1), stage: Stage::Map, index: 0 }, attempt: number }
}

/// A tracker that serves one map attempt of one partition.
struct Served {
    id: TrackerId,
    segment: Segment,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    async fn start(id: u32, lie: Arc<dyn Lie>, write: impl FnOnce(&Path) -> u64) -> (Self, TrackerView) {
        let (id, folder) = (TrackerId::new(id), tempfile::tempdir().expect("a folder"));
        let outputs = Outputs::open(folder.path().join("jobs"), folder.path().join("logs")).expect("opened");
        let attempt = attempt(id.number() as u16);
        let own = outputs.folder(attempt);
        std::fs::create_dir_all(&own).expect("made");
        let data = own.join("map.data");
        let records = write(&data);
        let length = std::fs::metadata(&data).expect("written").len();
        let spans = vec![Span { offset: 0, length, records }];
        let segments = digest_spans(&data, &spans).expect("digested");
        let (cluster, key) = (Digest::of(b"cluster"), SecretKey::from_seed([1; 32]));
        let ballot = Ballot::Map { segments: segments_digest(&segments), counters: Counters::new() };
        let vote = Vote { cluster, specification: cluster, f: 1, attempt, tracker: id, ballot };
        let segment = segments[0];
        let vote = Signed::seal(&vote, &key);
        outputs.keep(Output { attempt, vote, segments: segments.into(), spans, data }).expect("kept");
        let stop = CancellationToken::new();
        let service = TrackerService::new(cluster, id, key, Arc::new(outputs), lie, stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let server = tonic::transport::Server::builder().add_service(TrackerServer::new(service));
        let stopped = stop.clone();
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming_shutdown(incoming, stopped.cancelled()).await.expect("served");
        });
        let view = TrackerView {
            id,
            domain: Domain(format!("domain-{id}")),
            address,
            live: true,
            map_slots: (0, 1),
            reduce_slots: (0, 1),
            blame: Blame::None,
            evidence: 0,
            overdue: 0,
            agreed: 0,
            outvoted: 0,
            duty: quorate_protocol::query::Duty::Full,
        };
        (Self { id, segment, _folder: folder, _stop: stop.drop_guard() }, view)
    }

    fn tree(&self, peers: &Peers) -> Tree<Peer> {
        let peer = Peer::new(peers, self.id, attempt(self.id.number() as u16), 0, &self.segment);
        Tree::new(peer.expect("it has an address"), self.segment)
    }
}

/// Bytes of each record of [`write_sparse`].
const RECORD_BYTES: u64 = (1 << 20) - 37;
/// Its records: one GiB of them, and a bit.
const RECORDS: u64 = 1 + (1 << 30) / RECORD_BYTES;

/// Writes records of a number and very many zeros, which take no room on the disk.
fn write_sparse(path: &Path) -> u64 {
    let file = std::fs::File::create(path).expect("made");
    let mut head = Vec::new();
    for number in 0..RECORDS {
        head.clear();
        record::append(&number.to_be_bytes(), &vec![0; RECORD_BYTES as usize - 12], &mut head);
        assert_eq!(head.len() as u64, RECORD_BYTES, "a length of three digits beside one of one digit");
        file.write_all_at(&head[..12], number * RECORD_BYTES).expect("written");
    }
    file.set_len(RECORDS * RECORD_BYTES).expect("as long as that");
    RECORDS
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_gib_the_record_is_found_in_a_few_rounds_and_little_is_sent() {
    const WRONG: u64 = 777;
    let (honest, one) = Served::start(0, Arc::new(Honest), write_sparse).await;
    let spoilt = |path: &Path| {
        let records = write_sparse(path);
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
        file.write_all_at(&[1], WRONG * RECORD_BYTES + 500_000).expect("written");
        records
    };
    let (liar, other) = Served::start(1, Arc::new(Honest), spoilt).await;
    assert!(honest.segment.length >= 1 << 30);
    let peers = Peers::default();
    peers.update(&[one, other]);
    let mut trees = [honest.tree(&peers), liar.tree(&peers)];
    let byte = first_difference(&mut trees).await.expect("both answer").expect("they differ");
    assert_eq!(byte, WRONG * RECORD_BYTES + 500_000);
    let (record, [ours, theirs]) = describe(&mut trees, byte).await.expect("both answer");
    assert_eq!(record, Some((WRONG, None)));
    let value = |shown: Shown| match shown {
        Shown::Record { key, value } => (key, value),
        other => panic!("{other:?}"),
    };
    let ((ours_key, ours), (theirs_key, theirs)) = (value(ours), value(theirs));
    assert_eq!((&ours_key, ours.contains("\\x01"), theirs.contains("\\x01")), (&theirs_key, false, true));
    for tree in &trees {
        assert!(tree.rounds <= 16, "{} rounds", tree.rounds);
        assert!(tree.fetched < 300 << 10, "{} bytes", tree.fetched);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_that_serves_other_bytes_than_it_voted_is_found_out() {
    let write = |path: &Path| {
        let bytes = records_of(&[20_000; 90]);
        std::fs::write(path, bytes).expect("written");
        90
    };
    let (honest, one) = Served::start(0, Arc::new(Honest), write).await;
    for kind in [Kind::ServeWrong, Kind::ServeWrongToOne, Kind::Garbled] {
        let (liar, other) = Served::start(1, kind.lie(), write).await;
        let peers = Peers::default();
        peers.update(&[one.clone(), other]);
        let found = first_difference(&mut [honest.tree(&peers), liar.tree(&peers)]).await;
        assert!(matches!(found, Err((1, Fault::Unlike(_) | Fault::None(_)))), "{kind}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_what_is_not_there_are_refused() {
    let write = |path: &Path| {
        std::fs::write(path, records_of(&[100; 9])).expect("written");
        9
    };
    let (honest, view) = Served::start(0, Arc::new(Honest), write).await;
    let peers = Peers::default();
    peers.update(&[view]);
    let peer = |attempt, partition| Peer::new(&peers, honest.id, attempt, partition, &honest.segment).expect("known");
    let known = peer(attempt(0), 0);
    for (level, index) in [(0, 1), (0, u64::MAX), (1, 0), (u32::MAX, 0), (u32::MAX, u64::MAX), (12, 1)] {
        assert!(matches!(known.node(level, index).await, Err(Fault::None(_))), "{level} {index}");
    }
    assert!(matches!(known.record_at(u64::MAX).await, Err(Fault::None(_))));
    assert!(matches!(known.record_at(honest.segment.length).await, Err(Fault::None(_))));
    assert!(matches!(peer(attempt(9), 0).node(0, 0).await, Err(Fault::None(_))));
    assert!(matches!(peer(attempt(0), 1).node(0, 0).await, Err(Fault::None(_))));
    assert_eq!(known.node(0, 0).await.expect("there is one").len() as u64, honest.segment.length);
}
