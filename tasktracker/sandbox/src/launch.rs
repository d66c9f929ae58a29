//! The launcher: a step between a tracker and a job's program that the program has no say in.
//!
//! A job's binary is its author's, so it cannot be relied upon to shut itself in. The tracker starts *itself* in the role of
//! the launcher, which takes the limits and puts up the wall and only then becomes the program: what was given up before
//! the exec stays given up after it.

use crate::wall;
use landlock::RulesetStatus;
use rustix::process::{Resource, Rlimit};
use std::{io, os::unix::process::CommandExt, path::PathBuf, process::Command, thread, time::Duration};

/// The launcher's exit code when the program could not be started. The tracker declines the task then.
pub const NOT_STARTED: u8 = 125;
/// Address space beyond the attempt's own memory, in bytes: code, stacks, allocator arenas.
const ADDRESS_SPACE_EXTRA: u64 = 4 << 30;
/// Open files: merge inputs above all.
const OPEN_FILES_MAX: u64 = 4096;
/// How often, every 10 ms, a program file is tried again that another thread's fork holds open for writing.
const BUSY_RETRIES: u32 = 50;

/// What is to be launched, and with what.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The job's program.
    pub program: PathBuf,
    /// Memory of the attempt in bytes.
    pub memory: u64,
    /// The attempt's folder.
    pub writable: PathBuf,
    /// What else it may read.
    pub readable: Vec<PathBuf>,
}

impl Launch {
    /// Takes the limits, puts up the wall, and becomes the program. Returns only when that failed.
    pub fn run(mut self) -> io::Error {
        self.readable.push(self.program.clone());
        match self.shut_in() {
            Ok(()) => self.exec(),
            Err(error) => error,
        }
    }

    fn shut_in(&self) -> io::Result<()> {
        let space = self.memory.saturating_mul(2).saturating_add(ADDRESS_SPACE_EXTRA);
        for (resource, most) in [(Resource::As, space), (Resource::Core, 0), (Resource::Nofile, OPEN_FILES_MAX)] {
            let most = rustix::process::getrlimit(resource).maximum.map_or(most, |now| most.min(now));
            rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        }
        match wall::put_up(&self.readable, &self.writable).map_err(io::Error::other)? {
            RulesetStatus::FullyEnforced => {}
            RulesetStatus::PartiallyEnforced => {
                eprintln!("this kernel's Landlock is old: the task is not fully shut in")
            }
            RulesetStatus::NotEnforced => eprintln!("this kernel has no Landlock: the task is not shut in"),
        }
        Ok(())
    }

    fn exec(&self) -> io::Error {
        let mut retries = 0;
        loop {
            let error = Command::new(&self.program).exec();
            if error.kind() != io::ErrorKind::ExecutableFileBusy || retries == BUSY_RETRIES {
                return error;
            }
            retries += 1;
            thread::sleep(Duration::from_millis(10));
        }
    }
}
