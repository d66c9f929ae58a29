//! What lets 2f + 1 replicas run the scheduler: the same commands give the same bytes, also over a snapshot.

use crate::world::*;
use quorate_protocol::canonical;
use quorate_schedule::Scheduler;

/// A job with a lie, a crash and a silence in it; `snapshots` says whether the state is written and read at each step.
fn story(snapshots: bool) -> World {
    let mut world = World::new(&["a", "b", "c", "d"], 6);
    let job = world.submit(specification(1, 3));
    let reload = |world: &mut World| {
        if snapshots {
            let bytes = canonical::encode(&world.scheduler);
            world.scheduler = canonical::decode::<Scheduler>(&bytes, usize::MAX).expect("what was written");
        }
    };
    reload(&mut world);
    let (liar, attempt) = world.runners(map(job, 0))[0];
    world.vote(liar, attempt, ballot(attempt.task, "lie"));
    reload(&mut world);
    world.absent(2);
    reload(&mut world);
    world.work_without(&[1]);
    reload(&mut world);
    world.register(2, 2);
    while !world.state(job).is_ended() {
        world.pass(TIMEOUT);
        reload(&mut world);
        world.work_without(&[1]);
    }
    world.assert_right(job, "/out", 3);
    world
}

#[test]
fn the_same_commands_give_the_same_bytes() {
    let (first, second) = (story(false), story(false));
    assert_eq!(canonical::encode(&first.scheduler), canonical::encode(&second.scheduler));
}

#[test]
fn a_snapshot_has_the_same_future() {
    let (straight, reloaded) = (story(false), story(true));
    assert_eq!(canonical::encode(&straight.scheduler), canonical::encode(&reloaded.scheduler));
}
