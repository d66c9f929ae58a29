//! Attempts that are run again by their own trackers: what tells a program that changes its mind from a tracker that lies.

use crate::world::*;
use quorate_protocol::{
    command::Accusation,
    ids::{AttemptId, JobId, Stage, TaskId},
    query::{Blame, JobFailure, JobState},
};
use std::collections::BTreeMap;

/// Three trackers with slots to spare, and two splits.
fn roomy() -> World {
    let mut world = World::empty(&["a", "b", "c"], 0);
    (0..3).for_each(|id| world.register(id, 4));
    world.create("/in", file("in", 2, &[0]));
    world
}

/// Of three trackers, one is outvoted on the first map task: which it is, and the attempt that it runs again.
fn outvoted(world: &mut World, job: JobId) -> (u32, AttemptId) {
    let task = map(job, 0);
    let runners = world.runners(task);
    world.vote(runners[0].0, runners[0].1, ballot(task, "odd"));
    world.vote_right(runners[1].0, runners[1].1);
    let third = world.runners(task);
    world.vote_right(third[0].0, third[0].1);
    let again = world.runners(task);
    assert_eq!(ids(&again), [runners[0].0].into(), "it runs its attempt again, and nobody else does");
    assert_ne!(again[0].1, runners[0].1, "as another attempt");
    again[0]
}

fn nondeterministic(world: &World, job: JobId) -> Option<TaskId> {
    match world.state(job) {
        JobState::Failed(JobFailure::Nondeterministic { task, .. }) => Some(task),
        _ => None,
    }
}

#[test]
fn a_tracker_that_was_outvoted_and_says_the_same_again_stays_suspected_and_the_job_goes_on() {
    let mut world = roomy();
    let job = world.submit(specification(1, 1));
    let (odd, again) = outvoted(&mut world, job);
    world.vote(odd, again, ballot(again.task, "odd"));
    assert_eq!(world.runners(again.task), [], "nobody is asked a second time");
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!(world.blamed(), BTreeMap::from([(odd, Blame::Suspected)]));
    let view = world.job(job);
    assert_eq!((view.attempts, view.tests), (3 + 2 + 2, 1));
    assert_eq!(world.tracker(odd).outvoted, 1, "the second vote is not counted");
}

#[test]
fn one_tracker_that_differs_from_itself_may_be_a_liar_and_ends_no_job() {
    let mut world = roomy();
    let job = world.submit(specification(1, 1));
    let (odd, again) = outvoted(&mut world, job);
    world.vote_right(odd, again);
    let others = world.runners(again.task);
    assert_eq!(others.len(), 2, "those who agreed are asked as well");
    for (id, attempt) in others {
        world.vote_right(id, attempt);
    }
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!(world.blamed(), BTreeMap::from([(odd, Blame::Suspected)]), "being outvoted stays suspicious");
    assert_eq!(world.job(job).tests, 3);
}

#[test]
fn when_more_than_f_domains_differ_from_themselves_the_job_fails_and_suspicion_is_taken_back() {
    let mut world = roomy();
    let job = world.submit(specification(1, 1));
    let (odd, again) = outvoted(&mut world, job);
    world.vote(odd, again, ballot(again.task, "odd in another way"));
    assert_eq!(world.blamed(), BTreeMap::from([(odd, Blame::Suspected)]));
    let (other, second) = world.runners(again.task)[0];
    world.vote(other, second, ballot(again.task, "odd as well"));
    assert_eq!(nondeterministic(&world, job), Some(again.task));
    assert!(world.blamed().is_empty(), "nobody is blamed for what the program does");
    assert_eq!(world.votes(again.task).len(), 5, "the votes are kept, so that everybody can see it");
    world.listen_all();
    let kept = world.processes.values().filter_map(|p| p.ended.get(&job)).flat_map(|(_, keep)| keep);
    assert_eq!(kept.filter(|attempt| attempt.task == again.task).count(), 5, "so is what was voted on");
    assert!(world.trackers().iter().all(|view| view.map_slots.0 + view.reduce_slots.0 == 0), "slots are free again");
}

#[test]
fn a_task_without_a_quorum_is_run_again_by_all_and_one_that_differs_from_itself_tells() {
    for stage in [Stage::Map, Stage::Reduce] {
        let mut world = World::new(&["a", "b", "c", "d"], 1);
        let job = world.submit(specification(1, 1));
        let task = if stage == Stage::Map { map(job, 0) } else { reduce(job, 0) };
        if stage == Stage::Reduce {
            for (id, attempt) in world.runners(map(job, 0)) {
                world.vote_right(id, attempt);
            }
        }
        let mut first = BTreeMap::new();
        for round in 0..3 {
            let (id, attempt) = world.runners(task)[0];
            first.insert(id, round);
            world.vote(id, attempt, ballot(task, &format!("random {round}")));
        }
        let again = world.runners(task);
        assert_eq!(ids(&again), first.keys().copied().collect(), "by those who ran it, and nobody else");
        world.vote(again[0].0, again[0].1, ballot(task, &format!("random {}", first[&again[0].0])));
        assert_eq!(world.state(job), JobState::Running, "that one is steady");
        world.vote(again[1].0, again[1].1, ballot(task, "random again"));
        assert_eq!(nondeterministic(&world, job), Some(task));
        assert!(world.blamed().is_empty());
    }
}

#[test]
fn two_who_disagree_while_nobody_is_there_to_decide_are_asked_again() {
    let mut world = roomy();
    world.absent(2);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    for (id, attempt) in world.runners(task) {
        world.vote(id, attempt, ballot(task, &format!("random {id}")));
    }
    assert!(matches!(world.state(job), JobState::Waiting(_)));
    let again = world.runners(task);
    assert_eq!(ids(&again), [0, 1].into());
    world.vote(0, again[0].1, ballot(task, "random again"));
    assert!(matches!(world.state(job), JobState::Waiting(_)), "it may be a liar");
    world.vote(1, again[1].1, ballot(task, "random as well"));
    assert_eq!(nondeterministic(&world, job), Some(task));
    assert!(world.blamed().is_empty());
}

#[test]
fn what_a_tracker_gave_before_there_was_no_quorum_counts_as_well() {
    let mut world = roomy();
    world.absent(2);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    for (id, attempt) in world.runners(task) {
        world.vote(id, attempt, ballot(task, &format!("random {id}")));
    }
    let again = world.runners(task);
    world.vote(0, again[0].1, ballot(task, "random again"));
    world.vote(1, again[1].1, ballot(task, "random 1"));
    world.register(2, 4);
    let (id, attempt) = world.runners(task)[0];
    world.vote(id, attempt, ballot(task, "random 2"));
    assert_eq!(nondeterministic(&world, job), Some(task));
    assert!(world.blamed().is_empty());
}

#[test]
fn a_job_without_a_quorum_ends_though_nobody_runs_anything_again() {
    for how in 0..3 {
        let mut world = World::new(&["a", "b", "c"], 1);
        let job = world.submit(specification(1, 1));
        let task = map(job, 0);
        for round in 0..3 {
            let (id, attempt) = world.runners(task)[0];
            world.vote(id, attempt, ballot(task, &format!("random {round}")));
        }
        for (id, attempt) in world.runners(task) {
            assert_eq!(world.state(job), JobState::Running);
            match how {
                0 => world.decline(id, attempt),
                1 => world.absent(id),
                _ => {}
            }
        }
        if how == 2 {
            world.pass(TIMEOUT);
        }
        assert_eq!(world.state(job), JobState::Failed(JobFailure::Undecidable { task }), "{how}");
        assert!(world.blamed().is_empty());
    }
}

#[test]
fn a_tracker_without_a_slot_is_not_waited_for_beyond_the_timeout() {
    let mut world = World::empty(&["a", "b", "c"], 0);
    (0..3).for_each(|id| world.register(id, 1));
    world.create("/in", file("in", 1, &[0]));
    let job = world.submit(specification(1, 1));
    let mut other = specification(1, 1);
    other.output = path("/other");
    other.progress_timeout_ms = 100 * TIMEOUT;
    world.submit(other);
    let task = map(job, 0);
    let runners = world.runners(task);
    let third = (0..3).find(|id| !ids(&runners).contains(id)).expect("three trackers");
    for (id, attempt) in runners {
        world.vote(id, attempt, ballot(task, &format!("random {id}")));
    }
    for attempt in world.running(third) {
        world.vote_right(third, attempt);
    }
    let (third, attempt) = world.runners(task)[0];
    world.vote(third, attempt, ballot(task, &format!("random {third}")));
    let again = world.runners(task);
    assert!(!again.is_empty() && again.len() < 3, "the other job has somebody's slot: {again:?}");
    for (id, attempt) in again {
        world.vote(id, attempt, ballot(task, &format!("random {id}")));
    }
    assert_eq!(world.state(job), JobState::Running);
    world.pass(TIMEOUT + 1);
    assert_eq!(world.state(job), JobState::Failed(JobFailure::Undecidable { task }));
}

#[test]
fn votes_on_two_attempts_of_one_tracker_are_no_proof_and_two_on_one_are() {
    let mut world = roomy();
    let job = world.submit(specification(1, 1));
    let (odd, again) = outvoted(&mut world, job);
    let second = world.vote(odd, again, ballot(again.task, "odd in another way"));
    world.accuse((odd + 1) % 3, Accusation::StrayVote(Box::new(second)));
    assert_eq!(world.blamed(), BTreeMap::from([(odd, Blame::Suspected)]));
    world.vote(odd, again, ballot(again.task, "third thoughts"));
    assert_eq!(world.blamed(), BTreeMap::from([(odd, Blame::Convicted)]));
}

#[test]
fn nothing_is_run_again_while_slots_are_wanted() {
    let mut world = World::empty(&["a", "b", "c"], 0);
    (0..3).for_each(|id| world.register(id, 1));
    world.create("/in", file("in", 8, &[0]));
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    let third = (0..3).find(|id| !ids(&runners).contains(id)).expect("three trackers");
    world.vote(runners[0].0, runners[0].1, ballot(task, "odd"));
    world.vote_right(runners[1].0, runners[1].1);
    for attempt in world.running(third) {
        world.vote_right(third, attempt);
    }
    let (third, attempt) = world.runners(task)[0];
    world.vote_right(third, attempt);
    assert_eq!(world.blamed(), BTreeMap::from([(runners[0].0, Blame::Suspected)]));
    assert_eq!(world.job(job).tests, 0, "other tasks want the slot");
    world.work();
    world.assert_right(job, "/out", 1);
}
