//! Tells every second one of the others other proposals for the same places, under the certificate of the true ones, since
//! its trusted log attests no others, and signs another history for them.

use super::Lie;
use crate::keys::Keyring;
use quorate_protocol::{canonical, digest::Digest, ids::ReplicaId};
use quorate_smr::{
    Keys,
    message::{Claim, Flush, Message, Signed, Statement, Status, WireMessage},
};
use std::sync::Arc;

pub(super) struct Equivocate {
    pub(super) cluster: Digest,
    pub(super) me: ReplicaId,
    pub(super) keys: Keyring,
}

impl Equivocate {
    /// Another history at the same place.
    fn divert(&self, status: &mut Status) {
        if let Claim::Decided { history } = &mut status.decided.claim {
            history.digest = Digest::of(history.digest.as_bytes());
        }
        let Signed { by, claim, signature } = &mut status.decided;
        *signature = self.keys.sign(&canonical::encode(&("quorate smr claim v1", self.cluster, *by, &*claim)));
    }
}

/// Every second one of the others, from the first one on: whoever lies, somebody hears it.
fn deceives(me: ReplicaId, to: ReplicaId) -> bool {
    let others_before = to.number() - u32::from(to > me);
    others_before.is_multiple_of(2)
}

/// Other proposals for the same places.
fn rewritten(flush: &Flush) -> Flush {
    let mut flush = flush.clone();
    for statement in &mut flush.statements {
        if let Statement::Prepare { header, .. } = statement {
            header.time = header.time.after(1);
        }
    }
    flush
}

impl Lie for Equivocate {
    fn says(&self, to: ReplicaId, mut message: WireMessage) -> Vec<WireMessage> {
        if !deceives(self.me, to) {
            return vec![message];
        }
        match &mut message {
            Message::Flush(flush, _) if flush.replica == self.me => *flush = Arc::new(rewritten(flush)),
            Message::Status(status) => self.divert(status),
            _ => {}
        }
        vec![message]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_others_are_deceived_whoever_lies() {
        for replicas in [3, 5, 7] {
            for me in 0..replicas {
                let others = (0..replicas).filter(|to| *to != me);
                let deceived = others.filter(|to| deceives(ReplicaId::new(me), ReplicaId::new(*to)));
                assert_eq!(deceived.count(), (replicas / 2) as usize, "replica-{me} of {replicas}");
            }
        }
    }
}
