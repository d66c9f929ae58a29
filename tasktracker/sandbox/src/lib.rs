//! User code in a child process.
//!
//! A tracker does not trust the code that it runs. [`Child`] is a [`Program`](quorate_engine::program::Program) whose
//! every task runs in a process of its own, started from the job's binary: with limits on memory, open files and core
//! dumps, an empty environment, its own process group and a scratch folder as its working directory; it is killed when the
//! attempt is cancelled, when the tracker stops, and (since its socket closes) when the tracker dies. What it writes to
//! standard output and error goes to the attempt's log, up to a bound.
//!
//! Before the job's program runs, a launcher ([`launch`]) takes the limits and shuts the process in ([`wall`]): it may read
//! its task's inputs and the system's libraries, write in its own folder, and use no TCP. So user code cannot read the
//! tracker's key, whatever its `main` does.
//!
//! Parent and child speak frames ([`frame`]) over one Unix socket, the child's standard input. [`host::run`] is the
//! child's side.

pub mod child;
pub mod frame;
pub mod host;
pub mod launch;
pub mod wall;

pub use child::Child;
pub use launch::Launch;

/// Set in the environment of a task host, so that a job's `main` knows what it is.
pub const HOST_VARIABLE: &str = "QUORATE_TASK_HOST";
