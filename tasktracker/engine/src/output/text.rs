//! Text output.

use super::PartFile;
use crate::{program::TaskError, text::Text};
use std::io::Write;

/// Writes lines of key, tab and value, as Hadoop's users know them.
pub struct TextWriter<'a> {
    file: PartFile<'a>,
}

impl<'a> TextWriter<'a> {
    /// A writer of a part file.
    pub fn new(output: &'a mut dyn Write) -> Self {
        Self { file: PartFile::new(output) }
    }

    /// Writes a line of key and value.
    ///
    /// # Errors
    /// [`TaskError::Machine`] when the part file cannot be written.
    #[inline]
    pub fn write<K: Text + ?Sized, V: Text + ?Sized>(&mut self, key: &K, value: &V) -> Result<(), TaskError> {
        key.write_text(&mut self.file.buffer);
        self.file.buffer.push(b'\t');
        self.write_line(value)
    }

    /// Writes a line of one thing.
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    #[inline]
    pub fn write_line<T: Text + ?Sized>(&mut self, text: &T) -> Result<(), TaskError> {
        text.write_text(&mut self.file.buffer);
        self.file.buffer.push(b'\n');
        self.file.appended()
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`TextWriter::write`].
    pub fn finish(mut self) -> Result<(), TaskError> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_tab_between_key_and_value() {
        let mut bytes = Vec::new();
        let mut writer = TextWriter::new(&mut bytes);
        writer.write("ham", &3u64).expect("written");
        writer.write_line(&("a", "b")).expect("written");
        writer.finish().expect("written");
        assert_eq!(bytes, b"ham\t3\na\tb\n");
    }

    #[test]
    fn a_failing_file_is_the_machines_failure() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut full = Full;
        let mut writer = TextWriter::new(&mut full);
        writer.write_line("x").expect("buffered");
        assert!(matches!(writer.finish(), Err(TaskError::Machine { .. })));
    }
}
