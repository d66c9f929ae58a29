//! The data path of an attempt: read records, sort, combine, spill, merge, digest.
//!
//! A map attempt reads the records of one split ([`input`]), gives what the mapper emits ([`emitter`]) to a collector
//! ([`collect`]) and ends with one data file that holds a sorted segment for each partition. A reduce attempt merges the
//! segments of one partition ([`groups`]), hands each key with its values to the reducer and writes a part file
//! ([`output`]). In between, the tracker takes digests of the segments ([`digest`]).
//!
//! What must hold: the product of an attempt depends on its input, the program and the job's specification, and on nothing
//! else: not on threads, free memory, chunk boundaries or how often it spilled. An attempt's memory is bounded by its
//! specification, apart from single records that are larger. Bytes of other machines never make it panic.
pub mod arena;
pub mod collect;
mod combiner;
pub mod digest;
pub mod emitter;
pub mod groups;
pub mod input;
pub mod key;
mod merge;
mod name;
pub mod output;
pub mod partition;
pub mod program;
pub mod record;
mod sorter;
mod spill;
mod table;
pub mod text;
pub mod value;
mod varint;
pub mod words;
