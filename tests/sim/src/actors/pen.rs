//! The log that a liar really has, and what it has written there.
//!
//! With a trusted log it writes at once. Where replicas witness each other it asks the witnesses, at once too: the network
//! is on its side. It asks in the order that suits it, and no more of them than it needs.

use crate::world::Witnesses;
use quorate_counter::{
    Attestation, Certificate, Epoch, EpochRecord, Gather, Head, Heard, Position, Simulated, TrustedLog,
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use quorate_smr::message::{Flush, Statement};
use std::{collections::BTreeMap, sync::Arc};

/// What makes a log.
pub(crate) enum Ink {
    /// A trusted log.
    Device(Simulated),
    /// Witnesses.
    Witnessed(Box<Quill>),
}

/// A log that asks for its certificates.
#[derive(Clone)]
pub(crate) struct Quill {
    pub(crate) gather: Gather,
    pub(crate) witnesses: Witnesses,
    /// In which order they are asked.
    pub(crate) order: Vec<ReplicaId>,
}

impl Quill {
    fn append(&mut self, digests: &[Digest]) -> Option<Attestation> {
        let of = self.gather.record().replica;
        // What only some have signed could not be unsaid: it waits for a better moment.
        if !self.witnesses.can_certify(self.gather.record()) {
            return None;
        }
        if let Some(known) = self.gather.ask(digests).ok()? {
            return Some(known);
        }
        let request = self.gather.request()?.clone();
        for by in &self.order {
            let Some(answer) = self.witnesses.give_in(*by, of, &request) else { continue };
            match self.gather.hear(*by, &answer) {
                Heard::Nothing => {}
                Heard::Attested(attestation) => return Some(attestation),
                Heard::Lost => return None,
            }
        }
        None
    }
}

impl Ink {
    fn record(&self) -> &EpochRecord {
        match self {
            Ink::Device(device) => device.record(),
            Ink::Witnessed(quill) => quill.gather.record(),
        }
    }

    fn head(&self) -> Head {
        match self {
            Ink::Device(device) => device.head(),
            Ink::Witnessed(quill) => quill.gather.head(),
        }
    }
}

/// A log with the flushes that were written to it. What was written cannot be unwritten.
pub(crate) struct Pen {
    ink: Ink,
    flushes: Vec<Arc<Flush>>,
    /// Where the statements of the shadow logs went, by instance and position there.
    places: BTreeMap<(usize, Position), Position>,
    /// What witnesses signed of the epoch's beginning.
    begun: Option<Certificate>,
}

impl Pen {
    pub(crate) fn new(ink: Ink) -> Self {
        Self { ink, flushes: Vec::new(), places: BTreeMap::new(), begun: None }
    }

    pub(crate) fn record(&self) -> &EpochRecord {
        self.ink.record()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.record().epoch
    }

    /// Whether witnesses make its certificates.
    pub(crate) fn is_witnessed(&self) -> bool {
        matches!(self.ink, Ink::Witnessed(_))
    }

    /// What witnesses signed of the beginning of its epoch.
    pub(crate) fn begun(&self) -> Option<&Certificate> {
        self.begun.as_ref()
    }

    /// The last position.
    pub(crate) fn position(&self) -> Position {
        self.ink.head().position
    }

    /// Everything that was written in this epoch.
    pub(crate) fn flushes(&self) -> &[Arc<Flush>] {
        &self.flushes
    }

    /// What follows a position.
    pub(crate) fn after(&self, position: Position) -> impl Iterator<Item = &Arc<Flush>> {
        self.flushes.iter().filter(move |flush| flush.end() > position)
    }

    /// Where a statement of a shadow log went.
    pub(crate) fn place(&self, brain: usize, shadow: Position) -> Option<Position> {
        self.places.get(&(brain, shadow)).copied()
    }

    /// A statement of a shadow log is the one of this index in what is written next.
    pub(crate) fn map(&mut self, brain: usize, shadow: Position, index: usize) {
        self.places.insert((brain, shadow), self.position().after(index + 1));
    }

    /// Writes statements, at least one, under one certificate. `None` when the witnesses do not sign.
    pub(crate) fn write(&mut self, statements: Vec<Statement>) -> Option<Arc<Flush>> {
        let record = self.record().clone();
        let after = self.position();
        let digests: Vec<_> = statements.iter().map(Statement::digest).collect();
        let Attestation { certificate, .. } = match &mut self.ink {
            Ink::Device(device) => device.append(&digests).expect("a flush is no longer than it may be"),
            Ink::Witnessed(quill) => quill.append(&digests)?,
        };
        let flush = Arc::new(Flush { replica: record.replica, epoch: record.epoch, after, statements, certificate });
        self.flushes.push(Arc::clone(&flush));
        Some(flush)
    }

    /// Begins another epoch. What was written in the old one is given back.
    pub(crate) fn renew(&mut self, epoch: Epoch) -> Vec<Arc<Flush>> {
        self.places.clear();
        // Epochs that are not above the present one are refused: then nothing changes.
        let renewed = match &mut self.ink {
            Ink::Device(device) => device.renew(epoch).is_ok(),
            Ink::Witnessed(quill) => {
                let renewed = quill.gather.renew(epoch).is_ok();
                if renewed {
                    self.begun = quill.append(&[]).map(|attestation| attestation.certificate);
                }
                renewed
            }
        };
        if renewed { std::mem::take(&mut self.flushes) } else { Vec::new() }
    }

    /// A copy that no real trusted log allows, and that anybody makes of a log without a device.
    pub(crate) fn cloned(&self, order: Vec<ReplicaId>) -> Self {
        let ink = match &self.ink {
            Ink::Device(device) => Ink::Device(device.clone_device()),
            Ink::Witnessed(quill) => Ink::Witnessed(Box::new(Quill { order, ..Quill::clone(quill) })),
        };
        Self { ink, flushes: self.flushes.clone(), places: self.places.clone(), begun: self.begun.clone() }
    }
}
