//! A job that tries what user code must not: to read a tracker's key, to write outside its folder, to use the network.

use quorate::prelude::*;
use std::{fs, io, net::TcpStream, path::PathBuf, process::ExitCode};

#[derive(clap::Args, serde::Serialize, serde::Deserialize)]
struct Targets {
    /// A secret file.
    #[arg(long)]
    secret: PathBuf,
    /// A file to write.
    #[arg(long)]
    forbidden: PathBuf,
    /// Something that listens.
    #[arg(long)]
    address: String,
}

struct Spy {
    attempts: [(&'static str, io::Result<()>); 4],
}

impl Spy {
    fn new(targets: &Targets) -> Self {
        Self {
            attempts: [
                ("read", fs::read(&targets.secret).map(|_| ())),
                ("write", fs::write(&targets.forbidden, b"spied")),
                ("connect", TcpStream::connect(&targets.address).map(|_| ())),
                ("write-own", fs::write("note", b"fine")),
            ],
        }
    }
}

impl Mapper for Spy {
    type Input = Lines;
    type Key = str;
    type Value = String;
    fn map(&mut self, _: &[u8], out: &mut Emitter<'_, str, String>) -> Result<()> {
        for (what, result) in &self.attempts {
            let shown = match result {
                Ok(()) => "worked".to_owned(),
                Err(error) => format!("{:?}", error.kind()),
            };
            println!("{what}: {shown}");
            out.emit(what, &shown)?;
        }
        Ok(())
    }
}

struct Tell;
impl Reducer for Tell {
    type Key = str;
    type Value = String;
    type Output = TextLines;
    fn reduce(&mut self, what: &str, mut seen: Values<'_, String>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        seen.try_for_each(|shown| out.write(what, &shown))
    }
}

fn main() -> ExitCode {
    quorate::main(App::new("spy", |targets: &Targets| {
        let targets = Targets {
            secret: targets.secret.clone(),
            forbidden: targets.forbidden.clone(),
            address: targets.address.clone(),
        };
        Job::new(move || Spy::new(&targets), || Tell)
    }))
}
