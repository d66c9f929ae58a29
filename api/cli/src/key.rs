//! `quorate key`: the secret keys of members and clients, which are files, and their public halves, which stand in the
//! cluster's configuration.

use clap::Subcommand;
use quorate::{
    exit::{Code, Failure},
    terminal::print,
};
use quorate_protocol::sign::SecretKey;
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a secret key that only this user may read, and prints its public half.
    New {
        /// The file to make; it must not exist.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Prints the public half of a secret key, as it stands in the cluster's configuration.
    Show {
        /// The file with the secret key.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    let key = match command {
        Command::New { file } => make(file)?,
        Command::Show { file } => read(file)?,
    };
    print(&format!("{}\n", key.public()))
}

fn make(file: &Path) -> Result<SecretKey, Failure> {
    let key = SecretKey::generate().map_err(|error| Failure::new(Code::System, "no randomness").caused_by(&error))?;
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = made.and_then(|mut made| made.write_all(key.to_hex().as_bytes()));
    written.map_err(|error| Failure::io("cannot make the key", file, &error))?;
    Ok(key)
}

fn read(file: &Path) -> Result<SecretKey, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::io("cannot read", file, &error))?;
    let key = SecretKey::from_hex(&text);
    key.ok_or_else(|| {
        Failure::new(Code::BadKeyFile, format!("{} holds no key of 64 hexadecimal digits", file.display()))
    })
}
