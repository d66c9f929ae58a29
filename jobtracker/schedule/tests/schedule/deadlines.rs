//! Ordered time: what is late is done elsewhere, and lateness is never a lie.

use crate::world::*;
use quorate_protocol::{
    ids::OrderedTime,
    query::{JobFailure, JobState, Standing},
};

#[test]
fn a_silent_tracker_is_overdue_and_replaced_in_a_new_domain() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    let silent = runners[0].0;
    world.work_without(&[silent]);
    assert_eq!(world.scheduler.next_deadline(), Some(OrderedTime(1000 + TIMEOUT)));
    world.pass(TIMEOUT - 1);
    assert_eq!(world.runners(task).len(), 1);
    world.pass(1);
    let after = world.runners(task);
    assert_eq!(after.len(), 2, "one more beside it");
    assert_eq!(world.tracker(silent).overdue, 1);
    assert!(world.standings(job, task).contains(&(silent, Standing::Overdue)));
    world.work_without(&[silent]);
    assert_eq!(world.seen[&job].len(), 1);
    assert!(world.running(silent).iter().all(|attempt| attempt.task != task), "cancelled");
    assert!(world.standings(job, task).contains(&(silent, Standing::Overdue)), "and still told to have been overdue");
    while world.state(job) == JobState::Running {
        world.pass(TIMEOUT);
        world.work_without(&[silent]);
    }
    world.assert_right(job, "/out", 1);
    assert!(world.blamed().is_empty());
}

#[test]
fn progress_keeps_an_attempt_in_time_and_its_pretence_does_not() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    for step in 1..=10 {
        world.pass(TIMEOUT / 2);
        world.progress(runners[0].0, runners[0].1, step);
        world.progress(runners[1].0, runners[1].1, 7);
    }
    assert_eq!((world.tracker(runners[0].0).overdue, world.tracker(runners[1].0).overdue), (0, 1));
}

#[test]
fn an_overdue_attempt_that_votes_counts() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    world.pass(TIMEOUT);
    world.vote_right(runners[0].0, runners[0].1);
    world.vote_right(runners[1].0, runners[1].1);
    assert_eq!(world.seen[&job].len(), 1);
}

#[test]
fn claims_of_progress_end_when_another_copy_was_much_faster() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    let (slow, attempt) = runners[0];
    world.pass(TIMEOUT / 2);
    world.progress(runners[1].0, runners[1].1, 1);
    world.progress(slow, attempt, 1);
    world.vote_right(runners[1].0, runners[1].1);
    for units in 2..5 {
        world.pass(TIMEOUT / 2 - 1);
        world.progress(slow, attempt, units);
        assert_eq!(world.runners(task).len(), 1, "4 times {} ms are not over", TIMEOUT / 2);
    }
    world.pass(3);
    assert_eq!(world.runners(task).len(), 2, "they are now, whatever it claims");
}

#[test]
fn reducers_are_not_late_while_they_wait_for_maps() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    for units in 1..=10 {
        world.pass(TIMEOUT - 1);
        for (id, attempt) in &runners {
            world.progress(*id, *attempt, units);
        }
    }
    assert_eq!(world.runners(reduce(job, 0)).len(), 2);
    for (id, attempt) in runners {
        world.vote_right(id, attempt);
    }
    world.pass(TIMEOUT - 1);
    assert_eq!(world.runners(reduce(job, 0)).len(), 2, "their clocks ran only now");
    world.pass(1);
    assert_eq!(world.runners(reduce(job, 0)).len(), 3);
}

#[test]
fn without_replicas_an_overdue_attempt_is_run_elsewhere_at_once() {
    let mut world = World::new(&["a", "b"], 1);
    let job = world.submit(specification(0, 1));
    let task = map(job, 0);
    let first = world.runners(task);
    world.pass(TIMEOUT);
    let second = world.runners(task);
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].0, second[0].0);
    world.work();
    world.assert_right(job, "/out", 1);
    assert!(world.blamed().is_empty());
}

#[test]
fn places_held_by_silence_are_given_up_when_all_are_taken() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    world.vote_right(runners[0].0, runners[0].1);
    world.pass(TIMEOUT);
    assert_eq!(world.runners(task).len(), 2, "all three places are taken");
    world.pass(TIMEOUT);
    for _ in 0..6 {
        world.pass(TIMEOUT);
    }
    let again = world.runners(task);
    assert!(again.iter().any(|(_, attempt)| attempt.attempt > 2), "{again:?}");
    let lost = world.standings(job, task).iter().filter(|(_, s)| matches!(s, Standing::Lost(_))).count();
    assert_eq!(lost, 2);
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn a_task_that_never_answers_fails_its_job_in_the_end() {
    let mut world = World::new(&["a", "b"], 1);
    let job = world.submit(specification(0, 1));
    for _ in 0..63 {
        assert_eq!(world.state(job), JobState::Running);
        world.pass(TIMEOUT);
    }
    world.pass(TIMEOUT);
    assert!(matches!(world.state(job), JobState::Failed(JobFailure::NotRunnable { task, .. }) if task == map(job, 0)));
}

#[test]
fn a_copy_started_later_and_done_sooner_ends_the_patience_with_an_older_one() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    let ((slow, attempt), (declining, declined)) = (runners[0], runners[1]);
    for units in 1..=6 {
        world.pass(TIMEOUT - 1);
        world.progress(slow, attempt, units);
        world.progress(declining, declined, units);
    }
    world.decline(declining, declined);
    let (fast, quick) = *world.runners(task).iter().find(|(id, _)| *id != slow).expect("a third");
    world.vote_right(fast, quick);
    assert_eq!(world.runners(task).len(), 1);
    world.pass(1);
    assert_eq!(world.tracker(slow).overdue, 1);
    assert_eq!(world.runners(task).len(), 2);
}

#[test]
fn after_an_outage_those_who_were_in_time_are_heard_first() {
    for f in 0..=1 {
        let mut world = World::new(&["a", "b", "c"], 1);
        let job = world.submit(specification(f, 1));
        let task = map(job, 0);
        let runners = world.runners(task);
        // Nobody ordered anything for a minute: the votes waited.
        world.now += 60_000;
        for (id, attempt) in runners {
            world.vote_right(id, attempt);
        }
        assert_eq!(world.seen[&job].len(), 1, "f = {f}");
        assert!(world.trackers().iter().all(|view| view.overdue == 0));
        world.pass(TIMEOUT - 1);
        assert!(world.trackers().iter().all(|view| view.overdue == 0));
        world.pass(1);
        assert!(world.trackers().iter().any(|view| view.overdue > 0), "their clocks run again");
        world.work();
        world.assert_right(job, "/out", 1);
    }
}

#[test]
fn a_deadline_missed_by_little_is_no_outage() {
    let overdue = |ms| {
        let mut world = World::new(&["a", "b", "c"], 1);
        world.submit(specification(1, 1));
        world.pass(ms);
        world.trackers().iter().map(|view| view.overdue).sum::<u64>()
    };
    assert_eq!((overdue(TIMEOUT + 5000), overdue(TIMEOUT + 5001)), (2, 0));
}

#[test]
fn who_was_late_last_gets_work_last() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let late = world.runners(map(job, 0))[0].0;
    world.pass(TIMEOUT);
    world.work_without(&[late]);
    while !world.state(job).is_ended() {
        world.pass(TIMEOUT);
        world.work_without(&[late]);
    }
    let mut next = specification(1, 1);
    next.output = path("/next");
    let next = world.submit(next);
    assert!(!ids(&world.runners(map(next, 0))).contains(&late));
    assert!(world.blamed().is_empty());
}

#[test]
fn a_straggler_whose_time_was_over_before_it_was_bounded_is_no_outage() {
    let mut world = World::new(&["a", "b", "c", "d", "e", "f"], 2);
    let job = world.submit(specification(1, 1));
    let (silent, others) = (world.runners(map(job, 0))[0].0, world.runners(map(job, 1)));
    for round in 1..=15 {
        world.pass(TIMEOUT / 2);
        for (id, attempt) in world.runners(map(job, 0)).into_iter().chain(others.clone()) {
            if id != silent {
                world.progress(id, attempt, round);
            }
        }
    }
    let before = world.runners(map(job, 0));
    let (third, attempt) = *before.iter().max_by_key(|(_, attempt)| attempt.attempt).expect("one more was started");
    world.decline(third, attempt);
    let new = world.runners(map(job, 0)).into_iter().find(|runner| !before.contains(runner));
    let (fresh, attempt) = new.expect("another was started");
    world.pass(10);
    world.vote_right(fresh, attempt);
    world.pass(10);
    world.pass(TIMEOUT - 20);
    assert_eq!(world.tracker(others[0].0).overdue, 1, "its clock went on");
}
