//! The command line of a job program.
//!
//! A program has its job's own arguments, the options here, and a few subcommands: `submit` sends the job to a running
//! cluster, and tools of its own that need none.

use crate::{
    amounts::{parse_bytes, parse_duration},
    exit::{Code, EXIT_CODES, Failure},
    settings::Section,
    terminal::Appearance,
};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use quorate_liars::Kind;
use quorate_protocol::{ids::TrackerId, limits};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Options of a job, wherever it runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Job")]
pub struct JobOptions {
    /// Reduce tasks, each of which writes one part file [default: one for each tracker, at least 2]
    #[arg(long, value_name = "N", env = "QUORATE_JOB_REDUCERS")]
    pub reducers: Option<u32>,
    /// How many trackers may lie about one task. Every task runs on f+1 trackers, and on up to 2f+1 when they disagree; 0
    /// runs it once and believes the answer
    #[arg(long, value_name = "N", default_value_t = 1, env = "QUORATE_JOB_F")]
    pub f: u32,
    /// Memory of one attempt, such as 64MiB; at least 16MiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes, env = "QUORATE_JOB_MEMORY")]
    pub memory: u64,
    /// Input for one map task, such as 4MiB [default: a sixteenth of the input, 256KiB to 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, env = "QUORATE_JOB_SPLIT")]
    pub split: Option<u64>,
    /// An attempt without progress for so long is joined by another, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, env = "QUORATE_JOB_TIMEOUT")]
    pub timeout: Duration,
}

/// Options of an embedded cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Embedded cluster")]
pub(crate) struct LocalOptions {
    /// Input files and folders of this machine. Files whose names begin with a dot are left out of folders
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Job")]
    pub(crate) input: Vec<PathBuf>,
    /// The folder to make for the output; it must not exist [default: a new one for temporary files]
    #[arg(long, value_name = "DIR", help_heading = "Job")]
    pub(crate) output: Option<PathBuf>,
    /// Task trackers to start, each a failure domain of its own
    #[arg(long, value_name = "N", default_value_t = 5, env = "QUORATE_EMBEDDED_TRACKERS")]
    pub(crate) trackers: u32,
    /// Lets a tracker lie, as in 2=corrupt-map, or `none`; may be repeated. `--help` lists the kinds
    #[arg(long, value_name = "[N=]KIND", long_help = liar_help())]
    pub(crate) liar: Vec<String>,
    /// Keeps the cluster's files in this folder, to look at them afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Shows the cluster's pages in a browser, here or on a free port, and keeps the cluster after the job until Ctrl-C
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:0", env = "QUORATE_EMBEDDED_UI")]
    pub(crate) ui: Option<SocketAddr>,
}

/// Options of a running cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct SubmitOptions {
    /// Input files and folders in the cluster's file system (`quorate fs put` copies them there)
    #[arg(long, value_name = "PATH", num_args = 1.., required = true, help_heading = "Job")]
    pub(crate) input: Vec<String>,
    /// The folder to make for the output in the cluster's file system; it must not exist
    #[arg(long, value_name = "DIR", required = true, help_heading = "Job")]
    pub(crate) output: String,
    /// The running cluster's folder [default: where `quorate cluster up` puts it]
    #[arg(long, value_name = "FOLDER", env = "QUORATE_CLUSTER")]
    pub(crate) cluster: Option<PathBuf>,
    /// Does not wait for the job to end
    #[arg(long)]
    pub(crate) detach: bool,
}

/// Options of looking whether the program is deterministic.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Check")]
pub(crate) struct CheckOptions {
    /// Input files and folders of this machine
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Job")]
    pub(crate) input: Vec<PathBuf>,
    /// Times that each task runs with nothing changed on purpose; it runs some times more with one thing changed
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) runs: u32,
    /// Map tasks that are run, spread over the input; all reduce tasks are, over what these give
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tasks: u32,
    /// Prints JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a program's command line asks for.
pub(crate) enum Mode {
    /// Look whether the job is deterministic.
    Check(JobOptions, CheckOptions, ArgMatches),
    /// Run the job on an embedded cluster.
    Local(JobOptions, LocalOptions, ArgMatches),
    /// Run it on a running one.
    Submit(JobOptions, SubmitOptions, ArgMatches),
    /// Run one of the program's tools.
    Tool(String, ArgMatches),
}

/// Builds the command line. `arguments` adds the job's own.
pub(crate) fn command(
    name: &'static str,
    about: &'static str,
    verb: Option<&'static str>,
    arguments: impl Fn(Command) -> Command,
    tools: Vec<Command>,
) -> Command {
    let job = |command: Command| JobOptions::augment_args(arguments(command));
    // Set last: an argument struct brings its own text along.
    let about_is = |command: Command, about: &'static str| command.about(about).long_about(about);
    let submit = Command::new("submit").after_help(format!("{BEFORE_SUBMIT}\n\n{EXIT_CODES}"));
    let submit = about_is(SubmitOptions::augment_args(job(submit)), SUBMIT_ABOUT);
    let check = Command::new(CHECK).after_help(format!("{AFTER_CHECK}\n\n{EXIT_CODES}"));
    let check = about_is(CheckOptions::augment_args(job(check)), CHECK_ABOUT);
    let root = Command::new(name).after_help(EXIT_CODES).version(crate::VERSION);
    let root = Appearance::augment_args(root);
    let root = match verb {
        Some(verb) => {
            let local = Command::new(verb).after_help(EXIT_CODES);
            root.subcommand(about_is(LocalOptions::augment_args(job(local)), about))
                .subcommand_required(true)
                .arg_required_else_help(true)
        }
        None => {
            LocalOptions::augment_args(job(root)).args_conflicts_with_subcommands(true).subcommand_negates_reqs(true)
        }
    };
    about_is(root, about).subcommand(submit).subcommand(check).subcommands(tools)
}

/// The subcommand's name.
const CHECK: &str = "check-determinism";

const CHECK_ABOUT: &str =
    "Runs tasks of the job again and again here, and tells what they do not give the same each time";

const AFTER_CHECK: &str = "\
Each attempt is a process of its own, as on a tracker. Some change one thing that may differ between trackers: the
environment, the folder, the host's name, the number of processors, whether tasks share a process. The exit code is 7 when
anything differs. That nothing differs proves nothing: a program may look at the clock once a day.";

const SUBMIT_ABOUT: &str = "Runs the job on a running cluster instead of an embedded one";

const BEFORE_SUBMIT: &str =
    "Start a cluster with `quorate cluster up`, and copy the input into it with `quorate fs put`.";

/// The tables of settings that a job program knows.
pub(crate) fn sections() -> Vec<Section> {
    let top = SubmitOptions::augment_args(Appearance::augment_args(Command::new("")));
    [Section::of("", &top)].into_iter().chain(job_sections()).collect()
}

/// The tables of settings that all job programs have.
pub fn job_sections() -> [Section; 2] {
    let none = || Command::new("");
    [
        Section::of("job", &JobOptions::augment_args(none())),
        Section::of("embedded", &LocalOptions::augment_args(none())),
    ]
}

/// Reads what the command line asked for.
pub(crate) fn mode(verb: Option<&str>, mut matches: ArgMatches) -> Result<Mode, clap::Error> {
    match matches.remove_subcommand() {
        Some((name, matches)) if name == "submit" => Ok(Mode::Submit(
            JobOptions::from_arg_matches(&matches)?,
            SubmitOptions::from_arg_matches(&matches)?,
            matches,
        )),
        Some((name, matches)) if name == CHECK => {
            Ok(Mode::Check(JobOptions::from_arg_matches(&matches)?, CheckOptions::from_arg_matches(&matches)?, matches))
        }
        Some((name, matches)) if Some(name.as_str()) != verb => Ok(Mode::Tool(name, matches)),
        Some((_, matches)) => {
            Ok(Mode::Local(JobOptions::from_arg_matches(&matches)?, LocalOptions::from_arg_matches(&matches)?, matches))
        }
        None => {
            Ok(Mode::Local(JobOptions::from_arg_matches(&matches)?, LocalOptions::from_arg_matches(&matches)?, matches))
        }
    }
}

impl JobOptions {
    /// Checks what can be checked before anything is started.
    ///
    /// # Errors
    /// A usage failure that says which option is out of bounds.
    pub fn check(&self) -> Result<(), Failure> {
        if self.f > limits::JOB_F_MAX {
            return Err(Failure::usage(format!("--f is {}, and at most {} is possible", self.f, limits::JOB_F_MAX)));
        }
        if self.memory < limits::ATTEMPT_MEMORY_MIN {
            let least = limits::ATTEMPT_MEMORY_MIN >> 20;
            return Err(Failure::usage(format!(
                "--memory is {} bytes, and an attempt needs at least {least} MiB",
                self.memory
            )));
        }
        if self.split == Some(0) {
            return Err(Failure::usage("--split is 0, and a map task needs at least one byte"));
        }
        if self.timeout < Duration::from_millis(100) {
            return Err(Failure::usage("--timeout is below 100ms: every attempt would be overdue"));
        }
        match self.reducers {
            Some(n) if n == 0 || n > limits::PARTITIONS_MAX => {
                Err(Failure::usage(format!("--reducers is {n}, and must lie between 1 and {}", limits::PARTITIONS_MAX)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl LocalOptions {
    /// Checks what can be checked before anything is started.
    pub(crate) fn check(&self, f: u32) -> Result<(), Failure> {
        const TRACKERS_MAX: u32 = 64;
        if self.trackers == 0 || self.trackers > TRACKERS_MAX {
            let message =
                format!("--trackers is {}, and an embedded cluster has between 1 and {TRACKERS_MAX}", self.trackers);
            return Err(Failure::usage(message));
        }
        let needed = 2 * f + 1;
        if self.trackers < needed {
            let message = format!("f = {f} needs {needed} trackers (2f+1), and there are {}", self.trackers);
            return Err(
                Failure::new(Code::TooFewTrackers, message).hint(format!("use --trackers {needed}, or a smaller --f"))
            );
        }
        Ok(())
    }
}

fn liar_help() -> String {
    format!(
        "Lets a tracker lie, to watch it being outvoted: 2=corrupt-map makes tracker 2 a liar. Without a number it is \
         tracker {LIAR_DEFAULT}. May be repeated; `none` lets nobody lie. The kinds:\n{}",
        liar_kinds()
    )
}

/// The kinds of liars, a line for each, for a help text.
pub fn liar_kinds() -> String {
    let line = |kind: &Kind| format!("  {:<20} {}", kind.name(), kind.summary());
    Kind::ALL.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The tracker that lies when only a lie is named.
const LIAR_DEFAULT: u32 = 2;

/// Reads `2=corrupt-map`, `corrupt-map` or `none`.
///
/// # Errors
/// A usage failure that names the lies there are, or the trackers.
pub fn parse_liars(texts: &[String], trackers: u32) -> Result<Vec<(TrackerId, Kind)>, Failure> {
    let mut liars: Vec<(TrackerId, Kind)> = Vec::new();
    for text in texts.iter().filter(|text| *text != "none") {
        let (tracker, kind) = match text.split_once('=') {
            Some((tracker, kind)) => (tracker.parse().ok(), kind),
            None => (Some(TrackerId::new(LIAR_DEFAULT.min(trackers.saturating_sub(1)))), text.as_str()),
        };
        let kind: Kind = kind.parse().map_err(|_| unknown_liar(kind))?;
        let tracker = tracker.filter(|id| id.number() < trackers).ok_or_else(|| {
            let message = format!("--liar {text} names no tracker of this cluster");
            Failure::new(Code::NoSuchLiar, message)
                .hint(format!("the trackers are 0 to {}", trackers.saturating_sub(1)))
        })?;
        if liars.iter().any(|(other, _)| *other == tracker) {
            let message = format!("--liar names {tracker} twice, and a tracker tells one lie");
            return Err(Failure::new(Code::NoSuchLiar, message));
        }
        liars.push((tracker, kind));
    }
    Ok(liars)
}

fn unknown_liar(kind: &str) -> Failure {
    let kinds: Vec<String> = Kind::ALL.iter().map(ToString::to_string).collect();
    let message = format!("{kind:?} is no kind of liar");
    Failure::new(Code::NoSuchLiar, message).hint(format!("there are {}, and none", kinds.join(", ")))
}
