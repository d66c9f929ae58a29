//! A program: its jobs, and how its command line looks.

use crate::{
    driver::Driver,
    error::{Error, Result},
    job::{AnyJob, IntoJob},
    results::Results,
};
use clap::{ArgMatches, Command};
use quorate_engine::program::{
    FetchedSegment, InputSource, MapProduct, MapTask, Program, ReduceProduct, ReduceTask, TaskContext, TaskError, Watch,
};
use quorate_protocol::vote::FailureKind;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The entry of a program that has one job.
pub const MAIN_JOB: &str = "main";

/// A job's arguments: read from the command line, and given to every task as JSON.
pub trait Arguments: clap::Args + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<A: clap::Args + Serialize + DeserializeOwned + Send + Sync + 'static> Arguments for A {}

/// The arguments of a job that has none.
#[derive(Clone, Copy, Debug, Default, clap::Args, serde::Serialize, serde::Deserialize)]
pub struct NoArgs {}

type JobFn<A> = Box<dyn Fn(&A) -> Result<AnyJob> + Send + Sync>;
type DriverFn<A> = Box<dyn Fn(&mut Driver<'_>, &A) -> Result<()> + Send + Sync>;
type SampleFn = Box<dyn Fn(&Path) -> Result<Vec<PathBuf>> + Send + Sync>;
type SummaryFn = Box<dyn Fn(&Results<'_>, &mut dyn Write) -> Result<()> + Send + Sync>;
type ToolFn = Box<dyn Fn(&ArgMatches) -> Result<()> + Send + Sync>;

/// A program's tool: a subcommand that needs no cluster.
pub(crate) struct Tool {
    pub(crate) command: Command,
    pub(crate) run: ToolFn,
}

/// A program, ready for [`quorate::main`](crate::main).
pub struct App<A> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) verb: Option<&'static str>,
    jobs: Vec<(&'static str, JobFn<A>)>,
    pub(crate) driver: Option<DriverFn<A>>,
    pub(crate) sample: Option<SampleFn>,
    pub(crate) liar: Option<&'static str>,
    pub(crate) summary: Option<SummaryFn>,
    pub(crate) tools: Vec<Tool>,
}

impl<A: Arguments> App<A> {
    /// A program with one job. The closure makes it from the arguments, on the client and in every task: for the same
    /// arguments it must make the same job.
    pub fn new<J: IntoJob>(name: &'static str, job: impl Fn(&A) -> J + Send + Sync + 'static) -> Self {
        Self::named(name).job(MAIN_JOB, job)
    }

    /// A program without jobs yet.
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            about: "A Quorate job",
            verb: None,
            jobs: Vec::new(),
            driver: None,
            sample: None,
            liar: None,
            summary: None,
            tools: Vec::new(),
        }
    }

    /// Adds a job under a name, for a [`driver`](App::driver) to run.
    #[must_use]
    pub fn job<J: IntoJob>(mut self, name: &'static str, job: impl Fn(&A) -> J + Send + Sync + 'static) -> Self {
        self.jobs.push((name, Box::new(move |args| job(args).into_job())));
        self
    }

    /// Says which jobs run, in which order and on what. Without a driver, the first job runs on the input.
    #[must_use]
    pub fn driver(mut self, driver: impl Fn(&mut Driver<'_>, &A) -> Result<()> + Send + Sync + 'static) -> Self {
        self.driver = Some(Box::new(driver));
        self
    }

    /// What `--help` says first.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Runs the job under a subcommand of this name instead of without one.
    #[must_use]
    pub fn verb(mut self, verb: &'static str) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Makes input files in a temporary folder when none are named, so that the program can be tried.
    #[must_use]
    pub fn sample_input(mut self, make: impl Fn(&Path) -> Result<Vec<PathBuf>> + Send + Sync + 'static) -> Self {
        self.sample = Some(Box::new(make));
        self
    }

    /// Lets a tracker of the embedded cluster lie unless `--liar` says otherwise, as in `2=corrupt-map`. For
    /// demonstrations.
    #[must_use]
    pub fn default_liar(mut self, liar: &'static str) -> Self {
        self.liar = Some(liar);
        self
    }

    /// Prints what the user wants to see of the output first.
    #[must_use]
    pub fn summary(
        mut self,
        print: impl Fn(&Results<'_>, &mut dyn Write) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.summary = Some(Box::new(print));
        self
    }

    /// Adds a subcommand that runs here, without a cluster.
    #[must_use]
    pub fn tool<T: clap::Args + 'static>(
        mut self,
        name: &'static str,
        about: &'static str,
        run: impl Fn(&T) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let command = T::augment_args(Command::new(name)).about(about).long_about(about);
        self.tools.push(Tool { command, run: Box::new(move |matches| run(&T::from_arg_matches(matches)?)) });
        self
    }

    /// The program's jobs as a tracker runs them.
    pub fn into_program(self) -> Arc<dyn Program> {
        Arc::new(ProgramOf::new(Arc::new(self)))
    }
}

/// Makes jobs of their names and arguments.
pub(crate) trait JobSource: Send + Sync {
    /// The job of this name.
    fn build(&self, entry: &str, arguments: &str) -> Result<AnyJob>;
    /// The name of the first job.
    fn first(&self) -> Result<&str>;
}

impl<A: Arguments> JobSource for App<A> {
    fn build(&self, entry: &str, arguments: &str) -> Result<AnyJob> {
        let found = self.jobs.iter().find(|(name, _)| *name == entry);
        let (_, job) = found.ok_or_else(|| Error::new(format!("{} has no job {entry:?}", self.name)))?;
        // `NoArgs` is an empty object; jobs without arguments are also submitted with `null`.
        let arguments = if arguments == "null" { "{}" } else { arguments };
        let arguments: A = serde_json::from_str(arguments)?;
        job(&arguments)
    }
    fn first(&self) -> Result<&str> {
        let first = self.jobs.first().ok_or_else(|| Error::new(format!("{} has no jobs", self.name)))?;
        Ok(first.0)
    }
}

/// A program's jobs behind the engine's seam: finds the task's job, and lets it work.
pub(crate) struct ProgramOf(Arc<dyn JobSource>);

impl ProgramOf {
    pub(crate) fn new(jobs: Arc<dyn JobSource>) -> Self {
        Self(jobs)
    }

    fn job(&self, context: &TaskContext) -> Result<AnyJob, TaskError> {
        let failed = |message| TaskError::Program { kind: FailureKind::UserError, record: None, message };
        match crate::guard::catch(|| self.0.build(&context.entry, &context.arguments)) {
            Ok(Ok(job)) => Ok(job),
            Ok(Err(error)) => Err(failed(error.chain())),
            Err(message) => Err(TaskError::Program { kind: FailureKind::UserPanic, record: None, message }),
        }
    }
}

impl Program for ProgramOf {
    fn map(
        &self,
        task: &MapTask,
        input: &mut dyn InputSource,
        directory: &Path,
        watch: &Watch,
    ) -> Result<MapProduct, TaskError> {
        self.job(&task.context)?.tasks.map(task, input, directory, watch)
    }

    fn reduce(
        &self,
        task: &ReduceTask,
        segments: &[FetchedSegment],
        output: &mut dyn Write,
        directory: &Path,
        watch: &Watch,
    ) -> Result<ReduceProduct, TaskError> {
        self.job(&task.context)?.tasks.reduce(task, segments, output, directory, watch)
    }
}
