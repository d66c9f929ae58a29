//! User code in a child process.
//!
//! A tracker does not trust the code that it runs. [`Child`] is a [`Program`](quorate_engine::program::Program) whose
//! every task runs in a process of its own, started from the job's binary: with limits on memory, open files and core
//! dumps, an empty environment, its own process group and a scratch folder as its working directory; it is killed when the
//! attempt is cancelled, when the tracker stops, and (since its socket closes) when the tracker dies. What it writes to
//! standard output and error goes to the attempt's log, up to a bound.
//!
//! The limits keep a runaway program from taking the machine down. They are no wall against code that attacks the
//! tracker's user: run trackers under a user of their own.
//!
//! Parent and child speak frames ([`frame`]) over one Unix socket, the child's standard input. [`host::run`] is the
//! child's side.

pub mod child;
pub mod frame;
pub mod host;

pub use child::Child;

/// Set in the environment of a task host, so that a job's `main` knows what it is.
pub const HOST_VARIABLE: &str = "QUORATE_TASK_HOST";
