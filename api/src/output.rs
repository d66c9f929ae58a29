//! What part files look like, and what a reducer writes to.

use crate::{
    error::{Error, Result},
    input::FixedRecords,
};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use quorate_engine::{
    output::{ParquetWriter, RawWriter, TextWriter},
    program::TaskError,
    text::Text,
};
use quorate_protocol::vote::Counters;
use std::{io::Write, marker::PhantomData};

/// A form of part files. The four kinds there are implement it.
pub trait Format {
    /// The engine's writer of this form.
    type Engine<'a>;
    /// Begins a part file.
    ///
    /// # Errors
    /// When this form cannot be written.
    fn begin(output: &mut dyn Write) -> Result<Self::Engine<'_>, TaskError>;
    /// Writes what is left.
    ///
    /// # Errors
    /// When the machine cannot write it.
    fn end(engine: Self::Engine<'_>) -> Result<(), TaskError>;
}

/// Lines of `key<TAB>value`.
#[derive(Clone, Copy, Debug)]
pub enum TextLines {}

/// Bytes as they are, with nothing between them.
#[derive(Clone, Copy, Debug)]
pub enum RawBytes {}

/// Parquet files with the columns of `C`.
#[derive(Clone, Copy, Debug)]
pub struct Parquet<C>(PhantomData<C>);

/// The columns of a Parquet output.
pub trait Columns {
    /// The schema of every part file.
    fn schema() -> SchemaRef;
}

/// What a reducer writes to. How depends on the form.
pub struct Writer<'a, F: Format> {
    engine: F::Engine<'a>,
    counters: Counters,
}

impl<'a, F: Format> Writer<'a, F> {
    pub(crate) fn open(output: &'a mut dyn Write) -> Result<Self, TaskError> {
        Ok(Self { engine: F::begin(output)?, counters: Counters::new() })
    }

    pub(crate) fn close(self) -> Result<Counters, TaskError> {
        F::end(self.engine)?;
        Ok(self.counters)
    }

    /// Adds to one of the job's counters.
    pub fn count(&mut self, name: &str, by: u64) {
        match self.counters.get_mut(name) {
            Some(counter) => *counter = counter.saturating_add(by),
            None => drop(self.counters.insert(name.to_owned(), by)),
        }
    }
}

impl Writer<'_, TextLines> {
    /// Writes a line `key<TAB>value`. The parts of tuples are separated by tabs too.
    ///
    /// # Errors
    /// When the machine cannot write it.
    #[inline]
    pub fn write<K: Text + ?Sized, V: Text + ?Sized>(&mut self, key: &K, value: &V) -> Result<()> {
        Ok(self.engine.write(key, value)?)
    }

    /// Writes a line of one thing.
    ///
    /// # Errors
    /// When the machine cannot write it.
    #[inline]
    pub fn write_line<T: Text + ?Sized>(&mut self, text: &T) -> Result<()> {
        Ok(self.engine.write_line(text)?)
    }
}

impl Writer<'_, RawBytes> {
    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the machine cannot write them.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.engine.write(bytes)?)
    }
}

impl<const N: usize> Writer<'_, FixedRecords<N>> {
    /// Writes a record that is these parts, one after the other.
    ///
    /// # Errors
    /// When they are not `N` bytes together, or the machine cannot write them.
    #[inline]
    pub fn write(&mut self, parts: &[&[u8]]) -> Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length != N {
            return Err(Error::new(format!("a record of {length} bytes in an output of records of {N}")));
        }
        for part in parts {
            self.engine.write(part)?;
        }
        Ok(())
    }
}

impl<C: Columns> Writer<'_, Parquet<C>> {
    /// Writes rows.
    ///
    /// # Errors
    /// When they are not of the schema, or the machine cannot write them.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        Ok(self.engine.write(rows)?)
    }
}

impl Format for TextLines {
    type Engine<'a> = TextWriter<'a>;
    fn begin(output: &mut dyn Write) -> Result<TextWriter<'_>, TaskError> {
        Ok(TextWriter::new(output))
    }
    fn end(engine: TextWriter<'_>) -> Result<(), TaskError> {
        engine.finish()
    }
}

impl Format for RawBytes {
    type Engine<'a> = RawWriter<'a>;
    fn begin(output: &mut dyn Write) -> Result<RawWriter<'_>, TaskError> {
        Ok(RawWriter::new(output))
    }
    fn end(engine: RawWriter<'_>) -> Result<(), TaskError> {
        engine.finish()
    }
}

impl<const N: usize> Format for FixedRecords<N> {
    type Engine<'a> = RawWriter<'a>;
    fn begin(output: &mut dyn Write) -> Result<RawWriter<'_>, TaskError> {
        Ok(RawWriter::new(output))
    }
    fn end(engine: RawWriter<'_>) -> Result<(), TaskError> {
        engine.finish()
    }
}

impl<C: Columns> Format for Parquet<C> {
    type Engine<'a> = ParquetWriter<'a>;
    fn begin(output: &mut dyn Write) -> Result<ParquetWriter<'_>, TaskError> {
        ParquetWriter::new(output, C::schema())
    }
    fn end(engine: ParquetWriter<'_>) -> Result<(), TaskError> {
        engine.finish()
    }
}
