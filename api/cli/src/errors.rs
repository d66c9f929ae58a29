//! `quorate errors`: what the codes of errors mean, and what to do.

use clap::Args;
use quorate::{
    exit::{Code, Failure},
    terminal::{print, print_table},
};

/// Lists the codes of errors, or tells what one means and what to do about it.
#[derive(Args, Debug)]
pub(crate) struct Errors {
    /// Which, as in Q0301 [default: a list of all]
    code: Option<Code>,
}

pub(crate) fn run(options: &Errors) -> Result<(), Failure> {
    let Some(code) = options.code else { return print_table(&list()) };
    let (title, exit) = (code.title(), code.exit() as u8);
    print(&format!("{code}: {title}\nExit code: {exit}\n\n{}\n\nWhat to do: {}.\n", code.meaning(), code.remedy()))
}

fn list() -> Vec<Vec<String>> {
    let heading = ["CODE", "EXIT", "MEANING"].map(str::to_owned).to_vec();
    let row = |code: &Code| vec![code.to_string(), (code.exit() as u8).to_string(), code.title().to_owned()];
    std::iter::once(heading).chain(Code::ALL.iter().map(row)).collect()
}
