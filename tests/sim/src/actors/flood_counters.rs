//! Speaks of positions, epochs, views and places that are far ahead, and asks for everything, all the time [SMR-17].

use crate::actors::{Actor, Hands};
use quorate_counter::{Certificate, Epoch, Position};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::{
    Seq, View,
    message::{Claim, Flush, Message, Statement},
};
use std::sync::Arc;

/// Floods.
pub(crate) struct FloodCounters;

impl FloodCounters {
    fn flush(hands: &mut Hands) {
        let after = Position(hands.pen(0).position().0 + hands.rng.between(1, 1 << 40));
        let replica = if hands.rng.chance(500) { hands.me } else { *hands.rng.pick(&hands.peers()) };
        let statements = vec![Statement::Commit { view: View(u64::MAX), upto: hands.fiction(hands.executed.seq) }];
        let epoch = Epoch(hands.rng.below(3));
        let certificate = Certificate(vec![0; 32]);
        hands
            .send(None, Message::Flush(Arc::new(Flush { replica, epoch, after, statements, certificate }), Vec::new()));
    }

    fn claim(hands: &mut Hands) {
        let claim = if hands.rng.chance(500) {
            Claim::ViewChange { target: View(hands.rng.draw()) }
        } else {
            let seq = Seq(hands.rng.draw());
            Claim::Decided { history: hands.fiction(seq) }
        };
        let signed = hands.sign(claim);
        hands.send(None, Message::Claim(Box::new(signed)));
    }

    fn question(hands: &mut Hands) {
        let of = ReplicaId::new(hands.rng.below(hands.replicas as u64) as u32);
        let message = match hands.rng.below(5) {
            0 => Message::FetchFlushes { of, epoch: Epoch(0), after: Position(hands.rng.below(1 << 20)) },
            1 => Message::FetchBodies((0..16).map(|_| hands.noise()).collect()),
            2 => Message::FetchChain(hands.executed),
            3 => Message::FetchPages(hands.noise()),
            _ => Message::FetchPage((0..16).map(|_| hands.noise()).collect()),
        };
        hands.send(None, message);
    }
}

impl Actor for FloodCounters {
    fn tick(&mut self, hands: &mut Hands) {
        for _ in 0..2 {
            hands.lied();
            match hands.rng.below(3) {
                0 => Self::flush(hands),
                1 => Self::claim(hands),
                _ => Self::question(hands),
            }
        }
    }
}
