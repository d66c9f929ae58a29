//! SMR-15: the order's time.

use crate::{
    fixture::small,
    world::{World, batch, empty, prepare},
};
use quorate_protocol::ids::OrderedTime;
use quorate_smr::{Limits, View};

#[test]
fn smr_15_time_is_the_primarys_and_the_same_everywhere() {
    let mut world = World::new(3);
    world.ask_many(1, 1..20, 0);
    world.until("all have it", World::agree);
    let times = &world.core(0).machine().times;
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]) && times.len() > 10);
    assert!((1..3).all(|number| world.core(number).machine().times == *times));
    assert!(*times.last().expect("some") <= world.now);
}

#[test]
fn smr_15_time_does_not_go_back_when_the_next_primary_has_a_slower_clock() {
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 0);
    world.crash(0);
    // The liar speaks for the old primary: it is ahead of all clocks, within the bound.
    let ahead = world.now + world.limits.clock_ahead_max - 500;
    let one = batch(7, 1);
    let (statement, _) = prepare(0, world.core(1).executed(), ahead, &one);
    let lie = world.lie(0, vec![statement], vec![one]);
    world.inject_all(0, &lie);
    assert_eq!(world.core(1).machine().times.last(), Some(&ahead));
    world.ask(1, 4, "in the next view");
    world.until("it is executed", |world| world.executed(1) == 5 && world.executed(2) == 5);
    assert!(world.core(1).view() > View(0) && world.now < ahead);
    assert_eq!(world.core(1).machine().times.last(), Some(&ahead), "time stands until the clocks are there");
    assert!(world.is_peaceful());
}

/// Whether the backups vote for a batch of this time after one of the present time.
fn is_voted_for(world: &mut World, time: u64) -> bool {
    world.crash(0);
    let (one, two) = (batch(1, 1), batch(1, 2));
    let (first, history) = prepare(0, empty(), world.now, &one);
    let (second, history) = prepare(0, history, time, &two);
    let lie = world.lie(0, vec![first, second], vec![one, two]);
    world.inject_all(0, &lie);
    assert!(world.executed(1) >= 1, "the first one is sound");
    world.core(1).executed() == history
}

#[test]
fn smr_15_a_time_before_the_last_one_is_not_voted_for() {
    let mut world = World::new(3);
    let now = world.now;
    assert!(is_voted_for(&mut world, now));
    let mut world = World::new(3);
    assert!(!is_voted_for(&mut world, now - 1));
    world.run(50);
    assert_eq!(world.executed(1), 1, "and never will be");
}

#[test]
fn smr_15_a_time_too_far_ahead_waits_until_clocks_come_near() {
    let limits = || Limits { clock_ahead_max: 2_000, view_timeout: 100_000, ..small() };
    let mut world = World::with(3, limits());
    let latest = world.now + 2_000;
    assert!(is_voted_for(&mut world, latest), "at the bound");
    let mut world = World::with(3, limits());
    assert!(!is_voted_for(&mut world, latest + 1), "one above it");
    world.run(1);
    assert_eq!(world.executed(1), 2, "the clocks have moved on");
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_15_a_deadline_is_met_by_ordered_time_only() {
    let mut world = World::new(3);
    let deadline = world.now + 400;
    world.ask(1, 1, &format!("deadline {deadline}"));
    world.until("it is set", |world| (0..3).all(|number| world.core(number).machine().deadline.is_some()));
    // The backups' clocks pass it, and the primary's word does not reach them.
    world.cut.insert(0);
    world.crash(0);
    while world.now < deadline + 300 {
        world.run(1);
    }
    assert!((1..3).all(|number| world.core(number).machine().fired == 0), "no clock of their own decides");
    world.until("another primary orders it", |world| (1..3).all(|number| world.core(number).machine().fired == 1));
    assert!(world.core(1).view() > View(0), "whoever lets a deadline pass is suspected");
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_15_an_empty_batch_is_ordered_when_a_deadline_is_due() {
    let mut world = World::new(3);
    let deadline = world.now + 130;
    world.ask(1, 1, &format!("deadline {deadline}"));
    let batches = world.core(0).executed().seq;
    assert_eq!(world.core(0).wakeup(), OrderedTime(world.now + world.limits.status_interval));
    world.run(2);
    assert_eq!(world.core(0).wakeup(), OrderedTime(deadline), "the primary wakes up for it");
    assert_eq!(world.core(0).executed().seq, batches, "nothing is ordered before");
    world.run(1);
    assert_eq!(world.core(0).executed().seq, batches.next());
    world.run(3);
    assert_eq!(world.core(0).executed().seq, batches.next(), "once");
    assert!((0..3).all(|number| world.core(number).machine().fired == 1 && world.executed(number) == 1));
    assert_eq!(world.core(1).view(), View(0));
}
