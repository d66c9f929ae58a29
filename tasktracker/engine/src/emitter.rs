//! What a mapper gives its output to.

use crate::{key::Key, program::TaskError, value::Value};
use quorate_protocol::vote::Counters;

/// Where emitted records go: a sorter, a combining table, or a sample.
pub trait Collect<V: ?Sized> {
    /// Takes one record.
    ///
    /// # Errors
    /// [`TaskError::Program`] when the record is too long, [`TaskError::Machine`] when it cannot be stored.
    fn collect(&mut self, key: &[u8], value: &V) -> Result<(), TaskError>;
}

/// Takes a mapper's output. It borrows what is emitted, so nothing need be allocated for a record.
///
/// ```
/// use quorate_engine::{emitter::Emitter, program::TaskError};
/// fn words(line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<(), TaskError> {
///     for word in line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
///         out.emit(word, &1)?;
///     }
///     out.count("lines", 1);
///     Ok(())
/// }
/// ```
pub struct Emitter<'a, K: ?Sized, V: ?Sized> {
    collector: &'a mut dyn Collect<V>,
    counters: &'a mut Counters,
    scratch: Vec<u8>,
    records: u64,
    key: std::marker::PhantomData<fn(&K)>,
}

impl<'a, K: Key + ?Sized, V: Value + ?Sized> Emitter<'a, K, V> {
    /// An emitter into a collector.
    pub fn new(collector: &'a mut dyn Collect<V>, counters: &'a mut Counters) -> Self {
        Self { collector, counters, scratch: Vec::new(), records: 0, key: std::marker::PhantomData }
    }

    /// Emits a record.
    ///
    /// # Errors
    /// [`TaskError`], which the mapper should return: when the record is longer than
    /// [`RECORD_BYTES_MAX`](crate::record::RECORD_BYTES_MAX), or the machine cannot store it.
    #[inline]
    pub fn emit(&mut self, key: &K, value: &V) -> Result<(), TaskError> {
        self.records += 1;
        self.collector.collect(key.encode(&mut self.scratch), value)
    }

    /// Adds to one of the job's counters.
    pub fn count(&mut self, name: &str, by: u64) {
        match self.counters.get_mut(name) {
            Some(counter) => *counter = counter.saturating_add(by),
            None => drop(self.counters.insert(name.to_owned(), by)),
        }
    }

    /// Records emitted so far through this emitter.
    pub fn records(&self) -> u64 {
        self.records
    }
}
