//! Votes and verdicts.

use crate::world::*;
use quorate_protocol::{
    ids::Stage,
    query::{Answer, Blame, JobFailure, JobState, Standing},
    vote::{Ballot, FailureKind},
};
use std::collections::BTreeMap;

#[test]
fn f_plus_one_equal_votes_end_a_job_for_every_f() {
    for f in 0..=2 {
        let mut world = World::new(&["a", "b", "c", "d", "e"], 4);
        let job = world.submit(specification(f, 3));
        world.work();
        world.assert_right(job, "/out", 3);
        let view = world.job(job);
        assert_eq!(view.attempts, u64::from(7 * (f + 1)), "no attempt more than f + 1 for each task");
        assert_eq!(view.counters, BTreeMap::from([("records".to_owned(), 7)]));
        assert_eq!((view.disputed, view.summary.maps, view.summary.reduces), (0, (4, 4), (3, 3)));
        assert!(world.blamed().is_empty());
        for (_, file) in world.output("/out") {
            assert_eq!(file.servers(0).len(), f as usize + 1, "the agreeing attempts are the copies");
        }
        world.listen_all();
        let published: usize = world.processes.values().filter_map(|p| p.ended.get(&job)).map(|(p, _)| p.len()).sum();
        assert_eq!(published, 3 * (f as usize + 1));
    }
}

#[test]
fn an_empty_input_gives_empty_parts() {
    let mut world = World::new(&["a", "b", "c"], 0);
    let job = world.submit(specification(1, 2));
    world.work();
    world.assert_right(job, "/out", 2);
    assert_eq!(world.job(job).summary.maps, (0, 0));
}

#[test]
fn an_outvoted_tracker_is_suspected_and_one_more_attempt_decides() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    let (liar, honest) = (runners[0], runners[1]);
    world.vote(liar.0, liar.1, ballot(task, "lie"));
    assert_eq!(world.runners(task).len(), 1, "one vote says nothing yet");
    world.vote_right(honest.0, honest.1);
    let third = world.runners(task);
    assert_eq!(third.len(), 1, "a mismatch asks for one more");
    assert!(world.seen[&job].is_empty());
    world.vote_right(third[0].0, third[0].1);
    assert_eq!(world.seen[&job].len(), 1);
    assert_eq!(world.blamed(), BTreeMap::from([(liar.0, Blame::Suspected)]));
    let standings = world.standings(job, task);
    assert!(matches!(&standings[0], (id, Standing::Outvoted(_)) if *id == liar.0), "{standings:?}");
    assert!(standings[1..].iter().all(|(_, standing)| matches!(standing, Standing::Agreed(_))), "{standings:?}");
    let again = world.runners(task)[0];
    world.vote(again.0, again.1, ballot(task, "lie"));
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!((world.tracker(liar.0).outvoted, world.job(job).disputed), (1, 1));
    // What explains the dispute outlives the job: all votes, and on each of their trackers the bytes.
    assert_eq!(world.votes(task).len(), 4);
    assert_eq!(world.votes(reduce(job, 0)).len(), 2);
    world.listen_all();
    for (id, attempts) in [(liar.0, vec![liar.1, again.1]), (honest.0, vec![honest.1]), (third[0].0, vec![third[0].1])]
    {
        assert_eq!(world.processes[&id].ended[&job].1, attempts);
    }
}

#[test]
fn with_f_two_one_more_attempt_is_started_as_soon_as_votes_differ() {
    let mut world = World::new(&["a", "b", "c", "d", "e"], 1);
    let job = world.submit(specification(2, 1));
    let task = map(job, 0);
    let runners = world.runners(task);
    assert_eq!(runners.len(), 3);
    world.vote(runners[0].0, runners[0].1, ballot(task, "one lie"));
    world.vote(runners[1].0, runners[1].1, ballot(task, "another lie"));
    assert_eq!(world.runners(task).len(), 2, "the third, and one for the mismatch");
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!(world.job(job).attempts, 5 + 3);
    let liars = BTreeMap::from([(runners[0].0, Blame::Suspected), (runners[1].0, Blame::Suspected)]);
    assert_eq!(world.blamed(), liars);
}

#[test]
fn votes_that_all_differ_are_undecidable_when_each_tracker_says_the_same_again() {
    for stage in [Stage::Map, Stage::Reduce] {
        let mut world = World::new(&["a", "b", "c", "d"], 1);
        let job = world.submit(specification(1, 1));
        let task = if stage == Stage::Map { map(job, 0) } else { reduce(job, 0) };
        if stage == Stage::Reduce {
            for (id, attempt) in world.runners(map(job, 0)) {
                world.vote_right(id, attempt);
            }
        }
        let mut rounds = BTreeMap::new();
        for round in 0..3 {
            let (id, attempt) = world.runners(task)[0];
            rounds.insert(id, round);
            assert_eq!(world.state(job), JobState::Running);
            world.vote(id, attempt, ballot(task, &format!("random {round}")));
        }
        for (id, attempt) in world.runners(task) {
            assert_eq!(world.state(job), JobState::Running, "they are asked again before the job ends");
            world.vote(id, attempt, ballot(task, &format!("random {}", rounds[&id])));
        }
        assert_eq!(world.state(job), JobState::Failed(JobFailure::Undecidable { task }));
        assert!(world.blamed().is_empty());
        assert_eq!(world.votes(task).len(), 6);
        assert!(world.standings(job, task).iter().all(|(_, standing)| matches!(standing, Standing::Voted(_))));
        world.listen_all();
        let ended = || world.processes.values().filter_map(|process| process.ended.get(&job));
        assert!(ended().all(|(publish, _)| publish.is_empty()));
        let kept: Vec<_> = ended().flat_map(|(_, keep)| keep).map(|attempt| attempt.task).collect();
        assert_eq!(kept, [task; 6], "those that voted keep their bytes");
        assert!(
            world.trackers().iter().all(|view| view.map_slots.0 + view.reduce_slots.0 == 0),
            "slots are free again"
        );
    }
}

#[test]
fn an_agreed_failure_fails_the_job_with_its_message() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let failed = Ballot::Failed { kind: FailureKind::UserPanic, record: Some(17) };
    let runners = world.runners(task);
    world.vote(runners[0].0, runners[0].1, ballot(task, ""));
    world.vote(runners[1].0, runners[1].1, failed.clone());
    assert_eq!(world.state(job), JobState::Running, "one failure may be a lie");
    let third = world.runners(task)[0];
    world.vote(third.0, third.1, failed);
    let JobState::Failed(JobFailure::Program { task: at, kind, record, message }) = world.state(job) else {
        panic!("{:?}", world.state(job))
    };
    assert_eq!((at, kind, record), (task, FailureKind::UserPanic, Some(17)));
    assert_eq!(message, format!("message of {}", runners[1].0));
    assert_eq!(world.blamed(), BTreeMap::from([(runners[0].0, Blame::Suspected)]));
    assert!(matches!(
        world.scheduler.ask(&quorate_protocol::query::Question::File(path("/out/part-r-00000"))),
        Answer::Refused(_)
    ));
}

#[test]
fn votes_that_are_not_awaited_change_nothing() {
    let mut world = World::new(&["a", "b", "c"], 1);
    world.create("/in2", file("in2", 1, &[0]));
    let old = world.submit(specification(1, 1));
    let (stale_id, stale_attempt) = world.runners(map(old, 0))[0];
    let stale = world.vote_right(stale_id, stale_attempt);
    world.work();
    world.assert_right(old, "/out", 1);

    let mut other = specification(1, 1);
    other.output = path("/out2");
    let job = world.submit(other);
    let task = map(job, 0);
    let runners = world.runners(task);
    let (id, attempt) = runners[0];
    let stranger = (0..3).find(|id| !ids(&runners).contains(id)).expect("two of three run it");
    (0..3).for_each(|id| drop(world.report(id, Vec::new(), Vec::new())));
    let before = world.scheduler.clone();
    let unchanged = |world: &World, what: &str| assert!(world.scheduler == before, "{what}");

    world.send_vote(stale_id, stale);
    unchanged(&world, "a vote of a job that ended");
    let mut vote = world.sign(id, attempt, ballot(task, "")).peek().expect("made here");
    vote.specification = world.digests[&old];
    world.send_vote(id, quorate_protocol::sign::Signed::seal(&vote, &tracker_key(id)));
    unchanged(&world, "a vote on another specification");
    vote.specification = world.digests[&job];
    vote.cluster = quorate_protocol::digest::Digest::of(b"another cluster");
    world.send_vote(id, quorate_protocol::sign::Signed::seal(&vote, &tracker_key(id)));
    unchanged(&world, "a vote of another cluster");
    world.vote(id, attempt, ballot(reduce(job, 0), ""));
    unchanged(&world, "a reduce ballot for a map task");
    world.vote(stranger, attempt, ballot(task, ""));
    unchanged(&world, "a vote on another's attempt");
    let copied = world.sign(runners[1].0, runners[1].1, ballot(task, ""));
    assert!(matches!(world.report_vote(id, copied), Answer::Refused(_)));
    unchanged(&world, "another's vote");
    let mut unknown = attempt;
    unknown.attempt = 99;
    world.vote(id, unknown, ballot(task, ""));
    unknown = attempt;
    unknown.task.index = 99;
    world.vote(id, unknown, ballot(task, ""));
    unchanged(&world, "votes on attempts that do not exist");
    let signed = world.sign(id, attempt, ballot(task, ""));
    let forged = quorate_protocol::sign::Signed::seal_bytes(signed.bytes().to_vec(), &tracker_key(stranger));
    assert!(matches!(world.report_vote(id, forged), Answer::Refused(_)));
    unchanged(&world, "a vote signed by another");
    assert!(world.blamed().is_empty());
}

#[test]
fn a_late_wrong_vote_is_suspicious_too() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    let (late, attempt) = world.runners(task)[0];
    world.pass(TIMEOUT);
    world.work_without(&[late]);
    assert_eq!(world.seen[&job].len(), 1, "agreed without it");
    assert!(world.blamed().is_empty(), "slowness is no evidence");
    world.vote(late, attempt, ballot(task, "lie"));
    assert_eq!(world.blamed(), BTreeMap::from([(late, Blame::Suspected)]));
}

#[test]
fn a_late_right_vote_is_only_counted() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let (late, attempt) = world.runners(map(job, 0))[0];
    world.pass(TIMEOUT);
    world.work_without(&[late]);
    let agreed = world.tracker(late).agreed;
    world.vote_right(late, attempt);
    assert_eq!((world.tracker(late).agreed, world.seen[&job].len()), (agreed + 1, 1));
    world.work();
    world.assert_right(job, "/out", 1);
    assert!(world.blamed().is_empty());
}
