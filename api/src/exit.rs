//! The exit codes of job programs and of the `quorate` command, and the errors that lead to them.

use std::{fmt, path::PathBuf, process::ExitCode};

/// How a program ended. The numbers are part of the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done = 0,
    /// 1: the job failed: its program did, no quorum of votes was reached, or it was killed.
    JobFailed = 1,
    /// 2: the command line makes no sense.
    Usage = 2,
    /// 3: an input is missing or unreadable, or the output exists already.
    Path = 3,
    /// 4: no cluster answers, or it refuses: too few domains, another machine's program.
    Cluster = 4,
    /// 5: this machine is in trouble: disk full, no memory.
    Machine = 5,
    /// 6: a certificate does not hold, or what it is compared with is not what it certifies.
    Refused = 6,
    /// 7: `check-determinism` found that the program does not give the same each time.
    Differs = 7,
    /// 130: interrupted by the user.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What ends a command: one sentence, a hint where there is one, and the exit code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something could not be read or written on this machine: the exit code depends on why.
    pub fn io(what: impl fmt::Display, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        let path = path.into();
        let failure = Self::new(io_exit(error), format!("{what} {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::StorageFull => {
                failure.hint("free some space and run it again; nothing half-written is left")
            }
            std::io::ErrorKind::NotFound => {
                failure.hint("check the spelling; a relative path starts at the current folder")
            }
            _ => failure,
        }
    }
}

/// Which exit code an I/O error of a user's path means.
fn io_exit(error: &std::io::Error) -> Exit {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory => Exit::Machine,
        _ => Exit::Path,
    }
}

/// Prints what ended a command, and gives its exit code: the one place where errors meet the user.
pub fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}
