//! Evidence, complaints and convictions.

use crate::world::*;
use quorate_protocol::{
    command::{Accusation, Command, Request, Sender},
    digest::{ChunkId, Digest},
    evidence::Evidence,
    ids::{AttemptId, TrackerId},
    limits,
    query::{Answer, Blame, JobFailure, JobState},
    sign::Signed,
    vote::{Ballot, Segment, Served, Subject, Vote, segments_digest},
};
use std::collections::BTreeMap;

fn served(
    world: &World,
    id: u32,
    subject: Subject,
    vote: Option<&Signed<Vote>>,
    sent: Option<(Digest, u64)>,
) -> Signed<Served> {
    let vote = vote.map(|vote| Digest::of(vote.bytes()));
    let served = Served { cluster: world.cluster.id(), tracker: TrackerId::new(id), subject, vote, sent };
    Signed::seal(&served, &tracker_key(id))
}

fn wrong_chunk(world: &World, id: u32) -> Evidence {
    let chunk = Subject::Chunk(ChunkId(Digest::of(b"right")));
    Evidence::WrongChunk(served(world, id, chunk, None, Some((Digest::of(b"wrong"), 5))))
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
        let served = served(world, liar, subject, Some(&vote), sent);
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
    let subject = Subject::Segment { attempt: runners[0].1, partition: 0 };
    let served = served(&world, runners[0].0, subject, Some(&vote), None);
    let evidence = Evidence::WrongSegment { vote, segments, served };
    assert!(evidence.check(&world.cluster).is_ok(), "it would pass by itself");
    world.accuse(2, Accusation::Evidence(Box::new(evidence)));
    assert!(world.blamed().is_empty());
}

#[test]
fn a_wrong_chunk_convicts() {
    let mut world = World::new(&["a", "b", "c"], 0);
    let chunk = Subject::Chunk(ChunkId(Digest::of(b"right")));
    let right = served(&world, 1, chunk, None, Some((Digest::of(b"right"), 5)));
    let wrong = wrong_chunk(&world, 1);
    world.accuse(0, Accusation::Evidence(Box::new(Evidence::WrongChunk(right))));
    assert!(world.blamed().is_empty());
    world.accuse(0, Accusation::Evidence(Box::new(wrong)));
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
fn a_liar_that_spoils_reruns_neither_goes_on_for_ever_nor_ends_the_job() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 2));
    let task = map(job, 0);
    let voters = world.runners(task);
    let liar = (0..3).find(|id| voters.iter().all(|(voter, _)| voter != id)).expect("a third");
    for (id, attempt) in voters {
        world.vote_right(id, attempt);
    }
    let mut lies = 0;
    for round in 0.. {
        assert!(round < 20, "it goes on and on");
        for (about, attempt) in world.seen[&job].last().expect("agreed").voters.clone() {
            world.accuse(liar, Accusation::Unreachable { about, attempt });
        }
        let Some((id, attempt)) = world.runners(task).first().copied() else { break };
        let lie = if id == liar { "lie" } else { "" };
        lies += u32::from(id == liar);
        world.vote(id, attempt, ballot(task, lie));
    }
    assert_eq!(lies, 1, "a domain that was outvoted brings nothing back");
    assert_eq!(world.blamed(), BTreeMap::from([(liar, Blame::Suspected)]));
    world.work();
    world.assert_right(job, "/out", 2);
}

#[test]
fn a_verdict_that_more_than_f_domains_contradict_ends_the_job() {
    for f in 0..=1 {
        let mut world = World::new(&["a", "b", "c", "d", "e"], 1);
        let job = world.submit(specification(f, 1));
        let task = map(job, 0);
        for (id, attempt) in world.runners(task) {
            world.vote_right(id, attempt);
            world.processes.remove(&id);
            world.absent(id);
        }
        for contradictions in 0..=f {
            assert!(!world.state(job).is_ended(), "{contradictions} of f = {f}");
            let (id, attempt) = world.runners(task)[0];
            world.vote(id, attempt, ballot(task, &format!("random {id}")));
        }
        let JobState::Failed(JobFailure::NotRunnable { task: at, reason }) = world.state(job) else {
            panic!("{:?}", world.state(job))
        };
        assert!(at == task && reason.contains("another output than was agreed"), "{reason}");
    }
}

#[test]
fn what_one_report_has_checked_is_bounded() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let (liar, attempt) = world.runners(map(job, 0))[0];
    let vote = world.vote_right(liar, attempt);
    let proof = || Accusation::Evidence(Box::new(wrong_chunk(&world, liar)));
    let behind = |first: Evidence, count: usize| {
        let mut world = world.clone();
        let mut accusations = vec![Accusation::Evidence(Box::new(first)); count];
        accusations.push(proof());
        assert_eq!(world.report((liar + 1) % 3, Vec::new(), accusations), Answer::Done);
        world.blamed().contains_key(&liar)
    };
    let no_proof = Evidence::TwoVotes(vote.clone(), vote.clone());
    assert!(behind(no_proof.clone(), 31), "at the bound");
    assert!(!behind(no_proof, 32), "one above");
    for unread in [
        Evidence::Outvoted { vote: vote.clone(), majority: vec![vote.clone(); 9] },
        Evidence::Complaints { vote: vote.clone(), reports: Vec::new() },
        Evidence::Garbled { tracker: TrackerId::new(liar), request: Signed::seal_bytes(vec![9], &tracker_key(liar)) },
    ] {
        assert!(behind(unread, 500), "kinds that never count cost nothing");
    }
}

#[test]
fn a_list_of_more_segments_than_a_job_may_have_is_not_looked_at() {
    let convicts = |count: usize| {
        let mut world = World::new(&["a", "b", "c"], 1);
        let job = world.submit(specification(1, 1));
        let (liar, attempt) = world.runners(map(job, 0))[0];
        let segments = vec![Segment { digest: Digest::of(b"right"), length: 5, records: 1 }; count];
        let ballot = Ballot::Map { segments: segments_digest(&segments), counters: BTreeMap::new() };
        let vote = world.sign(liar, attempt, ballot);
        let subject = Subject::Segment { attempt, partition: 0 };
        let served = served(&world, liar, subject, Some(&vote), Some((Digest::of(b"wrong"), 5)));
        let evidence = Evidence::WrongSegment { vote, segments, served };
        assert!(evidence.check(&world.cluster).is_ok());
        world.accuse((liar + 1) % 3, Accusation::Evidence(Box::new(evidence)));
        !world.blamed().is_empty()
    };
    assert!(convicts(limits::PARTITIONS_MAX as usize));
    assert!(!convicts(limits::PARTITIONS_MAX as usize + 1));
}

#[test]
fn the_convicted_are_not_heard_and_those_without_work_in_a_job_miss_nothing() {
    let mut world = World::new(&["a", "b", "c", "d"], 1);
    let job = world.submit(specification(1, 1));
    let voters = world.runners(map(job, 0));
    for (id, attempt) in &voters {
        world.vote_right(*id, *attempt);
    }
    let stranger = 3;
    assert!(world.running(stranger).is_empty(), "it has no part in the job");
    for (id, attempt) in &voters {
        world.accuse(stranger, Accusation::Unreachable { about: TrackerId::new(*id), attempt: *attempt });
    }
    assert!(world.runners(map(job, 0)).is_empty(), "nothing is made again on its word");
    let proof = wrong_chunk(&world, stranger);
    world.accuse(0, Accusation::Evidence(Box::new(proof)));
    let proof = wrong_chunk(&world, 0);
    world.accuse(stranger, Accusation::Evidence(Box::new(proof.clone())));
    assert_eq!(world.blamed(), BTreeMap::from([(stranger, Blame::Convicted)]));
    world.accuse(1, Accusation::Evidence(Box::new(proof)));
    assert_eq!(world.blamed().len(), 2, "another brings the same");
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
