//! SMR-17: the bounds of what a core keeps, each at the bound and one above it.

use crate::{
    fixture::{Log, config, record, replica, request, small},
    world::{World, batch, commit, empty, prepare, signed, view_change},
};
use quorate_counter::{Epoch, Position};
use quorate_protocol::{
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use quorate_smr::{
    Action, Core, History, Input, Limits, Outcome, Record, Seq, View,
    message::{Batch, Change, Claim, Header, Message, Signed, Statement, WireMessage},
};
use std::collections::VecDeque;

fn count(world: &World, is: impl Fn(&WireMessage) -> bool) -> usize {
    world.sent.iter().filter(|(_, _, message)| is(message)).count()
}

fn prepares(world: &World) -> usize {
    world.statements(0).iter().filter(|said| matches!(said, Statement::Prepare { .. })).count()
}

#[test]
fn smr_17_pipeline_max() {
    let mut world = World::with(3, Limits { pipeline_max: 3, ..small() });
    world.crash(1);
    world.crash(2);
    for client in 1..=3 {
        world.ask_one(0, client, 1, "work");
        assert_eq!(prepares(&world), client as usize);
    }
    world.ask_one(0, 4, 1, "work");
    assert_eq!(prepares(&world), 3, "a fourth one waits for the first to be executed");
    let headers = world.statements(0).into_iter().filter_map(|said| match said {
        Statement::Prepare { header, .. } => Some(header),
        _ => None,
    });
    let first = headers.take(1).fold(empty(), |history, header| header.follow(history));
    let vote = world.lie(2, vec![commit(0, first)], Vec::new());
    world.inject(2, 0, vote);
    assert_eq!(prepares(&world), 4);
}

#[test]
fn smr_17_what_is_read_of_a_primary_that_runs_ahead() {
    let mut world = World::with(3, Limits { checkpoint_interval: 3, ..small() });
    world.crash(0);
    let mut history = empty();
    let mut statements = Vec::new();
    for sequence in 1..=7 {
        let (statement, after) = prepare(0, history, world.now, &batch(1, sequence));
        statements.push(statement);
        history = after;
    }
    let lie = world.lie(0, statements, Vec::new());
    world.inject(0, 1, lie);
    assert_eq!((world.position(1, 0), world.waiting(1, 0)), (6, 1), "twice the checkpoint interval, and no more");
}

/// COMMITs for what nobody proposed wait, however many there are.
fn votes_for_nothing(first: u64, votes: u64) -> Vec<Statement> {
    let upto = |seq: u64| History { seq: Seq(seq), digest: Digest::of(&seq.to_be_bytes()) };
    (first..first + votes).map(|seq| commit(0, upto(seq))).collect()
}

#[test]
fn smr_17_waiting_max() {
    let mut world = World::with(3, Limits { waiting_max: 10, ..small() });
    world.crash(2);
    let lie = world.lie(2, votes_for_nothing(1, 10), Vec::new());
    world.inject(2, 1, lie);
    assert_eq!(world.waiting(1, 2), 10);
    let lie = world.lie(2, votes_for_nothing(11, 1), Vec::new());
    world.inject(2, 1, lie);
    assert_eq!(world.waiting(1, 2), 10, "it will be fetched again when there is room");
    assert!(world.is_peaceful());
}

fn roomy() -> Limits {
    Limits {
        pipeline_max: 200,
        checkpoint_interval: 400,
        flush_statements_max: 300,
        waiting_max: 400,
        flushes_kept_max: 96,
        ..small()
    }
}

#[test]
fn smr_17_flushes_beyond_a_gap() {
    for beyond in [64, 65] {
        let mut world = World::with(3, roomy());
        world.crash(0);
        let (mut history, mut flushes) = (empty(), Vec::new());
        for sequence in 0..=beyond {
            let (statement, after) = prepare(0, history, world.now, &batch(1, sequence));
            flushes.push(world.lie(0, vec![statement], Vec::new()));
            history = after;
        }
        for flush in &flushes[1..] {
            world.inject(0, 1, flush.clone());
        }
        world.inject(0, 1, flushes[0].clone());
        assert_eq!(world.position(1, 0), 65, "the gap and 64 flushes, of {beyond}");
    }
}

fn ask_log(world: &mut World, after: u64) {
    world.sent.clear();
    world.inject(2, 1, Message::FetchFlushes { of: replica(0), epoch: Epoch(0), after: Position(after) });
}

fn is_flush(message: &WireMessage) -> bool {
    matches!(message, Message::Flush(..))
}

fn claim_of(message: &WireMessage, by: ReplicaId) -> Option<&Claim> {
    match message {
        Message::Claim(signed) if signed.by == by => Some(&signed.claim),
        _ => None,
    }
}

#[test]
fn smr_17_flushes_kept_max() {
    let mut world = World::with(3, Limits { flushes_kept_max: 12, vouch_interval: 4, ..small() });
    world.crash(2);
    world.ask_many(1, 1..13, 1);
    ask_log(&mut world, 0);
    assert_eq!(count(&world, is_flush), 12);
    world.ask_many(1, 13..14, 1);
    ask_log(&mut world, 0);
    assert_eq!(count(&world, is_flush), 0, "the first one is gone");
    let vouches = |message: &WireMessage| matches!(claim_of(message, replica(1)), Some(Claim::Position { .. }));
    assert!(count(&world, vouches) > 0, "and it vouches for later heads instead");
    ask_log(&mut world, 1);
    assert_eq!(count(&world, is_flush), 12);
}

#[test]
fn smr_17_whoever_is_not_heard_falls_silent_before_what_it_said_is_forgotten() {
    let mut world = World::with(5, Limits { flushes_kept_max: 16, vouch_interval: 4, ..small() });
    // What replica 4 says reaches nobody; the others go on without it.
    world.filter = Box::new(|from, _, message| (from != replica(4)).then_some(message));
    world.ask_many(1, 1..41, 4);
    let own = |action: &&Action| matches!(action, Action::Persist(Record::Own(_)));
    assert_eq!(
        world.node(4).done.iter().filter(own).count(),
        13,
        "three quarters of what is kept, and the one that is above"
    );
    world.filter = Box::new(|_, _, message| Some(message));
    world.until("all have read its log", |world| (0..4).all(|reader| world.position(reader, 4) >= 13));
    world.ask_many(1, 41..45, 4);
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_17_flushes_in_answer_to_one_question() {
    let mut world = World::with(3, Limits { checkpoint_interval: 100, ..small() });
    world.crash(2);
    world.ask_many(1, 1..33, 1);
    ask_log(&mut world, 0);
    assert_eq!(count(&world, is_flush), 32);
    world.ask_many(1, 33..34, 1);
    ask_log(&mut world, 0);
    assert_eq!(count(&world, is_flush), 32);
}

#[test]
fn smr_17_answers_between_two_statuses() {
    let mut world = World::new(3);
    world.ask_many(1, 1..2, 1);
    world.run(2);
    world.crash(2);
    world.run(1);
    world.sent.clear();
    let question = || Message::FetchChain(empty());
    (0..64).for_each(|_| world.inject(2, 1, question()));
    let answers = |world: &World| count(world, |message| matches!(message, Message::Chain(..)));
    assert_eq!(answers(&world), 64);
    world.inject(2, 1, question());
    assert_eq!(answers(&world), 64);
    world.run(1);
    world.inject(2, 1, question());
    assert_eq!(answers(&world), 65, "the next status gives new ones");
}

#[test]
fn smr_17_pending_max_and_pending_bytes_max() {
    let is_busy = |world: &World| world.node(1).replies.iter().any(|(_, outcome)| *outcome == Outcome::Busy);
    let mut world = World::with(3, Limits { pending_max: 7, ..small() });
    world.cut.extend([0, 1, 2]);
    (1..=7).for_each(|client| world.ask_one(1, client, 1, "work"));
    world.ask_one(1, 7, 1, "work");
    assert!(!is_busy(&world) && world.core(1).report().pending == 7);
    world.ask_one(1, 8, 1, "work");
    assert!(is_busy(&world) && world.core(1).report().pending == 7);

    let limits = Limits { pending_bytes_max: 1_000, request_bytes_max: 500, ..small() };
    let mut world = World::with(3, limits);
    world.cut.extend([0, 1, 2]);
    (1..=2).for_each(|client| world.ask_one(1, client, 1, &"x".repeat(476)));
    assert!(!is_busy(&world), "1000 bytes");
    world.ask_one(1, 3, 1, "");
    assert!(is_busy(&world));
}

#[test]
fn smr_17_batch_requests_max_and_batch_bytes_max_of_what_is_proposed() {
    let sizes = |limits: Limits, texts: &[usize]| {
        let mut world = World::with(3, limits);
        world.node_mut(0).busy = Some(VecDeque::new());
        world.ask_one(0, 99, 1, "keeps the trusted log busy");
        for (client, bytes) in texts.iter().enumerate() {
            world.ask_one(0, client as u64, 1, &"x".repeat(*bytes));
        }
        world.release(0);
        world.until("all are executed", |world| world.executed(0) == texts.len() + 1);
        let mut sizes = Vec::new();
        for action in &world.node(0).done {
            if let Action::Persist(Record::Body(bytes)) = action {
                let batch: Batch = quorate_protocol::canonical::decode(bytes, 1 << 20).expect("a batch");
                sizes.push(batch.requests.len());
            }
        }
        sizes[1..].to_vec()
    };
    assert_eq!(sizes(Limits { batch_requests_max: 3, ..small() }, &[0; 3]), [3]);
    assert_eq!(sizes(Limits { batch_requests_max: 3, ..small() }, &[0; 4]), [3, 1]);
    let narrow = || Limits { batch_bytes_max: 300, batch_requests_max: 10, ..small() };
    assert_eq!(sizes(narrow(), &[76, 76, 76]), [3], "300 bytes");
    assert_eq!(sizes(narrow(), &[76, 76, 77]), [2, 1]);
    assert_eq!(sizes(narrow(), &[1_000, 10]), [1, 1], "one always fits");
}

#[test]
fn smr_17_flush_statements_max_and_what_is_reserved() {
    let limits = Limits { flush_statements_max: 10, batch_requests_max: 1, pipeline_max: 50, ..small() };
    let mut world = World::with(3, Limits { checkpoint_interval: 50, ..limits });
    world.node_mut(0).busy = Some(VecDeque::new());
    let said = |world: &World| {
        let own = |action: &&Action| matches!(action, Action::Persist(Record::Own(_)));
        world.node(0).done.iter().filter(own).count()
    };
    for client in 1..=6 {
        world.ask_one(0, client, 1, "work");
        assert_eq!(said(&world), client as usize);
    }
    world.ask_one(0, 7, 1, "work");
    assert_eq!(said(&world), 6, "four places are left for leaving the view");
    world.release(0);
    world.until("all are executed", |world| world.executed(0) == 7);
}

#[test]
fn smr_17_vouch_interval_and_how_many_heads_are_vouched_for() {
    let mut world = World::with(3, Limits { vouch_interval: 5, flushes_kept_max: 15, ..small() });
    world.ask_many(1, 1..25, 1);
    world.run(2);
    let positions = |world: &World| {
        let claims = world.sent.iter().filter_map(|(_, _, message)| match claim_of(message, replica(1)) {
            Some(Claim::Position { of, head, .. }) if *of == replica(0) => Some(head.position.0),
            _ => None,
        });
        claims.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(positions(&world), [5, 10, 15, 20], "told as they are reached");
    ask_log(&mut world, 0);
    assert_eq!(positions(&world), [5, 10, 15, 20]);
    world.ask_many(1, 25..26, 1);
    world.run(1);
    ask_log(&mut world, 0);
    assert_eq!(positions(&world), [10, 15, 20, 25], "the last four");
}

#[test]
fn smr_17_status_interval() {
    let mut world = World::new(3);
    let statuses = |world: &World| {
        let status = |action: &&Action| matches!(action, Action::Broadcast(Message::Status(_)));
        world.node(1).done.iter().filter(status).count()
    };
    let before = statuses(&world);
    let due = world.core(1).wakeup();
    world.now = due.0 - 1;
    world.step(1, Input::Tick);
    assert_eq!(statuses(&world), before);
    world.now = due.0;
    world.step(1, Input::Tick);
    assert_eq!(statuses(&world), before + 1);
}

#[test]
fn smr_17_batches_that_come_before_what_proposes_them() {
    for stashed in [256, 257] {
        let mut world = World::with(3, roomy());
        world.crash(0);
        world.crash(2);
        let bodies: Vec<Batch> = (0..stashed).map(|sequence| batch(1, sequence)).collect();
        let early = world.lie(2, votes_for_nothing(500, stashed), bodies.clone());
        world.inject(2, 1, early);
        let (statement, _) = prepare(0, empty(), world.now, &bodies[0]);
        let proposal = world.lie(0, vec![statement], Vec::new());
        world.inject(0, 1, proposal);
        assert_eq!(world.executed(1), usize::from(stashed == 256), "of {stashed} the first one");
    }
}

#[test]
fn smr_17_decided_claims_of_one_replica() {
    for (claims, known) in [(8, true), (9, false)] {
        let mut world = World::new(3);
        world.cut.insert(2);
        world.ask_many(1, 1..10, 0);
        let headers: Vec<Header> = world.statements(0).into_iter().filter_map(header).collect();
        let mut history = empty();
        for header in headers.iter().take(claims) {
            history = header.follow(history);
            for by in [0, 1] {
                let claim = Claim::Decided { history };
                world.inject(by, 2, Message::Claim(Box::new(signed(by, claim))));
            }
        }
        world.inject(0, 2, Message::Chain(empty(), headers[..1].to_vec()));
        assert_eq!(world.core(2).report().committed, Seq(u64::from(known)), "the first of {claims}");
    }
}

fn header(statement: Statement) -> Option<Header> {
    match statement {
        Statement::Prepare { header, .. } => Some(header),
        Statement::Commit { .. } | Statement::ViewChange { .. } | Statement::NewView { .. } => None,
    }
}

fn checkpoint(signed: &Signed) -> Option<(History, Digest)> {
    match signed.claim {
        Claim::Checkpoint { history, root } => Some((history, root)),
        _ => None,
    }
}

#[test]
fn smr_17_checkpoint_claims_of_one_replica() {
    let run = |first: Vec<WireMessage>| {
        let mut world = World::new(3);
        world.filter(|_, _, message| match message {
            Message::Claim(signed) if checkpoint(&signed).is_some() => None,
            Message::Status(mut status) => {
                status.checkpoint = None;
                Some(Message::Status(status))
            }
            message => Some(message),
        });
        first.into_iter().for_each(|message| world.inject(2, 1, message));
        world.ask_many(1, 1..9, 1);
        world
    };
    let world = run(Vec::new());
    let own = world.node(1).done.iter().find_map(|action| match action {
        Action::Broadcast(Message::Claim(signed)) => checkpoint(signed),
        _ => None,
    });
    let (history, root) = own.expect("a checkpoint");
    let claims = |others: u64| {
        let other = |seq| History { seq: Seq(seq), ..history };
        let all = [history].into_iter().chain((0..others).map(|number| other(1_000 + number)));
        let claims = all.map(|history| Message::Claim(Box::new(signed(2, Claim::Checkpoint { history, root }))));
        claims.collect::<Vec<_>>()
    };
    assert_eq!(run(claims(31)).core(1).report().stable, Seq(8), "32 are remembered");
    assert_eq!(run(claims(32)).core(1).report().stable, Seq(0), "and of 33 not the first");
}

#[test]
fn smr_17_view_changes_of_one_replica() {
    for (left, forgotten) in [(16, false), (17, true)] {
        let mut world = World::with(3, Limits { flush_statements_max: 40, ..small() });
        world.crash(1);
        // It leaves many views, and then names its first VIEW-CHANGE for the last one of them.
        let mut lie: Vec<Statement> = (1..left).map(|target| view_change(target, &[0, 1, 2])).collect();
        lie.push(view_change(19, &[0, 1, 2]));
        let change = |number: u32, position: u64| Change {
            replica: replica(number),
            epoch: Epoch(0),
            position: Position(position),
        };
        let changes = vec![change(1, 1), change(0, 1)];
        lie.push(Statement::NewView { view: View(19), changes, start: empty() });
        let lie = world.lie(1, lie, Vec::new());
        world.inject(1, 2, lie);
        assert_eq!(world.breaches(2, 1).is_empty(), forgotten, "with {left} nobody can say that it was for view 1");
    }
}

#[test]
fn smr_17_timeouts_double_up_to_64_times() {
    let mut world = World::with(3, Limits { view_timeout: 200, status_interval: 100, ..small() });
    world.crash(0);
    world.filter(move |_, _, message| match &message {
        Message::Flush(flush, _) if flush.statements.iter().any(|s| matches!(s, Statement::NewView { .. })) => None,
        _ => Some(message),
    });
    world.ask(1, 1, "work");
    let (mut left, mut known) = (vec![world.now], 0);
    while left.len() < 11 {
        let leaves = |action: &&Action| matches!(action, Action::Persist(Record::Own(Statement::ViewChange { .. })));
        let said = world.node(2).done.iter().filter(leaves).count();
        if said > known {
            left.push(world.now);
            known = said;
        }
        world.run(1);
        assert!(world.now < 1_000_000, "{left:?}");
    }
    let waits: Vec<u64> = left.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let longest = waits.iter().max().expect("some");
    assert!((64 * 200..64 * 200 + 300).contains(longest), "{waits:?}");
    assert!(waits.iter().filter(|wait| **wait >= 64 * 200).count() >= 2, "{waits:?}");
}

#[test]
fn smr_17_faults_that_are_remembered() {
    for replicas in [65, 67] {
        let (mut out, now) = (Vec::new(), OrderedTime(1));
        let config = config(0, replicas, small());
        let verifier = quorate_smr::Verifier::new(&config);
        let device = (record(0, 0), record(0, 0).genesis());
        let mut core = Core::new(config, now, Log::default(), device, &mut out);
        let history = History { seq: Seq(0), digest: Digest::of(b"another") };
        for by in 1..replicas {
            let claim = Message::Claim(Box::new(signed(by, Claim::Decided { history })));
            for _ in 0..2 {
                let verified = verifier.verify(claim.clone()).expect("it is well-formed");
                core.step(now, Input::Message(replica(by), verified), &mut out);
            }
        }
        let told = out.iter().filter(|action| matches!(action, Action::Accuse(_))).count();
        assert_eq!((told, core.report().faults.len()), (64, 64), "each told once, and at most 64");
    }
}

#[test]
fn smr_17_one_request_always_fits() {
    let limits = Limits { pending_bytes_max: 10, batch_bytes_max: 10, request_bytes_max: 100, ..small() };
    let mut world = World::with(3, limits);
    world.ask(1, 1, &"x".repeat(76));
    world.until("it is executed", |world| world.executed(1) == 1 && world.agree());
    let (id, _) = request(1, 1, 1, "");
    assert!(matches!(world.node(1).replies.last(), Some((to, Outcome::Executed(..))) if *to == id));
}
