//! What tolerating liars costs: word count and terasort with f = 0, 1 and 2 on the same input, each on an embedded cluster
//! of five trackers, through real attempts, votes, shuffle and chunk store.
//!
//! ```text
//! cargo run --release -p quorate-bench --bin overhead -- --size 256MiB
//! ```
//!
//! The jobs are those of the examples, with the options that the examples have by default. Every run has a cluster of its
//! own, rounds go through f upward and downward in turn, and all outputs of a job must be equal byte for byte.

use clap::{Parser, ValueEnum};
use quorate::{
    App, LocalCluster, NoArgs,
    amounts::{parse_bytes, show_bytes},
    exit::{Exit, Failure, report},
    succeeded,
};
use quorate_bench::{
    figures::{Measurement, Summary, summarise, table},
    text::Text,
};
use quorate_protocol::{
    digest::Digest,
    file::Path as ClusterPath,
    job::{Partitioning, Specification, split_bytes_default},
    query::JobView,
};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../../../examples/src/bin/terasort/main.rs"]
mod terasort;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../../../examples/src/bin/wordcount.rs"]
mod wordcount;

use terasort::generate::{KEY, Layout, RECORD, write_records};

/// How often a job's state is asked for.
const POLL: Duration = Duration::from_millis(20);
const TRACKERS: u32 = 5;
const SEED: u64 = 2026;
/// Memory of an attempt.
const MEMORY: u64 = 256 << 20;
const TIMEOUT_MS: u64 = 30_000;
/// Keys that the cuts between terasort's partitions are taken from.
const SAMPLES: u64 = 10_000;

/// Tells what tolerating liars costs: runs word count and terasort with f = 0, 1 and 2 on the same made-up input, and
/// prints wall time, CPU time and shuffled bytes, with ratios to f = 0.
#[derive(Parser)]
#[command(name = "overhead", version = quorate::VERSION, after_help = AFTER_HELP)]
struct Options {
    /// Input of each job, such as 256MiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    size: u64,
    /// Runs of each job with each f; the medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Jobs to run
    #[arg(long, value_name = "JOBS", value_enum, value_delimiter = ',', default_value = "wordcount,terasort")]
    jobs: Vec<Kind>,
    /// Values of f. One alone is handy under a profiler
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "0,1,2",
        value_parser = clap::value_parser!(u32).range(..i64::from(TRACKERS)))]
    f: Vec<u32>,
    /// Writes all measurements to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keeps the table, with machine, date and command, in bench/results
    #[arg(long)]
    keep: bool,
}

const AFTER_HELP: &str = "\
Wall time runs from submitting a job until its client knows that it has ended; CPU time is that of the whole process, with
all five trackers and the job tracker. Storing the input is told apart. Temporary files ($TMPDIR) take about 8 times the
size. Let the machine be quiet, and quote ratios from one run: absolute times drift.";

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// Counts the words of a text with Zipf's frequencies
    Wordcount,
    /// Sorts records of the sort benchmark
    Terasort,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Wordcount => "wordcount",
            Kind::Terasort => "terasort",
        }
    }
}

/// Made input of one job.
struct Input {
    kind: Kind,
    path: PathBuf,
    bytes: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    report(run(&options))
}

fn run(options: &Options) -> Result<(), Failure> {
    let machine = |what: &str, error: io::Error| Failure::new(Exit::Machine, format!("cannot {what}: {error}"));
    let runtime = tokio::runtime::Runtime::new().map_err(|e| machine("start", e))?;
    let folder = tempfile::Builder::new().prefix("quorate-overhead-").tempdir();
    let folder = folder.map_err(|e| machine("make a temporary folder", e))?;
    let mut measurements = Vec::new();
    for kind in &options.jobs {
        let input = make_input(*kind, options.size, folder.path())?;
        for round in 1..=options.runs {
            let mut fs = options.f.clone();
            if round % 2 == 0 {
                fs.reverse();
            }
            for f in fs {
                let one = runtime.block_on(measure(&input, f))?;
                eprintln!("{} f={f} {round}/{}: {:.2} s", one.job, options.runs, one.wall_s);
                check_output(&measurements, &one)?;
                measurements.push(one);
            }
        }
    }
    let summaries = summarise(&measurements);
    let told = table(&summaries);
    print!("{told}");
    if let Some(path) = &options.json {
        write_json(path, options, &measurements, &summaries)?;
    }
    if options.keep { keep(options, &told) } else { Ok(()) }
}

fn make_input(kind: Kind, size: u64, folder: &Path) -> Result<Input, Failure> {
    let path = folder.join(kind.name());
    let written = File::create_new(&path).map_err(quorate::Error::from).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        match kind {
            Kind::Wordcount => Text::new(SEED).write(size, &mut out)?,
            Kind::Terasort => write_records(Layout::Ascii, 0, size / RECORD as u64, &mut out)?,
        }
        Ok(out.flush()?)
    });
    written.map_err(|e| Failure::new(Exit::Machine, format!("cannot make the input {}: {e}", path.display())))?;
    let bytes = path.metadata().map_err(|e| Failure::io("cannot read", &path, &e))?.len();
    if bytes == 0 {
        return Err(Failure::usage("--size leaves no input"));
    }
    Ok(Input { kind, path, bytes })
}

/// Runs the job once, on a cluster of its own.
async fn measure(input: &Input, f: u32) -> Result<Measurement, Failure> {
    let app = App::named("overhead")
        .job(Kind::Wordcount.name(), |_: &NoArgs| wordcount::job())
        .job(Kind::Terasort.name(), |_: &NoArgs| terasort::job());
    let cluster = LocalCluster::builder(app).trackers(TRACKERS).f(f).start().await?;
    let outcome = tokio::select! {
        outcome = measure_on(&cluster, input, f) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    cluster.stop().await;
    outcome
}

async fn measure_on(cluster: &LocalCluster, input: &Input, f: u32) -> Result<Measurement, Failure> {
    let start = Instant::now();
    cluster.put_file(&input.path, "/input").await?;
    let upload_s = start.elapsed().as_secs_f64();
    let specification = specification(cluster, input)?;
    // What was written before is not the job's: it would share the disk with it.
    rustix::fs::sync();
    let (start, cpu) = (Instant::now(), cpu_s());
    let view = run_job(cluster, specification).await?;
    let (wall_s, cpu_s) = (start.elapsed().as_secs_f64(), cpu_s() - cpu);
    succeeded(&view)?;
    let tasks = view.summary.maps.1 + view.summary.reduces.1;
    Ok(Measurement {
        job: input.kind.name().to_owned(),
        f,
        upload_s,
        wall_s,
        cpu_s,
        attempts_per_task: view.attempts as f64 / f64::from(tasks),
        shuffled: view.cost.shuffled,
        refetched: view.cost.refetched,
        output: output_digest(cluster, input, &view.output).await?.to_string(),
    })
}

fn specification(cluster: &LocalCluster, input: &Input) -> Result<Specification, Failure> {
    let mut specification = cluster.specification(input.kind.name(), "null", &["/input"], "/output")?;
    specification.split_bytes = split_bytes_default(input.bytes);
    specification.partitions = TRACKERS;
    specification.memory = MEMORY;
    specification.progress_timeout_ms = TIMEOUT_MS;
    if input.kind == Kind::Terasort {
        let cuts = cuts(input, specification.partitions).map_err(|e| Failure::io("cannot read", &input.path, &e))?;
        specification.partitioning = Partitioning::Ranges(cuts);
    }
    Ok(specification)
}

/// The lowest keys of all partitions but the first, from evenly spaced records.
fn cuts(input: &Input, partitions: u32) -> io::Result<Vec<Vec<u8>>> {
    let (file, records) = (File::open(&input.path)?, input.bytes / RECORD as u64);
    let count = SAMPLES.min(records);
    let mut keys = Vec::new();
    for n in 0..count {
        let mut key = vec![0; KEY];
        file.read_exact_at(&mut key, n * records / count * RECORD as u64)?;
        keys.push(key);
    }
    keys.sort_unstable();
    Ok((1..partitions).map(|n| keys[keys.len() * n as usize / partitions as usize].clone()).collect())
}

async fn run_job(cluster: &LocalCluster, specification: Specification) -> Result<JobView, Failure> {
    let job = cluster.submit(specification).await?;
    loop {
        let view = cluster.client().job(job).await?;
        if view.summary.state.is_ended() {
            return Ok(view);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// CPU seconds of this process so far, of all its threads.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The digest of all parts' names and bytes, as they are read from the cluster.
async fn output_digest(cluster: &LocalCluster, input: &Input, output: &ClusterPath) -> Result<Digest, Failure> {
    let (mut parts, mut length) = (Vec::new(), 0);
    for (path, _) in cluster.client().files(output).await? {
        let bytes = cluster.read(path.as_str()).await?;
        length += bytes.len() as u64;
        parts.extend_from_slice(format!("{path} {} {}\n", bytes.len(), Digest::of(&bytes)).as_bytes());
    }
    // Equal outputs that are wrong in length would say nothing.
    let complete = match input.kind {
        Kind::Wordcount => length > 0,
        Kind::Terasort => length == input.bytes,
    };
    if !complete {
        let message = format!("{} gave {length} bytes of {}", input.kind.name(), input.bytes);
        return Err(Failure::new(Exit::JobFailed, message));
    }
    Ok(Digest::of(&parts))
}

/// Whatever f is, a job's output is the same.
fn check_output(earlier: &[Measurement], one: &Measurement) -> Result<(), Failure> {
    match earlier.iter().find(|other| other.job == one.job && other.output != one.output) {
        None => Ok(()),
        Some(other) => Err(Failure::new(
            Exit::JobFailed,
            format!("{} gave {} with f = {} and {} with f = {}", one.job, other.output, other.f, one.output, one.f),
        )),
    }
}

fn write_json(path: &Path, options: &Options, runs: &[Measurement], summaries: &[Summary]) -> Result<(), Failure> {
    let all = serde_json::json!({ "size": options.size, "seed": SEED, "runs": runs, "summaries": summaries });
    std::fs::write(path, format!("{all:#}\n")).map_err(|e| Failure::io("cannot write", path, &e))
}

/// Writes the table to the results that are kept in the repository.
fn keep(options: &Options, table: &str) -> Result<(), Failure> {
    let date = said("date", &["-u", "+%Y-%m-%d"]);
    let command: Vec<String> = std::env::args().skip(1).collect();
    let text = format!(
        "# Overhead of tolerating liars, {date}\n\n\
         Input of {} for each job, {} runs, medians, {TRACKERS} trackers in one process.\n\n{table}\n\
         * Machine: {}, {} cores\n* Revision: {}\n* Command: `cargo run --release -p quorate-bench --bin overhead -- {}`\n",
        show_bytes(options.size),
        options.runs,
        said("sh", &["-c", "uname -sm; grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        said("git", &["describe", "--always", "--dirty"]),
        command.join(" "),
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let path = folder.join(format!("{date}-overhead.md"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
    written.map_err(|e| Failure::io("cannot write", &path, &e))?;
    eprintln!("kept in {}", path.display());
    Ok(())
}

/// What a program of this machine prints, in one line.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() { "unknown".to_owned() } else { words.join(" ") }
}
