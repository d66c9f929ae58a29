//! The child's side: runs the one task that its tracker sends, and ends.

use crate::frame::{self, FromHost, OUTPUT_BYTES_MAX, ToHost};
use quorate_engine::program::{
    FetchedSegment, InputSource, LocalBytes, MapTask, Program, ReduceTask, TaskError, Watch,
};
use std::{
    io::{self, Write},
    ops::Range,
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

/// How often the child says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

type Writer = Arc<Mutex<UnixStream>>;

/// Runs the task host: reads one task from standard input, a socket to the tracker, and answers with its product.
///
/// Returns the exit code for `main`. When the tracker goes away, the process ends at once.
pub fn run(program: &dyn Program) -> ExitCode {
    match serve(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the task host lost its tracker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(program: &dyn Program) -> io::Result<()> {
    let socket = take_stdin()?;
    let mut reader = socket.try_clone()?;
    let writer: Writer = Arc::new(Mutex::new(socket));
    let Some(first) = frame::read::<ToHost>(&mut reader)? else { return Ok(()) };
    let (chunks, inbox) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(Some(ToHost::Chunk(chunk))) = frame::read::<ToHost>(&mut reader) {
            if chunks.send(chunk).is_err() {
                return;
            }
        }
        // The tracker is gone, or speaks nonsense: nobody wants this task any more.
        std::process::exit(1);
    });
    let watch = Arc::new(Watch::default());
    report_progress(Arc::clone(&writer), Arc::clone(&watch));
    let answer = match first {
        ToHost::Map { task, chunk_lengths, directory } => {
            let mut input = RemoteInput { chunk_lengths, writer: Arc::clone(&writer), inbox };
            map(program, &task, &mut input, &directory, &watch)
        }
        ToHost::Reduce { task, segments, directory } => {
            let mut output = RemoteOutput { writer: Arc::clone(&writer), buffer: Vec::with_capacity(OUTPUT_BYTES_MAX) };
            reduce(program, &task, &segments, &mut output, &directory, &watch)
        }
        ToHost::Chunk(_) => FromHost::Machine("the tracker began with a chunk".to_owned()),
    };
    send(&writer, &answer)
}

/// Takes the socket from standard input and leaves the null device there, so that user code cannot read it.
fn take_stdin() -> io::Result<UnixStream> {
    let socket = rustix::io::dup(rustix::stdio::stdin())?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}

fn send(writer: &Writer, frame: &FromHost) -> io::Result<()> {
    let mut socket = writer.lock().unwrap_or_else(PoisonError::into_inner);
    frame::write(&mut *socket, frame)
}

fn report_progress(writer: Writer, watch: Arc<Watch>) {
    thread::spawn(move || {
        let mut last = 0;
        loop {
            thread::sleep(PROGRESS_EVERY);
            let units = watch.units();
            if units != last && send(&writer, &FromHost::Progress(units)).is_err() {
                return;
            }
            last = units;
        }
    });
}

fn map(program: &dyn Program, task: &MapTask, input: &mut RemoteInput, directory: &Path, watch: &Watch) -> FromHost {
    match program.map(task, input, directory, watch) {
        Ok(product) => FromHost::Mapped(product),
        Err(error) => failure(error),
    }
}

fn reduce(
    program: &dyn Program,
    task: &ReduceTask,
    segments: &[LocalBytes],
    output: &mut RemoteOutput,
    directory: &Path,
    watch: &Watch,
) -> FromHost {
    let segments: Vec<FetchedSegment> = segments.iter().cloned().map(FetchedSegment::from).collect();
    let reduced = program.reduce(task, &segments, output, directory, watch);
    match reduced.and_then(|product| {
        output.flush().map_err(|error| TaskError::machine("sending the output", error))?;
        Ok(product)
    }) {
        Ok(product) => FromHost::Reduced(product),
        Err(error) => failure(error),
    }
}

fn failure(error: TaskError) -> FromHost {
    match error {
        TaskError::Program { kind, record, message } => {
            eprintln!("{message}");
            FromHost::Failed { kind, record, message: shorten(message) }
        }
        TaskError::Cancelled => FromHost::Machine("cancelled".to_owned()),
        TaskError::Machine { what, .. } => FromHost::Machine(shorten(what)),
    }
}

/// Cuts a message to what a report may carry.
fn shorten(mut text: String) -> String {
    let mut end = text.len().min(quorate_protocol::limits::TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

struct RemoteInput {
    chunk_lengths: Vec<u32>,
    writer: Writer,
    inbox: mpsc::Receiver<Result<LocalBytes, String>>,
}

impl RemoteInput {
    fn ask(&self, wanted: &FromHost) -> io::Result<LocalBytes> {
        send(&self.writer, wanted)?;
        let bytes = self.inbox.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        bytes.map_err(io::Error::other)
    }
}

impl InputSource for RemoteInput {
    fn chunk_lengths(&self) -> &[u32] {
        &self.chunk_lengths
    }
    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
        self.ask(&FromHost::WantChunk(index as u64))
    }
    fn part(&mut self, index: usize, part: Range<u64>) -> io::Result<LocalBytes> {
        self.ask(&FromHost::WantPart { chunk: index as u64, part: (part.start, part.end) })
    }
}

struct RemoteOutput {
    writer: Writer,
    buffer: Vec<u8>,
}

impl Write for RemoteOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(OUTPUT_BYTES_MAX - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == OUTPUT_BYTES_MAX {
            self.flush()?;
        }
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.buffer, Vec::with_capacity(OUTPUT_BYTES_MAX));
        send(&self.writer, &FromHost::Output(block))
    }
}
