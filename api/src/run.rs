//! What a job program does: it runs its job on an embedded cluster, submits it to a running one, runs one of its tools, or
//! is a task host.

use crate::{
    app::{App, Arguments, JobSource, ProgramOf},
    connection::{Connection, cluster_path},
    determinism::{Checker, Extent, Verdict},
    driver::{Driver, Plan, build, interruptible},
    error::{Error, Result},
    exit::{self, Code, Failure},
    files,
    local::LocalCluster,
    options::{self, CheckOptions, JobOptions, LocalOptions, Mode, SubmitOptions, parse_liars},
    report,
    results::{Parts, Results, counters},
    settings::Settings,
    submit::{program_digest, upload_program},
    terminal::{Appearance, note, print, visible},
};
use clap::{ArgMatches, FromArgMatches};
use quorate_liars::Kind;
use quorate_protocol::{
    ids::{JobId, ReplicaId, TrackerId},
    job::Program,
    query::{Blame, JobFailure, JobState, JobView},
};
use quorate_tasktracker::first_difference;
use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Where the input of an embedded cluster is, in its file system.
const INPUT: &str = "/input";
/// Where its output is.
const OUTPUT: &str = "/output";

/// Runs a job program. Its `main` returns what this returns.
///
/// Without a subcommand the job runs on an embedded cluster; `submit` sends it to a running one. Started by a tracker, the
/// program is a task host, whatever its command line says.
pub fn main<A: Arguments>(app: App<A>) -> ExitCode {
    let app = Arc::new(app);
    if is_task_host() {
        return quorate_sandbox::host::run(&ProgramOf::new(app));
    }
    if env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    }
    let tools = app.tools.iter().map(|tool| tool.command.clone()).collect();
    let command = options::command(app.name, app.about, app.verb, A::augment_args, tools);
    // What is wrong with the settings is said when the command line was understood: `--help` always helps.
    let (settings, sound) = Settings::read(options::sections());
    let read = |matches: ArgMatches| Ok((Appearance::from_arg_matches(&matches)?, options::mode(app.verb, matches)?));
    match settings.apply(command).try_get_matches().and_then(read) {
        Ok((appearance, mode)) => {
            appearance.apply();
            exit::report(sound.and_then(|()| run(&app, mode)))
        }
        Err(error) => exit::report_usage(&error),
    }
}

/// Whether a tracker started this process to run a job's tasks. [`main`] then does, whatever the command line says.
pub fn is_task_host() -> bool {
    env::var_os(quorate_sandbox::HOST_VARIABLE).is_some()
}

fn run<A: Arguments>(app: &Arc<App<A>>, mode: Mode) -> Result<(), Failure> {
    match mode {
        Mode::Local(job, local, matches) => run_local(app, job, local, &matches),
        Mode::Check(job, check, matches) => run_check(app, job, &check, &matches),
        Mode::Submit(job, submit, matches) => run_submit(app, job, &submit, &matches),
        Mode::Tool(name, matches) => {
            let tool = app.tools.iter().find(|tool| tool.command.get_name() == name);
            let tool = tool.ok_or_else(|| Failure::new(Code::CommandLine, format!("there is no subcommand {name}")))?;
            (tool.run)(&matches).map_err(failure_of)
        }
    }
}

/// What user code's error means for the exit code: a failure keeps its own.
fn failure_of(error: Error) -> Failure {
    error.downcast::<Failure>().unwrap_or_else(|error| Failure::new(Code::ClientCode, error.chain()))
}

fn new_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Code::System, "cannot start threads").caused_by(&e))
}

/// The job's arguments, typed and as the tasks get them.
fn arguments<A: Arguments>(app: &App<A>, matches: &ArgMatches) -> Result<(A, String), Failure> {
    let typed = A::from_arg_matches(matches).map_err(|e| Failure::new(Code::JobArguments, e.to_string()))?;
    let json = serde_json::to_string(&typed)
        .map_err(|e| Failure::new(Code::JobArguments, "the arguments cannot be given to tasks").caused_by(&e))?;
    let first = app.first().map_err(failure_of)?;
    // What is wrong with the arguments is said before anything is started.
    build(app, first, &json)?;
    Ok((typed, json))
}

fn run_local<A: Arguments>(
    app: &Arc<App<A>>,
    job: JobOptions,
    local: LocalOptions,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    job.check()?;
    local.check(job.f)?;
    let liars = liars(app, &job, &local)?;
    let (typed, json) = arguments(app, matches)?;
    if let Some(output) = &local.output {
        files::check_output(output)?;
    }
    let (inputs, _sample) = local_inputs(app, &local.input)?;
    let runtime = new_runtime()?;
    let mut builder = LocalCluster::builder_of(Arc::<App<A>>::clone(app)).trackers(local.trackers).f(job.f);
    for (tracker, kind) in liars {
        note(&format!("{tracker} lies: it {} (--liar none turns this off)", kind.summary()));
        builder = builder.liar(tracker, kind);
    }
    if let Some(folder) = local.keep {
        builder = builder.keep(folder);
    }
    if let Some(address) = local.ui {
        builder = builder.page(address);
    }
    let cluster = interruptible(&runtime, builder.start())?;
    for (number, page) in cluster.pages().iter().enumerate() {
        note(&format!("page: http://{page}/ ({})", ReplicaId::new(number as u32)));
    }
    let outcome = run_in(app, &runtime, &cluster, job, &typed, json, &inputs, local.output.as_deref());
    if local.ui.is_some() {
        note("the pages stay until Ctrl-C");
        // Stopping is what Ctrl-C is for here.
        let _ = interruptible(&runtime, std::future::pending::<Result<(), Failure>>());
    }
    runtime.block_on(cluster.stop());
    outcome
}

/// Who lies: as the command line says, or as the program's author does.
fn liars<A: Arguments>(
    app: &App<A>,
    job: &JobOptions,
    local: &LocalOptions,
) -> Result<Vec<(TrackerId, Kind)>, Failure> {
    match &app.liar {
        // Without replication nobody would notice the lie.
        Some(liar) if local.liar.is_empty() && job.f > 0 => parse_liars(&[(*liar).to_owned()], local.trackers),
        Some(_) | None => parse_liars(&local.liar, local.trackers),
    }
}

/// The input files by their names in the cluster, and the folder of made-up ones.
fn local_inputs<A>(app: &App<A>, input: &[PathBuf]) -> Result<(Vec<files::Pair>, Option<TempDir>), Failure> {
    let root = cluster_path(INPUT)?;
    if !input.is_empty() {
        return Ok((files::list(input, &root)?, None));
    }
    let Some(sample) = &app.sample else {
        return Err(Failure::new(Code::NoInput, "no input"));
    };
    let folder = tempfile::tempdir().map_err(|e| Failure::io("cannot make a folder in", env::temp_dir(), &e))?;
    note("no --input: a made-up one is used");
    let made = sample(folder.path()).map_err(failure_of)?;
    Ok((files::list(&made, &root)?, Some(folder)))
}

#[expect(clippy::too_many_arguments, reason = "all that a run is made of, named once")]
fn run_in<A: Arguments>(
    app: &App<A>,
    runtime: &Runtime,
    cluster: &LocalCluster,
    options: JobOptions,
    typed: &A,
    arguments: String,
    inputs: &[files::Pair],
    output: Option<&Path>,
) -> Result<(), Failure> {
    let connection = cluster.connection();
    interruptible(runtime, files::upload(connection, inputs, options.f as usize + 1))?;
    let plan = Plan {
        name: app.name.to_owned(),
        program: Program::Embedded { digest: program_digest()? },
        arguments,
        options,
        output: cluster_path(OUTPUT)?,
        detach: false,
    };
    let mut driver = Driver::new(runtime, connection, app, plan, vec![INPUT.to_owned()]);
    let driven = drive(app, &mut driver, typed);
    let views = std::mem::take(&mut driver.ended);
    // The cluster ran nothing else, so all that is held against its trackers is of these jobs.
    if let Err(failure) = driven {
        tell(runtime, connection, &views, None)?;
        return Err(failure);
    }
    let (folder, parts) = interruptible(runtime, fetch(connection, app.name, output))?;
    summarise(app, &Results { parts: Parts::Local(parts), counters: counters(&views) })?;
    tell(runtime, connection, &views, None)?;
    print(&format!("output: {}\n", folder.display()))
}

/// Copies the output to where it was asked for, or to a new folder, and gives that with its files.
async fn fetch(connection: &Connection, name: &str, output: Option<&Path>) -> Result<(PathBuf, Vec<PathBuf>), Failure> {
    let from = cluster_path(OUTPUT)?;
    match output {
        Some(output) => Ok((output.to_owned(), files::download(connection, &from, output).await?)),
        None => files::download_temporary(connection, &from, name).await,
    }
}

/// Runs the program's jobs task by task, again and again. What later jobs read is made by a cluster of one tracker.
fn run_check<A: Arguments>(
    app: &Arc<App<A>>,
    mut options: JobOptions,
    check: &CheckOptions,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    options.check()?;
    options.f = 0;
    let (typed, arguments) = arguments(app, matches)?;
    let (inputs, _sample) = local_inputs(app, &check.input)?;
    let extent = Extent { runs: check.runs, tasks: check.tasks };
    let checker = Checker::new(ProgramOf::new(Arc::<App<A>>::clone(app)), extent)?;
    let runtime = new_runtime()?;
    let builder = LocalCluster::builder_of(Arc::<App<A>>::clone(app)).trackers(1).f(0).jobtrackers(1);
    let cluster = interruptible(&runtime, builder.start())?;
    let outcome = check_in(app, &runtime, &cluster, checker, options, &typed, arguments, &inputs);
    runtime.block_on(cluster.stop());
    let verdict = outcome?;
    if check.json {
        crate::json::print(&verdict)?;
    } else {
        print(&verdict.to_string())?;
    }
    if verdict.differs() {
        return Err(Failure::new(Code::Differs, "the program does not give the same each time"));
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "all that a check is made of, named once")]
fn check_in<A: Arguments>(
    app: &App<A>,
    runtime: &Runtime,
    cluster: &LocalCluster,
    checker: Checker,
    options: JobOptions,
    typed: &A,
    arguments: String,
    inputs: &[files::Pair],
) -> Result<Verdict, Failure> {
    let connection = cluster.connection();
    interruptible(runtime, files::upload(connection, inputs, 1))?;
    let plan = Plan {
        name: app.name.to_owned(),
        program: Program::Embedded { digest: program_digest()? },
        arguments,
        options,
        output: cluster_path(OUTPUT)?,
        detach: false,
    };
    let mut driver = Driver::new(runtime, connection, app, plan, vec![INPUT.to_owned()]);
    driver.checker = Some(checker);
    let driven = drive(app, &mut driver, typed);
    let verdict = driver.checker.take().map(Checker::into_verdict).unwrap_or_default();
    // A job that is not deterministic may well fail; what was found of it is the better answer.
    match driven {
        Err(failure) if !verdict.differs() => Err(failure),
        _ => Ok(verdict),
    }
}

fn run_submit<A: Arguments>(
    app: &Arc<App<A>>,
    options: JobOptions,
    submit: &SubmitOptions,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    options.check()?;
    let (typed, arguments) = arguments(app, matches)?;
    let output = cluster_path(&submit.output)?;
    let runtime = new_runtime()?;
    let connection = {
        let _inside = runtime.enter();
        Connection::open(submit.cluster.as_deref())?
    };
    let program = interruptible(&runtime, async {
        connection.refresh().await?;
        upload_program(&connection, options.f as usize + 1).await
    })?;
    let plan =
        Plan { name: app.name.to_owned(), program, arguments, options, output: output.clone(), detach: submit.detach };
    let mut driver = Driver::new(&runtime, &connection, &**app, plan, submit.input.clone());
    let driven = drive(app, &mut driver, &typed);
    let views = std::mem::take(&mut driver.ended);
    let jobs: Vec<JobId> = views.iter().map(|view| view.summary.job).collect();
    if let Err(failure) = driven {
        tell(&runtime, &connection, &views, Some(&jobs))?;
        return Err(failure);
    }
    if submit.detach {
        return Ok(());
    }
    let files = interruptible(&runtime, async {
        connection.refresh().await?;
        Ok(connection.client.files(&output).await?)
    })?;
    let files = files.into_iter().map(|(_, file)| file).collect();
    let parts = Parts::Cluster(&runtime, &connection.chunks, files);
    summarise(app, &Results { parts, counters: counters(&views) })?;
    tell(&runtime, &connection, &views, Some(&jobs))?;
    print(&format!("output: {output} in the cluster's file system; `quorate fs get {output}` copies it from there\n"))
}

/// Runs the program's jobs, and removes what was only between them.
fn drive<A: Arguments>(app: &App<A>, driver: &mut Driver<'_>, typed: &A) -> Result<(), Failure> {
    let driven = match &app.driver {
        Some(drive) => drive(driver, typed),
        None => {
            let inputs = driver.inputs().to_vec();
            app.first().and_then(|first| driver.last(first, &inputs))
        }
    };
    let driven = driven.map_err(failure_of).and_then(|()| {
        if driver.complete {
            Ok(())
        } else {
            Err(Failure::new(Code::ClientCode, "the program ended without a last job"))
        }
    });
    driven.and(driver.clean())
}

fn summarise<A>(app: &App<A>, results: &Results<'_>) -> Result<(), Failure> {
    let Some(print) = &app.summary else { return Ok(()) };
    let mut out = io::stdout().lock();
    match print(results, &mut out).and_then(|()| Ok(out.flush()?)).map_err(Error::downcast::<io::Error>) {
        Ok(()) => Ok(()),
        // A reader that has gone away has seen enough.
        Err(Ok(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Ok(error)) => Err(Failure::io("cannot write", "standard output", &error)),
        Err(Err(error)) => Err(failure_of(error)),
    }
}

/// Prints the disputes and totals of the jobs that ended, and who is blamed; with `jobs`, for these alone.
fn tell(runtime: &Runtime, connection: &Connection, views: &[JobView], jobs: Option<&[JobId]>) -> Result<(), Failure> {
    for view in views {
        if views.len() > 1 {
            print(&format!("{} {}\n", view.summary.job, view.summary.name))?;
        }
        for line in report::disputes(view) {
            print(&format!("{}\n", visible(&line)))?;
        }
        print(&format!("{}\n", report::totals(view)))?;
    }
    if views.is_empty() {
        return Ok(());
    }
    interruptible(runtime, async {
        for view in views {
            if let JobState::Failed(JobFailure::Undecidable { task } | JobFailure::Nondeterministic { task, .. }) =
                &view.summary.state
            {
                match first_difference(&connection.client, *task).await {
                    Ok(difference) => print(&format!("first difference: {difference}\n"))?,
                    Err(error) => print(&format!("the first difference could not be found: {error}\n"))?,
                }
            }
        }
        for tracker in connection.client.trackers().await?.iter().filter(|tracker| tracker.blame != Blame::None) {
            let evidence = connection.client.evidence(tracker.id).await?;
            if let Some(line) = report::held_against(&connection.cluster, tracker.id, &evidence, jobs) {
                print(&format!("{line}\n"))?;
            }
        }
        Ok(())
    })
}
