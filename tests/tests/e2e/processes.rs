//! Real processes: every lie, and every f.

use crate::{liars::guilt, under_test};
use quorate_liars::Kind;
use quorate_protocol::ids::TrackerId;
use quorate_tests::{
    Processes,
    oracle::{Guilt, only_guilty, succeeded},
    reference::{counted_by_coreutils, merged, plays},
};

const ARGUMENTS: &[&str] = &["--split", "128KiB", "--reducers", "4", "--timeout", "2s"];

/// A liar that has its say in so many jobs shows.
const JOBS_MAX: u32 = 10;

async fn all_blamed(cluster: &Processes, liars: &[(TrackerId, Guilt)]) -> bool {
    let trackers = cluster.client().trackers().await.expect("trackers");
    let blamed = |liar| trackers.iter().any(|tracker| tracker.id == liar && tracker.evidence > 0);
    liars.iter().all(|(liar, _)| blamed(*liar))
}

async fn counts(f: &str, liars: &[(TrackerId, Kind)]) {
    let text = plays();
    let cluster = Processes::start(under_test(), 5, liars).await;
    cluster.put(&text, "/in/plays").await;
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--f", f]);
    let shown: Vec<(TrackerId, Guilt)> = liars
        .iter()
        .filter(|(_, kind)| matches!(kind, Kind::CorruptMap | Kind::WrongMapDigest | Kind::Garbled | Kind::TwoVotes))
        .map(|(liar, kind)| (*liar, guilt(*kind)))
        .collect();
    // A replay needs an earlier job: in its first one that liar has nothing to say again.
    let replays = liars.iter().any(|(_, kind)| *kind == Kind::Replay);
    let mut jobs = 0;
    loop {
        let view = cluster.ended(cluster.submit_wordcount(&arguments).await).await;
        succeeded(&view);
        assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(&text));
        jobs += 1;
        // On a busy machine a liar may come too late to be heard, in one job and in the next.
        let heard = all_blamed(&cluster, &shown).await || jobs == JOBS_MAX;
        if heard && (jobs > 1 || !replays) {
            break;
        }
        let out = quorate_protocol::file::Path::parse("/out").expect("a path");
        cluster.client().remove(out, true).await.expect("removed");
    }
    // A lie need not show in one short job; what is blamed must be the guilty one.
    let blamed = cluster.client().trackers().await.expect("trackers");
    for tracker in blamed.iter().filter(|tracker| tracker.evidence > 0) {
        assert!(liars.iter().any(|(liar, kind)| *liar == tracker.id && guilt(*kind) != Guilt::Nothing));
    }
    if !shown.is_empty() || liars.is_empty() {
        only_guilty(cluster.client(), &shown).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn word_count_equals_coreutils_at_f_0_1_and_2() {
    for f in ["0", "1", "2"] {
        counts(f, &[]).await;
    }
}

macro_rules! each_liar {
    ($($name:ident: $kind:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            counts("1", &[(TrackerId::new(2), Kind::$kind)]).await;
        })*
    };
}

each_liar! {
    wrong_map_digest: WrongMapDigest,
    corrupt_map: CorruptMap,
    corrupt_segment: CorruptSegment,
    serve_wrong: ServeWrong,
    serve_wrong_to_one: ServeWrongToOne,
    corrupt_reduce: CorruptReduce,
    copy_vote: CopyVote,
    two_votes: TwoVotes,
    silent: Silent,
    slow: Slow,
    crash: Crash,
    replay: Replay,
    garbled: Garbled,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_liars_at_f_2() {
    counts("2", &[(TrackerId::new(1), Kind::CorruptMap), (TrackerId::new(3), Kind::Silent)]).await;
}
