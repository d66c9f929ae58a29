//! Shows certificates that no trusted log gave: of its own head, of other heads, and under other replicas' names; and
//! claims in other replicas' names.

use crate::actors::{Actor, Hands};
use quorate_counter::Certificate;
use quorate_protocol::ids::ReplicaId;
use quorate_smr::message::{Claim, Flush, Message, Statement, WireMessage};
use std::sync::Arc;

/// Forges.
pub(crate) struct ForgeCertificate;

impl ForgeCertificate {
    fn forge_own(hands: &mut Hands) {
        let (epoch, after) = (hands.pen(0).epoch(), hands.pen(0).position());
        let last = hands.pen(0).flushes().last().map(|flush| flush.certificate.clone());
        let noise = Certificate(hands.noise().as_bytes().to_vec());
        let certificate = last.filter(|_| hands.rng.chance(500)).unwrap_or(noise);
        let upto = hands.fiction(hands.executed.seq.next());
        let statements = vec![Statement::Commit { view: hands.view, upto }];
        let flush = Flush { replica: hands.me, epoch, after, statements, certificate };
        hands.lied();
        hands.send(None, Message::Flush(Arc::new(flush), Vec::new()));
    }

    fn forge_others(hands: &mut Hands, flush: &Flush) {
        let mut forged = flush.clone();
        match hands.rng.below(3) {
            0 => forged.after = forged.after.after(1),
            1 => forged.epoch.0 += 1,
            _ => {
                let upto = hands.fiction(hands.executed.seq.next());
                forged.statements.push(Statement::Commit { view: hands.view, upto });
            }
        }
        if forged.statements.len() <= hands.flush_statements_max {
            hands.lied();
            hands.send(None, Message::Flush(Arc::new(forged), Vec::new()));
        }
    }
}

impl Actor for ForgeCertificate {
    fn hear(
        &mut self,
        hands: &mut Hands,
        _brain: usize,
        _from: ReplicaId,
        message: &WireMessage,
    ) -> Option<WireMessage> {
        let forges = hands.rng.chance(100);
        if let Message::Flush(flush, _) = message
            && forges
        {
            Self::forge_others(hands, flush);
        }
        if let Message::Claim(signed) = message
            && forges
        {
            let mut forged = signed.clone();
            if let Claim::ViewChange { target } = &mut forged.claim {
                *target = target.next();
            }
            hands.lied();
            hands.send(None, Message::Claim(forged));
        }
        Some(message.clone())
    }

    fn tick(&mut self, hands: &mut Hands) {
        if hands.rng.chance(150) {
            Self::forge_own(hands);
        }
    }
}
