//! Thousands of random runs: programs that are deterministic and ones that are not, trackers that are slow, pause and
//! restart, and up to f domains that lie. Exactly the guilty are blamed, and programs get the right verdict.
//!
//! `QUORATE_CAMPAIGN_RUNS=10000 cargo test --release -p quorate-schedule campaign -- --nocapture` makes more runs than the
//! tests of every day.

use crate::{
    chaos::{Dice, complain_falsely},
    world::*,
};
use quorate_protocol::{
    digest::Digest,
    ids::{AttemptId, JobId, Stage},
    query::{Blame, JobFailure, JobState},
};
use std::collections::{BTreeMap, BTreeSet};

/// What user code gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Program {
    /// The same each time.
    Steady,
    /// Something else each time.
    Random,
    /// Something else at times.
    Seldom,
    /// On each tracker the same, and on no two.
    Local,
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Right,
    Nondeterministic,
    Undecidable,
    Contradicted,
    /// It waits for a tracker that could decide: those that are left disagree, and the others are in quarantine.
    Waiting,
}

struct Run {
    world: World,
    dice: Dice,
    program: Program,
    liars: BTreeSet<u32>,
    /// Trackers that do nothing for a while: until when.
    paused: BTreeMap<u32, u64>,
    /// Liars that voted twice on an attempt.
    two_faced: BTreeSet<u32>,
    job: JobId,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let f = 1 + dice.roll(2) as u32;
        let domains = ["a", "b", "c", "d", "e", "f", "a", "b"];
        let count = (2 * f as usize + 1 + dice.roll(3) as usize).min(domains.len());
        let lying: BTreeSet<&str> =
            (0..dice.roll(u64::from(f) + 1)).map(|_| domains[dice.roll(count as u64) as usize]).collect();
        let liars = (0..count as u32).filter(|id| lying.contains(domains[*id as usize])).collect();
        let mut world = World::new(&domains[..count], dice.roll(6) as u32);
        let program = match dice.roll(8) {
            0 => Program::Random,
            1 | 2 => Program::Seldom,
            3 => Program::Local,
            _ => Program::Steady,
        };
        let job = world.submit(specification(f, 1 + dice.roll(3) as u32));
        Self { world, dice, program, liars, paused: BTreeMap::new(), two_faced: BTreeSet::new(), job }
    }

    /// What an honest tracker's run of the program gives.
    fn give(&mut self, id: u32) -> String {
        match self.program {
            Program::Steady => String::new(),
            Program::Random => format!("random {}", self.dice.roll(u64::MAX)),
            Program::Seldom if self.dice.roll(4) == 0 => format!("random {}", self.dice.roll(u64::MAX)),
            Program::Seldom => String::new(),
            Program::Local => format!("on {id}"),
        }
    }

    fn act(&mut self, id: u32, attempt: AttemptId) {
        let is_ready = attempt.task.stage == Stage::Map || self.world.maps_are_agreed(attempt.task.job);
        if self.liars.contains(&id) {
            return self.lie(id, attempt);
        }
        match self.dice.roll(5) {
            0 => {}
            1 => {
                let units = self.world.now;
                self.world.progress(id, attempt, units);
            }
            _ if is_ready => {
                let given = self.give(id);
                self.world.vote(id, attempt, ballot(attempt.task, &given));
            }
            _ => {}
        }
    }

    fn lie(&mut self, id: u32, attempt: AttemptId) {
        match self.dice.roll(9) {
            0 => drop(self.world.vote(id, attempt, ballot(attempt.task, "my own lie"))),
            1 | 2 => drop(self.world.vote(id, attempt, ballot(attempt.task, "our lie"))),
            3 if self.dice.roll(4) == 0 => {
                self.world.vote_right(id, attempt);
                // What the second vote meets when the first ended the job is nobody's business any more.
                let is_live = !self.world.state(self.job).is_ended();
                self.world.vote(id, attempt, ballot(attempt.task, "second thoughts"));
                if is_live {
                    self.two_faced.insert(id);
                }
            }
            4 => self.world.decline(id, attempt),
            5 => {
                let units = self.world.now;
                self.world.progress(id, attempt, units);
            }
            6 => drop(self.world.vote_right(id, attempt)),
            7 => {
                let salt = format!("whatever {}", self.dice.roll(u64::MAX));
                self.world.vote(id, attempt, ballot(attempt.task, &salt));
            }
            _ => complain_falsely(&mut self.world, &mut self.dice, id, attempt.task.job),
        }
    }

    fn step(&mut self) {
        let id = self.dice.roll(self.world.cluster.trackers.len() as u64) as u32;
        match self.dice.roll(24) {
            0 => {
                let ms = self.dice.roll(2 * TIMEOUT);
                self.world.pass(ms);
            }
            // An honest tracker seldom crashes; after all, its work must get done.
            1 if self.dice.roll(4) == 0 => {
                if self.dice.roll(2) == 0 {
                    self.world.absent(id);
                }
                self.world.register(id, 2);
            }
            2 => {
                let until = self.world.now + self.dice.roll(3 * TIMEOUT);
                self.paused.insert(id, until);
            }
            _ if self.paused.get(&id).is_some_and(|until| *until > self.world.now) => self.world.pass(50),
            _ => {
                for attempt in self.world.running(id) {
                    if !self.world.state(self.job).is_ended() && self.world.running(id).contains(&attempt) {
                        self.act(id, attempt);
                    }
                }
                self.world.pass(50);
            }
        }
    }

    /// A task without a quorum on which an honest tracker gave two outputs is nondeterministic; a steady program never is.
    fn check_verdict(&self, end: End, told: &str) {
        let JobState::Failed(JobFailure::Undecidable { task } | JobFailure::Nondeterministic { task, .. }) =
            self.world.state(self.job)
        else {
            return;
        };
        let mut given: BTreeMap<u32, BTreeSet<Digest>> = BTreeMap::new();
        for vote in self.world.votes(task).iter().map(|vote| vote.peek().expect("a vote")) {
            given.entry(vote.tracker.number()).or_default().insert(vote.ballot.digest());
        }
        let differs = |id: &u32| given.get(id).is_some_and(|ballots| ballots.len() > 1);
        let of_honest = given.keys().filter(|id| !self.liars.contains(id)).any(differs);
        assert!(end == End::Nondeterministic || !of_honest, "{told}");
        assert!(end == End::Undecidable || given.keys().any(differs), "the votes show it: {told}");
    }

    fn end(&self, seed: u64) -> End {
        match self.world.state(self.job) {
            JobState::Succeeded => End::Right,
            JobState::Failed(JobFailure::Nondeterministic { .. }) => End::Nondeterministic,
            JobState::Failed(JobFailure::Undecidable { .. }) => End::Undecidable,
            JobState::Failed(JobFailure::NotRunnable { reason, .. })
                if reason.contains("another output than was agreed") =>
            {
                End::Contradicted
            }
            JobState::Waiting(_) => End::Waiting,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

fn run(seed: u64) -> (Program, End, BTreeMap<u32, Blame>) {
    let mut run = Run::new(seed);
    let mut steps = 0;
    while !run.world.state(run.job).is_ended() {
        steps += 1;
        let waits = matches!(run.world.state(run.job), JobState::Waiting(_));
        if steps > 2000 && waits && run.program != Program::Steady {
            break;
        }
        assert!(steps < 4000, "seed {seed}: the job hangs: {:#?}", run.world.job(run.job));
        run.step();
    }
    let (end, blamed) = (run.end(seed), run.world.blamed());
    let told = format!("seed {seed}, {:?}, {end:?}: {blamed:?} are blamed, {:?} lie", run.program, run.liars);
    let honest: BTreeMap<_, _> = blamed.iter().filter(|(id, _)| !run.liars.contains(id)).collect();
    assert!(honest.values().all(|blame| **blame < Blame::Convicted), "{told}");
    match (run.program, end) {
        (Program::Steady, End::Right) => {
            let partitions = run.world.job(run.job).summary.reduces.1;
            run.world.assert_right(run.job, "/out", partitions);
            assert!(honest.is_empty(), "{told}");
            for view in run.world.trackers() {
                let blame = blamed.get(&view.id.number()).copied().unwrap_or_default();
                assert!(view.outvoted == 0 || blame >= Blame::Suspected, "{} was outvoted: {told}", view.id);
                let is_proven = run.two_faced.contains(&view.id.number());
                assert!(!is_proven || blame == Blame::Convicted, "{} voted twice: {told}", view.id);
            }
        }
        (Program::Steady, _) => panic!("{told}: {:#?}", run.world.job(run.job)),
        // Whoever was outvoted before is absolved.
        (_, End::Nondeterministic) => assert!(honest.is_empty(), "{told}"),
        (Program::Random | Program::Local, End::Undecidable | End::Waiting) => assert!(honest.is_empty(), "{told}"),
        (Program::Random | Program::Local, _) => panic!("{told}: nothing can be agreed"),
        (Program::Seldom, _) => {}
    }
    run.check_verdict(end, &told);
    (run.program, end, blamed)
}

#[test]
fn exactly_the_guilty_are_blamed_and_programs_get_the_right_verdict() {
    let runs = std::env::var("QUORATE_CAMPAIGN_RUNS").map_or(400, |text| text.parse().expect("a number of runs"));
    let mut ends: BTreeMap<(Program, End), u64> = BTreeMap::new();
    let mut blames = BTreeMap::from([(Blame::Suspected, 0u64), (Blame::Convicted, 0)]);
    for seed in 1..=runs {
        let (program, end, blamed) = run(seed);
        *ends.entry((program, end)).or_default() += 1;
        blamed.values().for_each(|blame| *blames.entry(*blame).or_default() += 1);
    }
    println!("{runs} runs: {ends:#?}, {blames:?}");
    let count = |program, end| ends.get(&(program, end)).copied().unwrap_or(0);
    // Undecidable is what is left when all who could show it went away.
    let hidden = count(Program::Random, End::Undecidable) + count(Program::Random, End::Waiting);
    let shown = count(Program::Random, End::Nondeterministic);
    assert!(shown > 3 * hidden && shown > runs / 20, "{ends:?}");
    assert!(count(Program::Seldom, End::Nondeterministic) > runs / 50, "{ends:?}");
    assert!(count(Program::Local, End::Undecidable) > runs / 20, "{ends:?}");
    assert!(blames.values().all(|count| *count > runs / 50), "{blames:?}");
}
