//! A TPM in software, in a process of its own: for tests and trials.
//!
//! Its state is a directory. Ending the process is a power cut; putting an older copy of the directory back is what no chip can do, and why
//! a virtual TPM is as trustworthy as whoever holds its state.

use crate::{chip::Chip, error::TpmError, tcti::Tcti};
use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PROGRAM: &str = "swtpm";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a TPM starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With all PCRs empty.
    Clear,
    /// Where `TPM2_Shutdown(STATE)` left it.
    State,
}

/// A running TPM in software. Dropping it ends it.
#[derive(Debug)]
pub struct Swtpm {
    folder: TempDir,
    process: Option<Child>,
}

/// Whether there is a swtpm to start. Where there must be one, in continuous integration (`CI` is set), its absence is a failure.
///
/// # Panics
/// When it is missing and `CI` is set.
pub fn installed() -> bool {
    let found = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let installed = found.is_ok_and(|status| status.success());
    assert!(installed || env::var_os("CI").is_none(), "swtpm is missing: install the package swtpm");
    if !installed {
        // Not `eprintln!`: a test that passes would swallow it.
        let _ = writeln!(io::stderr(), "skipped: swtpm is not installed");
    }
    installed
}

impl Swtpm {
    /// Starts a new one.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> io::Result<Self> {
        let folder = TempDir::with_prefix("swtpm-")?;
        fs::create_dir(folder.path().join("state"))?;
        let mut swtpm = Self { folder, process: None };
        swtpm.power_on(Start::Clear)?;
        Ok(swtpm)
    }

    /// Where it is.
    pub fn tcti(&self) -> Tcti {
        Tcti::SwtpmPath(self.socket())
    }

    /// The directory of its state.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn chip(&self) -> Result<Chip, TpmError> {
        Chip::open(&self.tcti())
    }

    /// Cuts its power.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn power_off(&mut self) -> io::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not start, or runs.
    pub fn power_on(&mut self, start: Start) -> io::Result<()> {
        if self.process.is_some() {
            return Err(io::Error::other("it runs"));
        }
        let control = self.folder.path().join("control");
        for left in [&control, &self.socket()] {
            match fs::remove_file(left) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        let flags = match start {
            Start::Clear => "not-need-init,startup-clear",
            Start::State => "not-need-init,startup-state",
        };
        let process = Command::new(PROGRAM)
            .args(["socket", "--tpm2", "--flags", flags])
            .args(["--tpmstate", &format!("dir={}", self.state().display())])
            .args(["--ctrl", &format!("type=unixio,path={}", control.display())])
            .args(["--server", &format!("type=unixio,path={}", self.socket().display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.said())?)
            .spawn()?;
        self.process = Some(process);
        self.wait()
    }

    fn wait(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.chip().and_then(|mut chip| chip.property(0x105)) {
                Ok(_) => return Ok(()),
                // It runs, and refused to start as it was told.
                Err(error) if error.code() == Some(0x100) => {
                    self.power_off()?;
                    return Err(io::Error::other(error));
                }
                Err(_) => {}
            }
            if let Some(status) = self.process.as_mut().map(Child::try_wait).transpose()?.flatten() {
                self.process = None;
                let said = fs::read_to_string(self.said())?;
                return Err(io::Error::other(format!("swtpm ended: {status}: {said}")));
            }
            if Instant::now() > deadline {
                self.power_off()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Cuts the power, and starts it again with all PCRs empty.
    ///
    /// # Errors
    /// When it does not start.
    pub fn reboot(&mut self) -> io::Result<()> {
        self.power_off()?;
        self.power_on(Start::Clear)
    }

    /// Copies its state to a new directory, as whoever holds it can.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn copy_state(&self) -> io::Result<TempDir> {
        let copy = TempDir::new()?;
        copy_files(&self.state(), copy.path())?;
        Ok(copy)
    }

    /// Puts a copy of the state back. It must be off.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn put_back(&self, copy: &Path) -> io::Result<()> {
        copy_files(copy, &self.state())
    }

    fn said(&self) -> PathBuf {
        self.folder.path().join("said")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != ".lock" {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // The process is ours and is ended; there is nothing to do when it has ended before.
        let _ = self.power_off();
    }
}
