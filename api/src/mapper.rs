//! What users write for the map stage.

use crate::{error::Result, input::Input};
use quorate_engine::{emitter::Emitter, key::Key, program::MapTask, value::Value};

/// Turns input records into keys and values.
///
/// Each task has a mapper of its own, made by the closure given to [`Job::new`](crate::Job::new). The same task runs on
/// several machines, which vote on what it emits: it must not depend on the clock, on random numbers, on the order of a
/// hash map, or on the machine.
///
/// ```
/// use quorate::prelude::*;
///
/// /// Emits each line under its length.
/// struct Lengths;
/// impl Mapper for Lengths {
///     type Input = Lines;
///     type Key = u64;
///     type Value = [u8];
///     fn map(&mut self, line: &[u8], out: &mut Emitter<'_, u64, [u8]>) -> Result<()> {
///         out.count("lines", 1);
///         out.emit(&(line.len() as u64), line)?;
///         Ok(())
///     }
/// }
/// ```
pub trait Mapper {
    /// What the input files hold: [`Lines`](crate::Lines), [`LineBlocks`](crate::LineBlocks),
    /// [`WholeFiles`](crate::WholeFiles), [`FixedRecords`](crate::FixedRecords) or
    /// [`ParquetBatches`](crate::ParquetBatches).
    type Input: Input;
    /// What records are grouped and sorted by.
    type Key: Key + ?Sized;
    /// What is kept under a key.
    type Value: Value + ?Sized;

    /// Before the first record.
    ///
    /// # Errors
    /// Whatever goes wrong; it fails the job.
    fn setup(&mut self, task: &MapContext<'_>) -> Result<()> {
        let _ = task;
        Ok(())
    }

    /// One record.
    ///
    /// # Errors
    /// Whatever goes wrong; it fails the job, which then names the task and the record.
    fn map(
        &mut self,
        record: &<Self::Input as Input>::Record,
        out: &mut Emitter<'_, Self::Key, Self::Value>,
    ) -> Result<()>;

    /// After the last record.
    ///
    /// # Errors
    /// Whatever goes wrong; it fails the job.
    fn finish(&mut self, out: &mut Emitter<'_, Self::Key, Self::Value>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// What a map task may know of itself: nothing that differs between its attempts.
#[derive(Clone, Copy, Debug)]
pub struct MapContext<'a>(pub(crate) &'a MapTask);

impl<'a> MapContext<'a> {
    /// The input file's path in the cluster's file system.
    pub fn path(&self) -> &'a str {
        &self.0.path
    }
    /// The number of the task, from 0.
    pub fn task(&self) -> u32 {
        self.0.context.attempt.task.index
    }
    /// The bytes of the file whose records are mapped: those of the records that start in this range.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.0.split.start..self.0.split.end
    }
}
