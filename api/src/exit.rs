//! The exit codes of job programs and of the `quorate` command, and the errors that lead to them.

mod code;

pub use code::{Code, UnknownCode};

use crate::terminal::{self, BAD, LABEL, visible};
use clap::builder::styling::Style;
use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    path::PathBuf,
    process::ExitCode,
};

/// How a program ended. The numbers are part of the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done = 0,
    /// 1: the job failed: its program did, no quorum of votes was reached, or it was killed.
    JobFailed = 1,
    /// 2: the command line, the settings or a configuration make no sense.
    Usage = 2,
    /// 3: an input is missing or unreadable, or the output exists already.
    Path = 3,
    /// 4: no cluster answers, or it refuses: too few domains, another machine's program.
    Cluster = 4,
    /// 5: this machine is in trouble: disk full, no memory.
    Machine = 5,
    /// 6: what was checked does not hold: a certificate, or that something is what it certifies.
    Refused = 6,
    /// 7: `check-determinism` found that the program does not give the same each time.
    Differs = 7,
    /// 130: interrupted by the user.
    Interrupted = 130,
}

/// The exit codes as every `--help` tells them.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the job failed; 2 wrong usage; 3 input missing or output exists; 4 no cluster, or it refuses;
5 this machine is in trouble, such as a full disk; 6 what was checked does not hold; 7 check-determinism found a
difference; 130 interrupted. Errors have codes, as in error[Q0301]: `quorate errors Q0301` tells more of one.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What ends a command: its code, one sentence, what lies behind it, and what to do about it.
///
/// ```
/// use quorate::exit::{Code, Exit, Failure};
///
/// let failure = Failure::new(Code::NoSuchJob, "job-99 does not exist").cause("the cluster has seen 3 jobs");
/// assert_eq!(failure.exit(), Exit::Path);
/// assert_eq!(
///     failure.to_string(),
///     "error[Q0310]: job-99 does not exist\n  cause: the cluster has seen 3 jobs\n  hint: `quorate job list` shows the jobs"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Which error it is.
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// What lies behind it, the nearest first.
    pub causes: Vec<String>,
    /// What to do about it, where the code's own remedy does not fit best.
    pub hint: Option<String>,
}

impl Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::new(), Style::new()))
    }
}

impl Failure {
    /// A failure with no cause, and with the code's own remedy as its hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// What an error says, with what lies behind it.
    pub fn of(code: Code, error: &(impl Error + ?Sized)) -> Self {
        let failure = Self::new(code, error.to_string());
        match error.source() {
            Some(source) => failure.caused_by(source),
            None => failure,
        }
    }

    /// The same with a cause.
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// The same with an error, and what lies behind that, as causes. What was said already is not said again.
    pub fn caused_by(mut self, error: &(impl Error + ?Sized)) -> Self {
        self.add(error.to_string());
        let mut source = error.source();
        while let Some(error) = source {
            self.add(error.to_string());
            source = error.source();
        }
        self
    }

    fn add(&mut self, cause: String) {
        // Some messages quote their cause.
        let said = std::iter::once(&self.message).chain(&self.causes).any(|said| said.contains(&cause));
        if !said {
            self.causes.push(cause);
        }
    }

    /// The same with a hint that fits better than the code's remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A value on the command line cannot be used.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::BadValue, message)
    }

    /// Something could not be read or written on this machine: the code depends on why.
    pub fn io(what: impl fmt::Display, path: impl Into<PathBuf>, error: &io::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Code::PermissionDenied,
            ErrorKind::AlreadyExists => Code::Exists,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
            ErrorKind::OutOfMemory => Code::System,
            _ => Code::PathTrouble,
        };
        Self::new(code, format!("{what} {}", path.into().display())).caused_by(error)
    }

    /// The exit code of a program that ends with it.
    pub fn exit(&self) -> Exit {
        self.code.exit()
    }

    /// The text for people. Much of it may come from elsewhere, so nothing in it can command a terminal.
    fn render(&self, error: Style, label: Style) -> String {
        let mut text = format!("{error}error[{}]{error:#}: {}", self.code, visible(&self.message));
        for cause in &self.causes {
            // A cause can be another program's whole error.
            let cause = visible(cause).replace('\n', "\n    ");
            text.push_str(&format!("\n  {label}cause:{label:#} {cause}"));
        }
        let hint = self.hint.as_deref().unwrap_or(self.code.remedy());
        text.push_str(&format!("\n  {label}hint:{label:#} {}", visible(hint)));
        text
    }
}

/// Prints what ended a command, and gives its exit code: the one place where errors meet the user.
pub fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            terminal::note(&failure.render(BAD, LABEL));
            failure.exit().into()
        }
    }
}

/// Prints what the command line's parser has to say, help and version included, and gives the exit code.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind as Kind;
    if !error.use_stderr() || error.kind() == Kind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nobody is left to tell when the output is closed.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
    }
    let text = error.render().ansi().to_string();
    terminal::note(text.replacen("error:", &format!("error[{}]:", Code::CommandLine), 1).trim_end());
    Exit::Usage.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_io_error_gives_the_code() {
        let code = |kind: ErrorKind| Failure::io("cannot read", "/x", &kind.into()).code;
        assert_eq!(code(ErrorKind::NotFound), Code::NotFound);
        assert_eq!(code(ErrorKind::PermissionDenied), Code::PermissionDenied);
        assert_eq!(code(ErrorKind::StorageFull), Code::DiskFull);
        assert_eq!(code(ErrorKind::IsADirectory), Code::PathTrouble);
    }

    #[test]
    fn causes_are_told_once_and_nothing_commands_the_terminal() {
        let error = io::Error::other("inner");
        let failure = Failure::new(Code::System, "outer: inner").caused_by(&error).cause("\x1b[2Jgone");
        assert_eq!(failure.causes, ["\x1b[2Jgone"]);
        assert!(failure.to_string().contains("cause: \\u{1b}[2Jgone"), "{failure}");
    }
}
