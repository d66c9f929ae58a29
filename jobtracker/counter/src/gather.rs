//! The asking side of a witnessed log: it has heads of one replica's log signed by a quorum of witnesses. Pure.
//!
//! One head is asked for at a time. A request goes on from the last certified head and shows its certificate, so that
//! also a witness that missed everything before can sign: nothing older has to be kept. What is asked for again after a
//! restart must extend what was asked for before, which a replica sees to by keeping its statements on disk first.

use crate::{
    chain::{Certificate, Epoch, EpochRecord, Head, Position},
    device::{Attestation, DeviceError, above, bounded},
    share::{self, Share, WitnessKey},
    witness::{Answer, Request, Seen},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a witnessed log stands: what must outlive its process, or its epoch is given up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The epoch.
    pub epoch: Epoch,
    /// The last certified head.
    pub head: Head,
    /// Its certificate; `None` for the head before the first digest as long as nobody asked for one.
    pub certificate: Option<Certificate>,
}

/// What an answer brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Nothing yet.
    Nothing,
    /// The head that was asked for is certified. [`Gather::place`] must be kept before this is used.
    Attested(Attestation),
    /// A witness has shown that this log asked for something else before: it was put back, or there are two of it. The
    /// epoch cannot go on.
    Lost,
}

/// What is asked for.
#[derive(Clone, Debug)]
struct Pending {
    request: Request,
    head: Head,
    shares: BTreeMap<ReplicaId, Share>,
}

/// The asking side.
#[derive(Clone, Debug)]
pub struct Gather {
    key: WitnessKey,
    record: EpochRecord,
    head: Head,
    certificate: Option<Certificate>,
    pending: Option<Pending>,
    /// The highest epoch that it is known to have been in.
    epoch_seen: Epoch,
    lost: bool,
}

impl Gather {
    /// The log of the first epoch's replica, at a place; at its beginning when there is none.
    pub fn new(genesis: EpochRecord, key: WitnessKey, place: Option<Place>) -> Self {
        let mut record = genesis;
        let (head, certificate) = match place {
            Some(place) => {
                record.epoch = place.epoch;
                (place.head, place.certificate)
            }
            None => (record.genesis(), None),
        };
        Self { key, epoch_seen: record.epoch, record, head, certificate, pending: None, lost: false }
    }

    /// The epoch it is in.
    pub fn record(&self) -> &EpochRecord {
        &self.record
    }

    /// The last certified head.
    pub fn head(&self) -> Head {
        self.head
    }

    /// What must outlive the process.
    pub fn place(&self) -> Place {
        Place { epoch: self.record.epoch, head: self.head, certificate: self.certificate.clone() }
    }

    /// What is to be sent to the witnesses.
    pub fn request(&self) -> Option<&Request> {
        self.pending.as_ref().map(|pending| &pending.request)
    }

    /// Whose signatures on it are missing. All of them are asked; some suffice.
    pub fn missing(&self) -> Vec<ReplicaId> {
        let (witnesses, _) = self.witnesses();
        let signed = |by: &ReplicaId| self.pending.as_ref().is_some_and(|it| it.shares.contains_key(by));
        (0..witnesses as u32).map(ReplicaId::new).filter(|by| !signed(by)).collect()
    }

    /// Goes on to what was certified before, by the certificate. Says whether it does; otherwise nothing changes.
    pub fn catch_up(&mut self, digests: impl IntoIterator<Item = Digest>, certificate: &Certificate) -> bool {
        let head = self.record.extend(self.head, digests);
        let further = head.position > self.head.position && self.record.verify(head, certificate).is_ok();
        if further {
            (self.head, self.certificate) = (head, Some(certificate.clone()));
        }
        further
    }

    /// Asks for the head after some more digests. Gives the attestation when it is there already: of the last head,
    /// when there are no digests.
    ///
    /// # Errors
    /// [`DeviceError::TooMany`], or [`DeviceError::Lost`] when only a later epoch can go on.
    pub fn ask(&mut self, digests: &[Digest]) -> Result<Option<Attestation>, DeviceError> {
        bounded(digests)?;
        if self.lost {
            return Err(DeviceError::Lost { epoch: self.record.epoch });
        }
        if let Some(certificate) = self.certificate.as_ref().filter(|_| digests.is_empty()) {
            return Ok(Some(Attestation { head: self.head, certificate: certificate.clone() }));
        }
        let head = self.record.extend(self.head, digests.iter().copied());
        let share = self.key.sign(&self.record, head);
        let certificate = self.certificate.clone().unwrap_or(Certificate(Vec::new()));
        let (epoch, from, digests) = (self.record.epoch, self.head, digests.to_vec());
        let request = Request { epoch, from, certificate, digests, share };
        self.pending = Some(Pending { request, head, shares: BTreeMap::new() });
        Ok(None)
    }

    /// Gives the epoch up, and whatever was asked for in it, and begins a later one: this one, or the first that no
    /// witness has seen.
    ///
    /// # Errors
    /// [`DeviceError::NotAbove`].
    pub fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
        above(epoch, self.record.epoch)?;
        let unseen = Epoch(self.epoch_seen.0.saturating_add(1));
        self.record.epoch = epoch.max(unseen);
        self.epoch_seen = self.record.epoch;
        self.head = self.record.genesis();
        (self.certificate, self.pending, self.lost) = (None, None, false);
        Ok(())
    }

    /// A witness answers. Answers to what is no longer asked for do nothing.
    pub fn hear(&mut self, from: ReplicaId, answer: &Answer) -> Heard {
        match answer {
            Answer::Signed { epoch, head, share } => self.signed(from, *epoch, *head, share),
            Answer::Refused(seen) => self.refused(seen),
        }
    }

    fn signed(&mut self, from: ReplicaId, epoch: Epoch, head: Head, share: &Share) -> Heard {
        let (_, quorum) = self.witnesses();
        let Some(pending) = &mut self.pending else { return Heard::Nothing };
        if (epoch, head) != (self.record.epoch, pending.head) || pending.shares.contains_key(&from) {
            return Heard::Nothing;
        }
        if !self.record.is_signed(from, head, share) {
            return Heard::Nothing;
        }
        pending.shares.insert(from, *share);
        if pending.shares.len() < quorum {
            return Heard::Nothing;
        }
        let certificate = share::encode(&pending.shares);
        self.pending = None;
        self.head = head;
        self.certificate = Some(certificate.clone());
        Heard::Attested(Attestation { head, certificate })
    }

    /// A refusal counts by what it shows: the owner's own signature over something that is not on the way of what it asks
    /// for now. So no number of liars can take an epoch from a log that never contradicted itself.
    fn refused(&mut self, seen: &Seen) -> Heard {
        let Some(pending) = &self.pending else { return Heard::Nothing };
        let record = EpochRecord { epoch: seen.epoch, ..self.record.clone() };
        if seen.epoch < self.record.epoch
            || (seen.epoch == self.record.epoch && self.leads_to(&pending.request, seen.head))
            || !record.is_signed(record.replica, seen.head, &seen.share)
        {
            return Heard::Nothing;
        }
        self.epoch_seen = self.epoch_seen.max(seen.epoch);
        self.pending = None;
        self.lost = true;
        Heard::Lost
    }

    /// Whether a head is before what is asked for on its chain, or so old that no witness refuses because of it.
    fn leads_to(&self, request: &Request, head: Head) -> bool {
        let Position(from) = request.from.position;
        let Some(passed) = head.position.0.checked_sub(from) else { return true };
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        let on_the_way = request.digests.get(..passed);
        on_the_way.is_some_and(|digests| self.record.extend(request.from, digests.iter().copied()) == head)
    }

    fn witnesses(&self) -> (usize, usize) {
        self.record.key.witnesses().unwrap_or((0, usize::MAX))
    }
}
