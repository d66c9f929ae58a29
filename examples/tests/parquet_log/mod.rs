//! A log as a Parquet file.

use quorate::arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use std::sync::Arc;

/// Three log messages as a Parquet file.
pub(crate) fn parquet_log() -> Vec<u8> {
    let (levels, components) = (["INFO", "WARN", "INFO"], ["a", "b", "a"]);
    let times = ["2015-10-18T18:01:47", "2015-10-18T18:59:59", "2015-10-19T00:00:00"];
    let column = |values: [&str; 3]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let fields = ["level", "component", "time"].map(|name| Field::new(name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column(levels), column(components), column(times)]);
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, schema, None).expect("a writer");
    writer.write(&batch.expect("equal lengths")).expect("written");
    writer.close().expect("closed");
    file
}
