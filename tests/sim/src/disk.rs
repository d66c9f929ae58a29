//! A replica's disk: writes become durable in their order, and a crash loses some of the last ones.

use crate::rng::Rng;
use quorate_protocol::canonical;
use quorate_smr::{Compaction, Payload, Record};
use std::collections::VecDeque;

/// What is on a disk: the last compaction's state and ledger, and the records since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) compaction: Option<(Payload, Vec<u8>)>,
    pub(crate) records: Vec<Record>,
}

#[derive(Clone, Debug)]
enum Write {
    Record(Record),
    Compaction(Compaction),
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    durable: Contents,
    /// Written, and not yet durable.
    pending: VecDeque<Write>,
    /// Writes ever, the durable ones among them.
    written: u64,
    synced: u64,
}

impl Disk {
    pub(crate) fn keep(&mut self, record: Record) {
        self.pending.push_back(Write::Record(record));
        self.written += 1;
    }

    pub(crate) fn compact(&mut self, compaction: Compaction) {
        self.pending.push_back(Write::Compaction(compaction));
        self.written += 1;
    }

    /// Names everything written so far.
    pub(crate) fn mark(&self) -> u64 {
        self.written
    }

    /// Everything up to a mark is durable now.
    pub(crate) fn sync(&mut self, mark: u64) {
        while self.synced < mark
            && let Some(write) = self.pending.pop_front()
        {
            self.synced += 1;
            match write {
                Write::Record(record) => self.durable.records.push(record),
                Write::Compaction(Compaction { state, ledger, records }) => {
                    self.durable = Contents { compaction: Some((state, ledger)), records };
                }
            }
        }
    }

    /// A crash: some first part of what was not durable survives, the rest is lost.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let survives = rng.below(self.pending.len() as u64 + 1);
        self.sync(self.synced + survives);
        self.pending.clear();
        self.synced = self.written;
    }

    /// Somebody puts another disk in.
    pub(crate) fn replace(&mut self, contents: Contents) {
        self.pending.clear();
        self.synced = self.written;
        self.durable = contents;
    }

    /// What a restart finds, read from its bytes.
    pub(crate) fn contents(&self) -> Contents {
        let bytes = canonical::encode(&self.durable.records);
        let records = canonical::decode(&bytes, bytes.len()).expect("records are read as they were written");
        Contents { compaction: self.durable.compaction.clone(), records }
    }

    /// What is durable.
    pub(crate) fn durable(&self) -> &Contents {
        &self.durable
    }
}
