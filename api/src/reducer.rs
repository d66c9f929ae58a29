//! What users write for the reduce stage.

use crate::{
    error::Result,
    output::{Format, Writer},
};
use quorate_engine::{groups::Values, key::Key, program::ReduceTask, value::Value};

/// Turns all values of a key into output.
///
/// Keys come in order, and the values of one key in the order in which the input's records emitted them. As for
/// [`Mapper`](crate::Mapper), what it writes must be the same on every machine.
///
/// Values are an iterator, except that `[u8]` and `str`, which borrow, come from
/// [`Values::next_ref`](quorate_engine::groups::Values::next_ref).
///
/// ```
/// use quorate::prelude::*;
///
/// /// Writes the largest value of each key.
/// struct Largest;
/// impl Reducer for Largest {
///     type Key = str;
///     type Value = i64;
///     type Output = TextLines;
///     fn reduce(&mut self, key: &str, values: Values<'_, i64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
///         out.write(key, &values.max().unwrap_or(0))
///     }
/// }
/// ```
pub trait Reducer {
    /// The mapper's key.
    type Key: Key + ?Sized;
    /// The mapper's value.
    type Value: Value + ?Sized;
    /// What the part files look like: [`TextLines`](crate::TextLines), [`FixedRecords`](crate::FixedRecords) or
    /// [`Parquet`](crate::Parquet).
    type Output: Format;

    /// Before the first key.
    ///
    /// # Errors
    /// Whatever goes wrong; it fails the job.
    fn setup(&mut self, task: &ReduceContext<'_>) -> Result<()> {
        let _ = task;
        Ok(())
    }

    /// One key with its values. Values that are not read are skipped.
    ///
    /// # Errors
    /// Whatever goes wrong; it fails the job, which then names the task and the number of the key.
    fn reduce(
        &mut self,
        key: <Self::Key as Key>::Decoded<'_>,
        values: Values<'_, Self::Value>,
        out: &mut Writer<'_, Self::Output>,
    ) -> Result<()>;

    /// After the last key.
    ///
    /// # Errors
    /// Whatever goes wrong; it fails the job.
    fn finish(&mut self, out: &mut Writer<'_, Self::Output>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// What a reduce task may know of itself: nothing that differs between its attempts.
#[derive(Clone, Copy, Debug)]
pub struct ReduceContext<'a>(pub(crate) &'a ReduceTask);

impl ReduceContext<'_> {
    /// The partition, from 0.
    pub fn partition(&self) -> u32 {
        self.0.partition
    }
    /// Partitions of the job.
    pub fn partitions(&self) -> u32 {
        self.0.context.partitions
    }
}
