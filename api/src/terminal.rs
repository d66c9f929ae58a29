//! What is written for people: in colour where a terminal shows it and nobody objects, as wide as the terminal is, and never
//! a panic because a reader went away.

use crate::{
    exit::Failure,
    progress::{self, Shown},
    table,
};
use anstream::{ColorChoice, stderr, stdout};
use clap::{
    Args,
    builder::styling::{AnsiColor, Color, Style},
};
use std::{
    borrow::Cow,
    io::{self, ErrorKind, Write},
};

/// Bad news.
pub(crate) const BAD: Style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Red)));
/// What precedes a cause or hint, and the headings of tables.
pub(crate) const LABEL: Style = Style::new().bold();
/// What should be looked at.
pub(crate) const DOUBTFUL: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
/// Good news.
pub(crate) const GOOD: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How output looks: options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct Appearance {
    /// When to use colours; `auto` does on a terminal unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true, env = "QUORATE_COLOR")]
    pub color: When,
    /// How the progress of long work is shown; `auto` is a bar on a terminal and lines elsewhere
    #[arg(long, value_name = "HOW", value_enum, default_value_t, global = true, env = "QUORATE_PROGRESS")]
    pub progress: Shown,
}

impl Appearance {
    /// From now on output looks so.
    pub fn apply(&self) {
        set_colour(self.color);
        progress::show(self.progress);
    }
}

pub(crate) fn set_colour(when: When) {
    match when {
        When::Auto => ColorChoice::Auto,
        When::Always => ColorChoice::Always,
        When::Never => ColorChoice::Never,
    }
    .write_global();
}

/// Writes to standard output. A reader that has gone away has seen enough: that is no error.
///
/// # Errors
/// When it cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<(), Failure> {
    written(stdout().write_all(text.as_bytes())).map(drop)
}

/// The same for bytes that are nobody's text: they are written as they are. Says whether anybody still reads.
///
/// # Errors
/// As [`print()`].
pub fn print_bytes(bytes: &[u8]) -> Result<bool, Failure> {
    written(io::stdout().write_all(bytes))
}

fn written(outcome: io::Result<()>) -> Result<bool, Failure> {
    match outcome.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::io("cannot write", "standard output", &error)),
        Ok(()) => Ok(true),
    }
}

/// Writes a table to standard output, the first row its heading: as wide as the terminal is, and in colour.
///
/// # Errors
/// As [`print()`].
pub fn print_table(rows: &[Vec<String>]) -> Result<(), Failure> {
    print(&table::text(rows, width(), true))
}

/// Writes a line to standard error. Nobody is left to tell when that is closed.
pub fn note(line: &str) {
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes a warning to standard error.
pub fn warn(text: &str) {
    note(&format!("{DOUBTFUL}warning{DOUBTFUL:#}: {}", visible(text)));
}

/// How many characters a line of standard output has room for; `None` where that is no terminal.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// A text from elsewhere, of which nothing can command a terminal: control characters but line ends and tabs are spelled out.
pub fn visible(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let spell = |c: char| if commands(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(spell).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(visible("plain\ttext\n"), Cow::Borrowed("plain\ttext\n"));
        assert_eq!(visible("\x1b]0;title\x07"), "\\u{1b}]0;title\\u{7}");
    }
}
