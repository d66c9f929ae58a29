//! SMR-17: the bounds of messages, each at the bound and one above it.

use crate::{
    fixture::{replica, request, small},
    world::{World, admission, commit, empty, signed, view_change, wish},
};
use quorate_counter::{CERTIFICATE_BYTES_MAX, Certificate, Epoch, Position};
use quorate_protocol::{
    canonical::{self, DecodeError},
    digest::Digest,
};
use quorate_smr::{
    History, Limits, PAGE_BYTES, Payload, Rejection, Seq, View,
    message::{Batch, Change, Claim, Flush, Header, Manifest, Message, Statement, Status, WireMessage},
    verify::{CHAIN_MAX, FETCH_MAX, PAGES_MAX},
};
use std::sync::Arc;

fn limits() -> Limits {
    Limits { batch_requests_max: 5, batch_bytes_max: 500, request_bytes_max: 700, flush_statements_max: 6, ..small() }
}

/// A message made for a bound passes with that many and is refused with one more.
fn is_bounded(what: &str, max: usize, make: impl Fn(usize) -> WireMessage) {
    let world = World::with(3, limits());
    let verify = |count: usize| world.verifier().verify(make(count)).map(|_| ());
    assert_eq!(verify(max), Ok(()), "{what}");
    assert_eq!(verify(max + 1), Err(Rejection::TooMany { what: name(what), got: max + 1, max }));
}

/// The names are a part of what the verifier tells.
fn name(what: &str) -> &'static str {
    const NAMES: [&str; 17] = [
        "requests of a batch",
        "bytes of a batch",
        "bytes of a request",
        "statements of a flush",
        "batches of a flush",
        "bytes of a certificate",
        "claims of a VIEW-CHANGE",
        "VIEW-CHANGEs of a NEW-VIEW",
        "batches asked for",
        "batches",
        "headers",
        "claims",
        "pages of a state",
        "pages asked for",
        "bytes of a page",
        "heads",
        "retired heads",
    ];
    NAMES.into_iter().find(|name| *name == what).expect("a known bound")
}

fn flush(statements: Vec<Statement>, bodies: usize, certificate: usize) -> WireMessage {
    let (replica, epoch, after) = (replica(1), Epoch(0), Position(0));
    let certificate = Certificate(vec![0; certificate]);
    let bodies = (0..bodies).map(|_| Arc::new(Batch::default())).collect();
    Message::Flush(Arc::new(Flush { replica, epoch, after, statements, certificate }), bodies)
}

fn requests(count: usize, bytes: usize) -> Arc<Batch> {
    let text = "x".repeat(bytes - 24);
    let requests = (0..count).map(|sequence| request(1, 1, sequence as u64, &text).1).collect();
    Arc::new(Batch { requests, admission: None })
}

#[test]
fn smr_17_batches() {
    is_bounded("requests of a batch", 5, |count| Message::Bodies(vec![requests(count, 24)]));
    is_bounded("bytes of a batch", 500, |bytes| {
        let one = requests(1, bytes - 100).requests.clone();
        let other = request(2, 1, 1, &"y".repeat(76)).1;
        Message::Bodies(vec![Arc::new(Batch { requests: [one, vec![other]].concat(), admission: None })])
    });
    is_bounded("bytes of a request", 700, |bytes| Message::Forward(requests(1, bytes)));
    let world = World::with(3, limits());
    let direct = |bytes: usize| world.verifier().request(&requests(1, bytes).requests[0]);
    assert!(direct(700).is_ok(), "one request always fits, also when it is larger than a batch");
    let what = "bytes of a request";
    assert_eq!(direct(701), Err(Rejection::TooMany { what, got: 701, max: 700 }));
}

#[test]
fn smr_17_flushes_and_statements() {
    let some = |count: usize| vec![commit(0, empty()); count];
    is_bounded("statements of a flush", 6, |count| flush(some(count), 0, 32));
    is_bounded("batches of a flush", 2, |count| flush(some(2), count, 32));
    is_bounded("bytes of a certificate", CERTIFICATE_BYTES_MAX, |bytes| flush(some(1), 0, bytes));
    is_bounded("claims of a VIEW-CHANGE", 3, |count| flush(vec![view_change(1, &vec![0; count])], 0, 32));
    is_bounded("VIEW-CHANGEs of a NEW-VIEW", 3, |count| {
        let change = Change { replica: replica(0), epoch: Epoch(0), position: Position(1) };
        flush(vec![Statement::NewView { view: View(1), changes: vec![change; count], start: empty() }], 0, 32)
    });
    let world = World::with(3, limits());
    let none = world.verifier().verify(flush(Vec::new(), 0, 32)).map(|_| ());
    assert_eq!(none, Err(Rejection::Senseless("a flush without statements")));
}

#[test]
fn smr_17_questions_and_answers() {
    let digests = |count: usize| (0..count).map(|number| Digest::of(&number.to_be_bytes())).collect::<Vec<_>>();
    is_bounded("batches asked for", FETCH_MAX, |count| Message::FetchBodies(digests(count)));
    is_bounded("pages asked for", FETCH_MAX, |count| Message::FetchPage(digests(count)));
    is_bounded("batches", FETCH_MAX, |count| Message::Bodies((0..count).map(|_| Arc::new(Batch::default())).collect()));
    is_bounded("bytes of a page", PAGE_BYTES, |bytes| Message::Page(Payload::from(vec![0; bytes])));
    is_bounded("pages of a state", PAGES_MAX, |count| {
        let manifest = Manifest { length: (count * PAGE_BYTES) as u64, pages: vec![Digest::of(b""); count] };
        Message::Pages(manifest.root(), manifest)
    });
    is_bounded("headers", CHAIN_MAX, |count| {
        let (seq, time) = (Seq(1), quorate_protocol::ids::OrderedTime(1));
        let header = Header { seq, time, batch: Digest::of(b""), admits: None };
        Message::Chain(empty(), vec![header; count])
    });
    is_bounded("claims", 3, |count| Message::Stable(vec![wish(1, 1); count]));
}

fn status() -> Status {
    Status {
        decided: signed(1, Claim::Decided { history: empty() }),
        view: View(0),
        heads: Vec::new(),
        retired: Vec::new(),
        wants: None,
        checkpoint: None,
        admission: None,
    }
}

#[test]
fn smr_17_statuses() {
    let with = |change: &dyn Fn(&mut Status)| {
        let mut status = status();
        change(&mut status);
        Message::Status(Box::new(status))
    };
    is_bounded("heads", 3, |count| with(&|status| status.heads = vec![(Epoch(0), Position(0)); count]));
    is_bounded("retired heads", 3, |count| {
        with(&|status| status.retired = vec![(replica(0), Epoch(0), Position(0)); count])
    });
    let world = World::with(3, limits());
    let refused = |change: &dyn Fn(&mut Status)| world.verifier().verify(with(change)).map(|_| ()).err();
    assert_eq!(refused(&|_| {}), None);
    assert_eq!(refused(&|status| status.admission = Some(Box::new(admission(1, 7)))), None);
    let forged = |by: u32| Some(Rejection::Signature(replica(by)));
    assert_eq!(refused(&|status| status.decided.by = replica(2)), forged(2));
    assert_eq!(refused(&|status| status.wants = Some(signed_by_another())), forged(0));
    assert_eq!(refused(&|status| status.checkpoint = Some(signed_by_another())), forged(0));
    assert!(matches!(refused(&|status| status.decided = wish(1, 1)), Some(Rejection::Senseless(_))));
}

fn signed_by_another() -> quorate_smr::message::Signed {
    quorate_smr::message::Signed { by: replica(0), ..wish(1, 1) }
}

#[test]
fn smr_17_replicas_that_are_not_of_the_cluster() {
    let world = World::with(3, limits());
    let outside = |message: WireMessage| matches!(world.verifier().verify(message), Err(Rejection::Senseless(_)));
    let asked = |of: u32| Message::FetchFlushes { of: replica(of), epoch: Epoch(0), after: Position(0) };
    assert!(!outside(asked(2)) && outside(asked(3)));
    let position = |of: u32| Message::FetchPosition { of: replica(of), epoch: Epoch(0) };
    assert!(!outside(position(2)) && outside(position(3)));
    let claim = |by: u32| Message::Claim(Box::new(wish(by, 1)));
    assert!(!outside(claim(2)) && outside(claim(3)));
    let spoken = |of: u32| {
        let (replica, epoch, after) = (replica(of), Epoch(0), Position(0));
        let (statements, certificate) = (vec![commit(0, empty())], Certificate(Vec::new()));
        Message::Flush(Arc::new(Flush { replica, epoch, after, statements, certificate }), Vec::new())
    };
    assert!(!outside(spoken(2)) && outside(spoken(3)));
    let standing =
        quorate_smr::message::Standing { left: View(0), entered: None, upto: empty(), began: Seq(0), fresh: false };
    let head = quorate_counter::Head { position: Position(8), chain: Digest::of(b"") };
    let vouched = |of: u32| {
        let claim = Claim::Position { of: replica(of), epoch: Epoch(0), head, standing, changes: Vec::new() };
        Message::Claim(Box::new(signed(1, claim)))
    };
    assert!(!outside(vouched(2)) && outside(vouched(3)));
}

#[test]
fn smr_17_whole_messages() {
    let world = World::with(3, limits());
    let verifier = world.verifier();
    let max = verifier.message_bytes_max();
    let decode = |bytes: usize| verifier.decode(&vec![0xff; bytes]).map(|_| ()).err();
    assert!(matches!(decode(max), Some(Rejection::Decode(DecodeError::Malformed(_)))));
    assert_eq!(decode(max + 1), Some(Rejection::Decode(DecodeError::TooLong { got: max + 1, max })));
    // Whatever honest replicas send fits: the largest of each kind.
    let largest = requests(1, 700);
    let many = (0..FETCH_MAX).map(|_| Arc::clone(&largest)).collect();
    let pages = vec![Digest::of(b""); PAGES_MAX];
    let manifest = Manifest { length: (PAGES_MAX * PAGE_BYTES) as u64, pages };
    for message in [
        Message::Bodies(many),
        Message::Pages(manifest.root(), manifest),
        Message::Page(Payload::from(vec![7; PAGE_BYTES])),
        Message::Flush(Arc::new(largest_flush()), (0..6).map(|_| Arc::clone(&largest)).collect()),
    ] {
        assert!(verifier.decode(&canonical::encode(&message)).is_ok());
    }
}

fn largest_flush() -> Flush {
    let time = quorate_protocol::ids::OrderedTime(u64::MAX);
    let header = Header { seq: Seq(u64::MAX), time, batch: Digest::of(b""), admits: None };
    let mut statements = vec![Statement::Prepare { view: View(u64::MAX), header }; 5];
    statements.push(view_change(u64::MAX, &[0, 1, 2]));
    let (replica, epoch, after) = (replica(1), Epoch(u64::MAX), Position(u64::MAX));
    Flush { replica, epoch, after, statements, certificate: Certificate(vec![7; CERTIFICATE_BYTES_MAX]) }
}

#[test]
fn smr_17_the_largest_numbers_harm_nobody() {
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 1);
    world.crash(2);
    let far = History { seq: Seq(u64::MAX), digest: Digest::of(b"far") };
    let (epoch, after) = (Epoch(u64::MAX), Position(u64::MAX));
    let header = Header { seq: Seq(u64::MAX), time: quorate_protocol::ids::OrderedTime(u64::MAX), ..any_header() };
    let mut heads = status();
    heads.decided = signed(2, Claim::Decided { history: far });
    heads.heads = vec![(Epoch(0), Position(u64::MAX)), (epoch, after), (Epoch(0), after)];
    heads.retired = vec![(replica(0), epoch, after)];
    let root = Digest::of(b"far");
    let messages = [
        Message::Status(Box::new(heads)),
        Message::Flush(Arc::new(Flush { replica: replica(2), ..largest_flush() }), Vec::new()),
        Message::Flush(Arc::new(Flush { replica: replica(2), epoch: Epoch(0), ..largest_flush() }), Vec::new()),
        Message::Claim(Box::new(signed(2, Claim::Decided { history: far }))),
        Message::Claim(Box::new(signed(2, Claim::Checkpoint { history: far, root }))),
        Message::Claim(Box::new(wish(2, u64::MAX))),
        Message::FetchFlushes { of: replica(0), epoch, after },
        Message::FetchFlushes { of: replica(0), epoch: Epoch(0), after },
        Message::FetchPosition { of: replica(0), epoch },
        Message::FetchChain(far),
        Message::Chain(far, vec![header.clone()]),
        Message::Chain(empty(), vec![header.clone()]),
        Message::Stable(vec![signed(2, Claim::Checkpoint { history: far, root })]),
        Message::FetchPages(root),
        Message::Page(Payload::from(Vec::new())),
        Message::FetchPage(Vec::new()),
        Message::FetchBodies(Vec::new()),
        Message::Bodies(Vec::new()),
        Message::Chain(empty(), Vec::new()),
        Message::Stable(Vec::new()),
    ];
    for message in messages {
        world.inject_all(2, &message);
    }
    let view = View(u64::MAX);
    let lie = world.lie(2, vec![commit(view.0, far), Statement::Prepare { view, header }], Vec::new());
    world.inject_all(2, &lie);
    world.run(3);
    world.ask_many(1, 4..8, 1);
    world.until("they agree", World::agree);
}

fn any_header() -> Header {
    Header { seq: Seq(1), time: quorate_protocol::ids::OrderedTime(1), batch: Digest::of(b""), admits: None }
}
