//! SMR-1 and SMR-6: how logs are read.

use crate::{
    fixture::{record, replica},
    world::{World, batch, commit, empty, prepare, say},
};
use quorate_counter::{Certificate, Epoch, Position};
use quorate_smr::{
    FaultKind,
    message::{Flush, Message, WireMessage},
};
use std::sync::Arc;

fn flush_of(message: &WireMessage) -> Flush {
    match message {
        Message::Flush(flush, _) => (**flush).clone(),
        other => panic!("not a flush: {other:?}"),
    }
}

#[test]
fn smr_1_a_gap_is_fetched_and_everything_is_read_in_order() {
    let mut world = World::new(3);
    world.cut.insert(2);
    world.ask_many(1, 1..6, 0);
    world.cut.clear();
    // Only new parts of logs arrive by themselves, and nobody says how far the logs are.
    world.filter(|_, to, message| {
        let tells = matches!(message, Message::Status(_) | Message::Chain(..));
        (to != replica(2) || !tells).then_some(message)
    });
    let before = world.position(2, 0);
    world.ask(1, 6, "after the gap");
    let asked = world.sent.iter().any(|(from, _, message)| {
        let (of, epoch, after) = (replica(0), Epoch(0), Position(before));
        *from == replica(2) && *message == Message::FetchFlushes { of, epoch, after }
    });
    assert!(asked, "it asks for what follows position {before}");
    assert_eq!(world.position(2, 0), 6, "one PREPARE for each request");
    world.until("it has the batches too", |world| world.executed(2) == 6);
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_1_nothing_beyond_a_gap_counts_and_nothing_in_it_is_skipped() {
    let mut world = World::new(3);
    world.crash(0);
    let (one, two) = (batch(1, 1), batch(2, 1));
    let (first, history) = prepare(0, empty(), world.now, &one);
    let (second, history) = prepare(0, history, world.now, &two);
    let first = world.lie(0, vec![first], vec![one]);
    let second = world.lie(0, vec![second], vec![two]);
    world.inject_all(0, &second);
    assert_eq!(world.position(1, 0), 0);
    assert!(world.statements(1).is_empty(), "no vote for what follows a gap");
    world.inject_all(0, &first);
    assert_eq!(world.position(1, 0), 2, "what was beyond the gap had been kept");
    // Its batch was not: nothing could be checked of it then.
    world.inject_all(0, &Message::Bodies(vec![Arc::new(batch(2, 1))]));
    assert_eq!(world.core(1).executed(), history);
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_1_a_flush_that_its_device_did_not_attest_is_as_good_as_lost() {
    let mut world = World::new(3);
    world.crash(0);
    let one = batch(1, 1);
    let (statement, _) = prepare(0, empty(), world.now, &one);
    let good = world.lie(0, vec![statement], vec![one]);
    let forge = |change: &dyn Fn(&mut Flush)| {
        let mut flush = flush_of(&good);
        change(&mut flush);
        Message::Flush(Arc::new(flush), Vec::new())
    };
    let other = prepare(0, empty(), world.now + 1, &batch(1, 1)).0;
    for forged in [
        forge(&|flush| flush.certificate = Certificate(vec![7; 32])),
        forge(&|flush| flush.certificate = Certificate(Vec::new())),
        forge(&|flush| flush.statements.push(flush.statements[0].clone())),
        forge(&|flush| flush.statements[0] = other.clone()),
        forge(&|flush| flush.epoch = Epoch(1)),
        forge(&|flush| flush.replica = replica(2)),
    ] {
        world.inject(2, 1, forged);
        assert_eq!(world.position(1, 0), 0);
        assert_eq!(world.position(1, 2), 0);
    }
    assert!(world.node(1).faults.is_empty(), "whoever relays it may not have made it");
    world.inject(2, 1, good);
    assert_eq!(world.position(1, 0), 1);
}

#[test]
fn smr_1_nothing_is_lost_when_parts_of_logs_overlap() {
    let mut world = World::new(3);
    world.crash(0);
    let batches = [batch(1, 1), batch(2, 1), batch(3, 1)];
    let mut device = world.node(0).device.clone_device();
    let (mut histories, mut statements) = (vec![empty()], Vec::new());
    for batch in &batches {
        let (statement, history) = prepare(0, histories[histories.len() - 1], world.now, batch);
        histories.push(history);
        statements.push(statement);
    }
    let one = say(&mut world.node(0).device.clone_device(), statements[..1].to_vec(), batches[..1].to_vec());
    let all = say(&mut device, statements, batches.to_vec());
    world.inject(0, 1, one.clone());
    world.inject(0, 1, all.clone());
    world.inject(0, 1, one);
    world.inject(0, 1, all);
    assert_eq!(world.position(1, 0), 3);
    assert!(world.is_peaceful());
}

/// Two flushes of a log that was cloned, given to one replica in this order, are proof, and nothing after them counts.
fn is_caught(one: usize, other: usize) {
    let mut world = World::new(3);
    world.crash(0);
    let mut twins = [world.node(0).device.clone_device(), world.node(0).device.clone_device()];
    let mut lies = Vec::new();
    for (client, (twin, statements)) in twins.iter_mut().zip([one, other]).enumerate() {
        let (mut said, mut batches, mut history) = (Vec::new(), Vec::new(), empty());
        for sequence in 0..statements as u64 {
            let batch = batch(client as u64, sequence);
            let (statement, after) = prepare(0, history, world.now, &batch);
            (said, batches, history) = ([said, vec![statement]].concat(), [batches, vec![batch]].concat(), after);
        }
        lies.push(say(twin, said, batches));
    }
    world.inject(0, 1, lies[0].clone());
    assert!(world.is_peaceful());
    world.inject(0, 1, lies[1].clone());
    let fault = world.node(1).faults.first().unwrap_or_else(|| panic!("{one} and {other} statements: not caught"));
    assert_eq!(fault.replica, replica(0));
    let FaultKind::Forked { epoch, fork } = &fault.kind else { panic!("{fault:?}") };
    let log = record(0, epoch.0);
    assert_eq!(fork.from, log.genesis());
    assert!(fork.one.0.iter().zip(&fork.other.0).any(|(one, other)| one != other));
    for (digests, certificate) in [&fork.one, &fork.other] {
        let end = log.extend(fork.from, digests.iter().copied());
        assert_eq!(log.verify(end, certificate), Ok(()), "anybody can check it");
    }
    let (statement, _) = prepare(0, empty(), world.now, &batch(9, 9));
    let read = world.position(1, 0);
    let more = say(&mut twins[0], vec![statement], Vec::new());
    world.inject(0, 1, more);
    assert_eq!(world.position(1, 0), read, "nothing more of this epoch counts");
}

#[test]
fn smr_1_two_histories_of_one_log_prove_that_it_forked() {
    is_caught(1, 1);
    is_caught(3, 3);
}

#[test]
fn smr_1_a_fork_is_proven_even_if_it_ends_elsewhere_than_what_was_read() {
    is_caught(3, 2);
    is_caught(2, 3);
}

#[test]
fn smr_6_what_a_statement_depends_on_is_waited_for() {
    let mut world = World::new(3);
    // The backup's COMMIT comes before the PREPARE that it is for.
    world.filter(|from, to, message| {
        let held = matches!(message, Message::Flush(..)) && from == replica(0) && to == replica(2);
        (!held).then_some(message)
    });
    world.ask(1, 1, "first");
    assert_eq!((world.waiting(2, 1), world.position(2, 1)), (1, 0));
    assert_eq!(world.executed(2), 0);
    world.no_filter();
    world.until("the rest has come", |world| world.executed(2) == 1);
    assert_eq!((world.waiting(2, 1), world.position(2, 1)), (0, 1));
    assert!(world.is_peaceful());
}

#[test]
fn smr_6_a_statement_is_accepted_by_whoever_is_in_another_view_already() {
    let mut world = World::new(3);
    world.crash(0);
    world.ask_many(1, 1..2, 1);
    assert_eq!(world.core(1).view().0, 1);
    let (one, read) = (batch(2, 1), world.position(1, 0));
    let (statement, history) = prepare(0, empty(), world.now, &one);
    let late = world.lie(0, vec![statement], vec![one]);
    world.inject_all(0, &late);
    assert_eq!(world.position(1, 0), read + 1, "a PREPARE of a view that is over breaks no rule, and changes nothing");
    assert_ne!(world.core(1).executed(), history);
    let (one, two) = (batch(2, 1), batch(2, 2));
    let (_, history) = prepare(0, empty(), world.now, &one);
    let (statement, _) = prepare(0, history, world.now, &two);
    let later = world.lie(0, vec![statement], vec![two]);
    world.inject_all(0, &later);
    assert!(world.agree() && world.is_peaceful());
    let breach = world.lie(0, vec![commit(0, history)], Vec::new());
    world.inject_all(0, &breach);
    for number in [1, 2] {
        assert_eq!(world.breaches(number, 0), ["SMR-4: a COMMIT of the primary"]);
    }
}
