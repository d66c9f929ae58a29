//! The rules, one test or more for each, by their names.

mod world;

use world::World;

#[test]
fn smr_4_requests_are_executed_alike_by_all() {
    let mut world = World::new(3);
    world.ask_many(1, 1..30, 0);
    world.until("all have them", |world| (0..3).all(|n| world.core(n).machine().requests.len() == 29));
    assert!(world.agree());
    assert!(world.nodes.iter().all(|node| node.faults.is_empty()));
}

#[test]
fn a_view_change_goes_on_where_the_last_view_ended() {
    let mut world = World::new(3);
    world.ask_many(1, 1..10, 1);
    world.crash(0);
    world.ask_many(1, 10..30, 1);
    assert!(world.agree());
    assert_eq!(world.core(1).view().0, 1);
    world.restart(0);
    world.until("it has caught up", |world| world.agree());
    world.ask_many(1, 30..60, 0);
    world.until("all agree", |world| world.agree());
    assert!(world.nodes.iter().all(|node| node.faults.is_empty()), "{:?}", world.node(1).faults);
}
