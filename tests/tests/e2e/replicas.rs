//! What happens to the job tracker's replicas in the middle of a sort: it ends with the golden output, no command is lost or
//! executed twice, and nobody honest is blamed.

use crate::{
    terasort::{SORTED, generate, joined, works},
    under_test,
};
use quorate_jobtracker::client::{Client, ClientError};
use quorate_protocol::{
    command::Command,
    file::{File, Manifest, Path},
    ids::{JobId, ReplicaId},
    query::Answer,
};
use quorate_tests::{
    Processes,
    oracle::{only_guilty, succeeded},
    processes::Setup,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};

/// How long nothing may be executed when the primary is lost.
fn pause_max() -> Duration {
    2 * Duration::from_millis(quorate_smr::Limits::default().view_timeout)
}

/// Keeps commands coming while something goes wrong, one after the other, and remembers those that were done.
struct Clerk {
    stop: watch::Sender<bool>,
    /// The number of the last file.
    made: watch::Receiver<u64>,
    /// When each of them was made.
    times: Arc<Mutex<Vec<Instant>>>,
    work: JoinHandle<()>,
}

fn side(number: u64) -> Path {
    Path::parse(&format!("/side/{number:06}")).expect("a path")
}

impl Clerk {
    fn start(client: Client) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (done, made) = watch::channel(0);
        let times = Arc::new(Mutex::new(vec![Instant::now()]));
        let noted = Arc::clone(&times);
        let work = tokio::spawn(async move {
            while !*stopped.borrow() {
                let number = *done.borrow() + 1;
                let nothing = File { manifest: Manifest::default(), placements: Vec::new() };
                // A command that was executed twice would say that the file exists.
                match client.submit(Command::CreateFiles(vec![(side(number), nothing)])).await {
                    Ok(Answer::Done) => {
                        noted.lock().expect("whole").push(Instant::now());
                        done.send_replace(number)
                    }
                    other => panic!("the file {number} was not made: {other:?}"),
                };
            }
        });
        Self { stop, made, times, work }
    }

    /// Waits until work goes on after an event of this moment, and asserts that it did not pause for too long.
    async fn goes_on_after(&self, event: &str, since: Instant) {
        self.more(20).await;
        let times = self.times.lock().expect("whole").clone();
        let pauses = times.windows(2).filter(|pair| pair[1] >= since).map(|pair| pair[1] - pair[0]);
        let longest = pauses.max().expect("work went on");
        println!("{event}: the longest pause was {} ms", longest.as_millis());
        assert!(longest <= pause_max(), "{event}: nothing was executed for {longest:?}");
    }

    /// Waits until so many more commands were executed.
    async fn more(&self, commands: u64) {
        let mut made = self.made.clone();
        let goal = *made.borrow() + commands;
        let done = tokio::time::timeout(quorate_tests::processes::PATIENCE, made.wait_for(|made| *made >= goal));
        done.await.expect("commands are executed").expect("the clerk works");
    }

    /// Asserts that exactly the files that were said to be made are there.
    async fn check(self, cluster: &Processes) {
        self.stop.send_replace(true);
        self.work.await.expect("all commands were done");
        let there = cluster.client().files(&Path::parse("/side").expect("a path")).await.expect("files");
        let there: Vec<Path> = there.into_iter().map(|(path, _)| path).collect();
        assert_eq!(there, (1..=*self.made.borrow()).map(side).collect::<Vec<_>>());
    }
}

struct Sort {
    cluster: Processes,
    folder: tempfile::TempDir,
    clerk: Clerk,
    job: JobId,
}

/// A sort that has begun and is not near its end.
async fn in_the_middle() -> Sort {
    let cluster = Processes::set_up(Setup { proxied: true, ..Setup::new(under_test(), 5) }).await;
    let folder = tempfile::tempdir().expect("a folder");
    generate(&cluster, folder.path()).await;
    let sort = ["submit", "--detach", "--input", "/records", "--output", "/sorted", "--reducers", "4"];
    works(cluster.terasort(&[&sort[..], &["--split", "256KiB", "--timeout", "20s"]].concat())).await;
    let job = cluster.client().jobs().await.expect("jobs")[0].job;
    let clerk = Clerk::start(cluster.client().clone());
    let begun = async || {
        let view = cluster.client().job(job).await;
        view.is_ok_and(|view| view.summary.maps.0 >= 2)
    };
    cluster.until("some maps are agreed", begun).await;
    clerk.more(1).await;
    let view = cluster.client().job(job).await.expect("the job");
    assert!(view.summary.reduces.0 == 0, "the sort was over before anything happened: {}", quorate::report::job(&view));
    Sort { cluster, folder, clerk, job }
}

impl Sort {
    /// The sort ends as it must, and the replicas have one history.
    async fn right_in_the_end(self) {
        let Self { cluster, folder, clerk, job } = self;
        clerk.more(10).await;
        let view = cluster.ended(job).await;
        succeeded(&view);
        clerk.check(&cluster).await;
        let jobs: Vec<JobId> = cluster.client().jobs().await.expect("jobs").iter().map(|job| job.job).collect();
        assert_eq!(jobs, [job], "the job was submitted once");
        cluster.replicas_agree().await;
        cluster.only_guilty_replicas(&[]).await;
        only_guilty(cluster.client(), &[]).await;
        assert_eq!(cluster.client().distrusted(), Vec::new());
        let sorted = folder.path().join("sorted");
        works(cluster.quorate(&["fs", "get", "/sorted", sorted.to_str().expect("UTF-8")])).await;
        assert_eq!(joined(&sorted), SORTED);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_killed() {
    let mut sort = in_the_middle().await;
    let primary = sort.cluster.primary().await;
    let now = Instant::now();
    sort.cluster.kill(&primary.to_string());
    sort.clerk.goes_on_after("the primary was killed", now).await;
    assert_ne!(sort.cluster.primary().await, primary, "another one took over");
    sort.cluster.start_member(&primary.to_string());
    sort.right_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_frozen_and_thaws() {
    let sort = in_the_middle().await;
    let primary = sort.cluster.primary().await.to_string();
    let now = Instant::now();
    sort.cluster.freeze(&primary);
    sort.clerk.goes_on_after("the primary was frozen", now).await;
    sort.cluster.thaw(&primary);
    sort.right_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_and_one_backup_are_cut_apart() {
    let sort = in_the_middle().await;
    let primary = sort.cluster.primary().await;
    let backup = ReplicaId::new((primary.number() + 1) % 3);
    let now = Instant::now();
    sort.cluster.between(primary, backup).iter().for_each(|way| way.cut());
    sort.clerk.goes_on_after("primary and one backup were cut apart", now).await;
    sort.cluster.between(primary, backup).iter().for_each(|way| way.heal());
    sort.right_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_hears_nobody_and_is_late_with_all_it_says() {
    let sort = in_the_middle().await;
    let primary = sort.cluster.primary().await;
    for other in [1, 2].map(|step| ReplicaId::new((primary.number() + step) % 3)) {
        let [says, hears] = sort.cluster.between(primary, other);
        says.slow(Duration::from_millis(30));
        hears.cut();
    }
    sort.clerk.more(20).await;
    for other in [1, 2].map(|step| ReplicaId::new((primary.number() + step) % 3)) {
        sort.cluster.between(primary, other).iter().for_each(|way| way.heal());
    }
    sort.right_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_loses_its_disk() {
    let mut sort = in_the_middle().await;
    sort.cluster.kill("replica-1");
    sort.clerk.more(10).await;
    sort.cluster.wipe("replica-1");
    sort.cluster.start_member("replica-1");
    sort.right_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_comes_back_with_an_old_disk() {
    let mut sort = in_the_middle().await;
    sort.cluster.kill("replica-2");
    sort.cluster.save_disk("replica-2");
    sort.cluster.start_member("replica-2");
    // It takes part again, and promises what its old disk does not know of.
    sort.cluster.replicas_agree_meanwhile().await;
    sort.clerk.more(20).await;
    sort.cluster.kill("replica-2");
    sort.cluster.restore_disk("replica-2");
    sort.cluster.start_member("replica-2");
    sort.right_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_are_killed_at_once() {
    let mut sort = in_the_middle().await;
    let all = ["replica-0", "replica-1", "replica-2"];
    all.iter().for_each(|name| sort.cluster.kill(name));
    all.iter().for_each(|name| sort.cluster.start_member(name));
    sort.right_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_f_plus_1_replicas_nothing_is_done_and_that_is_said() {
    let mut cluster = Processes::set_up(Setup::new(under_test(), 3)).await;
    cluster.kill("replica-0");
    cluster.kill("replica-1");
    let hasty = cluster.client().clone().with_patience(Duration::from_secs(2));
    let answer = hasty.remove(Path::parse("/nothing").expect("a path"), false).await;
    assert!(matches!(answer, Err(ClientError::Unreachable { .. })), "{answer:?}");
    let status = cluster.quorate(&["cluster", "status"]);
    let shown = tokio::task::spawn_blocking(move || {
        let mut child = { status }.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn()?;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
        let table: Vec<String> = lines.by_ref().take(6).collect::<Result<_, _>>()?;
        child.kill()?;
        child.wait()?;
        Ok::<_, std::io::Error>(table.join("\n"))
    });
    let shown = shown.await.expect("no panic").expect("a table");
    assert!(shown.contains("replica-0  does not answer") && shown.contains("nothing is ordered"), "{shown}");
    cluster.start_member("replica-0");
    cluster.start_member("replica-1");
    cluster.replicas_agree().await;
    cluster.stop().await;
}
