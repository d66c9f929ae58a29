//! What a mapper gives its output to.

use crate::{
    key::Key,
    program::TaskError,
    value::Value,
    words::{Words, words},
};
use quorate_protocol::vote::Counters;

/// Where emitted records go: a sorter, a combining table, or a sample.
pub trait Collect<V: ?Sized> {
    /// Takes one record.
    ///
    /// # Errors
    /// [`TaskError::Program`] when the record is too long, [`TaskError::Machine`] when it cannot be stored.
    fn collect(&mut self, key: &[u8], value: &V) -> Result<(), TaskError>;

    /// Takes a record for each of some words, all with the same value, and tells how many there were. Only records with the
    /// same key need be taken in order.
    ///
    /// # Errors
    /// As [`Collect::collect`].
    fn collect_words(&mut self, words: Words<'_>, value: &V) -> Result<u64, TaskError> {
        let mut records = 0;
        for word in words {
            self.collect(word, value)?;
            records += 1;
        }
        Ok(records)
    }
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

impl<V: Value + ?Sized> Emitter<'_, [u8], V> {
    /// Emits a record for each [word](words) of a text, all with the same value: the same as a loop over the words, and
    /// faster. The longer the text, the faster it is.
    ///
    /// ```
    /// use quorate_engine::{emitter::Emitter, program::TaskError};
    /// fn words(line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<(), TaskError> {
    ///     out.emit_words(line, &1)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Emitter::emit`].
    #[inline]
    pub fn emit_words(&mut self, text: &[u8], value: &V) -> Result<(), TaskError> {
        self.records += self.collector.collect_words(words(text), value)?;
        Ok(())
    }
}
