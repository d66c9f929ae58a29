//! A job that goes wrong in the way that its arguments say, in a task or on the client.

use quorate::prelude::*;
use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(clap::Args, serde::Serialize, serde::Deserialize)]
struct How {
    /// What the mapper does at its second record: error, panic, exit, dice, sleep.
    #[arg(long, default_value = "nothing")]
    mapper: String,
    /// What happens on the client: refuse, driver.
    #[arg(long, default_value = "nothing")]
    client: String,
}

struct Mishap(String);

impl Mapper for Mishap {
    type Input = Lines;
    type Key = [u8];
    type Value = u64;
    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
        let mut value = 1;
        if line == b"now" {
            match self.0.as_str() {
                "error" => return Err(Error::new("the fuse is wet")),
                "panic" => panic!("the bomb went off"),
                "exit" => std::process::exit(3),
                "dice" => value = now(),
                // Until somebody ends the process.
                "sleep" => loop {
                    std::thread::park();
                },
                _ => {}
            }
        }
        Ok(out.emit(line, &value)?)
    }
}

/// Nanoseconds since the epoch: nothing that a job may know.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

struct Sum;

impl Reducer for Sum {
    type Key = [u8];
    type Value = u64;
    type Output = TextLines;
    fn reduce(&mut self, key: &[u8], values: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        out.write(key, &values.sum::<u64>())
    }
}

fn main() -> ExitCode {
    quorate::main(
        App::named("mishap")
            .job("main", |how: &How| {
                if how.client == "refuse" {
                    return Err(Error::new("--client refuse is refused"));
                }
                let mapper = how.mapper.clone();
                Ok(Job::new(move || Mishap(mapper.clone()), || Sum))
            })
            .driver(|driver, how: &How| {
                if how.client == "driver" {
                    return Err(Error::new("the driver lost its way"));
                }
                let inputs = driver.inputs().to_vec();
                driver.last("main", &inputs)
            }),
    )
}
