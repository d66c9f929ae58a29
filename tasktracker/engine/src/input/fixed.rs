//! Records of a fixed number of bytes.

use super::{
    bad_input,
    chunks::{Chunks, task_error},
};
use crate::program::{InputSource, MapTask, TaskError, Watch};
use std::io::Read;

/// About how many bytes are read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Gives the records that start in a split: record `i` starts at `i` times the length.
pub struct FixedReader<'a> {
    chunks: Chunks<'a>,
    length: usize,
    buffer: Vec<u8>,
    start: usize,
    /// Records of the split that are not in the buffer yet.
    left: u64,
    records: u64,
}

impl<'a> FixedReader<'a> {
    /// A reader of the task's split into records of `record_bytes` each.
    ///
    /// # Errors
    /// [`TaskError::Program`] when the file is not made of whole records.
    pub fn open(
        task: &MapTask,
        record_bytes: u32,
        source: &'a mut dyn InputSource,
        watch: &'a Watch,
    ) -> Result<Self, TaskError> {
        let mut chunks = Chunks::new(task, source, watch);
        let (total, length) = (chunks.length(), u64::from(record_bytes.max(1)));
        if total % length != 0 {
            let message = format!(
                "{}: {total} bytes are no whole number of records of {length} bytes: {} are left over",
                chunks.path(),
                total % length
            );
            return Err(bad_input(None, message));
        }
        let first = task.split.start.div_ceil(length);
        let end = task.split.end.min(total).div_ceil(length);
        chunks.seek(first * length);
        Ok(Self {
            chunks,
            length: length as usize,
            buffer: Vec::new(),
            start: 0,
            left: end.saturating_sub(first),
            records: 0,
        })
    }

    /// The next record.
    ///
    /// # Errors
    /// [`TaskError::Machine`] when chunks cannot be had, [`TaskError::Cancelled`].
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, TaskError> {
        if self.start == self.buffer.len() {
            if self.left == 0 {
                return Ok(None);
            }
            self.fill()?;
        }
        let record = self.start..self.start + self.length;
        self.start = record.end;
        self.records += 1;
        Ok(Some(&self.buffer[record]))
    }

    /// The number of the record given last in this split, from 0.
    pub fn record(&self) -> Option<u64> {
        self.records.checked_sub(1)
    }

    #[cold]
    fn fill(&mut self) -> Result<(), TaskError> {
        let records = self.left.min((BUFFER_BYTES / self.length).max(1) as u64);
        self.buffer.resize(records as usize * self.length, 0);
        self.chunks.read_exact(&mut self.buffer).map_err(|e| task_error(e, self.chunks.path()))?;
        self.left -= records;
        self.start = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::chunks::tests::{TestSource, map_task};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn splits_give_each_record_once(
            length in 1u32..9,
            records in 0usize..40,
            chunks in prop::collection::vec(1usize..20, 1..4),
            cuts in prop::collection::vec(0u64..400, 0..5),
        ) {
            let bytes: Vec<u8> = (0..records * length as usize).map(|n| n as u8).collect();
            let total = bytes.len() as u64;
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(total)).chain([0, total]).collect();
            cuts.sort_unstable();
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                let (mut source, watch) = (TestSource::new(&bytes, &chunks), Watch::default());
                let task = map_task("/f", pair[0], pair[1]);
                let mut reader = FixedReader::open(&task, length, &mut source, &watch).expect("opened");
                let mut count = 0;
                while let Some(record) = reader.next_record().expect("read") {
                    found.push(record.to_vec());
                    count += 1;
                    prop_assert_eq!(reader.record(), Some(count - 1));
                }
            }
            prop_assert_eq!(found, bytes.chunks(length as usize).map(<[u8]>::to_vec).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_remainder_is_refused_with_the_file_and_the_figures() {
        let (mut source, watch) = (TestSource::new(&[0; 205], &[64]), Watch::default());
        let error = FixedReader::open(&map_task("/f", 0, 10), 100, &mut source, &watch).err().expect("refused");
        assert_eq!(error.to_string(), "/f: 205 bytes are no whole number of records of 100 bytes: 5 are left over");
    }
}
