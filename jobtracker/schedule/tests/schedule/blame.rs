//! Evidence, complaints and convictions.

use crate::world::*;
use quorate_protocol::{
    command::{Accusation, Command, Request, Sender},
    digest::{ChunkId, Digest},
    evidence::Evidence,
    ids::{AttemptId, TrackerId},
    limits,
    query::{Blame, JobState},
    sign::Signed,
    vote::{Ballot, Segment, Served, Subject, Vote, segments_digest},
};
use std::collections::BTreeMap;

fn served(world: &World, id: u32, subject: Subject, sent: Option<(Digest, u64)>) -> Signed<Served> {
    let served = Served { cluster: world.cluster.id(), tracker: TrackerId::new(id), subject, sent };
    Signed::seal(&served, &tracker_key(id))
}

fn complaint(about: u32, attempt: AttemptId) -> Accusation {
    Accusation::Complaint { about: TrackerId::new(about), attempt, what: "wrong bytes".to_owned() }
}

#[test]
fn two_votes_for_one_attempt_convict_and_quarantine() {
    let mut world = World::new(&["a", "b", "c", "d"], 3);
    let job = world.submit(specification(1, 2));
    let (liar, attempt) = world.runners(map(job, 0))[0];
    world.vote_right(liar, attempt);
    world.vote(liar, attempt, ballot(attempt.task, "lie"));
    assert_eq!(world.blamed(), BTreeMap::from([(liar, Blame::Convicted)]));
    assert_eq!(world.running(liar), []);
    world.work();
    world.assert_right(job, "/out", 2);
    assert_eq!(world.running(liar), []);
    let mut next = specification(1, 1);
    next.output = path("/next");
    let next = world.submit(next);
    assert_eq!(world.running(liar), [], "the convicted get no work");
    world.work();
    world.assert_right(next, "/next", 1);
}

#[test]
fn the_same_vote_twice_is_an_honest_retry() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let (id, attempt) = world.runners(map(job, 0))[0];
    let vote = world.vote_right(id, attempt);
    let before = world.scheduler.clone();
    world.send_vote(id, vote);
    assert!(world.scheduler == before);
}

#[test]
fn a_stray_vote_unlike_the_ordered_one_convicts() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    let ((liar, attempt), (reader, _)) = (runners[0], runners[1]);
    let stray = world.sign(liar, attempt, ballot(attempt.task, "lie"));
    world.accuse(reader, Accusation::StrayVote(Box::new(stray.clone())));
    assert!(world.blamed().is_empty(), "there is nothing yet that it contradicts");
    let right = world.vote_right(liar, attempt);
    world.accuse(reader, Accusation::StrayVote(Box::new(right)));
    assert!(world.blamed().is_empty(), "it says the same");
    world.accuse(reader, Accusation::StrayVote(Box::new(stray)));
    assert_eq!(world.blamed(), BTreeMap::from([(liar, Blame::Convicted)]));
}

#[test]
fn wrong_bytes_under_ones_own_vote_convict() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    let (liar, attempt) = runners[0];
    let segments = vec![Segment { digest: Digest::of(b"right"), length: 5, records: 1 }];
    let vote =
        world.vote(liar, attempt, Ballot::Map { segments: segments_digest(&segments), counters: BTreeMap::new() });
    let subject = Subject::Segment { attempt, partition: 0 };
    let evidence = |world: &World, sent| {
        let served = served(world, liar, subject, sent);
        Accusation::Evidence(Box::new(Evidence::WrongSegment {
            vote: vote.clone(),
            segments: segments.clone(),
            served,
        }))
    };
    let right = evidence(&world, Some((Digest::of(b"right"), 5)));
    world.accuse(runners[1].0, right);
    assert!(world.blamed().is_empty(), "it sent what it voted");
    let nothing = evidence(&world, None);
    world.accuse(runners[1].0, nothing);
    assert_eq!(world.blamed(), BTreeMap::from([(liar, Blame::Suspected)]), "disks die");
    let wrong = evidence(&world, Some((Digest::of(b"wrong"), 5)));
    world.accuse(runners[1].0, wrong);
    assert_eq!(world.blamed(), BTreeMap::from([(liar, Blame::Convicted)]));
}

#[test]
fn a_tracker_that_dropped_the_segments_of_an_ended_job_is_not_suspected() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let segments = vec![Segment { digest: Digest::of(b"right"), length: 5, records: 1 }];
    let right = Ballot::Map { segments: segments_digest(&segments), counters: BTreeMap::new() };
    let runners = world.runners(map(job, 0));
    let vote = world.vote(runners[0].0, runners[0].1, right.clone());
    world.vote(runners[1].0, runners[1].1, right);
    world.work();
    assert_eq!(world.state(job), JobState::Succeeded);
    let served = served(&world, runners[0].0, Subject::Segment { attempt: runners[0].1, partition: 0 }, None);
    let evidence = Evidence::WrongSegment { vote, segments, served };
    assert!(evidence.check(&world.cluster).is_ok(), "it would pass by itself");
    world.accuse(2, Accusation::Evidence(Box::new(evidence)));
    assert!(world.blamed().is_empty());
}

#[test]
fn a_wrong_chunk_convicts() {
    let mut world = World::new(&["a", "b", "c"], 0);
    let chunk = Subject::Chunk(ChunkId(Digest::of(b"right")));
    let right = served(&world, 1, chunk, Some((Digest::of(b"right"), 5)));
    let wrong = served(&world, 1, chunk, Some((Digest::of(b"wrong"), 5)));
    world.accuse(0, Accusation::Evidence(Box::new(Evidence::WrongChunk(right))));
    assert!(world.blamed().is_empty());
    world.accuse(0, Accusation::Evidence(Box::new(Evidence::WrongChunk(wrong))));
    assert_eq!(world.blamed(), BTreeMap::from([(1, Blame::Convicted)]));
}

#[test]
fn an_accuser_cannot_choose_f() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    let ((honest, attempt), (liar, lie)) = (runners[0], runners[1]);
    let vote = world.vote_right(honest, attempt);
    let lying = world.sign(liar, lie, ballot(attempt.task, "lie"));
    let outvoted = |lying| Evidence::Outvoted { vote: vote.clone(), majority: vec![lying] };
    assert!(outvoted(lying.clone()).check(&world.cluster).is_err(), "one vote is no majority of f + 1 = 2");
    let claim = Vote { f: 0, ..lying.peek().expect("a vote") };
    let lying = Signed::seal(&claim, &tracker_key(liar));
    assert!(outvoted(lying.clone()).check(&world.cluster).is_err(), "f is what the accused signed");
    world.accuse(liar, Accusation::Evidence(Box::new(outvoted(lying))));
    let report = Command::Report(quorate_protocol::command::Report {
        accusations: vec![complaint(honest, attempt)],
        ..Default::default()
    });
    let report = world.seal(Sender::Tracker(TrackerId::new(liar)), report);
    let complaints = Evidence::Complaints { vote, reports: vec![report] };
    assert!(complaints.check(&world.cluster).is_err(), "one complaint is not f + 1 = 2");
    world.accuse(liar, Accusation::Evidence(Box::new(complaints)));
    assert!(world.blamed().is_empty());
}

#[test]
fn complaints_count_when_f_plus_one_domains_agree() {
    let mut world = World::new(&["a", "a", "b", "c", "d"], 4);
    let job = world.submit(specification(1, 4));
    let (accused, attempt) = world.runners(map(job, 0))[0];
    world.vote_right(accused, attempt);
    let others: Vec<u32> = (0..5).filter(|id| *id != accused).collect();
    let domain = |world: &World, id: u32| world.tracker(id).domain;
    let first = others[0];
    world.accuse(accused, complaint(first, attempt));
    world.accuse(first, complaint(accused, attempt));
    world.accuse(first, complaint(accused, attempt));
    assert!(world.blamed().is_empty(), "one domain is one word");
    let second = *others.iter().find(|id| domain(&world, **id) != domain(&world, first)).expect("another domain");
    world.accuse(second, complaint(accused, attempt));
    assert_eq!(world.blamed(), BTreeMap::from([(accused, Blame::Suspected)]));
}

#[test]
fn complaints_have_the_output_made_again_a_bounded_number_of_times() {
    let mut world = World::new(&["a", "b", "c", "d", "e"], 1);
    let job = world.submit(specification(1, 1));
    let task = map(job, 0);
    for (id, attempt) in world.runners(task) {
        world.vote_right(id, attempt);
    }
    let reader = world.runners(reduce(job, 0))[0].0;
    let mut reruns = 0;
    loop {
        let voters = world.seen[&job].last().expect("agreed").voters.clone();
        for (voter, attempt) in voters.iter().filter(|(voter, _)| voter.number() != reader) {
            world.accuse(reader, complaint(voter.number(), *attempt));
        }
        if voters.iter().any(|(voter, _)| voter.number() == reader) {
            world.accuse(
                (reader + 1) % 5,
                complaint(reader, voters.iter().find(|v| v.0.number() == reader).expect("it").1),
            );
        }
        let again = world.runners(task);
        let Some((id, attempt)) = again.first().copied() else { break };
        assert_eq!(again.len(), 1);
        world.vote_right(id, attempt);
        reruns += 1;
        assert_eq!(world.seen[&job].len(), reruns + 1, "the new voters are told");
    }
    assert!((1..=4).contains(&reruns), "{reruns}");
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn an_unreachable_voter_is_not_blamed() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(0, 2));
    let (voter, attempt) = world.runners(map(job, 0))[0];
    let reader = world.runners(reduce(job, 1))[0].0;
    assert_ne!(reader, voter, "the second reducer is placed elsewhere");
    world.vote_right(voter, attempt);
    world.accuse(reader, Accusation::Unreachable { about: TrackerId::new(voter), attempt });
    let again = world.runners(map(job, 0));
    assert_eq!(again.len(), 1, "its output is made again");
    assert_ne!(again[0].0, voter);
    world.work();
    world.assert_right(job, "/out", 2);
    assert!(world.blamed().is_empty());
    assert_eq!(world.seen[&job].len(), 2);
}

#[test]
fn garbage_under_a_trackers_signature_is_suspicious() {
    let mut world = World::new(&["a", "b"], 0);
    let garbled = Signed::<Request>::seal_bytes(vec![9; 99], &tracker_key(1));
    world.scheduler.garbled(TrackerId::new(0), &garbled);
    assert!(world.blamed().is_empty(), "tracker 0 did not sign it");
    world.scheduler.garbled(TrackerId::new(1), &garbled);
    world.scheduler.garbled(TrackerId::new(1), &garbled);
    assert_eq!(world.blamed(), BTreeMap::from([(1, Blame::Suspected)]));
    assert_eq!(world.evidence(1).len(), 1, "kept once");
    for n in 0..=limits::EVIDENCE_PER_TRACKER_MAX {
        let garbled = Signed::<Request>::seal_bytes(vec![n as u8; 50], &tracker_key(1));
        world.scheduler.garbled(TrackerId::new(1), &garbled);
    }
    assert_eq!(world.evidence(1).len(), limits::EVIDENCE_PER_TRACKER_MAX);
}

#[test]
fn the_suspected_get_work_only_when_needed() {
    let mut world = World::new(&["a", "b", "c"], 1);
    world.scheduler.garbled(TrackerId::new(0), &Signed::seal_bytes(vec![9; 99], &tracker_key(0)));
    let job = world.submit(specification(1, 1));
    assert_eq!(ids(&world.runners(map(job, 0))), [1, 2].into(), "although tracker 0 holds the input");
    world.absent(1);
    assert_eq!(ids(&world.runners(map(job, 0))), [0, 2].into());
}
