//! Finds the lines that match a regular expression.
//!
//! ```text
//! cargo run --release -p quorate-examples --bin grep -- --input api/src -e 'fn \w+' --output /tmp/found
//! ```
//!
//! The output has a line `FILE<TAB>LINE` for each match. The lines of one file stay in their order: values of one key
//! come in the order of the input.

use quorate::prelude::*;
use regex::bytes::{Regex, RegexBuilder};
use std::{io::Write, process::ExitCode};

/// What to look for.
#[derive(Clone, clap::Args, serde::Serialize, serde::Deserialize)]
pub(crate) struct GrepArgs {
    /// The regular expression, in the syntax of the `regex` crate.
    #[arg(short = 'e', long = "regexp", value_name = "PATTERN")]
    pub(crate) pattern: String,
    /// Upper and lower case are alike.
    #[arg(short, long)]
    pub(crate) ignore_case: bool,
}

/// Keeps the lines that match, under the name of their file.
pub(crate) struct Matching {
    pattern: Regex,
    file: String,
}

impl Mapper for Matching {
    type Input = Lines;
    type Key = str;
    type Value = [u8];

    fn setup(&mut self, task: &MapContext<'_>) -> Result<()> {
        self.file = task.path().to_owned();
        Ok(())
    }

    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, str, [u8]>) -> Result<()> {
        out.count("lines", 1);
        if self.pattern.is_match(line) {
            out.count("matches", 1);
            out.emit(&self.file, line)?;
        }
        Ok(())
    }
}

/// Writes the lines as they come.
pub(crate) struct Print;

impl Reducer for Print {
    type Key = str;
    type Value = [u8];
    type Output = TextLines;

    fn reduce(&mut self, file: &str, mut lines: Values<'_, [u8]>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        while let Some(line) = lines.next_ref() {
            out.write(file, line)?;
        }
        Ok(())
    }
}

pub(crate) fn job(args: &GrepArgs) -> Result<Job<Matching, Print>> {
    let pattern = RegexBuilder::new(&args.pattern).case_insensitive(args.ignore_case).build()?;
    Ok(Job::new(move || Matching { pattern: pattern.clone(), file: String::new() }, || Print))
}

fn main() -> ExitCode {
    quorate::main(App::new("grep", job).about("Finds the lines that match a regular expression").summary(
        |results: &Results<'_>, out: &mut dyn Write| {
            let counter = |name: &str| results.counters().get(name).copied().unwrap_or(0);
            writeln!(out, "{} of {} lines match", counter("matches"), counter("lines"))?;
            Ok(())
        },
    ))
}
