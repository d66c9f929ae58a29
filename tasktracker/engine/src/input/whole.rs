//! A whole file as one record.

use super::{
    bad_input,
    chunks::{Chunks, task_error},
};
use crate::program::{InputSource, MapTask, TaskError, Watch};
use std::io::Read;

/// The largest file, in bytes.
pub const WHOLE_BYTES_MAX: u64 = 1 << 30;

/// Gives a file as the one record of the split where it starts.
pub struct WholeReader<'a> {
    chunks: Chunks<'a>,
    bytes: Vec<u8>,
    given: bool,
}

impl<'a> WholeReader<'a> {
    /// A reader of the task's file.
    ///
    /// # Errors
    /// [`TaskError::Program`] for a file above [`WHOLE_BYTES_MAX`].
    pub fn open(task: &MapTask, source: &'a mut dyn InputSource, watch: &'a Watch) -> Result<Self, TaskError> {
        let chunks = Chunks::new(task, source, watch);
        let length = chunks.length();
        if length > WHOLE_BYTES_MAX {
            let message = format!("{}: {length} bytes, and a whole file may have {WHOLE_BYTES_MAX}", chunks.path());
            return Err(bad_input(None, message));
        }
        Ok(Self { chunks, bytes: Vec::new(), given: task.split.start > 0 })
    }

    /// The file, once.
    ///
    /// # Errors
    /// [`TaskError::Machine`] when chunks cannot be had, [`TaskError::Cancelled`].
    pub fn next_file(&mut self) -> Result<Option<&[u8]>, TaskError> {
        if std::mem::replace(&mut self.given, true) {
            return Ok(None);
        }
        self.bytes.reserve_exact(self.chunks.length() as usize);
        self.chunks.read_to_end(&mut self.bytes).map_err(|e| task_error(e, self.chunks.path()))?;
        Ok(Some(&self.bytes))
    }

    /// The number of the file given last in this split: 0.
    pub fn record(&self) -> Option<u64> {
        self.given.then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::chunks::tests::{TestSource, map_task};

    #[test]
    fn a_file_is_one_record_even_when_it_is_empty() {
        for (text, cut) in [("", 1), ("one\ntwo", 3)] {
            let (mut source, watch) = (TestSource::new(text.as_bytes(), &[cut]), Watch::default());
            let task = map_task("/f.gz", 0, text.len() as u64);
            let mut reader = WholeReader::open(&task, &mut source, &watch).expect("opened");
            assert_eq!(reader.record(), None);
            assert_eq!(reader.next_file().expect("read"), Some(text.as_bytes()));
            assert_eq!(reader.record(), Some(0));
            assert_eq!(reader.next_file().expect("read"), None);
        }
    }

    #[test]
    fn a_file_above_the_limit_is_refused() {
        struct Large(Vec<u32>);
        impl InputSource for Large {
            fn chunk_lengths(&self) -> &[u32] {
                &self.0
            }
            fn chunk(&mut self, _index: usize) -> std::io::Result<crate::program::LocalBytes> {
                Err(std::io::ErrorKind::NotFound.into())
            }
        }
        let watch = Watch::default();
        let at_the_bound = vec![1 << 26; 16];
        let above = [at_the_bound.clone(), vec![1]].concat();
        assert!(WholeReader::open(&map_task("/f", 0, 1), &mut Large(at_the_bound), &watch).is_ok());
        let error = WholeReader::open(&map_task("/f", 0, 1), &mut Large(above), &watch).err().expect("refused");
        assert!(error.to_string().starts_with("/f: 1073741825 bytes"), "{error}");
    }
}
