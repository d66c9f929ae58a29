//! SMR-14: new epochs of trusted logs.

use crate::{
    fixture::{record, replica},
    world::{World, admission, batch, commit, empty, prepare, say},
};
use quorate_counter::{Epoch, TrustedLog};
use quorate_protocol::digest::Digest;
use quorate_smr::{
    History, Rejection, Seq, View,
    message::{Admission, Admits, Batch, Claim, Header, Message, Statement, Status, WireMessage},
};

/// The epoch of a replica's log that counts at another.
fn admitted(world: &World, number: u32, of: u32) -> Epoch {
    let report = world.core(number).report();
    report.peers.iter().find(|peer| peer.replica == replica(of)).expect("a peer").epoch
}

fn of(admission: Admission) -> Batch {
    Batch { requests: Vec::new(), admission: Some(admission) }
}

/// What replica 2 says of itself when it wants a new epoch.
fn status(world: &World, admission: Admission) -> WireMessage {
    let decided = crate::world::signed(2, Claim::Decided { history: world.core(2).executed() });
    Message::Status(Box::new(Status {
        decided,
        view: View(0),
        heads: Vec::new(),
        retired: Vec::new(),
        wants: None,
        checkpoint: None,
        admission: Some(Box::new(admission)),
    }))
}

#[test]
fn smr_14_an_epoch_is_admitted_by_f_plus_1_others() {
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 2);
    world.crash(2);
    world.crash(1);
    world.restart_wiped(2);
    world.run(20);
    assert_eq!(admitted(&world, 0, 2), Epoch(0), "with its owner there are two votes, which do not count");
    world.restart(1);
    world.until("now there are two others", |world| admitted(world, 0, 2) > Epoch(0));
    world.until("all know it", |world| admitted(world, 1, 2) == world.core(2).report().epoch && world.agree());
    assert!(world.is_peaceful());
}

#[test]
fn smr_14_the_owners_old_epoch_does_not_vote_for_its_new_one() {
    let mut world = World::new(3);
    world.crash(1);
    world.crash(2);
    world.ask(1, 1, "an ordinary batch");
    let prepared = |world: &World, batches: u64| {
        let headers = world.statements(0).into_iter().filter_map(|said| match said {
            Statement::Prepare { header, .. } => Some(header),
            _ => None,
        });
        headers.take(batches as usize).fold(empty(), |history, header| header.follow(history))
    };
    let vote = world.lie(2, vec![commit(0, prepared(&world, 1))], Vec::new());
    world.inject(2, 0, vote);
    assert_eq!(world.executed(0), 1, "the liar's vote counts for that");
    world.now += world.limits.view_timeout;
    let wish = status(&world, admission(2, 7));
    world.inject(2, 0, wish);
    world.run(1);
    let history = prepared(&world, 2);
    assert_eq!(history.seq, Seq(2), "it is proposed");
    let vote = world.lie(2, vec![commit(0, history)], Vec::new());
    world.inject(2, 0, vote);
    assert_eq!(world.core(0).executed().seq, Seq(1), "and not for this");
    assert_eq!(admitted(&world, 0, 2), Epoch(0));
}

/// The primary, a liar, proposes an epoch of replica 2 with what it likes; whether the backups execute it.
fn is_voted_for(world: &mut World, batch: Batch, admits: Option<Admits>) -> bool {
    world.crash(0);
    let before = world.core(1).executed();
    let (seq, time) = (before.seq.next(), quorate_protocol::ids::OrderedTime(world.now));
    let header = Header { seq, time, batch: batch.digest(), admits };
    let history = header.follow(before);
    let lie = world.lie(0, vec![Statement::Prepare { view: View(0), header }], vec![batch]);
    world.inject_all(0, &lie);
    world.core(1).executed() == history
}

#[test]
fn smr_14_nobody_votes_for_an_admission_that_is_not_what_its_owner_signed() {
    // Five replicas, so that f + 1 remain without the owner.
    let admits = |epoch: u64, left: u64| Some(Admits { record: record(2, epoch), left: View(left) });
    let ask = |batch: Batch, admits: Option<Admits>| is_voted_for(&mut World::new(5), batch, admits);
    assert!(ask(of(admission(2, 7)), admits(7, 1)), "the owner's own words");
    assert!(!ask(of(admission(2, 7)), admits(8, 1)), "another epoch than was asked for");
    assert!(!ask(of(admission(2, 7)), admits(7, 0)), "one that may vote in the view that admits it");
    assert!(!ask(of(admission(2, 7)), None), "votes would be counted without knowing of it");
    assert!(!ask(batch(1, 1), admits(7, 1)), "nobody asked for one");
    let other = Some(Admits { record: record(3, 7), left: View(1) });
    assert!(!ask(of(admission(2, 7)), other), "of another replica");
}

#[test]
fn smr_14_an_admission_that_its_owner_did_not_sign_is_refused() {
    let world = World::new(3);
    let verify =
        |admission: Admission| world.verifier().verify(Message::Bodies(vec![of(admission).into()])).map(|_| ());
    let good = admission(2, 7);
    assert_eq!(verify(good.clone()), Ok(()));
    let stolen = Admission { record: record(1, 7), ..good.clone() };
    assert!(matches!(verify(stolen), Err(Rejection::Senseless(_))), "the device does not attest it");
    let unsigned = Admission { signature: admission(1, 7).signature, ..good.clone() };
    assert_eq!(verify(unsigned), Err(Rejection::Signature(replica(2))));
    let mut used = world.node(2).device.clone_device();
    used.renew(Epoch(7)).expect("a later epoch");
    let certificate = used.append(&[Digest::of(b"said")]).expect("it works").certificate;
    assert!(matches!(verify(Admission { certificate, ..good.clone() }), Err(Rejection::Senseless(_))), "not empty");
    let with_requests = Batch { requests: batch(1, 1).requests, ..of(good.clone()) };
    let with_requests = world.verifier().verify(Message::Bodies(vec![with_requests.into()]));
    assert!(matches!(with_requests, Err(Rejection::Senseless(_))));
    let forwarded = world.verifier().verify(Message::Forward(of(good).into()));
    assert!(matches!(forwarded, Err(Rejection::Senseless(_))));
}

#[test]
fn smr_14_an_epoch_that_has_ended_says_nothing_that_counts() {
    let mut world = World::new(5);
    world.ask_many(1, 1..3, 1);
    world.run(1);
    world.crash(2);
    let wish = status(&world, admission(2, 7));
    world.now += world.limits.view_timeout;
    world.inject_all(2, &wish);
    world.until("it is admitted", |world| admitted(world, 1, 2) == Epoch(7) && admitted(world, 3, 2) == Epoch(7));
    // Replica 2 has two devices now. With one of two others gone, its vote decides.
    world.crash(3);
    world.crash(4);
    world.cut.insert(1);
    world.ask(1, 3, "work");
    world.run(1);
    let headers = world.statements(0).into_iter().filter_map(|said| match said {
        Statement::Prepare { header, .. } => Some(header),
        _ => None,
    });
    let tip = headers.fold(empty(), |history: History, header| header.follow(history));
    assert!(tip.seq > world.core(0).executed().seq);
    world.cut.clear();
    world.filter(|_, to, message| (to != replica(1)).then_some(message));
    let mut device = crate::world::device(2);
    device.renew(Epoch(7)).expect("a later epoch");
    let old = world.lie(2, vec![commit(0, tip)], Vec::new());
    world.inject(2, 0, old);
    let new = say(&mut device, vec![commit(0, tip)], Vec::new());
    world.inject(2, 0, new);
    assert!(world.core(0).executed().seq < tip.seq, "neither the old one nor, in this view, the new one");
    assert_eq!(world.breaches(0, 2), ["SMR-2: a COMMIT after it left the view"]);
}

#[test]
fn smr_14_an_older_epoch_that_is_asked_for_again_is_not_admitted_again() {
    let mut world = World::new(5);
    world.crash(2);
    for epoch in [5, 9] {
        let wish = status(&world, admission(2, epoch));
        world.now += world.limits.view_timeout;
        world.inject_all(2, &wish);
        world.until("it is admitted", |world| admitted(world, 1, 2) == Epoch(epoch));
    }
    world.until("all know it", World::agree);
    let executed = world.core(1).executed();
    for epoch in [5, 7, 9] {
        let wish = status(&world, admission(2, epoch));
        world.now += world.limits.view_timeout;
        world.inject_all(2, &wish);
        world.run(5);
    }
    assert_eq!(world.core(1).executed(), executed, "an honest primary does not propose it");
    // A liar does. What comes of it changes nothing.
    let admits = Admits { record: record(2, 5), left: View(1) };
    is_voted_for(&mut world, of(admission(2, 5)), Some(admits));
    assert_eq!([1, 3, 4].map(|number| admitted(&world, number, 2)), [Epoch(9); 3]);
    world.ask(1, 1, "work");
    world.until("it goes on", |world| [1, 3, 4].iter().all(|number| world.executed(*number) == 1));
    assert_eq!([1, 3, 4].map(|number| admitted(&world, number, 2)), [Epoch(9); 3]);
}

#[test]
fn smr_14_the_same_epoch_proposed_twice_stops_nobody() {
    let mut world = World::new(5);
    world.crash(0);
    world.crash(2);
    let (one, two) = (of(admission(2, 7)), batch(1, 1));
    let (first, history) = prepare(0, empty(), world.now, &one);
    let (second, history) = prepare(0, history, world.now, &one);
    let (third, history) = prepare(0, history, world.now, &two);
    // Some get all at once, others when the first was committed already.
    let mut device = world.node(0).device.clone_device();
    let early = say(&mut device, vec![first.clone()], vec![one.clone()]);
    let late = say(&mut device, vec![second.clone(), third.clone()], vec![one.clone(), two.clone()]);
    for to in [1, 3] {
        world.inject(0, to, early.clone());
        world.inject(0, to, late.clone());
    }
    world.inject(0, 4, early);
    world.run(1);
    world.inject(0, 4, late);
    world.ask(9, 1, "work");
    world.until("it goes on", |world| [1, 3, 4].iter().all(|number| world.executed(*number) == 2));
    assert_eq!(world.core(1).history_at(Seq(3)), Some(history.digest));
    assert_eq!([1, 3, 4].map(|number| admitted(&world, number, 2)), [Epoch(7); 3]);
    assert!(world.agree());
}

#[test]
fn smr_14_an_epoch_that_only_a_backup_was_told_of_reaches_the_primary() {
    let mut world = World::new(3);
    world.crash(2);
    world.now += world.limits.view_timeout;
    let wish = status(&world, admission(2, 7));
    world.inject(2, 1, wish);
    world.until("it is admitted", |world| admitted(world, 0, 2) == Epoch(7) && admitted(world, 1, 2) == Epoch(7));
    assert_eq!((world.core(0).view(), world.core(1).view()), (View(0), View(0)), "and nobody suspects the primary");
    assert!(world.is_peaceful());
}
