//! Runs a program's jobs, one after the other.

use crate::{
    app::JobSource,
    connection::{Connection, cluster_path},
    determinism::{Checker, InputFile},
    error::{Error, Result},
    exit::{Code, Exit, Failure},
    options::JobOptions,
    results, sample,
    submit::{Request, left_running, succeeded, wait_with_progress},
    terminal::{note, print},
};
use futures::TryStreamExt;
use quorate_protocol::{
    file::{File, Path as ClusterPath},
    ids::JobId,
    job::{Partitioning, Program, Specification, split_bytes_default},
    limits,
    query::JobView,
    vote::Counters,
};
use std::{
    future::Future,
    io::{self, Write},
    path::Path,
    thread,
};
use tokio::{runtime::Runtime, sync::oneshot};

/// What all jobs of one run have in common.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) arguments: String,
    pub(crate) options: JobOptions,
    pub(crate) output: ClusterPath,
    pub(crate) detach: bool,
}

/// Runs jobs for an [`App::driver`](crate::App::driver).
pub struct Driver<'a> {
    runtime: &'a Runtime,
    connection: &'a Connection,
    jobs: &'a dyn JobSource,
    plan: Plan,
    inputs: Vec<String>,
    /// Outputs that only further jobs read.
    between: Vec<ClusterPath>,
    /// The jobs that have ended.
    pub(crate) ended: Vec<JobView>,
    /// Whether the last job was submitted.
    pub(crate) complete: bool,
    /// Whether a job runs on without anybody who waits for it.
    left: bool,
    /// Looks whether the jobs are deterministic, before each runs. The last one need not run then.
    pub(crate) checker: Option<Checker>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        runtime: &'a Runtime,
        connection: &'a Connection,
        jobs: &'a dyn JobSource,
        plan: Plan,
        inputs: Vec<String>,
    ) -> Self {
        let left = plan.detach;
        let (between, ended) = (Vec::new(), Vec::new());
        Self { runtime, connection, jobs, plan, inputs, between, ended, complete: false, left, checker: None }
    }

    /// The program's input: paths of files and folders in the cluster's file system.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// The paths of all files in the program's input.
    ///
    /// # Errors
    /// When an input is missing, or there is no file in any.
    pub fn input_files(&self) -> Result<Vec<String>> {
        let paths = cluster_paths(&self.inputs)?;
        let files = interruptible(self.runtime, self.files(&paths))?;
        Ok(files.into_iter().map(|(path, _)| path.as_str().to_owned()).collect())
    }

    /// The counters of the jobs that have ended; of two with one name, the later job's.
    pub fn counters(&self) -> Counters {
        results::counters(&self.ended)
    }

    /// Runs a job whose output other jobs read, waits for it, and gives its output folder. The folder goes away when the
    /// program has ended.
    ///
    /// # Errors
    /// When the job fails or cannot be run.
    pub fn step(&mut self, job: &str, inputs: &[String]) -> Result<String> {
        let folder = cluster_path(&format!("{}.{}-{job}", self.plan.output, self.between.len()))?;
        self.between.push(folder.clone());
        self.run(job, inputs, folder.clone(), true)?;
        Ok(folder.as_str().to_owned())
    }

    /// Runs the job that makes the program's output.
    ///
    /// # Errors
    /// When the job fails or cannot be run.
    pub fn last(&mut self, job: &str, inputs: &[String]) -> Result<()> {
        if self.complete {
            return Err(Error::new("the program's output exists: the last job ran already"));
        }
        let (output, wait) = (self.plan.output.clone(), !self.plan.detach);
        self.run(job, inputs, output, wait)?;
        self.complete = true;
        Ok(())
    }

    /// Removes what only jobs in between needed. While a job runs on that reads it, it stays.
    pub(crate) fn clean(&mut self) -> Result<(), Failure> {
        if self.left {
            return Ok(());
        }
        for folder in std::mem::take(&mut self.between) {
            let remove = self.connection.client.remove(folder, true);
            match self.runtime.block_on(remove).map_err(Failure::from) {
                // The job that was to make it did not get that far.
                Err(failure) if failure.exit() == Exit::Path => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn run(&mut self, entry: &str, inputs: &[String], output: ClusterPath, wait: bool) -> Result<()> {
        let is_last = output == self.plan.output;
        if self.checker.is_some() {
            self.check(entry, inputs, &output)?;
            if is_last {
                return Ok(());
            }
        }
        let job = interruptible(self.runtime, self.submit(entry, inputs, output))?;
        if !wait {
            print(&format!("{job}\n"))?;
            note(&format!("{job} runs; `quorate job show {job}` tells how it stands"));
            return Ok(());
        }
        let waited = interruptible(self.runtime, wait_with_progress(self.connection, job));
        let view = waited.map_err(|failure| self.leave(failure, job, is_last))?;
        self.ended.push(view.clone());
        Ok(succeeded(&view)?)
    }

    fn check(&mut self, entry: &str, inputs: &[String], output: &ClusterPath) -> Result<()> {
        let Some(mut checker) = self.checker.take() else { return Ok(()) };
        let folder = checker.folder();
        let checked = interruptible(self.runtime, async {
            let specification = self.specification(entry, inputs, output.clone()).await?;
            let files = self.copies(inputs, &checker.inputs()).await?;
            let (done, checked) = oneshot::channel();
            // A thread of its own: who interrupts the program does not wait for its end.
            thread::spawn(move || {
                let outcome = checker.check(&specification, &files);
                let _ = done.send((checker, outcome));
            });
            checked.await.map_err(|_| Failure::new(Code::ClientCode, "the check ended before its time"))
        });
        let (checker, outcome) = checked.inspect_err(|_| drop(std::fs::remove_dir_all(folder)))?;
        self.checker = Some(checker);
        Ok(outcome?)
    }

    /// Copies a job's input into a folder here.
    async fn copies(&self, inputs: &[String], folder: &Path) -> Result<Vec<InputFile>, Failure> {
        let trouble = |error: io::Error| Failure::io("cannot copy the input to", folder, &error);
        std::fs::create_dir_all(folder).map_err(trouble)?;
        let mut copies = Vec::new();
        for (name, file) in self.files(&cluster_paths(inputs)?).await? {
            let path = folder.join(copies.len().to_string());
            let mut copy = std::fs::File::create(&path).map_err(trouble)?;
            let mut blocks = std::pin::pin!(self.connection.chunks.read(&file));
            while let Some(block) = blocks.try_next().await? {
                copy.write_all(&block).map_err(trouble)?;
            }
            let chunks = file.manifest.chunks.iter().map(|(_, length)| *length).collect();
            copies.push(InputFile { name, path, chunks });
        }
        Ok(copies)
    }

    async fn submit(&self, entry: &str, inputs: &[String], output: ClusterPath) -> Result<JobId, Failure> {
        let specification = self.specification(entry, inputs, output).await?;
        Ok(self.connection.client.submit_job(specification).await?)
    }

    /// A running cluster goes on with a job that nobody waits for any more.
    fn leave(&mut self, failure: Failure, job: JobId, is_last: bool) -> Failure {
        match self.plan.program {
            Program::Embedded { .. } => return failure,
            Program::Binary { .. } => self.left = true,
        }
        if failure.exit() != Exit::Interrupted {
            return failure;
        }
        let rest = if is_last { "" } else { ", and the jobs that were to follow are not submitted" };
        left_running(job, rest)
    }

    async fn specification(
        &self,
        entry: &str,
        inputs: &[String],
        output: ClusterPath,
    ) -> Result<Specification, Failure> {
        let job = build(self.jobs, entry, &self.plan.arguments)?;
        let paths = cluster_paths(inputs)?;
        let files = self.files(&paths).await?;
        let length: u64 = files.iter().map(|(_, file)| file.manifest.length()).sum();
        let options = &self.plan.options;
        let trackers = self.connection.cluster.trackers.len() as u32;
        let request = Request {
            name: if self.between.is_empty() { self.plan.name.clone() } else { format!("{}/{entry}", self.plan.name) },
            program: self.plan.program.clone(),
            entry: entry.to_owned(),
            arguments: self.plan.arguments.clone(),
            inputs: paths,
            output,
            f: options.f,
            partitions: options.reducers.unwrap_or(reducers_default(trackers)),
            split_bytes: options.split.unwrap_or(split_bytes_default(length)),
            memory: options.memory,
            progress_timeout: options.timeout,
        };
        let mut specification = request.specification(&job);
        if job.sorted {
            let cuts = sample::cuts(self.connection, &job, &specification, files).await?;
            specification.partitioning = Partitioning::Ranges(cuts);
        }
        Ok(specification)
    }

    async fn files(&self, paths: &[ClusterPath]) -> Result<Vec<(ClusterPath, File)>, Failure> {
        self.connection.refresh().await?;
        let mut files = Vec::new();
        for path in paths {
            files.extend(self.connection.client.files(path).await?);
        }
        if files.is_empty() {
            let names: Vec<&str> = paths.iter().map(ClusterPath::as_str).collect();
            return Err(Failure::new(Code::NoFiles, format!("there are no files in the input {}", names.join(", "))));
        }
        Ok(files)
    }
}

/// One reduce task for each tracker, so that all of them reduce at once, and at least two.
fn reducers_default(trackers: u32) -> u32 {
    trackers.clamp(2, limits::PARTITIONS_MAX)
}

fn cluster_paths(paths: &[String]) -> Result<Vec<ClusterPath>, Failure> {
    paths.iter().map(|path| cluster_path(path)).collect()
}

/// Makes a job on the client; what is wrong with it is wrong with its arguments.
pub(crate) fn build(jobs: &dyn JobSource, entry: &str, arguments: &str) -> Result<crate::job::AnyJob, Failure> {
    match crate::guard::catch(|| jobs.build(entry, arguments)) {
        Ok(Ok(job)) => Ok(job),
        Ok(Err(error)) => Err(Failure::new(Code::JobArguments, error.chain())),
        Err(panic) => Err(Failure::new(Code::ClientCode, "the program panicked while it made its job").cause(panic)),
    }
}

/// Waits for something, unless the user interrupts it.
pub(crate) fn interruptible<T>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Code::Interrupted, "interrupted")),
        }
    })
}
