//! SMR-7 to SMR-10: leaving views and beginning them.

use crate::{
    fixture::replica,
    world::{World, batch, commit, empty, prepare, signed, view_change, wish},
};
use quorate_counter::{Epoch, Position};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    Action, History, Record, Seq, View,
    message::{Change, Claim, Message, Statement, WireMessage},
};
use std::{cell::RefCell, rc::Rc};

fn view_changes(statements: &[Statement]) -> Vec<View> {
    let target = |statement: &Statement| match statement {
        Statement::ViewChange { target, .. } => Some(*target),
        Statement::Prepare { .. } | Statement::Commit { .. } | Statement::NewView { .. } => None,
    };
    statements.iter().filter_map(target).collect()
}

#[test]
fn smr_7_one_who_asks_alone_changes_nothing() {
    let mut world = World::new(3);
    // Nothing reaches replica 2, which thus suspects the primary. Its word reaches the others, who are content.
    world.filter(|_, to, message| (to != replica(2)).then_some(message));
    world.ask(1, 1, "work");
    world.until("it asks", |world| world.core(2).report().changing_to == Some(View(1)));
    world.run(10);
    let wish = |(_, _, message): &(_, _, _)| matches!(message, Message::Status(status) if status.wants.is_some());
    assert!(world.sent.iter().any(wish), "its statuses repeat it");
    assert!((0..3).all(|number| view_changes(&world.statements(number)).is_empty()));
    world.no_filter();
    world.until("the cause is gone", |world| world.agree() && world.core(2).report().changing_to.is_none());
    assert!(world.is_peaceful());
    assert!((0..3).all(|number| world.core(number).view() == View(0)));
}

#[test]
fn smr_7_a_lone_view_change_is_a_breach() {
    let rule = "SMR-7: a VIEW-CHANGE that f + 1 replicas did not ask for";
    let forged = Statement::ViewChange {
        target: View(1),
        requests: vec![wish(2, 1), {
            let mut forged = wish(1, 1);
            forged.by = replica(0);
            forged
        }],
    };
    let lower = Statement::ViewChange { target: View(2), requests: vec![wish(2, 2), wish(1, 1)] };
    let other = signed(1, Claim::Decided { history: empty() });
    let other = Statement::ViewChange { target: View(1), requests: vec![wish(2, 1), other] };
    for lie in [view_change(1, &[]), view_change(1, &[2]), view_change(1, &[2, 2, 2]), forged, lower, other] {
        let mut world = World::new(3);
        world.crash(2);
        let lie = world.lie(2, vec![lie], Vec::new());
        world.inject_all(2, &lie);
        for number in [0, 1] {
            assert_eq!(world.breaches(number, 2), [rule]);
            assert!(view_changes(&world.statements(number)).is_empty());
        }
    }
    let mut world = World::new(3);
    world.crash(2);
    let good = world.lie(2, vec![view_change(1, &[0, 1, 2])], Vec::new());
    world.inject_all(2, &good);
    assert!(world.is_peaceful());
    let both = [0, 1].map(|number| view_changes(&world.statements(number)));
    assert_eq!(both, [vec![View(1)], vec![View(1)]], "what it carries is enough for the others to follow");
}

#[test]
fn smr_7_a_replica_joins_the_view_that_f_plus_1_asked_for() {
    let mut world = World::new(5);
    [0, 2, 3, 4].into_iter().for_each(|number| world.crash(number));
    for (by, target) in [(2, 9), (3, 4), (2, 2)] {
        world.inject(by, 1, Message::Claim(Box::new(wish(by, target))));
    }
    assert!(world.statements(1).is_empty(), "two of five are not enough");
    world.inject(3, 1, Message::Claim(Box::new(wish(4, u64::MAX))));
    let said = world.statements(1);
    let [Statement::ViewChange { target, requests }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*target, View(4), "three asked for view 4 or a later one, and only two for a later one");
    assert_eq!(requests, &[wish(4, u64::MAX), wish(2, 9), wish(3, 4)]);
}

#[test]
fn smr_7_the_wait_doubles_with_each_view_that_brings_nothing_and_progress_resets_it() {
    let mut world = World::new(3);
    world.crash(0);
    // Views are asked for and left, and none begins.
    let begins = |statement: &Statement| matches!(statement, Statement::NewView { .. });
    world.filter(move |_, _, message| match &message {
        Message::Flush(flush, _) if flush.statements.iter().any(begins) => None,
        _ => Some(message),
    });
    // The primaries of views 1 and 2 would both begin their views at home, so nothing of 2 reaches 1.
    world.ask(1, 1, "work");
    let mut left = Vec::new();
    let mut known = 0;
    while left.len() < 4 {
        let said = persisted_view_changes(&world, 2);
        if said > known {
            left.push(world.now);
            known = said;
        }
        world.run(1);
        assert!(world.now < 100_000, "{left:?}");
    }
    let waits: Vec<u64> = left.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.windows(2).all(|pair| pair[1] >= 2 * pair[0] - 200), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait >= 2 * world.limits.view_timeout - 100), "{waits:?}");
    world.no_filter();
    world.until("it is executed", |world| world.executed(1) == 1 && world.agree());
    let primary = world.core(1).report().primary;
    if primary == replica(0) {
        return;
    }
    let (crashed, other) = if primary == replica(1) { (1, 2) } else { (2, 1) };
    let before = world.core(other).view();
    world.crash(crashed);
    world.restart(0);
    world.run(5);
    let since = world.now;
    world.ask(1, 2, "work");
    world.until("the next view is asked for", |world| world.core(other).report().changing_to > Some(before));
    assert!(world.now - since < 2 * world.limits.view_timeout, "the wait is short again");
}

fn persisted_view_changes(world: &World, number: u32) -> usize {
    let left = |action: &&Action| matches!(action, Action::Persist(Record::Own(Statement::ViewChange { .. })));
    world.node(number).done.iter().filter(left).count()
}

#[test]
fn smr_8_a_view_change_with_an_omitted_tail_is_not_read_and_so_loses_nothing() {
    let mut world = World::new(3);
    // Replica 2 hears nothing while 0 and the liar 1 commit a batch.
    world.cut.insert(2);
    world.crash(1);
    world.ask_one(0, 1, 1, "committed");
    let said = world.statements(0);
    let [Statement::Prepare { header, .. }] = &said[..] else { panic!("{said:?}") };
    let history = header.follow(empty());
    let vote = world.lie(1, vec![commit(0, history)], Vec::new());
    world.inject(1, 0, vote.clone());
    assert_eq!(world.core(0).executed(), history);
    // Nobody can say how far the liar's log goes but 0, which is silent from now on.
    world.crash(0);
    world.cut.clear();
    world.inject(1, 2, Message::Claim(Box::new(wish(1, 2))));
    world.inject(1, 2, Message::Claim(Box::new(wish(0, 2))));
    let change = world.lie(1, vec![view_change(2, &[0, 1])], Vec::new());
    world.inject(1, 2, change);
    assert_eq!(view_changes(&world.statements(2)), [View(2)]);
    world.run(5);
    assert_eq!(world.core(2).view(), View(0), "the liar's VIEW-CHANGE is read only after its vote");
    world.inject(1, 2, vote);
    world.run(5);
    assert_eq!(world.core(2).view(), View(0), "and the vote only after what it is for");
    let mut device = world.node(0).device.clone_device();
    device.rollback(Epoch(0), quorate_counter::EpochRecord::genesis(&crate::fixture::record(0, 0)));
    let prepared = crate::world::say(&mut device, said.clone(), vec![one_request(&world)]);
    world.inject(1, 2, prepared);
    world.run(2);
    assert_eq!(world.core(2).view(), View(2));
    let begun = world.statements(2);
    let start = begun.iter().find_map(|statement| match statement {
        Statement::NewView { start, .. } => Some(*start),
        _ => None,
    });
    assert_eq!(start, Some(history), "the view starts with what was committed");
}

fn one_request(world: &World) -> quorate_smr::message::Batch {
    let requests = world.core(0).machine().requests.iter().map(|request| request.as_slice().into()).collect();
    quorate_smr::message::Batch { requests, admission: None }
}

/// Replica 1, primary of view 1 and a liar, has everybody's VIEW-CHANGE for view 1; now it says this.
fn after_view_changes(lie: impl Fn(&World, [Change; 3]) -> Vec<Statement>) -> World {
    let mut world = World::new(3);
    world.ask_many(1, 1..3, 1);
    world.run(2);
    world.crash(1);
    for number in [0, 2] {
        (0..3).for_each(|by| world.inject(1, number, Message::Claim(Box::new(wish(by, 1)))));
    }
    let change = world.lie(1, vec![view_change(1, &[0, 1])], Vec::new());
    world.inject_all(1, &change);
    let change = |number: u32| {
        let said = world.statements(number);
        let at = said.iter().position(|statement| matches!(statement, Statement::ViewChange { .. }));
        let position = match at {
            Some(at) => Position(at as u64 + 1),
            None => world.node(1).device.head().position,
        };
        Change { replica: replica(number), epoch: Epoch(0), position }
    };
    let changes = [change(0), change(1), change(2)];
    let lie = lie(&world, changes);
    let lie = world.lie(1, lie, Vec::new());
    world.inject_all(1, &lie);
    world
}

fn new_view(view: u64, changes: Vec<Change>, start: History) -> Statement {
    Statement::NewView { view: View(view), changes, start }
}

#[test]
fn smr_9_a_new_view_of_f_plus_1_view_changes_begins_and_is_voted_for() {
    let world = after_view_changes(|world, [a, b, _]| vec![new_view(1, vec![a, b], world.core(0).executed())]);
    assert!(world.is_peaceful());
    for number in [0, 2] {
        assert_eq!(world.core(number).view(), View(1));
        let last = world.statements(number).pop();
        let vote = commit(1, world.core(0).executed());
        assert_eq!(last, Some(vote), "SMR-10: its first vote there is for the NEW-VIEW");
    }
}

#[test]
fn smr_9_a_new_view_that_is_not_what_its_view_changes_make_it_is_a_breach() {
    type Lie = fn(&World, [Change; 3]) -> Vec<Statement>;
    let none = "SMR-9: a NEW-VIEW without VIEW-CHANGEs of a quorum of distinct replicas";
    let stale = "SMR-9: a NEW-VIEW with a VIEW-CHANGE that is none, or for another view";
    let wrong = "SMR-9: a NEW-VIEW that starts with something else than its VIEW-CHANGEs make it";
    let lies: [(&str, Lie); 9] = [
        (none, |world, [a, _, _]| vec![new_view(1, vec![a], world.core(0).executed())]),
        (none, |world, _| vec![new_view(1, vec![], world.core(0).executed())]),
        (none, |world, [a, _, _]| vec![new_view(1, vec![a, a], world.core(0).executed())]),
        (wrong, |_, [a, b, _]| vec![new_view(1, vec![a, b], empty())]),
        (wrong, |world, [a, b, _]| vec![new_view(1, vec![a, b], History { seq: Seq(3), ..world.core(0).executed() })]),
        (stale, |world, [a, b, _]| {
            let vote = Change { position: Position(1), ..a };
            vec![new_view(1, vec![vote, b], world.core(0).executed())]
        }),
        // VIEW-CHANGEs for view 1 do not begin view 4, which has the same primary.
        (stale, |world, [a, _, c]| vec![view_change(4, &[0, 1]), new_view(4, vec![a, c], world.core(0).executed())]),
        ("SMR-9: a NEW-VIEW for a view that has another primary", |world, [a, b, _]| {
            vec![new_view(2, vec![a, b], world.core(0).executed())]
        }),
        ("SMR-9: a NEW-VIEW for a view that it left or began already", |world, [a, b, c]| {
            let start = world.core(0).executed();
            vec![new_view(1, vec![a, b], start), new_view(1, vec![b, c], start)]
        }),
    ];
    for (rule, lie) in lies {
        let world = after_view_changes(lie);
        for number in [0, 2] {
            assert_eq!(world.breaches(number, 1), [rule]);
        }
        let begun = rule.ends_with("began already");
        assert_eq!(world.core(0).view(), View(u64::from(begun)), "{rule}");
    }
}

#[test]
fn smr_9_a_view_change_that_was_not_read_yet_is_waited_for() {
    let world = after_view_changes(|world, [a, b, _]| {
        let later = Change { position: Position(a.position.0 + 1), ..a };
        vec![new_view(1, vec![later, b], world.core(0).executed())]
    });
    assert!(world.is_peaceful());
    assert_eq!(world.core(2).view(), View(0));
    assert_eq!(world.waiting(2, 1), 1);
}

#[test]
fn smr_9_what_was_committed_survives_although_one_correct_replica_has_it() {
    let mut world = World::new(3);
    // 0 proposes to 1 only and 1 votes to 0 only: it is committed at 0, which answers its client and crashes.
    world.filter(|_, to, message| (to != replica(2)).then_some(message));
    world.ask_one(0, 1, 1, "committed");
    world.deliver();
    let committed = world.core(0).executed();
    assert_eq!((committed.seq, world.executed(2)), (Seq(1), 0));
    world.crash(0);
    world.no_filter();
    world.ask(2, 1, "after it");
    world.until("it is executed", |world| world.executed(2) == 2);
    assert_eq!(world.core(2).history_at(Seq(1)), Some(committed.digest));
    world.restart(0);
    world.until("all agree", |world| world.executed(0) == 2 && world.agree());
    assert!(world.is_peaceful());
}

#[test]
fn smr_9_a_longer_sequence_of_an_earlier_view_gives_way() {
    let mut world = World::new(3);
    world.cut.insert(0);
    for client in 1..=4 {
        world.ask_one(0, client, 1, "proposed to nobody");
    }
    assert_eq!(world.statements(0).len(), 0, "nothing of it leaves");
    world.ask_one(1, 9, 1, "in view 1");
    world.ask_one(2, 9, 1, "in view 1");
    world.until("view 1 commits", |world| world.executed(1) == 1 && world.executed(2) == 1);
    let (view, committed) = (world.core(1).view(), world.core(1).executed());
    assert_eq!((view, committed.seq), (View(1), Seq(1)));
    // 0 leaves view 0 with four proposals of its own, before it hears of view 1. Then it comes back, and 1 is gone.
    for by in [1, 2] {
        world.inject(by, 0, Message::Claim(Box::new(wish(by, 2))));
    }
    assert!(persisted_view_changes(&world, 0) > 0);
    world.crash(1);
    world.cut.clear();
    world.ask(9, 2, "in a later view");
    world.until("a later view commits", |world| world.executed(2) == 6 && world.executed(0) == 6);
    assert!(world.core(2).view() > View(1));
    for number in [0, 2] {
        assert_eq!(world.core(number).history_at(Seq(1)), Some(committed.digest));
    }
    assert!(world.agree() && world.is_peaceful(), "and what 0 had proposed was proposed again, once");
}

#[test]
fn smr_10_requests_that_wait_are_proposed_again_and_executed_once() {
    let mut world = World::new(3);
    world.ask_many(1, 1..10, 1);
    world.crash(0);
    // One reached both, one reached a backup of the next view only.
    world.ask(1, 10, "waits at both");
    world.ask_one(2, 2, 1, "waits at one");
    world.until("all are executed", |world| world.executed(1) == 11 && world.executed(2) == 11);
    assert_eq!(world.core(1).view(), View(1));
    world.restart(0);
    world.until("all agree", |world| world.executed(0) == 11 && world.agree());
    world.ask_many(1, 11..20, 0);
    world.until("all agree", World::agree);
    assert!(world.is_peaceful());
}

#[test]
fn smr_10_a_new_view_is_voted_for_even_if_nothing_waits() {
    let mut world = World::new(3);
    world.ask_many(1, 1..3, 0);
    world.run(2);
    let executed = world.core(2).executed();
    for by in [0, 1, 2] {
        (0..3).filter(|to| *to != by).for_each(|to| world.inject(by, to, Message::Claim(Box::new(wish(by, 1)))));
    }
    world.until("all are in view 1", |world| (0..3).all(|number| world.core(number).view() == View(1)));
    world.run(2);
    for number in [0, 2] {
        assert_eq!(world.statements(number).pop(), Some(commit(1, executed)));
    }
    let begun = |statement: &Statement| matches!(statement, Statement::NewView { start, .. } if *start == executed);
    assert!(world.statements(1).iter().any(begun));
}

#[test]
fn smr_10_withheld_and_garbage_batches_end_the_view_and_lose_nothing() {
    let garbage = quorate_smr::message::Batch { requests: vec![b"short".as_slice().into()], admission: None };
    for bodies in [Vec::new(), vec![batch(7, 7)], vec![garbage]] {
        let mut world = World::new(3);
        world.crash(0);
        let (withheld, history) = prepare(0, empty(), world.now, &batch(1, 1));
        let lie = world.lie(0, vec![withheld], bodies);
        world.inject_all(0, &lie);
        world.ask(1, 1, "from an honest client");
        world.until("another view executes it", |world| world.executed(1) == 1 && world.executed(2) == 1);
        assert!(world.core(1).view() > View(0));
        assert_ne!(world.core(1).history_at(Seq(1)), Some(history.digest));
        assert!(world.agree() && world.is_peaceful());
    }
}

#[test]
fn smr_10_two_of_five_crash_and_nothing_is_lost() {
    let mut world = World::new(5);
    world.ask_many(1, 1..12, 3);
    world.crash(0);
    world.crash(1);
    world.ask_many(1, 12..24, 3);
    assert!(world.core(3).view() >= View(2));
    world.restart(0);
    world.restart(1);
    world.ask_many(1, 24..30, 0);
    world.until("all agree", |world| world.executed(1) == 29 && world.agree());
    assert!(world.is_peaceful());
}

#[test]
fn smr_10_a_view_begins_with_messages_late_and_in_another_order() {
    // What the primary of view 1 says comes to replica 2 before what it builds on.
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 1);
    world.crash(0);
    let held: Rc<RefCell<Vec<(ReplicaId, WireMessage)>>> = Rc::default();
    let keep = Rc::clone(&held);
    world.filter(move |from, to, message| {
        if to == replica(2) && matches!(message, Message::Flush(..)) {
            keep.borrow_mut().push((from, message));
            return None;
        }
        Some(message)
    });
    world.ask(1, 4, "for view 1");
    world.until("it begins at 1", |world| world.core(1).view() == View(1));
    world.no_filter();
    let held: Vec<_> = held.borrow_mut().drain(..).collect();
    for (from, message) in held.into_iter().rev() {
        world.inject(from.number(), 2, message);
    }
    world.until("both executed it", |world| world.executed(1) == 4 && world.executed(2) == 4);
    assert!(world.agree() && world.is_peaceful());
}
