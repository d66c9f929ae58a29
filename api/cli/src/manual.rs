//! `quorate completions` and `quorate man`: made from the command line's own definitions, so that they are never out of date.

use clap::{Args, Command};
use clap_complete::Shell;
use quorate::{
    exit::Failure,
    terminal::{note, print_bytes},
};
use std::{fs, path::PathBuf};

/// Prints a script that completes this command's options in a shell.
///
/// For bash: `quorate completions bash > ~/.local/share/bash-completion/completions/quorate`. For zsh, into a folder of
/// $fpath as `_quorate`; for fish, into ~/.config/fish/completions/quorate.fish.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes a man page for each subcommand into a folder.
///
/// `quorate man ~/.local/share/man/man1` puts them where `man quorate` finds them.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Where to; it is made when it is not there.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub(crate) fn completions(options: &Completions, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "quorate", &mut script);
    print_bytes(&script).map(drop)
}

pub(crate) fn pages(options: &Man, command: Command) -> Result<(), Failure> {
    let folder = &options.folder;
    fs::create_dir_all(folder).map_err(|error| Failure::io("cannot make the folder", folder, &error))?;
    clap_mangen::generate_to(command, folder)
        .map_err(|error| Failure::io("cannot write pages into", folder, &error))?;
    note(&format!("the pages are in {}", folder.display()));
    Ok(())
}
