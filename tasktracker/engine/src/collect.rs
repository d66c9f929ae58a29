//! The map side: emitted records become one data file with a sorted segment for each partition.
//!
//! A [`SortCollector`] keeps every record; a [`CombineCollector`] keeps one accumulator for each key. Both hold at most
//! their part of the attempt's memory, spill sorted runs when it is full, and merge these at the end. Where spills fall
//! depends on the records and on the attempt's memory alone.
//!
//! Inside a segment records are in the order of (key bytes, emission number), whatever was spilled.

pub use crate::{combiner::CombineCollector, sorter::SortCollector};
use crate::{
    program::{MapProduct, Span, TaskError},
    record::RECORD_BYTES_MAX,
};
use quorate_protocol::vote::{Counters, FailureKind};
use std::path::{Path, PathBuf};

/// The name of a map attempt's data file in its directory.
pub const DATA_FILE: &str = "map.data";

/// What a collector made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collected {
    /// The data file.
    pub data: PathBuf,
    /// One for each partition, in order and without gaps.
    pub spans: Vec<Span>,
    /// How often memory was full.
    pub spills: usize,
}

impl Collected {
    pub(crate) fn new((data, spans): (PathBuf, Vec<Span>), spills: usize) -> Self {
        Self { data, spans, spills }
    }

    /// The product of the map attempt.
    pub fn into_product(self, counters: Counters) -> MapProduct {
        MapProduct { data: self.data, spans: self.spans, counters }
    }
}

/// The part of an attempt's memory that a collector fills, in bytes. The rest is for readers, writers and user code.
pub(crate) fn budget(memory: u64) -> usize {
    usize::try_from(memory / 10 * 6).unwrap_or(usize::MAX)
}

pub(crate) fn data_file(directory: &Path) -> PathBuf {
    directory.join(DATA_FILE)
}

/// Refuses a record that no reader would take.
#[inline]
pub(crate) fn check_record(key: &[u8], value: &[u8]) -> Result<(), TaskError> {
    let bytes = key.len() as u64 + value.len() as u64;
    if bytes <= RECORD_BYTES_MAX {
        return Ok(());
    }
    Err(TaskError::Program {
        kind: FailureKind::UserError,
        record: None,
        message: format!("emitted a record of {bytes} bytes, and at most {RECORD_BYTES_MAX} are allowed"),
    })
}
