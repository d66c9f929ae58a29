//! Output of bytes as they are.

use super::PartFile;
use crate::program::TaskError;
use std::io::Write;

/// Writes records one after the other with nothing between them: fixed-length records, or a format of the user's own.
pub struct RawWriter<'a> {
    file: PartFile<'a>,
}

impl<'a> RawWriter<'a> {
    /// A writer of a part file.
    pub fn new(output: &'a mut dyn Write) -> Self {
        Self { file: PartFile::new(output) }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`TaskError::Machine`] when the part file cannot be written.
    #[inline]
    pub fn write(&mut self, record: &[u8]) -> Result<(), TaskError> {
        self.file.buffer.extend_from_slice(record);
        self.file.appended()
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`RawWriter::write`].
    pub fn finish(mut self) -> Result<(), TaskError> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        let mut writer = RawWriter::new(&mut bytes);
        let records: Vec<_> = (0..10_000u32).map(|n| [n as u8; 100]).collect();
        records.iter().for_each(|record| writer.write(record).expect("written"));
        writer.finish().expect("written");
        assert_eq!(bytes, records.concat());
    }
}
