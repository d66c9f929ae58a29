//! Quarantine by proof and by an operator, and the way back.

use crate::world::*;
use quorate_protocol::{
    command::{Command, Refusal, Sender},
    ids::{AttemptId, JobId, TrackerId},
    query::{Answer, Blame, Duty},
};

fn quarantine(world: &mut World, id: u32) -> Answer {
    world.order(Command::Quarantine { tracker: TrackerId::new(id), reason: "it smokes".to_owned() })
}
fn readmit(world: &mut World, id: u32) -> Answer {
    world.order(Command::Readmit(TrackerId::new(id)))
}
fn duty(world: &World, id: u32) -> Duty {
    world.tracker(id).duty
}

/// Ends all maps but the last of a job, with trackers 0 to 2.
fn agree_maps(world: &mut World, job: JobId, maps: u32) {
    for index in 0..maps - 1 {
        for (id, attempt) in world.runners(map(job, index)) {
            world.vote_right(id, attempt);
        }
    }
}

fn probe_of(world: &mut World, id: u32) -> AttemptId {
    let running = world.running(id);
    assert_eq!(running.len(), 1, "one known answer at a time: {running:?}");
    running[0]
}

#[test]
fn a_tracker_in_quarantine_gets_no_work_and_what_it_did_stays() {
    let mut world = World::new(&["a", "b", "c"], 2);
    let job = world.submit(specification(1, 1));
    let (id, attempt) = world.runners(map(job, 0))[0];
    world.vote_right(id, attempt);
    assert!(!world.running(id).is_empty());
    assert_eq!(quarantine(&mut world, id), Answer::Done);
    assert_eq!(world.running(id), []);
    assert_eq!(duty(&world, id), Duty::Quarantined("it smokes".to_owned()));
    assert_eq!(world.tracker(id).blame, Blame::None, "an operator's word is no evidence");
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!(world.tracker(id).agreed, 1, "its vote counts");
    world.register(id, 2);
    assert_eq!(duty(&world, id), Duty::Quarantined("it smokes".to_owned()), "a new process changes nothing");
    assert_eq!(quarantine(&mut world, id), Answer::Done);
}

#[test]
fn map_output_of_a_tracker_in_quarantine_is_not_made_again() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    for (id, attempt) in &runners {
        world.vote_right(*id, *attempt);
    }
    for (id, _) in &runners {
        quarantine(&mut world, *id);
    }
    assert_eq!(world.runners(map(job, 0)), [], "readers check what it serves");
    for (id, _) in &runners {
        world.absent(*id);
    }
    assert_eq!(world.runners(map(job, 0)).len(), 1, "nobody serves it any more");
}

#[test]
fn only_clients_put_trackers_in_quarantine_and_only_those_in_it_are_readmitted() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let order = Command::Quarantine { tracker: TrackerId::new(1), reason: String::new() };
    for command in [order, Command::Readmit(TrackerId::new(1))] {
        let answer = world.send(Sender::Tracker(TrackerId::new(0)), command);
        assert!(matches!(answer, Answer::Refused(Refusal::NotAllowed(_))), "{answer:?}");
    }
    assert!(matches!(readmit(&mut world, 1), Answer::Refused(Refusal::Invalid(_))));
    assert!(matches!(readmit(&mut world, 9), Answer::Refused(Refusal::NotFound(_))));
    assert!(matches!(quarantine(&mut world, 9), Answer::Refused(Refusal::NotFound(_))));
    assert_eq!(duty(&world, 1), Duty::Full);
}

#[test]
fn known_answers_bring_a_tracker_back() {
    let mut world = World::new(&["a", "b", "c", "d"], 6);
    quarantine(&mut world, 3);
    let job = world.submit(specification(1, 1));
    agree_maps(&mut world, job, 6);
    assert_eq!(world.running(3), []);
    assert_eq!(readmit(&mut world, 3), Answer::Done);
    for passed in 0..3 {
        assert_eq!(duty(&world, 3), Duty::Probation { passed, needed: 3 });
        let probe = probe_of(&mut world, 3);
        assert_ne!(probe.task, map(job, 5), "its answer is not known");
        world.vote_right(3, probe);
    }
    assert_eq!(duty(&world, 3), Duty::Full);
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!((world.job(job).tests, world.job(job).disputed), (3, 0));
    assert!(world.blamed().is_empty());
}

#[test]
fn a_wrong_answer_on_probation_is_suspicious_and_leads_back_into_quarantine() {
    let mut world = World::new(&["a", "b", "c", "d"], 6);
    quarantine(&mut world, 3);
    let job = world.submit(specification(1, 1));
    agree_maps(&mut world, job, 6);
    readmit(&mut world, 3);
    let probe = probe_of(&mut world, 3);
    world.vote_right(3, probe);
    let probe = probe_of(&mut world, 3);
    world.vote(3, probe, ballot(probe.task, "lie"));
    assert!(matches!(duty(&world, 3), Duty::Quarantined(_)));
    assert_eq!(world.blamed(), [(3, Blame::Suspected)].into());
    assert_eq!(world.running(3), []);
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn a_probe_that_is_lost_proves_nothing_and_another_is_given() {
    let mut world = World::new(&["a", "b", "c", "d"], 6);
    quarantine(&mut world, 3);
    let job = world.submit(specification(1, 1));
    agree_maps(&mut world, job, 6);
    readmit(&mut world, 3);
    let first = probe_of(&mut world, 3);
    world.register(3, 2);
    let second = probe_of(&mut world, 3);
    assert_ne!(first.task, second.task);
    world.decline(3, second);
    let third = probe_of(&mut world, 3);
    world.pass(TIMEOUT);
    assert_eq!(duty(&world, 3), Duty::Probation { passed: 0, needed: 3 });
    let fourth = probe_of(&mut world, 3);
    assert_ne!(third.task, fourth.task);
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn proof_puts_in_quarantine_and_is_settled_by_readmission_until_there_is_new_proof() {
    let mut world = World::new(&["a", "b", "c", "d"], 6);
    let job = world.submit(specification(1, 1));
    let (liar, attempt) = world.runners(map(job, 0))[0];
    world.vote_right(liar, attempt);
    let lie = ballot(attempt.task, "lie");
    world.vote(liar, attempt, lie.clone());
    assert!(matches!(duty(&world, liar), Duty::Quarantined(_)));
    agree_maps(&mut world, job, 6);
    readmit(&mut world, liar);
    assert_eq!(world.tracker(liar).blame, Blame::None);
    assert_eq!(world.evidence(liar).len(), 1, "it stays on record");
    world.vote(liar, attempt, lie);
    assert_eq!(world.tracker(liar).blame, Blame::None, "that was known");
    let probe = probe_of(&mut world, liar);
    world.vote_right(liar, probe);
    world.vote(liar, probe, ballot(probe.task, "another lie"));
    assert_eq!(world.tracker(liar).blame, Blame::Convicted);
    assert!(matches!(duty(&world, liar), Duty::Quarantined(_)));
    assert_eq!(world.running(liar), []);
}
