//! `quorate check-determinism`: a job program's own subcommand of that name.

use clap::Args;
use quorate::exit::Failure;
use std::{ffi::OsString, os::unix::process::CommandExt, path::PathBuf, process::Command};

/// Runs tasks of a job program again and again on this machine, and tells what it does not give the same each time
///
/// It is the subcommand `check-determinism` that every job program has. The exit code is 7 when anything differs.
#[derive(Args)]
pub(crate) struct CheckDeterminism {
    /// The job's program
    program: PathBuf,
    /// Its options, such as `--input`; `PROGRAM check-determinism --help` lists them
    #[arg(last = true)]
    options: Vec<OsString>,
}

/// Becomes the program. Returns only when that failed.
pub(crate) fn run(options: &CheckDeterminism) -> Failure {
    let error = Command::new(&options.program).arg("check-determinism").args(&options.options).exec();
    Failure::io("cannot start", &options.program, &error)
        .hint("name the job's own program, as in `quorate check-determinism target/release/wordcount -- --input books`")
}
