//! The lie that the overhead benchmark has all trackers tell: one wrong vote for each task costs one more attempt, and stops
//! no job although everybody is suspected in the end.

use quorate::{LocalCluster, prelude::*, succeeded};
use quorate_liars::{Kind, is_hit};
use quorate_protocol::{ids::TrackerId, query::Blame};
use std::time::Duration;

const TRACKERS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(120);

struct Words;
impl Mapper for Words {
    type Input = Lines;
    type Key = [u8];
    type Value = u64;
    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
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

/// Counts 10,000 words, and checks the count, the attempts, and that nobody is convicted.
async fn hit(percent: u8) {
    let app = App::new("words", |_: &NoArgs| Job::new(|| Words, || Sum));
    let mut builder = LocalCluster::builder(app).trackers(TRACKERS).f(1);
    for tracker in (0..TRACKERS).map(TrackerId::new) {
        builder = builder.liar(tracker, Kind::CorruptFirst { percent });
    }
    let cluster = builder.start().await.expect("a cluster");
    cluster.put("word\n".repeat(10_000).as_bytes(), "/in/text").await.expect("put");
    let mut specification = cluster.specification("main", "null", &["/in"], "/out").expect("a specification");
    specification.split_bytes = 5_000;
    specification.progress_timeout_ms = 60_000;
    let job = cluster.submit(specification).await.expect("submitted");
    let view = cluster.wait(job, PATIENCE).await.expect("it ends");
    succeeded(&view).expect("it succeeds");
    let (maps, reduces) = (view.summary.maps.1, view.summary.reduces.1);
    let hits = (0..maps).filter(|task| is_hit(*task, percent)).count() as u64;
    assert_eq!((view.attempts, view.disputed), (2 * u64::from(maps + reduces) + hits, hits), "{percent} % of {maps}");
    let mut counts = Vec::new();
    for part in 0..reduces {
        counts.extend(cluster.read(&format!("/out/part-r-{part:05}")).await.expect("a part"));
    }
    assert_eq!(String::from_utf8_lossy(&counts), "word\t10000\n");
    for tracker in cluster.client().trackers().await.expect("trackers") {
        assert_ne!(tracker.blame, Blame::Convicted, "{}: being outvoted is no proof", tracker.id);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_in_some_tasks_costs_as_many_attempts() {
    hit(30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_in_every_task_costs_as_many_attempts_and_stops_nobody() {
    hit(100).await;
}
