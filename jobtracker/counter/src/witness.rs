//! A witness of the replicas' logs: what stands in for a device where no replica has one that the others trust.
//!
//! Replicas witness each other: a head of a replica's log counts once 2f + 1 of 3f + 1 replicas signed it. This is
//! consistent broadcast (Bracha, *Asynchronous Byzantine agreement protocols*, 1987; Srikanth and Toueg, *Simulating
//! authenticated broadcasts*, 1987), the known way to get from signatures to logs that cannot say two things (Clement,
//! Junqueira, Kate, Rodrigues, *On the (limited) power of non-equivocation*, PODC 2012).
//!
//! # Rules of an honest witness
//!
//! It remembers of each log the last epoch and the last head that it signed there. It signs a head
//! * that is the last one that it signed, again;
//! * or that extends that one by digests that it is shown;
//! * or that extends by such digests a head that is ahead of its own and that is certified, which it is shown too.
//!
//! It refuses everything else, and shows what it signed last, with the signature of that log's owner: whoever refuses
//! without such a proof is not believed. An epoch above the last one begins at its genesis; lower ones are refused for ever.
//! What it remembers is on disk before its signature leaves.
//!
//! # Two certified heads of one epoch lie on one chain
//!
//! Otherwise take heads a at position c and b at c' ≥ c that are both certified and not on one chain, c' being the smallest
//! possible. Some 2f + 1 signed a; take for b the first 2f + 1 that ever did. Among 3f + 1 the two sets share f + 1, so an
//! honest witness w that signed both. w's heads only move forward, so it signed a first, and came to b from a by extensions and by
//! going over to certified heads. With extensions alone b would be on a's chain. So take the last head d that it went over
//! to: d is certified, b is d or extends it, and d is not on one chain with a, since b is not. If d is before c', then c'
//! was not the smallest. If d is b, then b was certified before w signed it, and w is not among the first that did.
//!
//! A replica whose disk was put back has forgotten what it signed: as a witness it is among the f faulty ones, as with
//! any agreement that needs stable storage.

use crate::{
    chain::{Certificate, Epoch, EpochRecord, Head},
    device::APPEND_DIGESTS_MAX,
    share::{Share, WitnessKey},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use serde::{Deserialize, Serialize};

/// A replica asks the witnesses to sign the next head of its log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// In which epoch.
    pub epoch: Epoch,
    /// The last certified head.
    pub from: Head,
    /// Its certificate; empty for the head before the first digest, which needs none.
    pub certificate: Certificate,
    /// What follows it.
    pub digests: Vec<Digest>,
    /// The asker's own signature over the head after them.
    pub share: Share,
}

/// The last head of a log that a witness signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// In which epoch.
    pub epoch: Epoch,
    /// The head.
    pub head: Head,
    /// The signature of the log's owner over it: it asked for this.
    pub share: Share,
}

/// What a witness answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It signs.
    Signed {
        /// In which epoch.
        epoch: Epoch,
        /// Which head.
        head: Head,
        /// Its signature.
        share: Share,
    },
    /// It does not, because of what it signed before.
    Refused(Seen),
}

/// An answer, and what must be kept before it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Considered {
    /// What to answer.
    pub answer: Answer,
    /// What must be on disk before the answer leaves; `None` when nothing has changed.
    pub keep: Option<Seen>,
}

/// Why a request is not answered at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No log of this cluster.
    #[error("{0} is not of this cluster")]
    Stranger(ReplicaId),
    /// More digests than any log takes at once.
    #[error("{got} digests to be witnessed at once, and at most {APPEND_DIGESTS_MAX} are allowed")]
    TooMany {
        /// How many.
        got: usize,
    },
    /// The asker did not sign the head that it asks for.
    #[error("{0} asks for a head that it did not sign")]
    Unsigned(ReplicaId),
    /// The head that it goes on from is certified by nobody.
    #[error("{0} goes on from a head that is not certified")]
    Uncertified(ReplicaId),
}

/// A witness.
#[derive(Clone, Debug)]
pub struct Witness {
    key: WitnessKey,
    /// The logs' first epochs, in the order of replicas.
    genesis: Vec<EpochRecord>,
    seen: Vec<Option<Seen>>,
}

/// What a witness may do with a head.
enum Judgement {
    /// It signs, without moving.
    Again,
    /// It signs and moves there.
    Move,
    /// It has signed something that does not fit.
    Conflict(Seen),
    /// Nothing is known of what the request goes on from.
    Unknown,
}

impl Witness {
    /// A witness with what it remembers, in the order of replicas. A shorter memory is that of a new witness for the rest.
    pub fn new(key: WitnessKey, genesis: Vec<EpochRecord>, memory: Vec<Option<Seen>>) -> Self {
        let mut seen = memory;
        seen.resize(genesis.len(), None);
        Self { key, genesis, seen }
    }

    /// What it remembers, in the order of replicas.
    pub fn memory(&self) -> &[Option<Seen>] {
        &self.seen
    }

    /// Considers what a replica asks for its own log. `of` is who asks, by an authenticated link.
    ///
    /// # Errors
    /// [`RequestError`]: an honest replica does not ask so.
    pub fn consider(&mut self, of: ReplicaId, request: &Request) -> Result<Considered, RequestError> {
        if request.digests.len() > APPEND_DIGESTS_MAX {
            return Err(RequestError::TooMany { got: request.digests.len() });
        }
        let index = of.number() as usize;
        let genesis = self.genesis.get(index).ok_or(RequestError::Stranger(of))?;
        let record = EpochRecord { epoch: request.epoch, ..genesis.clone() };
        let head = record.extend(request.from, request.digests.iter().copied());
        let seen = self.seen.get(index).copied().flatten();
        let keep = match judge(&record, seen, request, head) {
            Judgement::Conflict(seen) => return Ok(Considered { answer: Answer::Refused(seen), keep: None }),
            Judgement::Unknown => return Err(RequestError::Uncertified(of)),
            Judgement::Again => None,
            Judgement::Move => Some(Seen { epoch: request.epoch, head, share: request.share }),
        };
        if !record.is_signed(of, head, &request.share) {
            return Err(RequestError::Unsigned(of));
        }
        if let (Some(slot), Some(_)) = (self.seen.get_mut(index), keep) {
            *slot = keep;
        }
        let share = self.key.sign(&record, head);
        Ok(Considered { answer: Answer::Signed { epoch: request.epoch, head, share }, keep })
    }
}

fn judge(record: &EpochRecord, seen: Option<Seen>, request: &Request, head: Head) -> Judgement {
    let (mine, known) = match seen {
        Some(seen) if seen.epoch > request.epoch => return Judgement::Conflict(seen),
        Some(seen) if seen.epoch == request.epoch => (seen.head, true),
        Some(_) | None => (record.genesis(), false),
    };
    let passed = mine.position.0.checked_sub(request.from.position.0);
    let passed = passed.and_then(|passed| usize::try_from(passed).ok());
    if let Some(on_the_way) = passed.and_then(|passed| request.digests.get(..passed))
        && record.extend(request.from, on_the_way.iter().copied()) == mine
    {
        return if known && mine == head { Judgement::Again } else { Judgement::Move };
    }
    if request.from.position > mine.position && record.verify(request.from, &request.certificate).is_ok() {
        return Judgement::Move;
    }
    match seen.filter(|_| known && request.from.position <= mine.position) {
        Some(seen) => Judgement::Conflict(seen),
        None => Judgement::Unknown,
    }
}
