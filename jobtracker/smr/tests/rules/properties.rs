//! Properties: one encoding of every message, nothing that is read can harm, and no order of messages divides replicas.

use crate::{
    fixture::{record, replica, request, small},
    world::{World, admission, batch, signed, wish},
};
use proptest::{collection::vec, option, prelude::*, sample::Index};
use quorate_counter::{Certificate, Epoch, Head, Position};
use quorate_protocol::{canonical, digest::Digest, ids::OrderedTime};
use quorate_smr::{
    History, Limits, PAGE_BYTES, Payload, Seq, Verifier, View,
    message::{
        Admits, Batch, Change, Claim, Flush, Header, Manifest, Message, Signed, Standing, Statement, Status,
        WireMessage,
    },
};
use std::sync::Arc;

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn history() -> impl Strategy<Value = History> {
    (any::<u64>(), digest()).prop_map(|(seq, digest)| History { seq: Seq(seq), digest })
}

fn header() -> impl Strategy<Value = Header> {
    let admits = option::of((0..3_u32, any::<u64>(), any::<u64>()));
    (any::<u64>(), any::<u64>(), digest(), admits).prop_map(|(seq, time, batch, admits)| {
        let admits = admits.map(|(of, epoch, left)| Admits { record: record(of, epoch), left: View(left) });
        Header { seq: Seq(seq), time: OrderedTime(time), batch, admits }
    })
}

fn claim() -> impl Strategy<Value = Claim> {
    let standing =
        (any::<u64>(), option::of(any::<u64>()), history(), any::<bool>()).prop_map(|(left, entered, upto, fresh)| {
            Standing { left: View(left), entered: entered.map(View), upto, began: Seq(left), fresh }
        });
    let position = (0..3_u32, any::<u64>(), any::<u64>(), digest(), standing);
    prop_oneof![
        any::<u64>().prop_map(|target| Claim::ViewChange { target: View(target) }),
        (history(), digest()).prop_map(|(history, root)| Claim::Checkpoint { history, root }),
        history().prop_map(|history| Claim::Decided { history }),
        position.prop_map(|(of, epoch, position, chain, standing)| {
            let head = Head { position: Position(position), chain };
            Claim::Position { of: replica(of), epoch: Epoch(epoch), head, standing, changes: Vec::new() }
        }),
    ]
}

fn signed_claim() -> impl Strategy<Value = Signed> {
    (0..3_u32, claim()).prop_map(|(by, claim)| signed(by, claim))
}

fn change() -> impl Strategy<Value = Change> {
    (0..3_u32, any::<u64>(), any::<u64>()).prop_map(|(of, epoch, position)| Change {
        replica: replica(of),
        epoch: Epoch(epoch),
        position: Position(position),
    })
}

fn statement() -> impl Strategy<Value = Statement> {
    let view = || any::<u64>().prop_map(View);
    prop_oneof![
        (view(), header()).prop_map(|(view, header)| Statement::Prepare { view, header }),
        (view(), history()).prop_map(|(view, upto)| Statement::Commit { view, upto }),
        (view(), vec(signed_claim(), 0..3)).prop_map(|(target, requests)| Statement::ViewChange { target, requests }),
        (view(), vec(change(), 0..3), history()).prop_map(|(view, changes, start)| Statement::NewView {
            view,
            changes,
            start
        }),
    ]
}

fn some_batch() -> impl Strategy<Value = Arc<Batch>> {
    let admitted = || (0..3_u32, 1..99_u64).prop_map(|(of, epoch)| admission(of, epoch));
    prop_oneof![
        any::<u64>().prop_map(|sequence| batch(1, sequence)),
        Just(Batch::default()),
        admitted().prop_map(|admission| Batch { requests: Vec::new(), admission: Some(admission) }),
    ]
    .prop_map(Arc::new)
}

fn flush() -> impl Strategy<Value = Flush> {
    let certificate = vec(any::<u8>(), 0..64).prop_map(Certificate);
    (0..3_u32, any::<u64>(), any::<u64>(), vec(statement(), 1..4), certificate).prop_map(
        |(of, epoch, after, statements, certificate)| {
            let (epoch, after) = (Epoch(epoch), Position(after));
            Flush { replica: replica(of), epoch, after, statements, certificate }
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    let heads = || vec((any::<u64>(), any::<u64>()), 0..=3);
    let optional = (option::of(0..9_u64), option::of((history(), digest())), option::of(1..99_u64));
    (0..3_u32, history(), any::<u64>(), heads(), heads(), optional).prop_map(
        |(by, history, view, heads, retired, (wants, checkpoint, epoch))| Status {
            decided: signed(by, Claim::Decided { history }),
            view: View(view),
            heads: heads.into_iter().map(|(epoch, position)| (Epoch(epoch), Position(position))).collect(),
            retired: retired.into_iter().map(|(epoch, at)| (replica(by), Epoch(epoch), Position(at))).collect(),
            wants: wants.map(|target| wish(by, target)),
            checkpoint: checkpoint.map(|(history, root)| signed(by, Claim::Checkpoint { history, root })),
            admission: epoch.map(|epoch| Box::new(admission(by, epoch))),
        },
    )
}

/// Every kind of message, well-formed.
fn message() -> impl Strategy<Value = WireMessage> {
    let log = || (0..3_u32, any::<u64>(), any::<u64>());
    let pages = vec(digest(), 0..4).prop_map(|pages| Manifest { length: (pages.len() * PAGE_BYTES) as u64, pages });
    prop_oneof![
        (flush(), vec(some_batch(), 0..=1)).prop_map(|(flush, batches)| Message::Flush(Arc::new(flush), batches)),
        status().prop_map(|status| Message::Status(Box::new(status))),
        signed_claim().prop_map(|signed| Message::Claim(Box::new(signed))),
        any::<u64>().prop_map(|sequence| Message::Forward(Arc::new(batch(1, sequence)))),
        log().prop_map(|(of, epoch, after)| {
            Message::FetchFlushes { of: replica(of), epoch: Epoch(epoch), after: Position(after) }
        }),
        log().prop_map(|(of, epoch, _)| Message::FetchPosition { of: replica(of), epoch: Epoch(epoch) }),
        vec(digest(), 0..16).prop_map(Message::FetchBodies),
        vec(some_batch(), 0..4).prop_map(Message::Bodies),
        history().prop_map(Message::FetchChain),
        (history(), vec(header(), 0..4)).prop_map(|(history, headers)| Message::Chain(history, headers)),
        vec(signed_claim(), 0..=3).prop_map(Message::Stable),
        digest().prop_map(Message::FetchPages),
        pages.prop_map(|manifest| Message::Pages(manifest.root(), manifest)),
        vec(digest(), 0..16).prop_map(Message::FetchPage),
        vec(any::<u8>(), 0..200).prop_map(|page| Message::Page(Payload::from(page))),
    ]
}

fn verifier() -> Verifier {
    Verifier::new(&crate::fixture::config(0, 3, small()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_back_as_it_was(message in message()) {
        let bytes = canonical::encode(&message);
        let read: WireMessage = canonical::decode(&bytes, bytes.len()).expect("its own encoding");
        prop_assert_eq!(&read, &message);
        let verified = verifier().decode(&bytes).expect("it is well-formed");
        prop_assert_eq!(canonical::encode(verified.message()), bytes, "checking changes nothing");
        prop_assert_eq!(verified.message().to_wire(), message);
    }

    #[test]
    fn anything_may_be_decoded(bytes in vec(any::<u8>(), 0..600)) {
        let _ = verifier().decode(&bytes);
    }

    #[test]
    fn a_changed_message_is_refused_or_another_one_and_harms_nobody(
        message in message(), at in any::<Index>(), bit in 0..8_u32, cut in any::<Index>(), from in 1..3_u32,
    ) {
        let good = canonical::encode(&message);
        let mut bytes = good.clone();
        bytes[at.index(good.len())] ^= 1 << bit;
        let mut world = World::new(3);
        for bytes in [&bytes[..], &good[..cut.index(good.len())], &good] {
            if let Ok(verified) = verifier().decode(bytes) {
                prop_assert_eq!(canonical::encode(verified.message()), bytes, "one encoding only");
                world.inject(from, 0, verified.message().to_wire());
            }
        }
        // Whatever it was, two honest replicas and the receiver go on.
        let (_, work) = request(77, 1, 1, "work");
        world.ask(77, 1, "work");
        let has = |world: &World, number: u32| world.core(number).machine().requests.contains(&work.to_vec());
        world.until("it is executed", |world| has(world, 0) && has(world, 3 - from));
    }
}

/// What becomes of a message on a bad day.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Delivered,
    Lost,
    Twice,
    /// Put behind so many later ones.
    Late(usize),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Delivered),
        2 => Just(Fate::Lost),
        1 => Just(Fate::Twice),
        2 => (1..40_usize).prop_map(Fate::Late),
    ]
}

/// Delivers what is on the wire, each message by its fate.
fn suffer(world: &mut World, fates: &mut impl Iterator<Item = Fate>) {
    let mut budget = 400;
    while let Some((from, to, message)) = world.wire.pop_front() {
        budget -= 1;
        let fate = if budget > 0 { fates.next().unwrap_or(Fate::Delivered) } else { Fate::Lost };
        let times = match fate {
            Fate::Delivered => 1,
            Fate::Twice => 2,
            Fate::Lost => 0,
            Fate::Late(places) => {
                let at = places.min(world.wire.len());
                world.wire.insert(at, (from, to, message));
                continue;
            }
        };
        for _ in 0..times {
            world.hand_over(from, to, message.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_loss_or_doubling_of_messages_divides_replicas(
        fates in vec(fate(), 200), replicas in prop_oneof![Just(3_u32), Just(5)], timeout in prop_oneof![Just(150_u64), Just(1_000)],
    ) {
        let mut world = World::with(replicas, Limits { view_timeout: timeout, ..small() });
        let mut fates = fates.into_iter().cycle();
        for client in 1..=12 {
            for number in 0..replicas {
                world.ask_one(number, client, 1, "work");
            }
            suffer(&mut world, &mut fates);
            world.now += world.limits.status_interval;
            for number in 0..replicas {
                world.step(number, quorate_smr::Input::Tick);
            }
            suffer(&mut world, &mut fates);
            let last = world.nodes.iter().map(|node| node.core.executed().seq).max().unwrap_or_default();
            for seq in 1..=last.0 {
                let mut here = world.nodes.iter().filter_map(|node| node.core.history_at(Seq(seq)));
                let first = here.next();
                prop_assert!(here.all(|other| Some(other) == first), "two histories at {seq}");
            }
        }
        world.until("all have executed everything", |world| {
            world.agree() && (0..replicas).all(|number| world.executed(number) == 12)
        });
        let accused: Vec<_> = world.nodes.iter().flat_map(|node| &node.faults).collect();
        prop_assert!(accused.is_empty(), "{accused:?}");
    }
}
