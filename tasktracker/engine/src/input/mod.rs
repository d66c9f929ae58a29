//! Readers of a map task's records.
//!
//! A split holds the records that *start* in it, whatever chunks the file is stored in: the splits of a file give each of
//! its records exactly once.
//!
//! | reader | a record is |
//! |---|---|
//! | [`LineReader`] | a line; also of `*.gz` and `*.zst` files |
//! | [`WholeReader`] | a file |
//! | [`FixedReader`] | so many bytes |
//! | [`ParquetReader`] | a batch of rows |

mod chunks;
mod fixed;
mod lines;
mod parquet;
mod whole;

pub use self::{
    fixed::FixedReader,
    lines::{LINE_BYTES_MAX, LineReader},
    parquet::ParquetReader,
    whole::{WHOLE_BYTES_MAX, WholeReader},
};

use crate::program::TaskError;
use quorate_protocol::vote::FailureKind;

/// Input that is not what the job's format says.
fn bad_input(record: Option<u64>, message: String) -> TaskError {
    TaskError::Program { kind: FailureKind::BadInput, record, message }
}
