//! The trusted log that a liar really has, and what it has written there.

use quorate_counter::{Attestation, Epoch, Position, Simulated, TrustedLog};
use quorate_smr::message::{Flush, Statement};
use std::{collections::BTreeMap, sync::Arc};

/// A trusted log with the flushes that were written to it. What was written cannot be unwritten.
pub(crate) struct Pen {
    device: Simulated,
    flushes: Vec<Arc<Flush>>,
    /// Where the statements of the shadow logs went, by instance and position there.
    places: BTreeMap<(usize, Position), Position>,
}

impl Pen {
    pub(crate) fn new(device: Simulated) -> Self {
        Self { device, flushes: Vec::new(), places: BTreeMap::new() }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.device.record().epoch
    }

    /// The last position.
    pub(crate) fn position(&self) -> Position {
        self.device.head().position
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

    /// Writes statements, at least one, under one certificate.
    pub(crate) fn write(&mut self, statements: Vec<Statement>) -> Arc<Flush> {
        let record = self.device.record().clone();
        let after = self.position();
        let digests: Vec<_> = statements.iter().map(Statement::digest).collect();
        let Attestation { certificate, .. } =
            self.device.append(&digests).expect("a flush is no longer than it may be");
        let flush = Arc::new(Flush { replica: record.replica, epoch: record.epoch, after, statements, certificate });
        self.flushes.push(Arc::clone(&flush));
        flush
    }

    /// Begins another epoch. What was written in the old one is given back.
    pub(crate) fn renew(&mut self, epoch: Epoch) -> Vec<Arc<Flush>> {
        self.places.clear();
        // Epochs that are not above the present one are refused: then nothing changes.
        match self.device.renew(epoch) {
            Ok(()) => std::mem::take(&mut self.flushes),
            Err(_) => Vec::new(),
        }
    }

    /// A copy that no real trusted log allows.
    pub(crate) fn cloned(&self) -> Self {
        Self { device: self.device.clone_device(), flushes: self.flushes.clone(), places: self.places.clone() }
    }
}
