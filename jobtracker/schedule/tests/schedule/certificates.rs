//! What the scheduler keeps of ended jobs for their certificates. That it holds is asserted wherever a job ends right.

use crate::world::{World, ballot, file, map, path, reduce, specification};
use quorate_protocol::{
    canonical,
    command::{Command, Refusal},
    ids::JobId,
    job::Specification,
    limits::{COMPLETION_BYTES_MAX, COMPLETIONS_BYTES_MAX},
    query::{Answer, JobState, Question},
};

fn refused(world: &World, job: JobId) -> String {
    world.scheduler.completion(job).expect_err("no certificate").to_string()
}

#[test]
fn a_job_has_a_certificate_when_it_succeeded_and_not_before() {
    let mut world = World::new(&["a", "b", "c"], 2);
    let job = world.submit(specification(1, 2));
    assert!(refused(&world, job).contains("has not ended"));
    world.work();
    world.assert_right(job, "/out", 2);
    let Answer::Completion(completion) = world.scheduler.ask(&Question::Completion(job)) else { panic!("kept") };
    assert_eq!((completion.ended.0, completion.submitted.0), (world.now, 1000));
    let kept = world.votes(reduce(job, 1));
    assert_eq!((kept.len(), kept), (2, completion.votes(1)));
    assert!(world.votes(map(job, 0)).is_empty(), "map votes are too many to be kept");
    assert_eq!(world.scheduler.completion(JobId::new(9)).err(), Some(Refusal::NotFound("job-9".to_owned())));
    assert!(matches!(world.scheduler.ask(&Question::Endorsement(job)), Answer::Refused(_)), "each replica's own");

    let mut killed = specification(1, 1);
    killed.output = path("/killed");
    let killed = world.submit(killed);
    assert_eq!(world.order(Command::KillJob(killed)), Answer::Done);
    assert!(refused(&world, killed).contains("did not succeed"));
}

#[test]
fn f_plus_one_agreeing_votes_are_kept_whoever_else_voted() {
    let mut world = World::new(&["a", "b", "c", "d", "e"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    runners.iter().for_each(|(id, attempt)| drop(world.vote_right(*id, *attempt)));
    let (liar, attempt) = world.runners(reduce(job, 0))[0];
    world.vote(liar, attempt, ballot(reduce(job, 0), "lie"));
    world.work();
    world.assert_right(job, "/out", 1);
    let voters: Vec<u32> = world.scheduler.completion(job).expect("kept").parts[0]
        .votes
        .iter()
        .map(|vote| vote.tracker.number())
        .collect();
    assert!(voters.len() == 2 && !voters.contains(&liar) && voters[0] < voters[1], "{voters:?}");
}

#[test]
fn without_replication_there_is_one_vote() {
    let mut world = World::new(&["a"], 1);
    let job = world.submit(specification(0, 1));
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!(world.votes(reduce(job, 0)).len(), 1);
}

/// Ends a job of f = 0 that has no map tasks, with an output path of so many bytes: its record is its inputs' names, mostly.
fn listing(world: &mut World, name: &str, length: usize) -> JobId {
    let output = path(&format!("/{name}{}", "x".repeat(length - name.len() - 1)));
    let job = world.submit(Specification { output, inputs: vec![path("/many")], ..specification(0, 1) });
    let attempt = world.running(0)[0];
    world.vote_right(0, attempt);
    assert_eq!(world.state(job), JobState::Succeeded);
    job
}

fn create_many(world: &mut World, numbers: std::ops::Range<usize>) {
    let name = |number: usize| path(&format!("/many/{}{number:05}", "x".repeat(289)));
    let files = numbers.map(|number| (name(number), file("none", 0, &[]))).collect();
    assert_eq!(world.order(Command::CreateFiles(files)), Answer::Done);
}

#[test]
fn what_is_kept_is_bounded_for_each_job_and_for_all() {
    // A path of 300 bytes with its length and a digest.
    const FILE: usize = 300 + 2 + 32;
    let mut world = World::new(&["a"], 0);
    let bytes = |world: &World, job| canonical::encode(world.scheduler.completion(job).expect("kept")).len();
    create_many(&mut world, 0..1000);
    let few = listing(&mut world, "few", 200);
    let more = (COMPLETION_BYTES_MAX - bytes(&world, few)) / FILE;
    create_many(&mut world, 1000..1000 + more);
    let longest = 200 + COMPLETION_BYTES_MAX - bytes(&world, few) - more * FILE;
    let first = listing(&mut world, "first", longest);
    assert_eq!(bytes(&world, first), COMPLETION_BYTES_MAX, "at the bound");
    let above = listing(&mut world, "above", longest + 1);
    assert!(refused(&world, above).contains("too long"));
    assert!(world.votes(reduce(above, 0)).is_empty());

    // The few files' job is older than the first, and gives way with it.
    let fitting = COMPLETIONS_BYTES_MAX / COMPLETION_BYTES_MAX;
    let others: Vec<JobId> =
        (1..fitting).map(|number| listing(&mut world, &format!("other{number:02}"), longest)).collect();
    assert!(world.scheduler.completion(first).is_ok(), "all together are at the bound");
    assert!(refused(&world, few).contains("gave way"));
    listing(&mut world, "last", longest);
    assert!(refused(&world, first).contains("gave way"), "one above the bound");
    assert!(others.iter().all(|job| world.scheduler.completion(*job).is_ok()));
}
