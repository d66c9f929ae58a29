//! The data path of an attempt: read records, sort, combine, spill, merge.
pub mod program;
