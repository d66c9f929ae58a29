//! The byte formats of part files.
//!
//! | writer | the part file is |
//! |---|---|
//! | [`TextWriter`] | lines of `key<TAB>value` |
//! | [`RawWriter`] | the records' bytes, one after the other |
//! | [`ParquetWriter`] | a Parquet file |

mod parquet;
mod raw;
mod text;

pub use self::{parquet::ParquetWriter, raw::RawWriter, text::TextWriter};

use crate::program::TaskError;
use std::io::{self, Write};

/// Bytes written at once.
const WRITE_BYTES: usize = 256 << 10;

/// A buffer before a part file.
struct PartFile<'a> {
    output: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl<'a> PartFile<'a> {
    fn new(output: &'a mut dyn Write) -> Self {
        Self { output, buffer: Vec::with_capacity(WRITE_BYTES + 4096) }
    }

    /// Passes on what the buffer holds if it is much.
    #[inline]
    fn appended(&mut self) -> Result<(), TaskError> {
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.output.write_all(&self.buffer).map_err(write_error)?;
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }
}

fn write_error(error: io::Error) -> TaskError {
    TaskError::machine("write the part file", error)
}
