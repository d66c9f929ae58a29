//! Random runs: at most f domains lie in every way there is, the others are slow, crash and return. Each job must end
//! with the right output, and no honest tracker may be blamed.

use crate::world::*;
use quorate_protocol::{
    command::Accusation,
    ids::{AttemptId, JobId, Stage, TrackerId},
    query::Blame,
};
use std::collections::BTreeSet;

/// xorshift64*: the tests need no better one, and it must not change with a library.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// What a run reached, so that a run which tests nothing is noticed.
#[derive(Default, Debug)]
struct Reached {
    outvoted: u64,
    convicted: u64,
    overdue: u64,
    crashes: u64,
    reruns: u64,
}

fn lie(world: &mut World, dice: &mut Dice, id: u32, attempt: AttemptId) {
    match dice.roll(8) {
        0 => drop(world.vote(id, attempt, ballot(attempt.task, "my own lie"))),
        1 | 2 => drop(world.vote(id, attempt, ballot(attempt.task, "our lie"))),
        3 if dice.roll(4) == 0 => {
            world.vote_right(id, attempt);
            world.vote(id, attempt, ballot(attempt.task, "second thoughts"));
        }
        4 => world.decline(id, attempt),
        5 => {
            let units = world.now;
            world.progress(id, attempt, units);
        }
        6 => drop(world.vote_right(id, attempt)),
        _ => complain_falsely(world, dice, id, attempt.task.job),
    }
}

/// Complains about everybody who can serve some map task's output.
pub(crate) fn complain_falsely(world: &mut World, dice: &mut Dice, id: u32, job: JobId) {
    let seen = &world.seen[&job];
    if seen.is_empty() {
        return;
    }
    let verdict = seen[dice.roll(seen.len() as u64) as usize].clone();
    for (about, attempt) in verdict.voters {
        if about != TrackerId::new(id) {
            world.accuse(id, Accusation::Complaint { about, attempt, what: "a lie".to_owned() });
        }
    }
}

fn work_honestly(world: &mut World, dice: &mut Dice, id: u32, attempt: AttemptId) {
    let is_ready = attempt.task.stage == Stage::Map || world.maps_are_agreed(attempt.task.job);
    match dice.roll(4) {
        0 => {}
        1 => {
            let units = world.now;
            world.progress(id, attempt, units);
        }
        _ if is_ready => drop(world.vote_right(id, attempt)),
        _ => {}
    }
}

fn run(seed: u64, reached: &mut Reached) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let f = dice.roll(3) as u32;
    let domains = ["a", "b", "c", "d", "e", "f", "a", "b"];
    let count = (2 * f as usize + 1 + dice.roll(3) as usize).min(domains.len());
    let (maps, partitions) = (dice.roll(6) as u32, 1 + dice.roll(3) as u32);
    let mut world = World::new(&domains[..count], maps);
    let liars: BTreeSet<u32> = {
        let lying: BTreeSet<&str> = (0..f).map(|_| domains[dice.roll(count as u64) as usize]).collect();
        (0..count as u32).filter(|id| lying.contains(domains[*id as usize])).collect()
    };
    let job = world.submit(specification(f, partitions));
    let mut steps = 0;
    while !world.state(job).is_ended() {
        steps += 1;
        assert!(steps < 3000, "seed {seed}: the job hangs: {:#?}", world.job(job));
        step(&mut world, &mut dice, &liars, job, reached);
    }
    world.assert_right(job, "/out", partitions);
    let blamed = world.blamed();
    assert!(blamed.keys().all(|id| liars.contains(id)), "seed {seed}: {blamed:?} are blamed, {liars:?} lie");
    reached.convicted += blamed.values().filter(|blame| **blame == Blame::Convicted).count() as u64;
    reached.outvoted += world.trackers().iter().map(|view| view.outvoted).sum::<u64>();
    reached.overdue += world.trackers().iter().map(|view| view.overdue).sum::<u64>();
    reached.reruns += (world.seen[&job].len() as u64).saturating_sub(u64::from(maps));
}

fn step(world: &mut World, dice: &mut Dice, liars: &BTreeSet<u32>, job: JobId, reached: &mut Reached) {
    let id = dice.roll(world.cluster.trackers.len() as u64) as u32;
    match dice.roll(20) {
        0 => world.pass(dice_ms(dice)),
        // An honest tracker seldom crashes; after all, its work must get done.
        1 if dice.roll(4) == 0 => {
            reached.crashes += 1;
            if dice.roll(2) == 0 {
                world.absent(id);
            }
            world.register(id, 2);
        }
        _ => {
            for attempt in world.running(id) {
                if world.state(job).is_ended() || !world.running(id).contains(&attempt) {
                    continue;
                }
                if liars.contains(&id) {
                    lie(world, dice, id, attempt);
                } else {
                    work_honestly(world, dice, id, attempt);
                }
            }
            world.pass(50);
        }
    }
}

fn dice_ms(dice: &mut Dice) -> u64 {
    dice.roll(2 * TIMEOUT)
}

#[test]
fn at_most_f_lying_domains_never_change_an_answer_nor_blame_the_honest() {
    let mut reached = Reached::default();
    for seed in 1..=150 {
        run(seed, &mut reached);
    }
    println!("{reached:?}");
    let Reached { outvoted, convicted, overdue, crashes, reruns } = reached;
    assert!(outvoted > 20 && convicted > 5 && overdue > 20 && crashes > 20 && reruns > 5, "too little was reached");
}
