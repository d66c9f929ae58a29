//! Trackers that crash, return, decline, or are not there.

use crate::world::*;
use quorate_protocol::{
    command::{Command, Refusal, Report, Sender},
    ids::TrackerId,
    job::Directive,
    query::{Answer, JobFailure, JobState, Standing},
};

#[test]
fn a_crashed_trackers_attempts_run_elsewhere() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    let crashed = runners[0].0;
    world.absent(crashed);
    world.processes.remove(&crashed);
    let after = world.runners(task);
    assert_eq!(after.len(), 2);
    assert!(!ids(&after).contains(&crashed));
    world.work();
    world.assert_right(job, "/out", 1);
    assert!(world.blamed().is_empty());
    assert!(!world.tracker(crashed).live);
}

#[test]
fn absence_counts_when_f_plus_one_replicas_notice() {
    let mut world = World::empty(&["a", "b"], 1);
    world.register(0, 1);
    world.absent_for(2, 0);
    world.absent_for(2, 0);
    assert!(world.tracker(0).live, "one replica may lie");
    world.register(0, 1);
    world.absent_for(1, 0);
    assert!(world.tracker(0).live, "it registered in between");
    world.absent_for(2, 0);
    assert!(!world.tracker(0).live);
    assert_eq!(world.report(0, Vec::new(), Vec::new()), Answer::Done);
    assert!(world.tracker(0).live, "it was heard of");
}

#[test]
fn a_new_process_starts_over_with_what_its_disk_must_know() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let done = world.submit(specification(1, 1));
    world.work();
    world.assert_right(done, "/out", 1);
    assert_eq!(world.order(Command::Remove { path: path("/in"), recursive: false }), Answer::Done);
    world.create("/in", file("more", 1, &[0]));
    let mut next = specification(1, 1);
    next.output = path("/next");
    let job = world.submit(next);
    world.listen_all();
    let (id, attempt) = *world.runners(map(job, 0)).iter().find(|(id, _)| *id == 0).expect("it holds the input");
    let old = world.processes[&id].clone();
    world.register(id, 1);
    let fresh = world.scheduler.directives(TrackerId::new(id), old.incarnation + 1, 0, usize::MAX);
    let knows = |wanted: &dyn Fn(&Directive) -> bool| fresh.iter().any(|(_, directive)| wanted(directive));
    assert!(knows(&|d| matches!(d, Directive::JobEnded { job, .. } if *job == done)), "never acknowledged: {fresh:?}");
    assert!(knows(&|d| matches!(d, Directive::DropChunks(_))), "{fresh:?}");
    assert!(!knows(&|d| matches!(d, Directive::Start { attempt: a, .. } if *a == attempt)), "{fresh:?}");
    assert_eq!(fresh[0].0, 0);
    assert_eq!(world.scheduler.directives(TrackerId::new(id), old.incarnation, 0, 9), [], "the old process is gone");
    let report = Report { incarnation: old.incarnation, ..Report::default() };
    let answer = world.send(Sender::Tracker(TrackerId::new(id)), Command::Report(report));
    assert!(matches!(answer, Answer::Refused(Refusal::NotAllowed(_))));
    world.vote_right(id, attempt);
    assert!(world.votes(attempt.task).is_empty(), "the attempt was lost with the old process");
    world.work();
    world.assert_right(job, "/next", 1);
}

#[test]
fn a_tracker_that_comes_back_is_told_what_it_lost() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    let (id, attempt) = runners[0];
    world.absent(id);
    assert_eq!(world.report(id, Vec::new(), Vec::new()), Answer::Done);
    assert!(!world.running(id).contains(&attempt), "cancelled");
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn map_output_whose_voters_are_gone_is_made_again() {
    let mut world = World::new(&["a", "b", "c", "d"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let voters = world.runners(task);
    for (id, attempt) in &voters {
        world.vote_right(*id, *attempt);
    }
    world.absent(voters[0].0);
    assert!(world.runners(task).is_empty(), "one voter is left");
    world.absent(voters[1].0);
    let again = world.runners(task);
    assert_eq!(again.len(), 1);
    world.vote_right(again[0].0, again[0].1);
    let verdicts = &world.seen[&job];
    assert_eq!(verdicts.len(), 2);
    assert_eq!(verdicts[1].voters.len(), 3);
    assert_eq!((verdicts[0].map, verdicts[0].segments), (verdicts[1].map, verdicts[1].segments));
    assert_eq!(world.job(job).summary.maps, (1, 1), "the verdict stays");
    voters.iter().for_each(|(id, _)| {
        world.processes.remove(id);
    });
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn a_voter_that_comes_back_in_time_saves_the_work() {
    let mut world = World::new(&["a", "b"], 1);
    world.register(0, 1);
    let job = world.submit(specification(0, 1));
    let task = map(job, 0);
    let (id, attempt) = world.runners(task)[0];
    world.vote_right(id, attempt);
    world.absent(1 - id);
    world.absent(id);
    assert!(matches!(world.state(job), JobState::Waiting(_)));
    assert_eq!(world.report(id, Vec::new(), Vec::new()), Answer::Done);
    assert!(world.runners(task).is_empty());
    assert_eq!(world.state(job), JobState::Running);
}

#[test]
fn a_declined_task_goes_to_another_while_there_is_one() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let (id, attempt) = world.runners(task)[0];
    world.decline(id, attempt);
    let after = world.runners(task);
    assert_eq!(after.len(), 2);
    assert!(!ids(&after).contains(&id));
    assert!(world.running(id).iter().all(|a| a.task != task));
    let (second, attempt) = after[0];
    world.decline(second, attempt);
    assert_eq!(world.runners(task).len(), 2, "no other is left, so one of the two tries again");
    world.work();
    world.assert_right(job, "/out", 1);
    assert!(world.blamed().is_empty());
}

#[test]
fn a_task_that_everybody_declines_is_not_runnable() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    for n in 0..12 {
        assert_eq!(world.state(job), JobState::Running, "after {n}");
        let (id, attempt) = world.runners(task)[0];
        world.decline(id, attempt);
    }
    let JobState::Failed(JobFailure::NotRunnable { task: at, reason }) = world.state(job) else {
        panic!("{:?}", world.state(job))
    };
    assert!(at == task && reason.ends_with("disk full"), "{reason}");
}

#[test]
fn with_too_few_domains_a_job_waits_and_says_so() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    let others: Vec<u32> = (0..3).filter(|id| *id != runners[0].0).collect();
    others.iter().for_each(|id| world.absent(*id));
    let JobState::Waiting(why) = world.state(job) else { panic!("{:?}", world.state(job)) };
    assert!(why.contains("f + 1 = 2 live domains needed, 1 there"), "{why}");
    assert_eq!(world.runners(map(job, 0)).iter().filter(|(id, _)| *id == runners[0].0).count(), 1);
    others.iter().for_each(|id| world.register(*id, 1));
    assert_eq!(world.state(job), JobState::Running);
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn a_mismatch_without_a_third_domain_waits() {
    let mut world = World::new(&["a", "b", "c"], 1);
    world.absent(2);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    world.vote(runners[0].0, runners[0].1, ballot(task, "lie"));
    world.vote_right(runners[1].0, runners[1].1);
    assert!(matches!(world.state(job), JobState::Waiting(_)));
    assert!(world.blamed().is_empty());
    world.register(2, 1);
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!(world.blamed().into_keys().collect::<Vec<_>>(), [runners[0].0]);
    assert!(matches!(world.standings(job, task)[0], (_, Standing::Outvoted(_))));
}
