//! The error that user code returns: any error at all, or a sentence.

use quorate_engine::program::TaskError;
use std::{fmt, result};

/// What went wrong in a mapper, reducer, driver or tool.
///
/// `?` makes one from every error; [`Error::new`] makes one from a sentence.
///
/// ```
/// use quorate::{Error, Result};
///
/// fn port(text: &str) -> Result<u16> {
///     let port: u16 = text.parse()?;
///     if port < 1024 { Err(Error::new(format!("port {port} is reserved"))) } else { Ok(port) }
/// }
/// assert_eq!(port("x").unwrap_err().to_string(), "invalid digit found in string");
/// assert_eq!(port("80").unwrap_err().to_string(), "port 80 is reserved");
/// ```
pub struct Error(Box<dyn std::error::Error + Send + Sync>);

/// What user code returns.
pub type Result<T, E = Error> = result::Result<T, E>;

impl Error {
    /// An error that is a sentence.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string().into())
    }

    /// The error that it was made from, when it was made from an `E`.
    pub fn downcast<E: std::error::Error + 'static>(self) -> result::Result<E, Self> {
        self.0.downcast::<E>().map(|error| *error).map_err(Self)
    }

    /// The message with those of its causes, most general first.
    pub fn chain(&self) -> String {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let more = error.to_string();
            // Some messages quote their cause already.
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }
}

/// A task's own error passes through user code unchanged, so that a full disk is not taken for a bug of the program.
pub(crate) fn into_task_error(error: Error) -> result::Result<TaskError, Error> {
    error.downcast::<TaskError>()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}
