//! Jobs on an embedded cluster, by the API that users and other tests have.

use quorate::{local::Builder, prelude::*, testing::Harness};
use quorate_liars::Kind;
use quorate_protocol::{
    ids::TrackerId,
    query::{Blame, JobFailure, JobState, JobView},
    vote::FailureKind,
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Nothing here takes a fraction of it; a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// What goes wrong in the mapper, on purpose.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(crate = "quorate::serde")]
enum Wrong {
    Nothing,
    Panic,
    Error,
    Random,
}

#[derive(clap::Args, serde::Serialize, serde::Deserialize)]
#[serde(crate = "quorate::serde")]
struct Args {
    #[arg(long)]
    wrong: Wrong,
}

struct Words(Wrong);

/// Differs each time it is asked: what a clock or a random number does to a job.
static CALLS: AtomicU64 = AtomicU64::new(0);

impl Mapper for Words {
    type Input = Lines;
    type Key = [u8];
    type Value = u64;

    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
        match self.0 {
            Wrong::Panic if line.starts_with(b"line 3 ") => panic!("no line 3, please"),
            Wrong::Error if line.starts_with(b"line 4 ") => return Err(Error::new("no line 4 either")),
            Wrong::Random => out.emit(b"calls", &CALLS.fetch_add(1, Ordering::Relaxed))?,
            Wrong::Nothing | Wrong::Panic | Wrong::Error => {}
        }
        out.count("lines", 1);
        for word in line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            out.emit(word, &1)?;
        }
        Ok(())
    }
}

struct Sum;

impl Reducer for Sum {
    type Key = [u8];
    type Value = u64;
    type Output = TextLines;

    fn reduce(&mut self, word: &[u8], counts: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        out.write(word, &counts.sum::<u64>())
    }
}

fn job(args: &Args) -> Job<Words, Sum> {
    let wrong = args.wrong;
    Job::new(move || Words(wrong), || Sum).combiner(|total, count| *total += count)
}

fn text() -> Vec<u8> {
    (0..4_000).map(|n| format!("line {n} of the {} siege of the city\n", n % 97)).collect::<String>().into_bytes()
}

fn reference() -> Vec<Vec<u8>> {
    Harness::new(job(&Args { wrong: Wrong::Nothing })).partitions(2).run(&[("/t", &text())]).expect("counted").parts
}

fn builder() -> Builder {
    LocalCluster::builder(App::new("words", job))
}

/// Runs the job; gives what came of it, its parts if there are any, and who was blamed.
async fn run(cluster: &LocalCluster, wrong: Wrong) -> (JobView, Vec<Vec<u8>>, Vec<(TrackerId, Blame)>) {
    cluster.put(&text(), "/in/text").await.expect("stored");
    let arguments = quorate_json(&Args { wrong });
    let mut specification = cluster.specification(quorate::MAIN_JOB, &arguments, &["/in"], "/out").expect("a job");
    specification.split_bytes = 30_000;
    let job = cluster.submit(specification).await.expect("accepted");
    let view = cluster.wait(job, PATIENCE).await.expect("ended");
    let mut parts = Vec::new();
    if view.summary.state == JobState::Succeeded {
        for part in ["/out/part-r-00000", "/out/part-r-00001"] {
            parts.push(cluster.read(part).await.expect("there"));
        }
    }
    let trackers = cluster.client().trackers().await.expect("answered");
    let blamed = trackers.iter().filter(|t| t.blame != Blame::None).map(|t| (t.id, t.blame)).collect();
    (view, parts, blamed)
}

fn quorate_json(args: &Args) -> String {
    serde_json::to_string(args).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_cluster_gives_the_reference() {
    let cluster = builder().trackers(3).start().await.expect("started");
    let (view, parts, blamed) = run(&cluster, Wrong::Nothing).await;
    assert_eq!(view.summary.state, JobState::Succeeded);
    assert!(parts == reference());
    assert_eq!((view.counters["lines"], view.disputed), (4_000, 0));
    assert!(view.summary.maps.1 > 3, "more maps than trackers: {}", view.summary.maps.1);
    assert_eq!(blamed, []);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_outvoted_and_suspected_alone() {
    let liar = TrackerId::new(1);
    let cluster = builder().trackers(3).liar(liar, Kind::CorruptMap).start().await.expect("started");
    let (view, parts, blamed) = run(&cluster, Wrong::Nothing).await;
    assert_eq!(view.summary.state, JobState::Succeeded);
    assert!(parts == reference());
    assert!(view.disputed > 0);
    assert_eq!(blamed, [(liar, Blame::Suspected)]);
    for evidence in cluster.client().evidence(liar).await.expect("answered") {
        assert_eq!(evidence.check(&cluster.connection().cluster), Ok((liar, Blame::Suspected)));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_code_that_fails_is_named_with_its_record() {
    for (wrong, kind, record, says) in [
        (Wrong::Panic, FailureKind::UserPanic, 3, "no line 3, please"),
        (Wrong::Error, FailureKind::UserError, 4, "no line 4 either"),
    ] {
        let cluster = builder().trackers(3).start().await.expect("started");
        let (view, _, blamed) = run(&cluster, wrong).await;
        let JobState::Failed(JobFailure::Program { task, kind: its_kind, record: its_record, message }) =
            view.summary.state
        else {
            panic!("{:?}", view.summary.state)
        };
        assert_eq!((task.index, its_kind, its_record), (0, kind, Some(record)));
        assert!(message.contains(says), "{message}");
        assert_eq!(blamed, []);
        let listed = cluster.client().list(&quorate::connection::cluster_path("/").expect("a path")).await;
        assert_eq!(listed.expect("answered").len(), 1, "no output appears");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_job_is_nondeterministic_and_nobody_is_blamed() {
    let cluster = builder().trackers(3).start().await.expect("started");
    let (view, _, blamed) = run(&cluster, Wrong::Random).await;
    let JobState::Failed(JobFailure::Nondeterministic { task, .. }) = view.summary.state else {
        panic!("{:?}", view.summary.state)
    };
    let difference = quorate_tasktracker::first_difference(cluster.client(), task).await.expect("found");
    assert!(difference.to_string().contains("calls"), "{difference}");
    assert_eq!(blamed, []);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_cluster_leaves_nothing_behind() {
    let parent = tempfile::tempdir().expect("a folder");
    let kept = parent.path().join("kept");
    let cluster = builder().trackers(2).f(0).keep(kept.clone()).start().await.expect("started");
    let address = cluster.connection().cluster.replicas[0].address.clone();
    let (view, _, _) = run(&cluster, Wrong::Nothing).await;
    assert_eq!(view.summary.state, JobState::Succeeded);
    assert!(kept.join("replica-0").is_dir() && kept.join("tracker-1").is_dir());
    cluster.stop().await;
    tokio::net::TcpListener::bind(&address).await.expect("its port is free again");
}
