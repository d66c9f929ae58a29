//! SMR-12 and SMR-13: replicas that start again, with what they kept and without.

use crate::{
    fixture::{replica, small},
    world::{Disk, World, commit, empty, signed, view_change},
};
use quorate_counter::{Epoch, Head, Position, TrustedLog};
use quorate_protocol::digest::Digest;
use quorate_smr::{
    Action, History, Limits, Payload, Record, RestoreError, Seq, View,
    message::{Claim, Header, Message, Signed, Standing, Statement},
};
use std::collections::{BTreeSet, VecDeque};

fn epoch(world: &World, number: u32) -> Epoch {
    world.core(number).report().epoch
}

fn is_voting(world: &World, number: u32) -> bool {
    world.core(number).report().voting
}

fn own_flush(action: &Action, number: u32) -> Option<&[Statement]> {
    match action {
        Action::Broadcast(Message::Flush(flush, _)) if flush.replica == replica(number) => Some(&flush.statements),
        _ => None,
    }
}

#[test]
fn smr_13_statements_are_persisted_before_they_are_attested_and_attested_before_they_are_sent() {
    let mut world = World::new(3);
    world.ask_many(1, 1..12, 1);
    world.crash(0);
    world.ask_many(1, 12..24, 1);
    for number in 0..3 {
        let (mut persisted, mut attested, mut sent) = (BTreeSet::new(), BTreeSet::new(), 0);
        for action in &world.node(number).done {
            match action {
                Action::Persist(Record::Own(statement)) => assert!(persisted.insert(statement.digest())),
                Action::Attest(digests) => {
                    assert!(digests.iter().all(|digest| persisted.contains(digest)), "persisted first");
                    attested.extend(digests.iter().copied());
                }
                other => {
                    let statements = own_flush(other, number).unwrap_or_default();
                    assert!(statements.iter().all(|said| attested.contains(&said.digest())), "attested first");
                    sent += statements.len();
                }
            }
        }
        assert!(sent >= 8, "{sent}");
    }
}

#[test]
fn smr_13_equal_goes_on() {
    let mut world = World::new(3);
    world.ask_many(1, 1..6, 2);
    world.run(2);
    world.crash(2);
    world.restart(2);
    assert!(!is_voting(&world, 2), "not before it heard what others know of it");
    world.run(3);
    assert!(is_voting(&world, 2));
    let said = world.statements(2).len();
    world.ask_many(1, 6..12, 2);
    assert!(world.statements(2).len() > said);
    assert_eq!(epoch(&world, 2), Epoch(0));
    assert!(world.is_peaceful());
}

/// Replica 1 crashed with a vote on its disk, and its trusted log has it or not.
fn restarted_in_between(attested: bool) {
    let mut world = World::new(3);
    world.crash(2);
    world.node_mut(1).busy = Some(VecDeque::new());
    world.ask(1, 1, "work");
    let waiting = world.node_mut(1).busy.clone().expect("it is busy");
    let [digests] = &Vec::from(waiting)[..] else { panic!("one attestation at a time") };
    if attested {
        world.node_mut(1).device.append(digests).expect("it works");
    }
    world.crash(1);
    world.run(1);
    assert_eq!(world.executed(0), 0, "the vote never left");
    let before = world.node(1).done.len();
    world.restart(1);
    let Action::Attest(again) = &world.node(1).done[before] else { panic!("{:?}", world.node(1).done[before]) };
    assert_eq!(again.len(), usize::from(!attested), "what the device lacks is appended, and no more");
    world.deliver();
    assert_eq!(world.executed(0), 1, "the vote is sent");
    world.until("it goes on", |world| is_voting(world, 1) && world.executed(1) == 1);
    assert_eq!(epoch(&world, 1), Epoch(0));
    assert!(world.is_peaceful());
}

#[test]
fn smr_13_a_device_that_is_one_flush_behind_is_given_it() {
    restarted_in_between(false);
}

#[test]
fn smr_13_a_device_that_attested_what_was_not_sent_attests_it_again() {
    restarted_in_between(true);
}

/// Replica 2 was restarted and gave its epoch up; it comes back, and votes from the next view on and not before.
fn comes_back(world: &mut World) {
    world.until("it is admitted", |world| {
        let admitted = |number: u32| {
            let report = world.core(number).report();
            report.peers.iter().find(|peer| peer.replica == replica(2)).map(|peer| peer.epoch)
        };
        epoch(world, 2) > Epoch(0) && (0..2).all(|number| admitted(number) == Some(epoch(world, 2)))
    });
    world.until("it has caught up", World::agree);
    let view = world.core(0).view();
    let said = |world: &World| {
        let new = world.sent.iter().filter_map(|(_, _, message)| match message {
            Message::Flush(flush, _) if flush.replica == replica(2) && flush.epoch > Epoch(0) => Some(flush),
            _ => None,
        });
        new.flat_map(|flush| flush.statements.iter().map(Statement::view)).collect::<Vec<_>>()
    };
    let sequence = world.executed(0) as u64 + 1;
    world.ask_many(1, sequence..sequence + 3, 2);
    assert_eq!(world.core(0).view(), view);
    assert!(said(world).iter().all(|said| *said > view), "it does not vote in the view that admitted it");
    world.crash(view.primary(3).number());
    world.ask_many(1, sequence + 3..sequence + 6, 2);
    assert!(world.core(2).view() > view);
    assert!(said(world).iter().all(|said| *said > view) && !said(world).is_empty());
    assert!(is_voting(world, 2) && world.agree() && world.is_peaceful());
}

#[test]
fn smr_13_an_old_disk_costs_the_epoch() {
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 2);
    let disk = world.node(2).disk.clone();
    world.ask_many(1, 4..8, 2);
    world.crash(2);
    let before = world.node(2).done.len();
    world.restart_from(2, disk).expect("it can be read");
    assert!(matches!(world.node(2).done[before], Action::Renew(_)), "the device is ahead of the disk");
    comes_back(&mut world);
}

#[test]
fn smr_13_a_device_that_lost_its_place_costs_the_epoch() {
    let mut world = World::new(3);
    world.ask_many(1, 1..8, 2);
    world.crash(2);
    world.node_mut(2).device.restart();
    world.restart(2);
    comes_back(&mut world);
}

#[test]
fn smr_13_whoever_is_known_to_have_said_more_gives_its_epoch_up() {
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 2);
    let (disk, head) = (world.node(2).disk.clone(), world.node(2).device.head());
    world.ask_many(1, 4..8, 2);
    world.crash(2);
    // Both are back where they were: nothing is wrong as far as the replica itself can see.
    world.node_mut(2).device.rollback(Epoch(0), head);
    let before = world.node(2).done.len();
    world.restart_from(2, disk).expect("it can be read");
    world.ask(1, 8, "a temptation");
    comes_back(&mut world);
    let done = &world.node(2).done[before..];
    let renewed = done.iter().position(|action| matches!(action, Action::Renew(_))).expect("it gave up");
    let said = |action: &Action| matches!(action, Action::Attest(_) | Action::Persist(Record::Own(_)));
    assert!(!done[..renewed].iter().any(said), "and had said nothing before");
}

#[test]
fn smr_12_a_wiped_replica_learns_is_admitted_and_votes_from_the_next_view_on() {
    let mut world = World::new(3);
    world.ask_many(1, 1..6, 2);
    world.crash(2);
    world.restart_wiped(2);
    comes_back(&mut world);
}

#[test]
fn smr_12_a_wiped_replica_learns_from_checkpoints_what_logs_no_longer_have() {
    let mut world = World::with(3, Limits { flushes_kept_max: 12, vouch_interval: 4, ..small() });
    world.ask_many(1, 1..60, 2);
    world.crash(2);
    world.ask_many(1, 60..100, 1);
    world.restart_wiped(2);
    comes_back(&mut world);
}

#[test]
fn smr_12_a_replica_that_starts_alone_says_nothing_until_f_others_were_heard() {
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 2);
    world.crash(2);
    world.cut.insert(2);
    world.restart(2);
    let said = world.statements(2).len();
    world.ask(1, 4, "work");
    world.run(100);
    assert!(!is_voting(&world, 2));
    world.crash(1);
    world.cut.clear();
    world.until("one of two was heard, and there was time for the other", |world| is_voting(world, 2));
    world.until("they go on", |world| world.executed(2) == 4);
    assert!(world.statements(2).len() > said && world.is_peaceful());
}

fn position_claim(by: u32, position: u64, upto: History) -> Signed {
    let head = Head { position: Position(position), chain: Digest::of(b"somewhere") };
    let standing = Standing { left: View(0), entered: Some(View(0)), upto, began: Seq(0), fresh: false };
    signed(by, Claim::Position { of: replica(3), epoch: Epoch(0), head, standing, changes: Vec::new() })
}

/// Five replicas, of which 4 cannot read on in the log of 3: its first part is lost, and gone at one of the others.
fn world_with_a_stuck_log() -> World {
    let mut world = World::new(5);
    world.crash(3);
    let parts = [1, 2].map(|target| world.lie(3, vec![view_change(target, &[0, 1, 2])], Vec::new()));
    let [_, rest] = parts;
    world.inject(3, 4, rest);
    world.inject(0, 4, Message::Gone { of: replica(3), epoch: Epoch(0), after: Position(0) });
    world.run(4);
    assert_eq!(world.position(4, 3), 0);
    world
}

#[test]
fn smr_12_a_log_is_resumed_where_f_plus_1_say_alike_what_it_shows() {
    let other = History { digest: Digest::of(b"other"), ..empty() };
    let claim = |by: u32, position: u64, upto| Message::Claim(Box::new(position_claim(by, position, upto)));
    let mut world = world_with_a_stuck_log();
    world.inject(0, 4, claim(0, 1_000, empty()));
    world.inject(1, 4, claim(1, 1_000, empty()));
    world.inject(0, 4, claim(0, 1_000, empty()));
    assert_eq!(world.position(4, 3), 0, "two of five, one of them twice");
    world.inject(2, 4, claim(2, 1_001, empty()));
    world.inject(2, 4, claim(2, 1_000, other));
    assert_eq!(world.position(4, 3), 0, "a third one that says something else");
    world.inject(2, 4, claim(2, 1_000, empty()));
    assert_eq!(world.position(4, 3), 1_000);
    let resumed = world.node(4).done.iter().filter(|done| matches!(done, Action::Persist(Record::Resumed(_))));
    assert_eq!(resumed.count(), 1);
}

#[test]
fn smr_12_a_log_that_can_be_read_is_not_resumed() {
    let mut world = World::new(5);
    for by in [0, 1, 2] {
        world.inject(by, 4, Message::Claim(Box::new(position_claim(by, 1_000, empty()))));
    }
    world.run(4);
    assert_eq!(world.position(4, 3), 0);
}

#[test]
fn smr_12_whoever_lagged_behind_what_logs_have_goes_on_with_one_other() {
    let mut world = World::with(3, Limits { flushes_kept_max: 12, vouch_interval: 4, ..small() });
    world.cut.insert(2);
    world.ask_many(1, 1..41, 1);
    // The one who lags was never faulty: the crash of another is within the bound.
    world.crash(0);
    world.cut.clear();
    world.ask_many(1, 41..45, 2);
    assert!(world.agree() && world.is_peaceful());
    let resumed = world.node(2).done.iter().filter_map(|done| match done {
        Action::Persist(Record::Resumed(claims)) => Some(claims),
        _ => None,
    });
    let resumed: Vec<_> = resumed.collect();
    assert!(!resumed.is_empty());
    for claims in resumed {
        let by: BTreeSet<_> = claims.iter().map(|signed| signed.by).collect();
        assert!(by.len() >= 2 && claims.iter().all(|signed| signed.claim == claims[0].claim));
    }
}

#[test]
fn smr_13_restarts_at_any_moment_cost_nothing() {
    for busy in [false, true] {
        let mut world = World::new(3);
        for sequence in 1..=40 {
            let number = (sequence * 7 % 3) as u32;
            if busy {
                world.node_mut(number).busy = Some(VecDeque::new());
            }
            world.ask(1, sequence, "work");
            world.crash(number);
            world.restart(number);
            world.until("it is executed", |world| world.executed(number) as u64 == sequence && world.agree());
        }
        assert!((0..3).all(|number| epoch(&world, number) == Epoch(0)), "nobody forgot anything");
        assert!(world.is_peaceful());
    }
}

#[test]
fn smr_13_what_was_kept_and_was_damaged_is_refused() {
    let mut world = World::new(3);
    world.ask_many(1, 1..20, 2);
    world.run(2);
    let good = world.node(2).disk.clone();
    let (state, ledger) = good.compaction.clone().expect("a checkpoint");
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let with = |record: Record| Disk { records: [good.records.clone(), vec![record]].concat(), ..good.clone() };
    let learned = match world.statements(0).first() {
        Some(Statement::Prepare { header, .. }) => Header { seq: Seq(500), ..header.clone() },
        other => panic!("{other:?}"),
    };
    world.crash(2);
    for (number, bad) in [
        Disk { compaction: Some((flipped(&state).into(), ledger.clone())), ..good.clone() },
        Disk { compaction: Some((Payload::from(&state[1..]), ledger.clone())), ..good.clone() },
        Disk { compaction: Some((state.clone(), ledger[..ledger.len() - 1].to_vec())), ..good.clone() },
        Disk { compaction: Some((state, Vec::new())), ..good.clone() },
        with(Record::Own(commit(0, empty()))),
        with(Record::Body(b"no batch".as_slice().into())),
        with(Record::Learned(vec![learned])),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = matches!(world.restart_from(2, bad), Err(RestoreError::Damaged(_)));
        assert!(refused, "the damage with number {number}");
    }
    world.restart_from(2, good).expect("the original is good");
}
