//! Every lie, embedded: outvoted, found out, and pinned on the liar alone.

use crate::{embedded::parts, programs::app};
use quorate::LocalCluster;
use quorate_liars::Kind;
use quorate_protocol::ids::TrackerId;
use quorate_tests::{
    oracle::{Guilt, only_guilty, succeeded},
    processes::PATIENCE,
    reference::{counted_by_coreutils, made_up_text, merged},
};

/// What each lie must lead to.
pub(crate) fn guilt(kind: Kind) -> Guilt {
    match kind {
        Kind::WrongMapDigest
        | Kind::CorruptMap
        | Kind::CorruptSegment
        | Kind::CorruptReduce
        | Kind::CorruptFirst { .. }
        | Kind::CopyVote
        | Kind::Garbled => Guilt::Suspected,
        Kind::ServeWrong | Kind::ServeWrongToOne | Kind::TwoVotes => Guilt::Convicted,
        // Slowness is never evidence of a lie, and a replay is what the network may do to an honest tracker.
        Kind::Silent | Kind::Slow | Kind::Crash | Kind::Replay => Guilt::Nothing,
    }
}

/// Runs two word counts (a replay needs an earlier job) with these liars, and asserts the three oracles.
async fn outvoted(f: u32, liars: &[Kind]) {
    let text = made_up_text(3 << 19);
    let reference = counted_by_coreutils(&text);
    let mut builder = LocalCluster::builder(app()).trackers(3 * f + 2).f(f).slots(1, 1);
    let guilty: Vec<(TrackerId, Guilt)> =
        liars.iter().enumerate().map(|(number, kind)| (TrackerId::new(number as u32), guilt(*kind))).collect();
    for ((id, _), kind) in guilty.iter().zip(liars) {
        builder = builder.liar(*id, *kind);
    }
    let cluster = builder.start().await.expect("a cluster");
    cluster.put(&text, "/in/text").await.expect("put");
    for output in ["/out-1", "/out-2"] {
        let mut specification = cluster.specification("words", "{}", &["/in"], output).expect("a specification");
        (specification.split_bytes, specification.partitions) = (128 << 10, 8);
        specification.progress_timeout_ms = 1500;
        let view =
            cluster.wait(cluster.submit(specification).await.expect("submitted"), PATIENCE).await.expect("it ends");
        succeeded(&view);
        assert_eq!(merged(&parts(&cluster, output, 8).await), reference, "{liars:?}");
    }
    only_guilty(cluster.client(), &guilty).await;
    cluster.stop().await;
}

macro_rules! each_liar {
    ($($name:ident: $kind:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            outvoted(1, &[Kind::$kind]).await;
        })*

        #[test]
        fn no_lie_is_left_out() {
            assert_eq!([$(Kind::$kind),*].len(), Kind::ALL.len());
            assert!(Kind::ALL.iter().all(|kind| [$(Kind::$kind),*].contains(kind)));
        }
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
async fn two_liars_of_different_kinds_at_f_2() {
    outvoted(2, &[Kind::CorruptMap, Kind::ServeWrong]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_liars_that_make_the_same_wrong_output_at_f_2() {
    // They flip the same bit, so their votes are equal: two colluders, and three are needed.
    outvoted(2, &[Kind::CorruptMap, Kind::CorruptMap]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_and_a_two_faced_one_at_f_2() {
    outvoted(2, &[Kind::Silent, Kind::TwoVotes]).await;
}
