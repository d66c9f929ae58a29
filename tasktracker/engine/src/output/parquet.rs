//! Parquet output.

use super::write_error;
use crate::program::TaskError;
use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use parquet::{arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties};
use quorate_protocol::vote::FailureKind;
use std::io::Write;

/// Rows of a row group.
const GROUP_ROWS: usize = 1 << 20;

/// Writes record batches as a Parquet file whose bytes depend on the batches alone, not on when or where they were
/// written.
pub struct ParquetWriter<'a> {
    output: &'a mut dyn Write,
    schema: SchemaRef,
    /// Writes into memory, from where finished row groups go to `output`: the library asks for more of its writer than
    /// `dyn Write` promises.
    writer: ArrowWriter<Vec<u8>>,
}

impl<'a> ParquetWriter<'a> {
    /// A writer of a part file with rows of this schema.
    ///
    /// # Errors
    /// [`TaskError::Program`] for a schema that Parquet has no types for.
    pub fn new(output: &'a mut dyn Write, schema: SchemaRef) -> Result<Self, TaskError> {
        let properties = WriterProperties::builder()
            .set_created_by("quorate".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties));
        Ok(Self { output, schema, writer: writer.map_err(library_error)? })
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// [`TaskError::Program`] when the batch is not of the schema, [`TaskError::Machine`] when the part file cannot be
    /// written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), TaskError> {
        self.check(batch)?;
        self.writer.write(batch).map_err(library_error)?;
        let finished = self.writer.inner_mut();
        self.output.write_all(finished).map_err(write_error)?;
        finished.clear();
        Ok(())
    }

    /// Refuses a batch whose columns the library would drop or misread.
    fn check(&self, batch: &RecordBatch) -> Result<(), TaskError> {
        let (wanted, given) = (self.schema.fields(), batch.schema_ref().fields());
        if wanted.len() != given.len() {
            return Err(wrong_rows(format!("a batch of {} columns, and the schema has {}", given.len(), wanted.len())));
        }
        for ((wanted, given), column) in wanted.iter().zip(given.iter()).zip(batch.columns()) {
            if wanted.name() != given.name() || wanted.data_type() != given.data_type() {
                return Err(wrong_rows(format!("the column `{given}` stands where the schema has `{wanted}`")));
            }
            if !wanted.is_nullable() && column.null_count() > 0 {
                return Err(wrong_rows(format!("the column `{}` has nulls, against the schema", wanted.name())));
            }
        }
        Ok(())
    }

    /// Writes what is left, and the footer.
    ///
    /// # Errors
    /// As [`ParquetWriter::write`].
    pub fn finish(self) -> Result<(), TaskError> {
        let rest = self.writer.into_inner().map_err(library_error)?;
        self.output.write_all(&rest).map_err(write_error)
    }
}

/// The library writes into memory, which does not fail: the rows are wrong.
fn library_error(error: ParquetError) -> TaskError {
    wrong_rows(error.to_string())
}

fn wrong_rows(message: String) -> TaskError {
    TaskError::Program { kind: FailureKind::UserError, record: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let names: StringArray = (0..1000).map(|n| Some(format!("name {}", n % 7))).collect();
        let numbers: Int64Array = (0..1000).map(|n| (n % 5 != 0).then_some(n)).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("name", Arc::new(names) as _, false),
            ("number", Arc::new(numbers) as _, true),
        ])
        .expect("a batch")
    }

    fn file(pieces: &[usize]) -> Vec<u8> {
        let (batch, mut bytes, mut start) = (batch(), Vec::new(), 0);
        let mut writer = ParquetWriter::new(&mut bytes, batch.schema()).expect("a writer");
        for length in pieces {
            writer.write(&batch.slice(start, *length)).expect("written");
            start += length;
        }
        writer.finish().expect("finished");
        bytes
    }

    #[test]
    fn the_bytes_are_the_same_every_time() {
        assert_eq!(file(&[1000]), file(&[1000]));
        assert_eq!(file(&[1, 499, 500]), file(&[1, 499, 500]));
    }

    #[test]
    fn rows_of_another_schema_are_the_programs_fault() {
        let mut bytes = Vec::new();
        let mut writer = ParquetWriter::new(&mut bytes, batch().schema()).expect("a writer");
        let nulls: StringArray = [None::<&str>].into_iter().collect();
        let numbers: Int64Array = [Some(1)].into_iter().collect();
        let columns = [("name", Arc::new(nulls) as _), ("number", Arc::new(numbers) as _)];
        let with_nulls = RecordBatch::try_from_iter(columns).expect("a batch");
        for other in [batch().project(&[0]).expect("a column"), batch().project(&[1, 0]).expect("columns"), with_nulls]
        {
            let error = writer.write(&other).expect_err("refused");
            assert!(matches!(error, TaskError::Program { kind: FailureKind::UserError, .. }), "{error}");
        }
    }
}
