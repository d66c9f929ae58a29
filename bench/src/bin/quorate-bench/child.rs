//! One measured run, in a process of its own: then CPU time and the peak of memory are that run's alone.
//!
//! The parent gives it the [`Run`] as JSON, and it prints the [`Measurement`] as JSON. It starts an embedded cluster, stores
//! the input and runs the job. What is counted runs from submitting the job until its client knows that it has ended.

use crate::{
    jobs::{self, Input},
    machine,
};
use clap::Args;
use futures::TryStreamExt;
use quorate::{
    LocalCluster,
    exit::{Code, Failure},
    succeeded,
};
use quorate_bench::{
    cpu::{self, Prices},
    figures::Measurement,
};
use quorate_liars::Kind as Liar;
use quorate_protocol::{digest::Digest, file::Path as ClusterPath, ids::TrackerId, query::JobView, spent::Spent};
use serde::{Deserialize, Serialize};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Trackers of an embedded cluster, unless said otherwise.
pub(crate) const TRACKERS: u32 = 5;
/// No run takes so long.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The job and its input.
    pub(crate) input: Input,
    /// Lying trackers tolerated for each task.
    pub(crate) f: u32,
    /// Trackers of the cluster.
    pub(crate) trackers: u32,
    /// Map and reduce slots of a tracker.
    pub(crate) slots: (u16, u16),
    /// Map tasks aimed at, when not as many as usual.
    pub(crate) splits: Option<u64>,
    /// Reduce tasks.
    pub(crate) partitions: u32,
    /// Memory of an attempt.
    pub(crate) memory: u64,
    /// Who lies.
    pub(crate) lie: Option<Lie>,
    /// Cores that the process may use; all of them unless said otherwise.
    pub(crate) cores: Option<usize>,
}

/// Lies in a run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Lie {
    /// The first attempts of so many percent of the map tasks are wrong, whoever runs them.
    FirstAttempts(u8),
    /// One segment of one map attempt is wrong.
    OneSegment,
}

impl Run {
    /// A run as most are: five trackers with two slots of each kind, as many map tasks as usual, five reduce tasks, 256 MiB for each attempt.
    pub(crate) fn new(input: &Input, f: u32) -> Self {
        Self {
            input: input.clone(),
            f,
            trackers: TRACKERS,
            slots: (2, 2),
            splits: None,
            partitions: TRACKERS,
            memory: 256 << 20,
            lie: None,
            cores: None,
        }
    }

    /// Measures it in a process of its own.
    pub(crate) fn measure(&self) -> Result<Measurement, Failure> {
        let run = serde_json::to_string(self).map_err(|e| machine("tell what to run", e))?;
        let own = std::env::current_exe().map_err(|e| machine("find this program's file", e))?;
        let child = Command::new(own).args(["child", &run]).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = child.map_err(|e| machine("start a measured run", e))?;
        if !output.status.success() {
            let code = if output.status.code() == Some(130) { Code::Interrupted } else { Code::ClientCode };
            return Err(Failure::new(code, format!("the measured run ended with {}", output.status)));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| machine("read what was measured", e))
    }
}

/// What a child is started with.
#[derive(Args)]
pub(crate) struct Options {
    /// The run, as JSON
    run: String,
}

/// Runs it and prints what was measured.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let run: Run = serde_json::from_str(&options.run).map_err(|e| Failure::usage(format!("no run: {e}")))?;
    cpu::end_with_parent().map_err(|e| machine("watch the parent", e))?;
    if let Some(cores) = run.cores {
        cpu::confine(cores).map_err(|e| machine("use fewer cores", e))?;
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|e| machine("start threads", e))?;
    let measured = runtime.block_on(measure(&run))?;
    println!("{}", serde_json::to_string(&measured).map_err(|e| machine("tell what was measured", e))?);
    Ok(())
}

async fn measure(run: &Run) -> Result<Measurement, Failure> {
    let mut builder =
        LocalCluster::builder(jobs::app()).trackers(run.trackers).f(run.f).slots(run.slots.0, run.slots.1);
    for (tracker, liar) in liars(run) {
        builder = builder.liar(tracker, liar);
    }
    let cluster = builder.start().await?;
    let outcome = tokio::select! {
        outcome = measure_on(&cluster, run) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Code::Interrupted, "interrupted")),
    };
    cluster.stop().await;
    outcome
}

fn liars(run: &Run) -> Vec<(TrackerId, Liar)> {
    match run.lie {
        None => Vec::new(),
        Some(Lie::FirstAttempts(percent)) => {
            (0..run.trackers).map(|tracker| (TrackerId::new(tracker), Liar::CorruptFirst { percent })).collect()
        }
        Some(Lie::OneSegment) => vec![(TrackerId::new(0), Liar::CorruptSegment)],
    }
}

/// The clocks and counters of a process at one moment.
struct Look {
    time: Instant,
    cpu_s: f64,
    spent: Spent,
}

impl Look {
    fn now() -> Self {
        Self { time: Instant::now(), cpu_s: cpu::process_s(), spent: Spent::now() }
    }
}

async fn measure_on(cluster: &LocalCluster, run: &Run) -> Result<Measurement, Failure> {
    let start = Instant::now();
    cluster.put_file(&run.input.path, "/input").await?;
    let upload_s = start.elapsed().as_secs_f64();
    let specification = run.input.specification(cluster, "/output", (run.splits, run.partitions), run.memory)?;
    // What was written before is not the job's: it would share the disk with it.
    rustix::fs::sync();
    cpu::forget_peak().map_err(|e| machine("measure the peak of memory", e))?;
    let before = Look::now();
    let view = cluster.wait(cluster.submit(specification).await?, PATIENCE).await?;
    let after = Look::now();
    let peak = cpu::peak_bytes().map_err(|e| machine("measure the peak of memory", e))?;
    succeeded(&view)?;
    let stored = cluster.stored().await?;
    let output = output_digest(cluster, &run.input, &view.output).await?.to_string();
    Ok(Measurement { upload_s, peak, stored, output, ..told(run, &view, &before, &after) })
}

/// What the two looks and the job tracker say.
fn told(run: &Run, view: &JobView, before: &Look, after: &Look) -> Measurement {
    let spent = after.spent.since(before.spent);
    let prices = Prices::of_this_machine();
    Measurement {
        job: run.input.kind.name().to_owned(),
        f: run.f,
        wall_s: after.time.duration_since(before.time).as_secs_f64(),
        job_s: view.summary.until.since(view.summary.submitted) as f64 / 1000.0,
        cpu_s: after.cpu_s - before.cpu_s,
        maps: view.summary.maps.1,
        reduces: view.summary.reduces.1,
        attempts: view.attempts,
        disputed: view.disputed,
        restarts: view.cost.restarts,
        shuffled: view.cost.shuffled,
        refetched: view.cost.refetched,
        digested: spent.digested,
        digested_read: spent.read,
        digest_s: prices.digests_s(&spent),
        signatures_s: prices.signatures_s(&spent),
        commands: spent.commands,
        command_bytes: spent.command_bytes,
        control_bytes: spent.sent + spent.received,
        ..Measurement::default()
    }
}

/// The digest of all parts' names and bytes, as they are read from the cluster.
async fn output_digest(cluster: &LocalCluster, input: &Input, output: &ClusterPath) -> Result<Digest, Failure> {
    let connection = cluster.connection();
    connection.refresh().await?;
    let (mut parts, mut length) = (Vec::new(), 0);
    for (path, file) in connection.client.files(output).await? {
        let (mut hasher, mut blocks) = (blake3::Hasher::new(), connection.chunks.read(&file));
        while let Some(block) = blocks.try_next().await? {
            length += block.len() as u64;
            hasher.update(&block);
        }
        parts.extend_from_slice(format!("{path} {}\n", Digest::from(hasher.finalize())).as_bytes());
    }
    if !input.is_complete(length) {
        let message = format!("{} gave {length} bytes of {}", input.kind.name(), input.bytes);
        return Err(Failure::new(Code::ClientCode, message));
    }
    Ok(Digest::of(&parts))
}
