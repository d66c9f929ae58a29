//! The canonical bytes of what is hashed and signed: golden, round trips, and refusal of everything else.

use proptest::prelude::*;
use quorate_protocol::{
    canonical::{decode, digest, encode},
    command::{Accusation, AttemptReport, Command, Cost, Envelope, History, Registration, Report, Request, Sender},
    digest::{ChunkId, Digest},
    evidence::Evidence,
    file::{File, Manifest, Path, Placement},
    ids::{AttemptId, JobId, ReplicaId, Stage, TaskId, TrackerId},
    job::{InputKind, Partitioning, Program, Specification},
    limits,
    sign::{SecretKey, Signed, Statement},
    vote::{Ballot, Counters, FailureKind, Segment, Vote, segments_digest},
};

fn attempt() -> AttemptId {
    AttemptId { task: TaskId { job: JobId::new(300), stage: Stage::Map, index: 2 }, attempt: 1 }
}

fn vote() -> Vote {
    let segment = Segment { digest: Digest::of(b"segment"), length: 7, records: 1 };
    Vote {
        cluster: Digest::of(b"cluster"),
        specification: Digest::of(b"specification"),
        f: 1,
        attempt: attempt(),
        tracker: TrackerId::new(4),
        ballot: Ballot::Map {
            segments: segments_digest(&[segment]),
            counters: Counters::from([("words".to_owned(), 9)]),
        },
    }
}

fn specification() -> Specification {
    let manifest = Manifest { chunks: vec![(ChunkId(Digest::of(b"program")), 7)] };
    let file = File { manifest, placements: vec![Placement { chunks: 1, servers: vec![TrackerId::new(1)] }] };
    Specification {
        name: "wordcount".to_owned(),
        program: Program::Binary { digest: Digest::of(b"program"), target: "x86_64-linux".to_owned(), file },
        entry: "main".to_owned(),
        arguments: "{}".to_owned(),
        inputs: vec![Path::parse("/in").expect("a path")],
        input_kind: InputKind::FixedRecords(100),
        split_bytes: 64 << 20,
        output: Path::parse("/out").expect("a path"),
        partitions: 2,
        partitioning: Partitioning::Ranges(vec![b"m".to_vec()]),
        f: 1,
        memory: limits::ATTEMPT_MEMORY_DEFAULT,
        progress_timeout_ms: 30_000,
    }
}

fn request() -> Request {
    let report = Report {
        incarnation: 1,
        acknowledged: 2,
        attempts: vec![
            AttemptReport::Progress { attempt: attempt(), units: 3 },
            AttemptReport::Voted {
                vote: Signed::seal(&vote(), &SecretKey::from_seed([4; 32])),
                cost: Cost { elapsed_ms: 5, shuffled: 6, refetched: 7, restarts: 8 },
                message: String::new(),
            },
        ],
        accusations: vec![Accusation::Unreachable { about: TrackerId::new(9), attempt: attempt() }],
    };
    Request {
        cluster: Digest::of(b"cluster"),
        sender: Sender::Tracker(TrackerId::new(4)),
        session: 10,
        sequence: 11,
        seen: Some(History { ordered: 12, digest: Digest::of(b"history") }),
        command: Command::Report(report),
    }
}

#[test]
fn golden_bytes() {
    // A change of any of these breaks every signature and stored log: it needs a new context string and a migration.
    assert_eq!(encode(&attempt()), [0xAC, 0x02, 0x00, 0x02, 0x01]);
    assert_eq!(encode(&Ballot::Failed { kind: FailureKind::UserPanic, record: Some(200) }), [2, 1, 1, 0xC8, 1]);
    assert_eq!(digest(&vote()).to_string(), GOLDEN_VOTE);
    assert_eq!(digest(&specification()).to_string(), GOLDEN_SPECIFICATION);
    assert_eq!(digest(&request()).to_string(), GOLDEN_REQUEST);
    let signed = Signed::seal(&vote(), &SecretKey::from_seed([4; 32]));
    assert_eq!(Digest::of(&signed.to_wire()).to_string(), GOLDEN_SIGNED_VOTE);
}

const GOLDEN_VOTE: &str = "1a7ce31d66d900b0b68db594958c8db62768384746a6f942f313e0109af09ef4";
const GOLDEN_SPECIFICATION: &str = "ec3053047b41181e5803dfcffeb7e561583d5da63f8bd071f59dfd692ceab109";
const GOLDEN_REQUEST: &str = "58aaf56c506ac7287d166d52544b66c784493d729f16d412fb9b536411c38ef4";
const GOLDEN_SIGNED_VOTE: &str = "1b7486b1a7390622ffbfee032c45bf42b13975b295395d38c453e21aa5e8c929";

#[test]
fn what_is_encoded_comes_back() {
    assert_eq!(decode(&encode(&vote()), Vote::BYTES_MAX), Ok(vote()));
    assert_eq!(decode(&encode(&specification()), limits::COMMAND_BYTES_MAX), Ok(specification()));
    assert_eq!(decode(&encode(&request()), Request::BYTES_MAX), Ok(request()));
    let key = SecretKey::from_seed([5; 32]);
    for sender in [Sender::Client(key.public()), Sender::Replica(ReplicaId::new(0))] {
        let registration = Registration {
            address: "127.0.0.1:1".to_owned(),
            incarnation: 1,
            map_slots: 1,
            reduce_slots: 1,
            target: String::new(),
        };
        let request = Request { sender, command: Command::Register(registration), ..request() };
        let envelope = Envelope { sender, request: Signed::seal(&request, &key) };
        assert_eq!(decode(&encode(&envelope), limits::COMMAND_BYTES_MAX), Ok(envelope));
    }
}

/// Decodes as everything that a peer can send us; must neither panic nor allocate beyond its bounds.
fn decode_as_anything(bytes: &[u8]) {
    let _ = decode::<Request>(bytes, Request::BYTES_MAX);
    let _ = decode::<Envelope>(bytes, limits::COMMAND_BYTES_MAX);
    let _ = decode::<Vote>(bytes, Vote::BYTES_MAX);
    let _ = decode::<Vec<Segment>>(bytes, limits::SEGMENTS_BYTES_MAX);
    let _ = decode::<Evidence>(bytes, limits::COMMAND_BYTES_MAX);
    let _ = decode::<quorate_protocol::query::Question>(bytes, limits::QUERY_BYTES_MAX);
    let _ = decode::<quorate_protocol::command::Reply>(bytes, limits::REPLY_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        decode_as_anything(&bytes);
    }

    #[test]
    fn a_damaged_request_is_refused_or_is_another_value(at in 0usize..400, bit in 0u8..8) {
        let mut bytes = encode(&request());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        decode_as_anything(&bytes);
        if let Ok(other) = decode::<Request>(&bytes, Request::BYTES_MAX) {
            prop_assert_ne!(&other, &request());
            prop_assert_eq!(encode(&other), bytes, "one value, one encoding");
        }
    }

    #[test]
    fn paths_that_parse_are_valid_and_keep_their_form(text in "\\PC{0,40}") {
        if let Ok(path) = Path::parse(&text) {
            prop_assert!(path.is_valid());
            prop_assert_eq!(Path::parse(path.as_str()), Ok(path));
        }
    }
}
