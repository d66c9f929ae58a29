//! Answers who lags behind with other batches, headers, pages and standings than were asked for [SMR-12].

use crate::actors::{Actor, Hands, To};
use quorate_smr::{
    Payload,
    message::{Batch, Claim, Message, WireMessage},
};
use std::sync::Arc;

/// Lies to learners.
pub(crate) struct LieInTransfer;

impl Actor for LieInTransfer {
    fn say(&mut self, hands: &mut Hands, _brain: usize, to: To, message: WireMessage) {
        let told = match message {
            Message::Bodies(bodies) => {
                hands.lied();
                Message::Bodies(bodies.iter().map(|_| Arc::new(Batch::default())).collect())
            }
            Message::Chain(from, mut headers) => {
                hands.lied();
                let noise = hands.noise();
                if let Some(header) = headers.last_mut() {
                    header.batch = noise;
                }
                Message::Chain(from, headers)
            }
            Message::Pages(root, mut manifest) => {
                hands.lied();
                let noise = hands.noise();
                if let Some(page) = manifest.pages.last_mut() {
                    *page = noise;
                }
                let claimed = if hands.rng.chance(500) { root } else { manifest.root() };
                Message::Pages(claimed, manifest)
            }
            Message::Page(page) => {
                hands.lied();
                let mut bytes = page.to_vec();
                match bytes.first_mut() {
                    Some(byte) => *byte ^= 1,
                    None => bytes.push(0),
                }
                Message::Page(Payload::from(bytes))
            }
            Message::Stable(mut claims) => {
                hands.lied();
                claims.truncate(1);
                Message::Stable(claims)
            }
            Message::Claim(mut signed) => {
                if let Claim::Position { standing, .. } = &mut signed.claim {
                    hands.lied();
                    standing.upto = hands.fiction(standing.upto.seq);
                    *signed = hands.sign(signed.claim.clone());
                }
                Message::Claim(signed)
            }
            Message::Status(mut status) if hands.rng.chance(200) => {
                hands.lied();
                let ahead = hands.rng.between(1, 1000);
                let history = hands.fiction(hands.executed.seq.plus(ahead));
                status.decided = hands.sign(Claim::Decided { history });
                Message::Status(status)
            }
            other => other,
        };
        hands.send(to, told);
    }
}
