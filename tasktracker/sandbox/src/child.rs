//! The tracker's side: one child process for each attempt.

use crate::{
    HOST_VARIABLE,
    frame::{self, FromHost, ToHost},
    launch::{Launch, NOT_STARTED},
};
use quorate_engine::program::{
    FetchedSegment, InputSource, LocalBytes, MapProduct, MapTask, Program, ReduceProduct, ReduceTask, TaskError, Watch,
};
use quorate_protocol::{limits, vote::FailureKind};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::{
    fs::File,
    io::{self, PipeReader, Read, Write},
    os::unix::{
        net::UnixStream,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often a waiting tracker looks whether the attempt was cancelled.
const CANCEL_CHECK_EVERY: Duration = Duration::from_millis(100);
/// How often, every 10 ms, a child that closed its socket is looked after before it is killed.
const EXIT_LOOKS: u32 = 100;
/// Makes the command line of a process that carries out a [`Launch`].
pub type Launcher = fn(&Launch) -> Command;

/// A job's program, run in a child process for each task.
#[derive(Clone, Debug)]
pub struct Child {
    /// The command that becomes the program once it is shut in.
    launcher: Launcher,
    executable: PathBuf,
    /// What the child writes to standard output and error goes here.
    log: PathBuf,
    /// What its tasks may read besides their own folder.
    readable: Vec<PathBuf>,
    /// What its environment has besides what every task finds there.
    environment: Vec<(String, String)>,
}

impl Child {
    /// A program from its executable file. One attempt's messages go to `log`; it may read its own folder and what is in
    /// `readable`.
    pub fn new(launcher: Launcher, executable: PathBuf, log: PathBuf, readable: Vec<PathBuf>) -> Self {
        Self { launcher, executable, log, readable, environment: Vec::new() }
    }

    /// With more in its environment, or something else in place of what every task finds there. No tracker does that: it is
    /// for who wants to know what depends on it.
    #[must_use]
    pub fn with_environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment = environment;
        self
    }
}

impl Program for Child {
    fn takes_memory(&self) -> bool {
        false
    }

    fn map(
        &self,
        task: &MapTask,
        input: &mut dyn InputSource,
        directory: &Path,
        watch: &Watch,
    ) -> Result<MapProduct, TaskError> {
        let mut running = Running::start(self, directory, task.context.memory)?;
        let chunk_lengths = input.chunk_lengths().to_vec();
        running.send(&ToHost::Map { task: task.clone(), chunk_lengths, directory: directory.to_owned() }, watch)?;
        loop {
            match running.next(watch)? {
                FromHost::WantChunk(index) => {
                    let chunk = usize::try_from(index).map_err(io::Error::other).and_then(|index| input.chunk(index));
                    running.give(chunk, watch)?;
                }
                FromHost::WantPart { chunk, part: (start, end) } => {
                    let index = usize::try_from(chunk).map_err(io::Error::other);
                    running.give(index.and_then(|index| input.part(index, start..end)), watch)?;
                }
                FromHost::Mapped(product) => return check_product(product, task, directory),
                FromHost::Progress(units) => catch_up(watch, units),
                FromHost::Failed { kind, record, message } => return Err(TaskError::Program { kind, record, message }),
                FromHost::Machine(what) => return Err(TaskError::machine("in the task host", io::Error::other(what))),
                FromHost::Output(_) | FromHost::Reduced(_) => return Err(nonsense()),
            }
        }
    }

    fn reduce(
        &self,
        task: &ReduceTask,
        segments: &[FetchedSegment],
        output: &mut dyn Write,
        directory: &Path,
        watch: &Watch,
    ) -> Result<ReduceProduct, TaskError> {
        let mut running = Running::start(self, directory, task.context.memory)?;
        let segments = segments.iter().map(in_file).collect::<Result<_, _>>()?;
        let directory = directory.to_owned();
        running.send(&ToHost::Reduce { task: task.clone(), segments, directory }, watch)?;
        loop {
            match running.next(watch)? {
                FromHost::Output(block) => {
                    output.write_all(&block).map_err(|error| TaskError::machine("storing the output", error))?;
                }
                FromHost::Reduced(product) => return Ok(product),
                FromHost::Progress(units) => catch_up(watch, units),
                FromHost::Failed { kind, record, message } => return Err(TaskError::Program { kind, record, message }),
                FromHost::Machine(what) => return Err(TaskError::machine("in the task host", io::Error::other(what))),
                FromHost::WantChunk(_) | FromHost::WantPart { .. } | FromHost::Mapped(_) => return Err(nonsense()),
            }
        }
    }
}

/// What a child can read.
fn in_file(segment: &FetchedSegment) -> Result<LocalBytes, TaskError> {
    match segment {
        FetchedSegment::File(bytes) => Ok(bytes.clone()),
        // An empty one is nowhere.
        FetchedSegment::Memory(bytes) if bytes.is_empty() => {
            Ok(LocalBytes { path: "/dev/null".into(), offset: 0, length: 0 })
        }
        FetchedSegment::Memory(_) => {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a child process reads segments from files");
            Err(TaskError::machine("handing over a segment", error))
        }
    }
}

/// The child counts its own work; the tracker's watch follows.
fn catch_up(watch: &Watch, units: u64) {
    watch.advance(units.saturating_sub(watch.units()));
}

/// User code could have sent it: the program is at fault.
fn nonsense() -> TaskError {
    TaskError::Program {
        kind: FailureKind::Died,
        record: None,
        message: "the task host sent a frame that does not fit its task".to_owned(),
    }
}

/// Checks a product before the tracker trusts its numbers: it comes from a process that runs user code.
fn check_product(product: MapProduct, task: &MapTask, directory: &Path) -> Result<MapProduct, TaskError> {
    let inside = product.data.parent() == Some(directory);
    let metadata = std::fs::symlink_metadata(&product.data);
    let length = metadata.as_ref().map_or(0, |data| if data.is_file() { data.len() } else { 0 });
    let mut end = 0u64;
    let contiguous = product.spans.iter().all(|span| {
        let fits = span.offset == end;
        end = end.saturating_add(span.length);
        fits
    });
    let right = inside && contiguous && end == length && product.spans.len() == task.context.partitions as usize;
    if right { Ok(product) } else { Err(nonsense()) }
}

/// A running child. Dropping it kills its process group and waits for it.
struct Running {
    process: process::Child,
    socket: UnixStream,
    log: Option<JoinHandle<()>>,
    reaped: bool,
}

impl Running {
    fn start(program: &Child, directory: &Path, memory: u64) -> Result<Self, TaskError> {
        let what = || format!("starting {}", program.executable.display());
        Self::spawn(program, directory, memory).map_err(|error| TaskError::machine(what(), error))
    }

    fn spawn(program: &Child, directory: &Path, memory: u64) -> io::Result<Self> {
        let log = File::create(&program.log)?;
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(CANCEL_CHECK_EVERY))?;
        socket.set_write_timeout(Some(CANCEL_CHECK_EVERY))?;
        let (messages, out) = io::pipe()?;
        let launch = Launch {
            program: program.executable.clone(),
            memory,
            writable: directory.to_owned(),
            readable: program.readable.clone(),
        };
        let mut command = (program.launcher)(&launch);
        command
            .env_clear()
            .env(HOST_VARIABLE, "1")
            .env("TMPDIR", directory)
            .env("LC_ALL", "C")
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(out.try_clone()?)
            .stderr(out);
        let process = command.spawn()?;
        // The command holds the write ends of the pipe: without it, the log ends with the child.
        drop(command);
        let log = thread::Builder::new().name("task-log".into()).spawn(move || keep_log(messages, log))?;
        Ok(Self { process, socket, log: Some(log), reaped: false })
    }

    fn send(&mut self, frame: &ToHost, watch: &Watch) -> Result<(), TaskError> {
        let mut patient = Patient { socket: &self.socket, watch };
        match frame::write(&mut patient, frame) {
            Ok(()) => Ok(()),
            Err(_) if watch.check().is_err() => Err(TaskError::Cancelled),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.died()),
            Err(error) => Err(TaskError::machine("speaking to the task host", error)),
        }
    }

    /// Gives the child a piece of its input; when it cannot be had, that is the end.
    fn give(&mut self, bytes: io::Result<LocalBytes>, watch: &Watch) -> Result<(), TaskError> {
        let error = bytes.as_ref().err().map(|error| io::Error::new(error.kind(), error.to_string()));
        self.send(&ToHost::Chunk(bytes.map_err(|error| error.to_string())), watch)?;
        error.map_or(Ok(()), |error| Err(TaskError::machine("reading the input", error)))
    }

    fn next(&mut self, watch: &Watch) -> Result<FromHost, TaskError> {
        watch.check()?;
        let mut patient = Patient { socket: &self.socket, watch };
        match frame::read(&mut patient) {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(self.died()),
            Err(_) if watch.check().is_err() => Err(TaskError::Cancelled),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(nonsense()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(self.died()),
            Err(error) => Err(TaskError::machine("listening to the task host", error)),
        }
    }

    /// The child closed its socket without an answer.
    fn died(&mut self) -> TaskError {
        self.await_exit();
        let how = match self.end() {
            Ok(status) => match status.signal() {
                // Nothing in the program does this to itself by accident: the machine, or its operator, did.
                Some(signal @ (9 | 15)) => {
                    let what = format!("signal {signal} ended the task's process, perhaps for lack of memory");
                    return TaskError::machine("running the task", io::Error::other(what));
                }
                Some(signal) => format!("was ended by signal {signal}"),
                None if status.code() == Some(NOT_STARTED.into()) => {
                    let what = "its program could not be started; the job's log says why";
                    return TaskError::machine("running the task", io::Error::other(what));
                }
                None => format!("ended with {status}"),
            },
            Err(error) => format!("is gone: {error}"),
        };
        let message = format!("the task's process {how} without an answer; its messages are in the job's log");
        TaskError::Program { kind: FailureKind::Died, record: None, message }
    }

    /// Gives a child that closed its socket a moment to end by itself, so that its own exit status can be told.
    fn await_exit(&self) {
        let id = WaitId::Pid(rustix::process::Pid::from_child(&self.process));
        for _ in 0..EXIT_LOOKS {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            if !matches!(rustix::process::waitid(id.clone(), options), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills what is left of the child and its own children, and reaps it.
    fn end(&mut self) -> io::Result<process::ExitStatus> {
        if !self.reaped {
            // Until it is reaped its number, and so its group's, is nobody else's.
            let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(&self.process), Signal::KILL);
            self.reaped = true;
        }
        self.process.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
        // A process that escaped the group may hold the log open for ever: then the log goes on without us.
        for _ in 0..EXIT_LOOKS {
            match &self.log {
                Some(log) if !log.is_finished() => thread::sleep(Duration::from_millis(10)),
                Some(_) | None => break,
            }
        }
    }
}

/// Copies the child's messages to the log up to its bound, and drops the rest so that the child never blocks.
fn keep_log(mut messages: PipeReader, mut log: File) {
    let _ = io::copy(&mut (&mut messages).take(limits::LOG_BYTES_MAX), &mut log);
    let _ = io::copy(&mut messages, &mut io::sink());
}

/// A socket whose timeouts are used to look whether the attempt was cancelled.
struct Patient<'a> {
    socket: &'a UnixStream,
    watch: &'a Watch,
}

impl Patient<'_> {
    /// Tries until it works, fails for another reason than time, or the attempt is cancelled.
    fn retry(&self, mut once: impl FnMut(&UnixStream) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match once(self.socket) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.watch.check().is_err() {
                        return Err(io::Error::other("cancelled"));
                    }
                }
                other => return other,
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(|mut socket| socket.read(buffer))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|mut socket| socket.write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
