//! SMR-2 to SMR-5: votes, what they commit, and the batches behind them.

use crate::{
    fixture::{replica, small},
    world::{World, batch, commit, empty, prepare, view_change},
};
use quorate_protocol::digest::Digest;
use quorate_smr::{
    History, Limits, Seq, View,
    message::{Batch, Header, Message, Statement},
};
use std::{collections::VecDeque, sync::Arc};

/// A cluster whose replica 1 is down and whose backup 2 lies: nothing is committed without the liar's vote.
fn world_with_a_lying_backup() -> World {
    let mut world = World::new(3);
    world.crash(1);
    world.crash(2);
    world
}

#[test]
fn smr_2_nothing_of_a_left_view_counts_and_a_breach_is_proof() {
    let mut world = world_with_a_lying_backup();
    world.ask(1, 1, "with a vote");
    let upto = world.core(0).report();
    assert_eq!(upto.executed.seq, Seq(0), "one vote is not enough");
    let history = |world: &World| proposed(world, 1);
    let vote = commit(0, history(&world));
    let vote = world.lie(2, vec![vote], Vec::new());
    world.inject(2, 0, vote);
    assert_eq!(world.executed(0), 1, "such a vote counts");

    world.ask(1, 2, "with a vote after leaving");
    let vote = commit(0, proposed(&world, 2));
    let lie = world.lie(2, vec![view_change(1, &[1, 2]), vote], Vec::new());
    world.inject(2, 0, lie);
    assert_eq!(world.breaches(0, 2), ["SMR-2: a COMMIT after it left the view"]);
    assert_eq!(world.executed(0), 1, "and now it does not");
    world.run(3);
    assert_eq!(world.executed(0), 1);
}

/// The history after the first so many batches that replica 0 proposed in view 0.
fn proposed(world: &World, batches: u64) -> History {
    let mut history = empty();
    for statement in world.statements(0) {
        if let Statement::Prepare { view: View(0), header } = statement
            && header.seq <= Seq(batches)
        {
            history = header.follow(history);
        }
    }
    assert_eq!(history.seq, Seq(batches));
    history
}

#[test]
fn smr_2_a_prepare_after_leaving_and_a_view_change_that_goes_back_are_proof() {
    let after_leaving = |world: &World| vec![view_change(3, &[0, 2]), prepare(0, empty(), world.now, &batch(1, 1)).0];
    breach(after_leaving, "SMR-2: a PREPARE after it left the view");
    breach(|_| vec![view_change(3, &[0, 2]), view_change(2, &[0, 2])], "SMR-2: a VIEW-CHANGE that goes back");
    breach(|_| vec![view_change(3, &[0, 2]), view_change(3, &[0, 2])], "SMR-2: a VIEW-CHANGE that goes back");
}

/// What the primary of view 0 must not say, and the rule that it breaks. Both others notice.
fn breach(lie: impl Fn(&World) -> Vec<Statement>, rule: &str) {
    let mut world = World::new(3);
    world.crash(0);
    let lie = lie(&world);
    let statements = lie.len() as u64;
    let lie = world.lie(0, lie, Vec::new());
    world.inject_all(0, &lie);
    for number in [1, 2] {
        assert_eq!(world.breaches(number, 0), [rule]);
        assert_eq!(world.position(number, 0), statements - 1, "{rule}: it ends there");
    }
}

#[test]
fn smr_3_prepares_leave_nothing_out_and_repeat_nothing() {
    let rule = "SMR-3: a PREPARE that leaves places out or repeats one";
    let (one, two) = (batch(1, 1), batch(1, 2));
    breach(
        |world| {
            let (first, history) = prepare(0, empty(), world.now, &one);
            let skipped = History { seq: Seq(2), ..history };
            vec![first, prepare(0, skipped, world.now, &two).0]
        },
        rule,
    );
    breach(|world| vec![prepare(0, empty(), world.now, &one).0, prepare(0, empty(), world.now, &two).0], rule);
}

/// What a backup must not say after its COMMIT up to the first of two batches.
fn breach_of_a_backup(lie: impl Fn(History, History) -> Statement, rule: &str) {
    let mut world = world_with_a_lying_backup();
    world.ask(1, 1, "one");
    let first = proposed(&world, 1);
    let vote = world.lie(2, vec![commit(0, first)], Vec::new());
    world.inject(2, 0, vote);
    world.ask(1, 2, "two");
    let second = proposed(&world, 2);
    let lie = world.lie(2, vec![lie(first, second)], Vec::new());
    world.inject(2, 0, lie);
    assert_eq!(world.breaches(0, 2), [rule]);
    assert_eq!(world.executed(0), 1, "{rule}: it does not count");
}

#[test]
fn smr_3_commits_go_on_and_name_what_was_proposed() {
    breach_of_a_backup(|first, _| commit(0, first), "SMR-3: a COMMIT that votes for nothing new");
    breach_of_a_backup(
        |first, second| commit(0, History { seq: second.seq, ..first }),
        "SMR-3: a COMMIT for something else than was proposed",
    );
}

#[test]
fn smr_4_primary_and_backup_keep_to_what_is_theirs() {
    breach(|_| vec![commit(0, empty())], "SMR-4: a COMMIT of the primary");
    breach(
        |world| vec![prepare(1, empty(), world.now, &batch(1, 1)).0],
        "SMR-4: a PREPARE for a view that has another primary",
    );
    breach(
        |world| vec![prepare(3, empty(), world.now, &batch(1, 1)).0],
        "SMR-9: a PREPARE for a view that it did not begin",
    );
}

#[test]
fn smr_3_a_commit_is_cumulative_and_carries_no_batches() {
    let mut world = World::new(3);
    world.crash(2);
    world.node_mut(1).busy = Some(VecDeque::new());
    for sequence in 1..=5 {
        world.ask(sequence, 1, "while the backup's trusted log is busy");
    }
    world.release(1);
    world.until("all are executed", |world| world.executed(0) == 5 && world.executed(1) == 5);
    let places: Vec<Seq> = world.statements(1).iter().filter_map(upto).collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(places.first(), Some(&Seq(1)), "the first one was on its way already");
    let batches = world.core(0).executed().seq;
    assert_eq!(places.last(), Some(&batches));
    assert!(places.len() < batches.0 as usize, "{places:?} for {batches} batches: one vote covers several");
    for (from, _, message) in &world.sent {
        if let Message::Flush(flush, bodies) = message {
            let prepares = flush.statements.iter().filter(|said| matches!(said, Statement::Prepare { .. })).count();
            assert!(bodies.len() <= prepares, "a batch travels with its PREPARE only");
            assert!(*from == replica(0) || bodies.is_empty());
        }
    }
}

fn upto(statement: &Statement) -> Option<Seq> {
    match statement {
        Statement::Commit { upto, .. } => Some(upto.seq),
        Statement::Prepare { .. } | Statement::ViewChange { .. } | Statement::NewView { .. } => None,
    }
}

#[test]
fn smr_4_requests_are_executed_alike_by_all() {
    let mut world = World::new(3);
    world.ask_many(1, 1..30, 0);
    world.until("all have them", |world| (0..3).all(|number| world.executed(number) == 29));
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_4_committed_is_what_f_plus_1_voted_for_and_not_less() {
    for (replicas, down) in [(3, 1), (5, 2), (7, 3)] {
        let mut world = World::new(replicas);
        for number in replicas - down..replicas {
            world.crash(number);
        }
        world.cut.insert(1);
        world.ask(1, 1, "one vote short");
        world.run(3);
        assert!((0..replicas).all(|number| world.executed(number) == 0), "{replicas} replicas: f votes do not commit");
        world.cut.clear();
        world.until("f + 1 votes commit", |world| (0..replicas - down).all(|number| world.executed(number) == 1));
        assert!(world.agree() && world.is_peaceful());
        assert_eq!(world.core(0).view(), View(0));
    }
}

#[test]
fn smr_4_batches_are_executed_in_order_even_if_they_come_in_another() {
    let mut world = World::new(3);
    world.crash(0);
    let (one, two) = (batch(1, 1), batch(2, 1));
    let (first, history) = prepare(0, empty(), world.now, &one);
    let (second, history) = prepare(0, history, world.now, &two);
    let both = world.lie(0, vec![first, second], vec![two.clone()]);
    world.inject_all(0, &both);
    assert_eq!(world.executed(1), 0);
    assert!(world.statements(1).is_empty(), "SMR-5: no vote for a batch that is not here");
    world.inject(0, 1, Message::Bodies(vec![Arc::new(one.clone())]));
    assert_eq!((world.executed(1), world.executed(2)), (2, 0));
    world.inject(0, 2, Message::Bodies(vec![Arc::new(one.clone())]));
    assert_eq!(world.core(1).executed(), history);
    assert_eq!(world.core(2).executed(), history);
    let payload = |batch: &Batch| batch.requests[0].to_vec();
    assert_eq!(world.core(1).machine().requests, [payload(&one), payload(&two)]);
}

#[test]
fn smr_5_a_batch_that_did_not_come_is_fetched_from_whoever_voted_for_it() {
    let mut world = World::new(3);
    // The primary gives the batch to one backup only, and answers no question about it.
    world.filter(|from, to, message| match message {
        Message::Flush(flush, _) if to == replica(2) => Some(Message::Flush(flush, Vec::new())),
        Message::Bodies(_) if from == replica(0) => None,
        message => Some(message),
    });
    world.ask_one(0, 1, 1, "for some");
    world.deliver();
    assert_eq!((world.executed(0), world.executed(1), world.executed(2)), (1, 1, 0));
    world.until("the other one has it too", |world| world.executed(2) == 1);
    let gave = |(from, to, message): &(_, _, _)| {
        *from == replica(1) && *to == replica(2) && matches!(message, Message::Bodies(_))
    };
    assert!(world.sent.iter().any(gave));
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_5_a_batch_is_served_until_a_stable_checkpoint_has_passed_it() {
    let mut world = World::new(3);
    world.ask_many(1, 1..2, 1);
    world.until("all", World::agree);
    let first = world.statements(0).iter().find_map(batch_of).expect("a proposal");
    let serves = |world: &mut World| {
        world.sent.clear();
        world.inject(2, 1, Message::FetchBodies(vec![first]));
        let gave = world.sent.iter().any(|(_, _, message)| matches!(message, Message::Bodies(_)));
        let stable = world.sent.iter().any(|(_, _, message)| matches!(message, Message::Stable(_)));
        assert!(gave != stable, "either the batch, or the proof that it is not needed any more");
        gave
    };
    assert!(serves(&mut world));
    world.ask_many(1, 2..8, 1);
    world.run(2);
    assert_eq!(world.core(1).report().stable, Seq(0));
    assert!(serves(&mut world), "no checkpoint covers it yet");
    world.ask_many(1, 8..30, 1);
    world.run(2);
    assert!(world.core(1).report().stable >= Seq(16));
    assert!(!serves(&mut world));
}

fn batch_of(statement: &Statement) -> Option<Digest> {
    match statement {
        Statement::Prepare { header: Header { batch, .. }, .. } => Some(*batch),
        Statement::Commit { .. } | Statement::ViewChange { .. } | Statement::NewView { .. } => None,
    }
}

#[test]
fn smr_5_nobody_votes_for_a_batch_unlike_its_digest() {
    let mut world = World::with(3, Limits { view_timeout: 1_000_000, ..small() });
    world.crash(0);
    let (said, other) = (batch(1, 1), batch(1, 2));
    let (statement, history) = prepare(0, empty(), world.now, &said);
    let lie = world.lie(0, vec![statement], vec![other]);
    world.inject_all(0, &lie);
    world.run(3);
    assert!(world.statements(1).is_empty() && world.statements(2).is_empty());
    world.inject(0, 1, Message::Bodies(vec![Arc::new(said)]));
    world.until("one that is right heals it", |world| world.executed(2) == 1);
    assert_eq!(world.core(2).executed(), history);
    assert!(world.agree());
}
