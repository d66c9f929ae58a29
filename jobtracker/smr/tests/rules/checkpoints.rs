//! SMR-11 and SMR-12: checkpoints, what they free, and states that are fetched.

use crate::{
    fixture::{replica, small},
    world::{World, empty, signed},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use quorate_smr::{
    Action, FaultKind, History, Limits, PAGE_BYTES, Seq, View,
    message::{Claim, Manifest, Message, Signed, Statement, WireMessage},
};
use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

fn checkpoint_claims_removed(message: WireMessage) -> Option<WireMessage> {
    match message {
        Message::Claim(signed) if matches!(signed.claim, Claim::Checkpoint { .. }) => None,
        Message::Status(mut status) => {
            status.checkpoint = None;
            Some(Message::Status(status))
        }
        message => Some(message),
    }
}

#[test]
fn smr_11_f_plus_1_equal_claims_make_a_checkpoint_stable() {
    let mut world = World::new(3);
    world.filter(|_, _, message| checkpoint_claims_removed(message));
    world.ask_many(1, 1..9, 1);
    world.run(2);
    assert_eq!(world.core(1).executed().seq, Seq(8));
    assert_eq!(world.core(1).report().stable, Seq(0), "its own claim alone is not enough");
    let own = world.node(1).done.iter().find_map(|action| match action {
        Action::Broadcast(Message::Claim(signed)) => {
            Some(signed.claim.clone()).filter(|claim| matches!(claim, Claim::Checkpoint { .. }))
        }
        _ => None,
    });
    let Some(Claim::Checkpoint { history, root }) = own else { panic!("no checkpoint") };
    assert_eq!(history, world.core(1).executed());
    let other = Claim::Checkpoint { history, root: Digest::of(b"another state") };
    world.inject(2, 1, Message::Claim(Box::new(signed(2, other.clone()))));
    world.inject(0, 1, Message::Claim(Box::new(signed(0, other))));
    assert_eq!(world.core(1).report().stable, Seq(0), "f + 1 others who agree on something else do not count here");
    world.inject(2, 1, Message::Claim(Box::new(signed(2, Claim::Checkpoint { history, root }))));
    assert_eq!(world.core(1).report().stable, Seq(8));
    assert_eq!(world.node(1).done.iter().filter(|action| matches!(action, Action::Compact(_))).count(), 1);
}

#[test]
fn smr_11_without_stable_checkpoints_the_log_ends_after_two_of_them() {
    let mut world = World::new(3);
    world.filter(|_, _, message| checkpoint_claims_removed(message));
    for client in 1..60 {
        world.ask(client, 1, "work");
    }
    world.run(5);
    assert_eq!(world.core(1).executed().seq, Seq(16), "2 K batches, and K is 8");
    assert!(world.executed(1) < 59);
    world.no_filter();
    world.until("it goes on", |world| world.executed(1) == 59 && world.agree());
    assert_eq!(world.core(1).view(), View(0), "well before anybody suspects the primary");
}

#[test]
fn smr_11_what_is_kept_is_bounded_by_the_last_checkpoints() {
    let mut world = World::new(3);
    let mut most = 0;
    for round in 0..20 {
        world.ask_many(1, round * 10 + 1..round * 10 + 11, 0);
        most = most.max((0..3).map(|number| world.node(number).disk.records.len()).max().unwrap_or(0));
    }
    world.run(2);
    for number in 0..3 {
        let core = world.core(number);
        assert_eq!(core.executed().seq, Seq(200));
        assert!(core.report().stable >= Seq(192));
        assert_eq!(core.history_at(Seq(200 - 25)), None, "no more than 3 K");
        assert!(core.history_at(Seq(192)).is_some());
        assert!(core.history_at(Seq(201)).is_none());
    }
    // Each batch is a record of itself, one of its own statement and one of each replica's flush.
    assert!(most <= 5 * 24 + 24, "{most} records on disk");
}

#[test]
fn smr_11_a_replica_starts_again_from_its_checkpoint() {
    let mut world = World::new(3);
    world.ask_many(1, 1..45, 2);
    world.run(2);
    assert!(world.node(2).disk.compaction.is_some());
    let before = (world.core(2).executed(), world.core(2).machine().clone(), world.core(2).report().stable);
    world.crash(2);
    world.restart(2);
    let after = (world.core(2).executed(), world.core(2).machine().clone(), world.core(2).report().stable);
    assert_eq!(before, after);
    world.ask_many(1, 45..60, 2);
    assert!(world.is_peaceful());
    assert_eq!(world.core(2).report().epoch.0, 0, "it forgot nothing, so it keeps its epoch");
}

fn is_divided(world: &World) -> usize {
    world.core(0).machine().requests.iter().map(Vec::len).sum::<usize>() / PAGE_BYTES
}

/// Replica 2 has missed so much that it must fetch a state of many pages.
fn world_with_one_behind() -> World {
    let mut world = World::with(3, Limits { flushes_kept_max: 12, vouch_interval: 4, ..small() });
    world.cut.insert(2);
    for sequence in 1..=40 {
        world.ask(1, sequence, &format!("{sequence} ").repeat(12_000));
        world.run(1);
    }
    assert!(world.executed(0) == 40 && is_divided(&world) > 12);
    world
}

#[test]
fn smr_12_a_state_is_fetched_page_by_page_and_goes_on_after_its_source_is_gone() {
    let mut world = world_with_one_behind();
    // Replica 1 gives nothing, and 0 some pages only.
    let given: Rc<RefCell<BTreeSet<Digest>>> = Rc::default();
    let (seen, mut first) = (Rc::clone(&given), 5);
    world.filter(move |from, _, message| match &message {
        Message::Page(_) if from == replica(1) || first == 0 => None,
        Message::Page(page) => {
            first -= 1;
            assert!(seen.borrow_mut().insert(Digest::of(page)), "a page is given once");
            Some(message)
        }
        _ => Some(message),
    });
    world.cut.clear();
    world.run(20);
    assert_eq!((given.borrow().len(), world.executed(2)), (5, 0));
    let seen = Rc::clone(&given);
    world.filter(move |from, _, message| match &message {
        Message::Page(_) if from == replica(0) => None,
        Message::FetchPage(digests) => {
            assert!(digests.iter().all(|digest| !seen.borrow().contains(digest)), "what was fetched stays fetched");
            Some(message)
        }
        _ => Some(message),
    });
    world.until("the other source serves the rest", |world| world.agree());
    world.no_filter();
    world.ask_many(2, 1..5, 2);
    assert!(world.is_peaceful());
}

#[test]
fn smr_12_pages_unlike_the_root_are_not_taken_from_anybody() {
    let mut world = world_with_one_behind();
    let lie = |page: &[u8]| {
        let mut page = page.to_vec();
        page[0] ^= 1;
        page
    };
    // Whoever is asked first lies.
    let liar: Rc<RefCell<Option<ReplicaId>>> = Rc::default();
    let first = Rc::clone(&liar);
    world.filter(move |from, _, message| match message {
        Message::Page(page) if *first.borrow_mut().get_or_insert(from) == from => {
            Some(Message::Page(lie(&page).into()))
        }
        message => Some(message),
    });
    world.cut.clear();
    world.until("the honest source serves it", |world| world.agree());
    assert_eq!(world.core(2).machine(), world.core(0).machine());
    assert!(liar.borrow().is_some());
}

#[test]
fn smr_12_a_list_of_pages_unlike_its_root_is_refused() {
    let world = World::new(3);
    let pages = Manifest { length: PAGE_BYTES as u64 + 1, pages: vec![Digest::of(b"a"), Digest::of(b"b")] };
    let verify = |root: Digest, pages: Manifest| world.verifier().verify(Message::Pages(root, pages)).is_ok();
    assert!(verify(pages.root(), pages.clone()));
    let other = Manifest { pages: vec![Digest::of(b"a"), Digest::of(b"c")], ..pages.clone() };
    assert!(!verify(pages.root(), other.clone()));
    assert!(verify(other.root(), other));
    let longer = Manifest { length: 2 * PAGE_BYTES as u64 + 1, ..pages.clone() };
    assert!(!verify(longer.root(), longer), "three pages long, and two are listed");
    let shorter = Manifest { length: PAGE_BYTES as u64, ..pages };
    assert!(!verify(shorter.root(), shorter));
}

#[test]
fn smr_12_a_state_that_f_claim_is_not_fetched() {
    let mut world = World::new(5);
    let history = History { seq: Seq(80), ..empty() };
    let claim = |by: u32, root: &[u8]| signed(by, Claim::Checkpoint { history, root: Digest::of(root) });
    let asked = |world: &mut World, claims: Vec<Signed>| {
        world.inject(4, 3, Message::Stable(claims));
        world.run(2);
        let asks = |action: &Action| matches!(action, Action::Send(_, Message::FetchPages(_)));
        world.node(3).done.iter().any(asks)
    };
    assert!(!asked(&mut world, vec![claim(0, b"x"), claim(1, b"x")]), "two of five");
    assert!(!asked(&mut world, vec![claim(0, b"x"), claim(0, b"x"), claim(1, b"x")]), "one of them twice");
    assert!(!asked(&mut world, vec![claim(0, b"x"), claim(1, b"x"), claim(2, b"y")]), "of two roots");
    let mut forged = claim(0, b"x");
    forged.by = replica(2);
    assert!(!asked(&mut world, vec![claim(0, b"x"), claim(1, b"x"), forged]), "one of them forged");
    assert!(asked(&mut world, vec![claim(0, b"x"), claim(1, b"x"), claim(2, b"x")]));
}

#[test]
fn smr_12_headers_are_believed_once_f_plus_1_claim_what_they_lead_to() {
    let mut world = World::new(3);
    world.cut.insert(2);
    world.ask_many(1, 1..6, 0);
    let chain = world.statements(0).into_iter().filter_map(|statement| match statement {
        Statement::Prepare { header, .. } => Some(header),
        _ => None,
    });
    let chain: Vec<_> = chain.collect();
    let tip = world.core(0).executed();
    let mut forged = chain.clone();
    forged[4].time.0 += 1;
    let lied = forged.iter().fold(empty(), |history, header| header.follow(history));
    let decided = |by: u32, history| Message::Claim(Box::new(signed(by, Claim::Decided { history })));
    world.inject(1, 2, Message::Chain(empty(), forged));
    world.inject(1, 2, decided(1, lied));
    assert_eq!(world.core(2).report().committed, Seq(0), "a liar may claim whatever it sent");
    world.inject(0, 2, decided(0, tip));
    assert_eq!(world.core(2).report().committed, Seq(0));
    world.inject(0, 2, Message::Chain(empty(), chain));
    assert_eq!(world.core(2).report().committed, Seq(0), "one who has it is not enough");
    world.inject(1, 2, decided(1, tip));
    assert_eq!(world.core(2).report().committed, Seq(5));
    assert_eq!(world.executed(2), 0, "its batches are fetched");
    world.cut.clear();
    world.until("they are here", |world| world.agree());
}

#[test]
fn smr_12_a_claim_of_another_history_is_told_and_more_than_f_stop_the_replica() {
    let mut world = World::new(3);
    world.ask_many(1, 1..6, 2);
    let history = History { digest: Digest::of(b"another"), ..world.core(2).executed() };
    let claim = |by: u32| Message::Claim(Box::new(signed(by, Claim::Decided { history })));
    world.inject(1, 2, claim(1));
    let accused: Vec<_> = world.node(2).faults.iter().map(|fault| fault.replica).collect();
    assert_eq!(accused, [replica(1)]);
    assert!(matches!(world.node(2).faults[0].kind, FaultKind::Divergent { .. }));
    assert!(!world.core(2).report().halted, "f may lie");
    world.inject(0, 2, claim(0));
    assert!(world.core(2).report().halted, "f + 1 do not");
    let said = world.statements(2).len();
    world.ask(1, 6, "work");
    world.run(3);
    assert_eq!(world.statements(2).len(), said, "it says nothing more");
}
