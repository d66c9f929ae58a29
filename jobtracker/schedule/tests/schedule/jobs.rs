//! What may be submitted, by whom, and how jobs begin and end.

use crate::world::*;
use quorate_protocol::{
    canonical,
    command::{AttemptReport, Command, Refusal, Registration, Sender},
    digest::{ChunkId, Digest},
    ids::{AttemptId, JobId, ReplicaId, TrackerId},
    job::{Program, Specification},
    limits,
    query::{Answer, JobFailure, JobState, Question},
    sign::SecretKey,
};

fn refusal(world: &mut World, specification: Specification) -> Refusal {
    let before = world.scheduler.clone();
    match world.order(Command::SubmitJob(Box::new(specification))) {
        Answer::Refused(refusal) => {
            assert!(world.scheduler == before, "a refused job leaves nothing behind");
            refusal
        }
        other => panic!("{other:?}"),
    }
}

fn binary(target: &str) -> Program {
    Program::Binary { digest: Digest::of(b"program"), target: target.to_owned(), file: file("program", 1, &[0]) }
}

#[test]
fn each_kind_of_sender_has_its_own_commands() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let stranger = Sender::Client(SecretKey::from_seed([99; 32]).public());
    let client = Sender::Client(client().public());
    let tracker = Sender::Tracker(TrackerId::new(0));
    let replica = Sender::Replica(ReplicaId::new(0));
    let job = Command::SubmitJob(Box::new(specification(1, 1)));
    let registration =
        Registration { address: String::new(), incarnation: 9, map_slots: 1, reduce_slots: 1, target: String::new() };
    for (sender, command) in [
        (stranger, job.clone()),
        (tracker, job),
        (replica, Command::KillJob(JobId::new(1))),
        (tracker, Command::Remove { path: path("/in"), recursive: true }),
        (stranger, Command::CreateFiles(vec![])),
        (client, Command::Register(registration.clone())),
        (Sender::Tracker(TrackerId::new(77)), Command::Register(registration)),
        (replica, Command::Report(Default::default())),
        (tracker, Command::Absent(TrackerId::new(1))),
        (client, Command::Absent(TrackerId::new(1))),
        (Sender::Replica(ReplicaId::new(77)), Command::Absent(TrackerId::new(1))),
    ] {
        let before = world.scheduler.clone();
        let signed = world.seal(client, command.clone());
        let answer = world.scheduler.apply(quorate_protocol::ids::OrderedTime(world.now), sender, &signed, &command);
        assert!(matches!(answer, Answer::Refused(Refusal::NotAllowed(_))), "{sender:?} {command:?}: {answer:?}");
        assert!(world.scheduler == before);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = World::new(&["a", "b", "c"], 3);
    world.create("/taken/x", file("x", 1, &[0]));
    let with = |change: &dyn Fn(&mut Specification)| {
        let mut specification = specification(1, 1);
        change(&mut specification);
        specification
    };
    assert!(matches!(refusal(&mut world, with(&|s| s.partitions = 0)), Refusal::Invalid(_)));
    assert_eq!(
        refusal(&mut world, with(&|s| s.inputs.push(path("/missing")))),
        Refusal::NotFound("/missing".to_owned())
    );
    for taken in ["/taken", "/taken/x", "/"] {
        assert!(matches!(refusal(&mut world, with(&|s| s.output = path(taken))), Refusal::Exists(_)), "{taken}");
    }
    let live = world.submit(specification(1, 1));
    for taken in ["/out", "/out/below"] {
        assert!(matches!(refusal(&mut world, with(&|s| s.output = path(taken))), Refusal::Exists(_)), "{taken}");
    }
    assert_eq!(world.order(Command::KillJob(live)), Answer::Done);
    world.submit(specification(1, 1));
}

#[test]
fn the_number_of_map_tasks_is_bounded() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let mut huge = file("huge", 1, &[0]);
    huge.manifest.chunks[0].1 = limits::MAPS_MAX + 1;
    world.create("/huge", huge);
    let mut job = specification(1, 1);
    job.inputs = vec![path("/huge")];
    job.split_bytes = 1;
    let refused = refusal(&mut world, job);
    assert!(matches!(&refused, Refusal::Invalid(why) if why.contains("raise the split size")), "{refused}");
}

#[test]
fn domains_must_be_configured_and_live() {
    let mut world = World::new(&["a", "a", "b", "b"], 1);
    assert_eq!(refusal(&mut world, specification(1, 1)), Refusal::TooFewDomains { f: 1, needed: 3, have: 2 });
    let mut world = World::new(&["a", "b", "c"], 1);
    world.absent(0);
    world.submit(specification(1, 1));
    world.absent(1);
    let mut next = specification(1, 1);
    next.output = path("/next");
    assert_eq!(refusal(&mut world, next), Refusal::TooFewDomains { f: 1, needed: 2, have: 1 });
}

#[test]
fn a_program_runs_only_on_its_target() {
    let mut world = World::empty(&["a", "b", "c", "d"], 0);
    for (id, target) in ["x86_64-linux", "aarch64-linux", "aarch64-linux", ""].into_iter().enumerate() {
        world.register_for(id as u32, 1, target);
    }
    world.create("/in", file("in", 2, &[0]));
    let mut job = specification(1, 1);
    job.program = binary("x86_64-linux");
    let refused = refusal(&mut world, job.clone());
    let targets = "aarch64-linux, x86_64-linux".to_owned();
    assert_eq!(refused, Refusal::WrongTarget { program: "x86_64-linux".to_owned(), trackers: targets });
    job.program = binary("aarch64-linux");
    let job = world.submit(job);
    assert_eq!((world.running(0), world.running(3)), (vec![], vec![]));
    assert_eq!(ids(&world.runners(map(job, 0))), [1, 2].into());
    let mut embedded = specification(1, 1);
    embedded.output = path("/embedded");
    let embedded = world.submit(embedded);
    assert_eq!(ids(&world.runners(map(embedded, 0))), [0, 3].into());
    world.work();
    world.assert_right(job, "/out", 1);
}

#[test]
fn folders_are_inputs_in_the_order_of_their_paths() {
    let mut world = World::new(&["a", "b", "c"], 1);
    world.create("/dir/b", file("b", 1, &[0]));
    world.create("/dir/a/x", file("x", 2, &[0]));
    let mut job = specification(1, 1);
    job.inputs = vec![path("/in"), path("/dir")];
    let job = world.submit(job);
    let Answer::Plan(plan) = world.scheduler.ask(&Question::Plan(job)) else { panic!() };
    let names: Vec<_> = plan.files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["/in", "/dir/a/x", "/dir/b"]);
    assert_eq!((plan.maps, plan.digest), (4, world.digests[&job]));
}

#[test]
fn a_vote_names_the_job_its_input_and_its_time() {
    let digest = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(&["a", "b", "c"], 1);
        change(&mut world);
        let job = world.submit(specification(1, 1));
        world.digests[&job]
    };
    let plain = digest(&|_| {});
    assert_eq!(plain, digest(&|_| {}));
    assert_ne!(plain, digest(&|world| world.pass(1)), "another life of the cluster");
    let other_input = digest(&|world| {
        world.order(Command::Remove { path: path("/in"), recursive: false });
        world.create("/in", file("other", 1, &[0]));
    });
    assert_ne!(plain, other_input);
    let moved = digest(&|world| {
        world.order(Command::Remove { path: path("/in"), recursive: false });
        world.create("/in", file("in", 1, &[1, 2]));
    });
    assert_eq!(plain, moved, "where the copies are is no part of it");

    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 1));
    let (id, attempt) = world.runners(map(job, 0))[0];
    let right = world.digests.insert(job, canonical::digest(&specification(1, 1))).expect("submitted");
    world.vote_right(id, attempt);
    assert!(world.votes(attempt.task).is_empty(), "the specification alone is not the job");
    world.digests.insert(job, right);
    world.vote_right(id, attempt);
    assert_eq!(world.votes(attempt.task).len(), 1);
}

#[test]
fn a_server_learns_which_of_its_chunks_nobody_has() {
    let mut world = World::empty(&["a", "b", "c"], 0);
    (0..3).for_each(|id| world.register_for(id, 1, "x86_64-linux"));
    world.create("/in", file("in", 2, &[0]));
    let chunks = |name: &str, count| file(name, count, &[0]).manifest.chunks.into_iter().map(|(id, _)| id);
    let all: Vec<ChunkId> = chunks("in", 2).chain(chunks("program", 1)).chain(chunks("nothing", 1)).collect();
    let unreferenced = |world: &World, server| {
        let question = Question::Unreferenced(TrackerId::new(server), all.clone());
        let Answer::Chunks(chunks) = world.scheduler.ask(&question) else { panic!() };
        chunks
    };
    assert_eq!((unreferenced(&world, 0), unreferenced(&world, 1)), (all[2..].to_vec(), all.clone()));
    let mut job = specification(1, 1);
    job.program = binary("x86_64-linux");
    let job = world.submit(job);
    assert_eq!(unreferenced(&world, 0), all[3..], "a live job's program is needed");
    world.work();
    world.assert_right(job, "/out", 1);
    assert_eq!(unreferenced(&world, 0), all[2..]);
    world.order(Command::Remove { path: path("/in"), recursive: false });
    assert_eq!(unreferenced(&world, 0), all);
}

/// A job of f = 1 that waits for a third domain, and whose reducers hold every reduce slot.
fn waiting_with_all_slots(world: &mut World) -> JobId {
    world.absent(2);
    let job = world.submit(specification(1, 1));
    let runners = world.runners(map(job, 0));
    world.vote(runners[0].0, runners[0].1, ballot(map(job, 0), "lie"));
    world.vote_right(runners[1].0, runners[1].1);
    assert!(matches!(world.state(job), JobState::Waiting(_)));
    // Each says the same again.
    for (id, attempt) in world.runners(map(job, 0)) {
        world.vote(id, attempt, ballot(map(job, 0), if id == runners[0].0 { "lie" } else { "" }));
    }
    assert_eq!(world.runners(reduce(job, 0)).len(), 2);
    job
}

#[test]
fn a_job_that_waits_gives_its_reduce_slots_to_one_that_can_finish() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let waiting = waiting_with_all_slots(&mut world);
    let mut others = Vec::new();
    for name in ["/second", "/third"] {
        let mut next = specification(1, 2);
        next.output = path(name);
        others.push((name, world.submit(next)));
    }
    assert_eq!(world.runners(reduce(waiting, 0)).len(), 2, "nobody else could use them yet");
    world.work();
    for (name, job) in others {
        world.assert_right(job, name, 2);
    }
    assert!(world.runners(reduce(waiting, 0)).is_empty(), "it gets them again when it can use them");
    world.register(2, 1);
    world.work();
    world.assert_right(waiting, "/out", 1);
    assert_eq!(world.job(waiting).attempts, 3 + 4, "taken back once");
    assert_eq!(world.blamed().len(), 1, "the one who lied, and nobody for a slot");
}

#[test]
fn a_vote_of_an_attempt_that_was_taken_back_is_not_counted() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let waiting = waiting_with_all_slots(&mut world);
    let (id, attempt) = world.runners(reduce(waiting, 0))[0];
    let mut next = specification(0, 1);
    next.output = path("/next");
    let next = world.submit(next);
    let (mapper, its_map) = world.runners(map(next, 0))[0];
    world.vote_right(mapper, its_map);
    assert!(!world.running(id).contains(&attempt), "cancelled");
    world.vote_right(id, attempt);
    assert!(world.votes(attempt.task).is_empty());
    assert_eq!(world.tracker(id).reduce_slots.0, u16::from(ids(&world.runners(reduce(next, 0))).contains(&id)));
}

#[test]
fn maps_are_placed_where_their_input_is() {
    let mut world = World::empty(&["a", "b", "c", "d", "e", "f"], 0);
    (0..6).for_each(|id| world.register(id, 2));
    world.create("/in", file("in", 2, &[2, 4]));
    let job = world.submit(specification(1, 1));
    for index in 0..2 {
        assert_eq!(ids(&world.runners(map(job, index))), [2, 4].into());
    }
}

#[test]
fn a_killed_job_stops_everywhere() {
    let mut world = World::new(&["a", "b", "c"], 5);
    let job = world.submit(specification(1, 2));
    world.listen_all();
    assert_eq!(world.order(Command::KillJob(job)), Answer::Done);
    assert_eq!(world.state(job), JobState::Killed);
    world.listen_all();
    for process in world.processes.values() {
        assert!(process.running.is_empty());
        assert_eq!(process.ended.get(&job), Some(&(vec![], vec![])));
    }
    assert!(world.trackers().iter().all(|view| view.map_slots.0 + view.reduce_slots.0 == 0));
    assert_eq!(world.scheduler.next_deadline(), None);
    assert_eq!(world.scheduler.verdicts(job, 0, 9), None);
    assert!(matches!(world.order(Command::KillJob(job)), Answer::Refused(Refusal::Invalid(_))));
    assert!(matches!(world.order(Command::KillJob(JobId::new(99))), Answer::Refused(Refusal::NotFound(_))));
}

#[test]
fn an_output_path_taken_meanwhile_fails_the_job_and_writes_nothing() {
    let mut world = World::new(&["a", "b", "c"], 1);
    let job = world.submit(specification(1, 2));
    world.create("/out/part-r-00001", file("other", 1, &[0]));
    world.work();
    assert!(matches!(world.state(job), JobState::Failed(JobFailure::NotRunnable { .. })));
    assert_eq!(world.output("/out").len(), 1);
    world.listen_all();
    assert!(world.processes.values().all(|process| process.ended[&job].0.is_empty()));
}

#[test]
fn jobs_share_the_cluster_in_the_order_of_submission() {
    let mut world = World::new(&["a", "b", "c"], 4);
    let first = world.submit(specification(1, 3));
    let mut second = specification(0, 1);
    second.output = path("/second");
    let second = world.submit(second);
    world.work();
    world.assert_right(first, "/out", 3);
    world.assert_right(second, "/second", 1);
    let Answer::Jobs(jobs) = world.scheduler.ask(&Question::Jobs) else { panic!() };
    assert_eq!(jobs.iter().map(|summary| summary.job).collect::<Vec<_>>(), [second, first]);
}

#[test]
fn ended_jobs_are_forgotten_one_by_one() {
    let mut world = World::new(&["a", "b", "c"], 0);
    let first = world.submit(specification(0, 1));
    assert_eq!(world.order(Command::KillJob(first)), Answer::Done);
    for _ in 1..limits::ENDED_JOBS_MAX {
        let job = world.submit(specification(0, 1));
        world.order(Command::KillJob(job));
    }
    assert_eq!(world.state(first), JobState::Killed);
    let last = world.submit(specification(0, 1));
    world.order(Command::KillJob(last));
    assert!(matches!(world.scheduler.ask(&Question::Job(first)), Answer::Refused(Refusal::NotFound(_))));
}

#[test]
fn removed_files_are_dropped_by_their_servers() {
    let mut world = World::new(&["a", "b", "c"], 3);
    world.create("/copy", file("in", 3, &[0, 1]));
    assert_eq!(world.order(Command::Remove { path: path("/in"), recursive: false }), Answer::Done);
    world.listen_all();
    assert!(world.processes.values().all(|process| process.dropped.is_empty()), "/copy has the same chunks");
    assert_eq!(world.order(Command::Remove { path: path("/copy"), recursive: false }), Answer::Done);
    world.listen_all();
    let dropped: Vec<usize> = world.processes.values().map(|process| process.dropped.len()).collect();
    assert_eq!(dropped, [3, 3, 0]);
    let strange = Command::CreateFiles(vec![(path("/x"), file("x", 1, &[77]))]);
    assert!(matches!(world.order(strange), Answer::Refused(Refusal::Invalid(_))));
}

#[test]
fn what_a_tracker_registers_and_reports_is_bounded() {
    let mut world = World::new(&["a", "b"], 0);
    let registration = |slots: u16, address: usize, target: usize| {
        Command::Register(Registration {
            address: "x".repeat(address),
            incarnation: 5,
            map_slots: 1,
            reduce_slots: slots,
            target: "x".repeat(target),
        })
    };
    let sender = Sender::Tracker(TrackerId::new(0));
    for wrong in [registration(1025, 1, 1), registration(1, 257, 1), registration(1, 1, 65)] {
        assert!(matches!(world.send(sender, wrong), Answer::Refused(Refusal::Invalid(_))));
    }
    assert_eq!(world.send(sender, registration(1024, 256, 64)), Answer::Done);
    let attempt = AttemptId { task: map(JobId::new(1), 0), attempt: 0 };
    let entries = |n| vec![AttemptReport::Progress { attempt, units: 1 }; n];
    assert_eq!(world.report(1, entries(limits::REPORT_ENTRIES_MAX), vec![]), Answer::Done);
    let refused = world.report(1, entries(limits::REPORT_ENTRIES_MAX + 1), vec![]);
    assert!(matches!(refused, Answer::Refused(Refusal::Invalid(_))));
}

#[test]
fn live_jobs_are_bounded() {
    let mut world = World::new(&["a"], 0);
    let job = |n: usize| {
        let mut job = specification(0, 1);
        job.output = path(&format!("/out/{n}"));
        Command::SubmitJob(Box::new(job))
    };
    for n in 0..limits::LIVE_JOBS_MAX {
        assert!(matches!(world.order(job(n)), Answer::Submitted(_)));
    }
    assert!(matches!(world.order(job(limits::LIVE_JOBS_MAX)), Answer::Refused(Refusal::Full(_))));
}
