//! What is explained of each lie: exactly the guilty, and the right record.

use crate::{embedded::parts, liars::guilt, programs::app, under_test};
use quorate::{
    LocalCluster,
    explain::{Explanation, Look, Won, explain},
};
use quorate_liars::Kind;
use quorate_protocol::ids::{JobId, Stage, TaskId, TrackerId};
use quorate_tasktracker::{Difference, Finding, Shown, Vouched};
use quorate_tests::{
    Processes,
    http::json,
    oracle::{Guilt, succeeded},
    processes::{PATIENCE, run},
    reference::made_up_text,
};
use std::collections::BTreeSet;

const LIAR: TrackerId = TrackerId::new(0);
const SPLIT_BYTES: usize = 128 << 10;

/// The words of each split, without the engine: a line belongs to the split in which it begins.
fn words_of_splits(text: &[u8]) -> Vec<BTreeSet<Vec<u8>>> {
    let mut splits = vec![BTreeSet::new(); text.len().div_ceil(SPLIT_BYTES)];
    let mut start = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        splits[start / SPLIT_BYTES].extend(words.map(<[u8]>::to_vec));
        start += line.len();
    }
    splits
}

/// Two word counts, explained.
struct Jobs {
    cluster: LocalCluster,
    text: Vec<u8>,
    explanations: Vec<Explanation>,
}

async fn explained(kind: Kind, partitions: u32) -> Jobs {
    let text = made_up_text(3 << 19);
    let builder = LocalCluster::builder(app()).trackers(5).f(1).slots(1, 1).liar(LIAR, kind);
    let cluster = builder.page(([127, 0, 0, 1], 0).into()).start().await.expect("a cluster");
    cluster.put(&text, "/in/text").await.expect("put");
    let mut explanations = Vec::new();
    // A replay needs an earlier job.
    for output in ["/out-1", "/out-2"] {
        let mut specification = cluster.specification("words", "{}", &["/in"], output).expect("a specification");
        (specification.split_bytes, specification.partitions) = (SPLIT_BYTES as u64, partitions);
        specification.progress_timeout_ms = 1500;
        let job = cluster.submit(specification).await.expect("submitted");
        succeeded(&cluster.wait(job, PATIENCE).await.expect("it ends"));
        explanations.push(explain(cluster.connection(), job, None).await.expect("explained"));
    }
    Jobs { cluster, text, explanations }
}

impl Jobs {
    fn text(&self) -> String {
        self.explanations.iter().map(ToString::to_string).collect()
    }

    fn findings(&self) -> Vec<&Finding> {
        let disputes = self.explanations.iter().flat_map(|explanation| &explanation.disputes);
        disputes.flat_map(|explained| &explained.findings).collect()
    }

    /// The places where outputs differ, of which there is at least one.
    fn differences(&self) -> Vec<&Difference> {
        let mut all: Vec<&Difference> = Vec::new();
        for finding in self.findings() {
            match finding {
                Finding::Difference(difference) => all.push(difference),
                other => panic!("{other}"),
            }
        }
        assert!(!all.is_empty(), "{}", self.text());
        all
    }

    fn looks(&self) -> Vec<&Look> {
        self.explanations.iter().flat_map(|explanation| &explanation.looks).collect()
    }

    fn only_the_liar_is_pointed_at(&self) {
        let pointed: BTreeSet<_> = self.looks().into_iter().filter_map(Look::points_at).collect();
        assert_eq!(pointed, BTreeSet::from([LIAR]), "{}", self.text());
        assert_eq!(self.held(), BTreeSet::from([LIAR]), "{}", self.text());
        let disputes = self.explanations.iter().flat_map(|explanation| &explanation.disputes);
        let losers = disputes.flat_map(|explained| &explained.camps).filter(|camp| camp.won == Won::Outvoted);
        assert!(losers.flat_map(|camp| &camp.members).all(|member| member.tracker == LIAR), "{}", self.text());
    }

    fn held(&self) -> BTreeSet<TrackerId> {
        self.explanations.iter().flat_map(|explanation| &explanation.held).map(|held| held.tracker).collect()
    }
}

/// The page of a replica finds the same.
async fn the_page_says_so(jobs: &Jobs, difference: &Difference) {
    let (page, task) = (jobs.cluster.pages()[0].to_string(), difference.task);
    let path = format!("/api/v1/jobs/{}/tasks/{}-{}/difference", task.job, task.stage, task.index);
    let told = json(&page, &path).await;
    let found = &told["found"][0];
    assert_eq!((&found["finding"], &found["place"]), (&"difference".into(), &difference.place().into()), "{told}");
    for (side, ours) in difference.sides.iter().zip(found["sides"].as_array().expect("sides")) {
        assert_eq!((&ours["tracker"], &ours["text"]), (&side.tracker.number().into(), &side.shown.to_string().into()));
    }
}

/// The last record of a map task's output is wrong.
async fn wrong_map_output(kind: Kind) {
    let jobs = explained(kind, 1).await;
    jobs.only_the_liar_is_pointed_at();
    let splits = words_of_splits(&jobs.text);
    for difference in jobs.differences() {
        assert_eq!(difference.task.stage, Stage::Map);
        let words = &splits[difference.task.index as usize];
        assert_eq!(difference.record, Some((words.len() as u64 - 1, Vouched::Both)), "{}", jobs.text());
        let word = format!("\"{}\"", words.last().expect("words").escape_ascii());
        let [ours, theirs] = &difference.sides;
        assert_eq!(theirs.tracker, LIAR);
        let values = [ours, theirs].map(|side| match &side.shown {
            Shown::Record { key, value } if *key == word => value,
            other => panic!("{other}, and not {word}"),
        });
        assert_ne!(values[0], values[1]);
        assert!(difference.rounds <= 16);
        the_page_says_so(&jobs, difference).await;
    }
    jobs.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_map() {
    wrong_map_output(Kind::CorruptMap).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_segment() {
    wrong_map_output(Kind::CorruptSegment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_map_digest() {
    let jobs = explained(Kind::WrongMapDigest, 1).await;
    jobs.only_the_liar_is_pointed_at();
    let is_told = |finding: &Finding| match finding {
        Finding::NotAsVoted { tracker, is_of: Some(other) } => tracker.0 == LIAR && other.0 != LIAR,
        _ => false,
    };
    assert!(jobs.findings().into_iter().all(is_told), "{}", jobs.text());
    assert!(jobs.looks().contains(&&Look::WrongVote(LIAR)), "{}", jobs.text());
    jobs.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_reduce() {
    const PARTITIONS: u32 = 8;
    let jobs = explained(Kind::CorruptReduce, PARTITIONS).await;
    jobs.only_the_liar_is_pointed_at();
    let parts = parts(&jobs.cluster, "/out-1", PARTITIONS).await;
    for difference in jobs.differences() {
        assert_eq!((difference.task.stage, difference.task.index), (Stage::Reduce, difference.partition));
        assert_eq!((difference.byte, difference.line), (0, Some(1)), "{}", jobs.text());
        let line = parts[difference.partition as usize].split(|byte| *byte == b'\n').next().expect("a line");
        let spoilt = [&[line[0] ^ 1], &line[1..]].concat();
        let [ours, theirs] = &difference.sides;
        assert_eq!(theirs.tracker, LIAR);
        let shown = |line: &[u8]| Shown::Text(format!("\"{}\"", line.escape_ascii()));
        assert_eq!((&ours.shown, &theirs.shown), (&shown(line), &shown(&spoilt)), "{}", jobs.text());
    }
    jobs.cluster.stop().await;
}

/// A lie that no vote shows: what is held against the tracker tells it.
async fn held_against(kind: Kind) {
    // Many reducers, so that somebody asks the liar for what it has not got.
    let jobs = explained(kind, 8).await;
    let expected = if guilt(kind) == Guilt::Nothing { BTreeSet::new() } else { BTreeSet::from([LIAR]) };
    assert_eq!(jobs.held(), expected, "{}", jobs.text());
    let pointed: BTreeSet<_> = jobs.looks().into_iter().filter_map(Look::points_at).collect();
    match guilt(kind) {
        Guilt::Nothing => assert_eq!(pointed, BTreeSet::new(), "{}", jobs.text()),
        Guilt::Suspected => assert_eq!(pointed, expected, "{}", jobs.text()),
        Guilt::Convicted => assert!(jobs.looks().contains(&&Look::Lied(LIAR)), "{}", jobs.text()),
    }
    jobs.cluster.stop().await;
}

macro_rules! not_outvoted {
    ($($name:ident: $kind:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            held_against(Kind::$kind).await;
        })*

        #[test]
        fn no_lie_is_left_unexplained() {
            let outvoted = [Kind::CorruptMap, Kind::CorruptSegment, Kind::WrongMapDigest, Kind::CorruptReduce];
            let all: BTreeSet<Kind> = outvoted.into_iter().chain([$(Kind::$kind),*]).collect();
            assert_eq!(all, BTreeSet::from(Kind::ALL));
        }
    };
}

not_outvoted! {
    serve_wrong: ServeWrong,
    serve_wrong_to_one: ServeWrongToOne,
    copy_vote: CopyVote,
    two_votes: TwoVotes,
    silent: Silent,
    slow: Slow,
    crash: Crash,
    replay: Replay,
    garbled: Garbled,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smooth_job_is_said_to_be_one() {
    let cluster = LocalCluster::builder(app()).trackers(3).f(1).start().await.expect("a cluster");
    cluster.put(b"a b\n", "/in/text").await.expect("put");
    let specification = cluster.specification("words", "{}", &["/in"], "/out").expect("a specification");
    let job = cluster.submit(specification).await.expect("submitted");
    succeeded(&cluster.wait(job, PATIENCE).await.expect("it ends"));
    let explanation = explain(cluster.connection(), job, None).await.expect("explained");
    assert_eq!((explanation.looks.as_slice(), explanation.disputes.len()), (&[Look::Smooth][..], 0));
    let task = |index| TaskId { job, stage: Stage::Map, index };
    let explanation = explain(cluster.connection(), job, Some(task(0))).await.expect("explained");
    assert!(explanation.to_string().contains("Nobody disputes map-0"), "{explanation}");
    let failure = explain(cluster.connection(), job, Some(task(1))).await.expect_err("there is no such task");
    assert!(failure.message.contains("job-1/map-1"), "{failure}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dice_look_like_a_program_and_blame_nobody() {
    let cluster = LocalCluster::builder(app()).trackers(3).f(1).start().await.expect("a cluster");
    cluster.put(b"a\nb\nroll\nz\n", "/in/text").await.expect("put");
    let mut specification = cluster.specification("dice", "{}", &["/in"], "/out").expect("a specification");
    specification.partitions = 1;
    let job = cluster.submit(specification).await.expect("submitted");
    cluster.wait(job, PATIENCE).await.expect("it ends");
    let explanation = explain(cluster.connection(), job, None).await.expect("explained");
    assert!(matches!(explanation.looks.as_slice(), [Look::Changes(_)]), "{explanation}");
    assert_eq!(explanation.disputes.len(), 1);
    let record = |finding: &Finding| match finding {
        Finding::Difference(difference) => difference.record,
        other => panic!("{other}"),
    };
    let records: Vec<_> = explanation.disputes[0].findings.iter().map(record).collect();
    // Three trackers voted, and one of them twice at least.
    assert!(records.len() >= 3, "the first vote beside each other one: {explanation}");
    assert!(records.iter().all(|record| *record == Some((2, Vouched::Both))), "{explanation}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_explains_as_long_as_the_trackers_have_the_bytes_and_says_so_when_not() {
    let mut cluster = Processes::start(under_test(), 3, &[(LIAR, Kind::CorruptMap)]).await;
    cluster.put(&made_up_text(1 << 20), "/in/text").await;
    let job = cluster.submit_wordcount(&["--split", "256KiB"]).await;
    succeeded(&cluster.ended(job).await);
    let said = async |cluster: &Processes, arguments: &[&str]| {
        let output = run(cluster.quorate(arguments)).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let text = said(&cluster, &["explain", "1"]).await;
    assert!(text.contains("tracker-0 was outvoted by tracker-1 and tracker-2."), "{text}");
    assert!(text.contains("They are alike up to partition 0, record "), "{text}");
    assert!(text.contains("tracker-0 is suspected: it was outvoted on"), "{text}");
    let json = said(&cluster, &["explain", "job-1", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["disputes"][0]["findings"][0]["difference"]["sides"][1]["tracker"], "tracker-0");
    let task = json["disputes"][0]["task"].as_str().expect("a name").to_owned();
    // The votes outlive the tracker; the bytes do not.
    cluster.kill("tracker-0");
    let text = said(&cluster, &["explain", "1", &task]).await;
    assert!(text.contains("tracker-0 was outvoted by tracker-1 and tracker-2."), "{text}");
    assert!(text.contains("Tracker-0 does not show what it has"), "{text}");
    let missing = run(cluster.quorate(&["explain", "1", "map-99"])).await;
    assert_eq!(missing.status.code(), Some(3));
    let none = run(cluster.quorate(&["explain", &JobId::new(9).to_string()])).await;
    assert_eq!(none.status.code(), Some(3), "{}", String::from_utf8_lossy(&none.stderr));
    cluster.stop().await;
}
