//! The same rules among 3f + 1 replicas that witness each other's logs: quorums are of 2f + 1, and f + 1 still vouch.

use crate::{
    fixture::replica,
    world::{World, wish, witnessed},
};
use quorate_counter::{EpochRecord, LogKey, Simulated, TrustedLog};
use quorate_protocol::{canonical, ids::OrderedTime};
use quorate_smr::{
    Action, Input, View,
    message::{Admission, Admits, Batch, Header, Message, Statement},
};

#[test]
fn smr_4_two_f_and_one_votes_commit_and_f_and_one_do_not() {
    let mut world = World::witnessed(4);
    world.ask_many(1, 1..3, 0);
    world.crash(3);
    world.ask_many(1, 3..5, 0);
    world.crash(2);
    world.ask(1, 5, "too few are left");
    world.run(40);
    assert_eq!((world.executed(0), world.executed(1)), (4, 4));
    world.restart(2);
    world.until("enough are there again", |world| world.executed(0) == 5 && world.agree());
    assert!(world.is_peaceful());
}

#[test]
fn smr_7_and_9_f_and_one_ask_and_two_f_and_one_change_the_view() {
    let mut world = World::witnessed(4);
    let left = |world: &World, by: u32| {
        let said = world.statements(by);
        said.iter().any(|statement| matches!(statement, Statement::ViewChange { .. }))
    };
    world.inject(2, 1, Message::Claim(Box::new(wish(2, 1))));
    world.run(1);
    assert!(!left(&world, 1), "one that asks may lie");
    world.crash(3);
    for by in [2, 3] {
        world.inject(by, 1, Message::Claim(Box::new(wish(by, 1))));
    }
    world.until("two that ask are enough", |world| left(world, 1));
    world.until("three begin the view", |world| world.core(0).view() == View(1) && world.core(2).view() == View(1));
    world.crash(1);
    world.ask(1, 1, "nobody can begin the next view with two");
    world.run(200);
    assert_eq!((world.core(0).view(), world.core(2).view()), (View(1), View(1)));
    world.restart(3);
    world.until("three can", |world| world.executed(0) == 1 && world.executed(2) == 1 && world.executed(3) == 1);
    assert!(world.is_peaceful());
}

#[test]
fn smr_14_an_epoch_is_admitted_by_two_f_and_one_others() {
    let mut world = World::witnessed(4);
    world.ask_many(1, 1..4, 2);
    world.crash(3);
    world.crash(1);
    world.restart_wiped(3);
    let epoch = |world: &World| world.core(0).report().peers[2].epoch;
    world.run(40);
    assert_eq!(epoch(&world).0, 0, "with its owner there are three, of which two count");
    world.restart(1);
    world.until("three others admit it", |world| epoch(world).0 > 0 && world.agree());
    assert!(world.is_peaceful());
}

/// What a replica asks for that says that its log is witnessed so.
fn admission_of(record: EpochRecord) -> Admission {
    let mut log = Simulated::unwitnessed(record.clone());
    let certificate = log.append(&[]).expect("it works").certificate;
    let bytes = canonical::encode(&("quorate smr admission v1", &record, &certificate));
    let signature = crate::fixture::Hashed::signature(record.replica, &bytes);
    Admission { record, certificate, signature }
}

/// The primary, a liar, proposes an epoch of replica 3; whether the backups vote for it.
fn is_admitted(record: EpochRecord) -> bool {
    let mut world = World::witnessed(4);
    world.crash(0);
    let batch = Batch { requests: Vec::new(), admission: Some(admission_of(record.clone())) };
    let before = world.core(1).executed();
    let admits = Some(Admits { record, left: View(1) });
    let (seq, time) = (before.seq.next(), OrderedTime(world.now));
    let header = Header { seq, time, batch: batch.digest(), admits };
    let lie = world.lie(0, vec![Statement::Prepare { view: View(0), header }], vec![batch]);
    world.inject_all(0, &lie);
    let committed = |number: u32| {
        let said = world.statements(number);
        said.iter().any(|statement| matches!(statement, Statement::Commit { .. }))
    };
    assert_eq!(committed(1), committed(2), "they judge alike");
    committed(1)
}

#[test]
fn smr_14_nobody_chooses_its_witnesses() {
    let honest = witnessed(3, 4, 9);
    assert!(is_admitted(honest.clone()));
    let others = LogKey::SimulatedWitnesses { key: [8; 32], witnesses: 4, quorum: 3 };
    let fewer = LogKey::SimulatedWitnesses { key: [7; 32], witnesses: 1, quorum: 1 };
    for key in [others, fewer, LogKey::Simulated([3; 32])] {
        assert!(!is_admitted(EpochRecord { key: key.clone(), ..honest.clone() }), "{key:?}");
    }
}

#[test]
fn smr_13_a_lost_epoch_is_given_up() {
    let mut world = World::witnessed(4);
    world.ask_many(1, 1..3, 2);
    world.step(2, Input::Lost);
    let renews = |action: &Action| matches!(action, Action::Renew(_));
    assert!(world.node(2).done.iter().any(renews));
    world.until("the others admit the next one", |world| {
        let report = world.core(0).report();
        report.peers.iter().any(|peer| peer.replica == replica(2) && peer.epoch.0 > 0)
    });
    world.ask_many(1, 3..5, 2);
    assert!(world.is_peaceful());
}
