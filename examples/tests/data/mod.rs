//! The shared inputs of tests.

use quorate::arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use std::{path::PathBuf, sync::Arc};

/// A file of the shared test data; `None`, with a message, when this checkout has none beside it. In CI it must be there.
#[allow(clippy::allow_attributes, dead_code, reason = "not every test that includes this file reads data")]
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, and on CI it must be there", path.display());
    eprintln!("skipped: {} is not there", path.display());
    None
}

/// Three log messages as a Parquet file.
#[allow(clippy::allow_attributes, dead_code, reason = "not every test that includes this file reads Parquet")]
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
