//! What a mapper's records are.

use crate::error::Result;
use arrow::array::RecordBatch;
use quorate_engine::{
    input::{FixedReader, LineReader, ParquetReader, WholeReader},
    program::{InputSource, MapTask, Watch},
};
use quorate_protocol::job::InputKind;

/// How input files become records. The kinds there are implement it.
pub trait Input {
    /// A record.
    type Record: ?Sized;
    /// The kind's name in a job's specification.
    const KIND: InputKind;

    /// Reads the records of a split.
    ///
    /// # Errors
    /// When the input cannot be read, or what `each` gives.
    fn read(
        task: &MapTask,
        source: &mut dyn InputSource,
        watch: &Watch,
        each: impl FnMut(&Self::Record) -> Result<()>,
    ) -> Result<()>;
}

/// Lines of text, without their ends. A line ends with LF or CRLF, the last one of a file may have no end. Files whose
/// names end with `.gz` or `.zst` are decompressed.
#[derive(Clone, Copy, Debug)]
pub enum Lines {}

/// Lines of text as [`Lines`], in blocks of as many whole lines as are read at once, with their ends: for mappers that look
/// at bytes and not at lines. A block is not empty, and of less than 1 MiB unless one line is longer; where blocks begin depends on
/// the split alone. A failure names the number of the block in place of the line's.
///
/// ```
/// use quorate::prelude::*;
///
/// /// Counts words, wherever they are in a line.
/// struct WordsOf;
/// impl Mapper for WordsOf {
///     type Input = LineBlocks;
///     type Key = [u8];
///     type Value = u64;
///     fn map(&mut self, lines: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
///         Ok(out.emit_words(lines, &1)?)
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum LineBlocks {}

/// Whole files, of at most 1 GiB each.
#[derive(Clone, Copy, Debug)]
pub enum WholeFiles {}

/// Records of `N` bytes each. Also an output format.
#[derive(Clone, Copy, Debug)]
pub enum FixedRecords<const N: usize> {}

/// Parquet files, as Arrow record batches.
#[derive(Clone, Copy, Debug)]
pub enum ParquetBatches {}

impl Input for Lines {
    type Record = [u8];
    const KIND: InputKind = InputKind::Lines;

    fn read(
        task: &MapTask,
        source: &mut dyn InputSource,
        watch: &Watch,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut reader = LineReader::open(task, source, watch)?;
        while let Some(line) = reader.next_line()? {
            each(line)?;
        }
        Ok(())
    }
}

impl Input for LineBlocks {
    type Record = [u8];
    const KIND: InputKind = InputKind::Lines;

    fn read(
        task: &MapTask,
        source: &mut dyn InputSource,
        watch: &Watch,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut reader = LineReader::open(task, source, watch)?;
        while let Some(block) = reader.next_block()? {
            each(block)?;
        }
        Ok(())
    }
}

impl Input for WholeFiles {
    type Record = [u8];
    const KIND: InputKind = InputKind::WholeFiles;

    fn read(
        task: &MapTask,
        source: &mut dyn InputSource,
        watch: &Watch,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut reader = WholeReader::open(task, source, watch)?;
        while let Some(file) = reader.next_file()? {
            each(file)?;
        }
        Ok(())
    }
}

impl<const N: usize> Input for FixedRecords<N> {
    type Record = [u8; N];
    const KIND: InputKind = {
        assert!(N > 0 && N <= 1 << 20, "a fixed-length record has between 1 byte and 1 MiB");
        InputKind::FixedRecords(N as u32)
    };

    fn read(
        task: &MapTask,
        source: &mut dyn InputSource,
        watch: &Watch,
        mut each: impl FnMut(&[u8; N]) -> Result<()>,
    ) -> Result<()> {
        let mut reader = FixedReader::open(task, N as u32, source, watch)?;
        while let Some(record) = reader.next_record()? {
            each(record.try_into()?)?;
        }
        Ok(())
    }
}

impl Input for ParquetBatches {
    type Record = RecordBatch;
    const KIND: InputKind = InputKind::Parquet;

    fn read(
        task: &MapTask,
        source: &mut dyn InputSource,
        watch: &Watch,
        mut each: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut reader = ParquetReader::open(task, source, watch)?;
        while let Some(batch) = reader.next_batch()? {
            each(&batch)?;
        }
        Ok(())
    }
}
