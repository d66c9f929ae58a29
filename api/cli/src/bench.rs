//! `quorate bench`: another program's subcommands, in the manner of cargo and git.
//!
//! The benchmarks stand above this command in the stair, so it cannot link them: it runs the program `quorate-bench` that
//! stands beside it, or else on the path, with the same arguments.

use clap::Args;
use quorate::exit::{Code, Failure};
use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The program with the benchmarks.
const PROGRAM: &str = "quorate-bench";

/// `quorate bench`.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// A benchmark and its options; `quorate bench --help` lists them
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes the program with the benchmarks. Returns only when that cannot be.
pub(crate) fn run(bench: &Bench) -> Failure {
    let program = env::current_exe().ok().and_then(|own| beside(&own)).unwrap_or_else(|| PROGRAM.into());
    let error = Command::new(&program).args(&bench.arguments).exec();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Code::NoBenchmarks,
            format!("there is no program {PROGRAM} beside this one, nor on the path: benchmarks are built apart"),
        ),
        _ => Failure::io("cannot run", program, &error),
    }
}

/// The program in the same folder as this one, if it is there.
fn beside(own: &Path) -> Option<PathBuf> {
    let program = own.with_file_name(PROGRAM);
    program.is_file().then_some(program)
}
