//! Bounds on everything that a peer can send or make us keep.

/// A signed command, in bytes. A reduce vote carries its manifest, which is the largest part.
pub const COMMAND_BYTES_MAX: usize = 2 << 20;
/// A reply or directive, in bytes.
pub const REPLY_BYTES_MAX: usize = 16 << 20;
/// A query, in bytes.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// A signed vote, in bytes.
pub const VOTE_BYTES_MAX: usize = 1 << 20;
/// The list of a map attempt's segments, in bytes.
pub const SEGMENTS_BYTES_MAX: usize = 4 << 20;
/// One message on the data plane, in bytes.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// A gRPC message, with room for its frame.
pub const MESSAGE_BYTES_MAX: usize = 20 << 20;
/// A chunk, in bytes.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// A chunk's usual size, in bytes.
pub const CHUNK_BYTES_DEFAULT: u64 = 4 << 20;
/// Chunks of one file.
pub const FILE_CHUNKS_MAX: usize = 24 << 10;
/// A path, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;
/// Files that one command may create or remove, and that a job's input may hold.
pub const FILES_PER_COMMAND_MAX: usize = 16 << 10;
/// A job's encoded arguments, in bytes.
pub const ARGUMENTS_BYTES_MAX: usize = 64 << 10;
/// A job's program, in bytes.
pub const PROGRAM_BYTES_MAX: u64 = 1 << 30;
/// Reduce tasks of a job.
pub const PARTITIONS_MAX: u32 = 16 << 10;
/// Map tasks of a job. The job tracker keeps less than 1 KiB for each, and the simulator runs it with a million (`scale`).
/// Before this bound, that of [`REPLY_BYTES_MAX`] on the list of the input's chunks may hold: with some 45 bytes for each
/// chunk, a job reads up to 180,000 of them.
pub const MAPS_MAX: u32 = 1 << 20;
/// Faults a job can ask to tolerate.
pub const JOB_F_MAX: u32 = 8;
/// Counters of a job.
pub const COUNTERS_MAX: usize = 64;
/// A counter's name, in bytes.
pub const COUNTER_NAME_BYTES_MAX: usize = 64;
/// Text that people read: reasons, messages.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
/// Entries of a tracker's report.
pub const REPORT_ENTRIES_MAX: usize = 1024;
/// Directives waiting for one tracker's acknowledgement.
pub const DIRECTIVES_MAX: usize = 1 << 16;
/// Client processes remembered for each key, so that a command is executed once.
pub const SESSIONS_PER_KEY_MAX: usize = 64;
/// Jobs remembered after their end.
pub const ENDED_JOBS_MAX: usize = 256;
/// What is kept of a job that succeeded for its certificate, in bytes: one whose record is longer has none.
pub const COMPLETION_BYTES_MAX: usize = 4 << 20;
/// The same of all such jobs together: the oldest give way.
pub const COMPLETIONS_BYTES_MAX: usize = 64 << 20;
/// A job's certificate, in bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 6 << 20;
/// Jobs that are waiting or running.
pub const LIVE_JOBS_MAX: usize = 1024;
/// Pieces of evidence kept for each tracker.
pub const EVIDENCE_PER_TRACKER_MAX: usize = 32;
/// Disputed tasks described in full for each job.
pub const DISPUTES_PER_JOB_MAX: usize = 256;
/// An attempt's memory, in bytes: the least.
pub const ATTEMPT_MEMORY_MIN: u64 = 16 << 20;
/// An attempt's memory, in bytes: the default.
pub const ATTEMPT_MEMORY_DEFAULT: u64 = 256 << 20;
/// What is kept of an attempt's standard error, in bytes.
pub const LOG_BYTES_MAX: u64 = 1 << 20;
