//! SMR-16: requests are executed once, and every replica answers alike.

use crate::{
    fixture::{replica, request, small},
    world::{World, batch, empty, prepare},
};
use quorate_smr::{
    Input, Limits, Outcome, Payload, RequestId, Seq, View,
    message::{Batch, Message},
};

fn outcomes(world: &World, number: u32, id: RequestId) -> Vec<Outcome> {
    world.node(number).replies.iter().filter(|(to, _)| *to == id).map(|(_, outcome)| outcome.clone()).collect()
}

fn last(world: &World, number: u32, id: RequestId) -> Outcome {
    outcomes(world, number, id).pop().expect("an answer")
}

#[test]
fn smr_16_every_replica_gives_the_same_answer() {
    let mut world = World::new(3);
    let (id, _) = request(1, 1, 1, "work");
    world.ask(1, 1, "work");
    world.until("all answered", |world| (0..3).all(|number| !outcomes(world, number, id).is_empty()));
    let answer = last(&world, 0, id);
    let Outcome::Executed(history, reply) = &answer else { panic!("{answer:?}") };
    assert_eq!((*history, &reply[..]), (world.core(0).executed(), &b"1 of 1"[..]));
    assert!((1..3).all(|number| last(&world, number, id) == answer));
}

#[test]
fn smr_16_a_request_that_is_sent_again_is_answered_again_and_not_executed_again() {
    let mut world = World::new(3);
    let (id, payload) = request(1, 1, 1, "work");
    world.ask(1, 1, "work");
    world.until("it is executed", |world| world.executed(2) == 1);
    let answer = last(&world, 2, id);
    world.ask(2, 1, "other work");
    for number in 0..3 {
        world.step(number, Input::Request(id, payload.clone()));
        assert_eq!(last(&world, number, id), answer, "with the history of then");
    }
    world.run(5);
    assert!((0..3).all(|number| world.executed(number) == 2));
    assert_eq!(world.core(0).executed().seq, Seq(2), "and it is not even ordered again");
}

#[test]
fn smr_16_an_older_request_is_stale() {
    let mut world = World::new(3);
    world.ask_many(1, 1..4, 2);
    let (id, payload) = request(1, 1, 2, "work");
    world.step(2, Input::Request(id, payload));
    assert_eq!(last(&world, 2, id), Outcome::Stale);
    world.run(3);
    assert_eq!(world.executed(2), 3);
}

#[test]
fn smr_16_a_liar_that_proposes_a_request_again_runs_it_once() {
    let mut world = World::new(3);
    world.crash(0);
    let (one, two) = (batch(1, 1), batch(1, 2));
    let twice = Batch { requests: vec![request(9, 1, 1, "").1, one.requests[0].clone()], admission: None };
    let (first, history) = prepare(0, empty(), world.now, &one);
    let (second, history) = prepare(0, history, world.now, &one);
    let (third, history) = prepare(0, history, world.now, &two);
    let (fourth, history) = prepare(0, history, world.now, &twice);
    let lie = world.lie(0, vec![first, second, third, fourth], vec![one.clone(), one, two, twice]);
    world.inject_all(0, &lie);
    assert_eq!(world.core(1).executed(), history, "it is ordered");
    assert_eq!(world.executed(1), 3, "and each is executed once");
    let (id, _) = request(1, 1, 1, "a batch");
    let answers = outcomes(&world, 1, id);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[2], Outcome::Stale);
    assert!(world.agree());
}

#[test]
fn smr_16_a_request_given_to_a_backup_only_reaches_the_primary() {
    let mut world = World::new(3);
    world.ask_one(1, 1, 1, "only here");
    world.until("it is executed", |world| world.executed(1) == 1);
    let told = |(from, to, message): &(_, _, _)| {
        (*from, *to) == (replica(1), replica(0)) && matches!(message, Message::Forward(_))
    };
    assert_eq!(world.sent.iter().filter(|sent| told(sent)).count(), 1);
    assert_eq!(world.core(1).view(), View(0), "well before anybody suspects the primary");
    world.until("all have it", World::agree);
}

#[test]
fn smr_16_a_primary_that_ignores_a_client_is_replaced() {
    let mut world = World::new(3);
    // The primary orders whatever else, and never hears of this client.
    world.filter(|_, to, message| (to != replica(0) || !matches!(message, Message::Forward(_))).then_some(message));
    world.ask_one(1, 9, 1, "censored");
    world.ask_one(2, 9, 1, "censored");
    let mut sequence = 0;
    while world.core(1).view() == View(0) {
        sequence += 1;
        world.ask(1, sequence, "welcome");
        world.run(1);
        assert!(sequence < 200, "progress with others is no excuse");
    }
    world.until("it is executed", |world| {
        (0..3).all(|number| world.core(number).machine().requests.contains(&request(9, 1, 1, "censored").1.to_vec()))
    });
    assert!(world.is_peaceful());
}

#[test]
fn smr_16_the_oldest_session_is_forgotten_and_then_refused() {
    let mut world = World::with(3, Limits { sessions_max: 2, ..small() });
    let ask = |world: &mut World, session: u64, sequence: u64| {
        let (id, payload) = request(1, session, sequence, "work");
        (0..3).for_each(|number| world.step(number, Input::Request(id, payload.clone())));
        world.deliver();
        world.run(2);
        last(world, 1, id)
    };
    let executed = |outcome: &Outcome| matches!(outcome, Outcome::Executed(..));
    assert!(executed(&ask(&mut world, 10, 1)));
    assert!(executed(&ask(&mut world, 20, 1)), "two sessions are kept");
    assert!(executed(&ask(&mut world, 10, 2)));
    assert!(executed(&ask(&mut world, 20, 1)));
    assert_eq!(world.executed(1), 3);
    assert!(executed(&ask(&mut world, 30, 1)), "a third one puts out the one that was quiet, which is 20");
    assert_eq!(ask(&mut world, 20, 1), Outcome::Stale);
    assert_eq!(ask(&mut world, 20, 7), Outcome::Stale, "it may have been executed: whether it was is unknown");
    assert_eq!(ask(&mut world, 15, 1), Outcome::Stale, "and so is any older session");
    assert!(executed(&ask(&mut world, 10, 2)), "those that are kept answer");
    assert!(executed(&ask(&mut world, 31, 1)), "and newer ones are welcome");
    assert_eq!(world.executed(1), 5);
    assert!(world.agree() && world.is_peaceful());
}

#[test]
fn smr_16_the_client_table_outlives_restarts_and_comes_with_the_state() {
    let limits = Limits { flushes_kept_max: 12, vouch_interval: 4, ..small() };
    let mut world = World::with(3, limits);
    world.cut.insert(2);
    world.ask_many(1, 1..41, 0);
    let (id, payload) = request(1, 1, 40, "work");
    let answer = last(&world, 0, id);
    world.cut.clear();
    world.until("it has fetched the state", World::agree);
    world.step(2, Input::Request(id, payload.clone()));
    assert_eq!(last(&world, 2, id), answer);
    world.crash(1);
    world.restart(1);
    world.step(1, Input::Request(id, payload));
    assert_eq!(last(&world, 1, id), answer);
    world.run(2);
    assert!((0..3).all(|number| world.executed(number) == 40));
}

#[test]
fn smr_16_nothing_that_is_not_authentic_is_a_request() {
    let world = World::new(3);
    let (id, payload) = request(1, 1, 1, "work");
    assert_eq!(world.verifier().request(&payload), Ok(id));
    assert_eq!(world.verifier().request(b"too short"), Err(quorate_smr::Rejection::Request));
    let bad = Batch { requests: vec![payload.clone(), Payload::from(&b"too short"[..])], admission: None };
    let twice = Batch { requests: vec![payload.clone(), payload.clone()], admission: None };
    let good = Batch { requests: vec![payload, request(1, 1, 2, "work").1], admission: None };
    let verify = |batch: Batch| world.verifier().verify(Message::Bodies(vec![batch.into()])).map(|_| ());
    assert_eq!(verify(bad), Err(quorate_smr::Rejection::Request));
    assert_eq!(verify(twice), Err(quorate_smr::Rejection::Request));
    assert_eq!(verify(good), Ok(()));
}
