//! The sort benchmark's records through real processes, against its golden figures.

use crate::under_test;
use quorate_liars::Kind;
use quorate_protocol::ids::TrackerId;
use quorate_tests::{
    Processes,
    oracle::{Guilt, only_guilty},
    processes::run,
};
use sha2::{Digest, Sha256};
use std::{path::Path, process::Command};

/// The digest of the hundred thousand records, sorted.
pub(crate) const SORTED: &str = "ef9a775fee35ecaa3d743b0713c3f62a259db9b5b286af74d01c97133f5cf283";

pub(crate) async fn works(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a hundred thousand records, and the cluster's file `/records` of them.
pub(crate) async fn generate(cluster: &Processes, folder: &Path) {
    let input = folder.join("records");
    let name = input.to_str().expect("UTF-8");
    works(cluster.terasort(&["gen", "100000", name])).await;
    assert_eq!(
        sha256(&std::fs::read(&input).expect("a file")),
        "b448d01a3705d4908bf9170e6d5591f6bf94f9219d0faed44b3e4011eef91087"
    );
    works(cluster.quorate(&["fs", "put", name, "/records"])).await;
}

/// The digest of a sorted output's parts, one after the other.
pub(crate) fn joined(folder: &Path) -> String {
    let mut parts: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|part| part.expect("a part").path()).collect();
    parts.sort();
    sha256(&parts.iter().flat_map(|part| std::fs::read(part).expect("a part")).collect::<Vec<u8>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_records_are_sorted_to_the_golden_digest_beside_a_liar() {
    let liar = TrackerId::new(3);
    let cluster = Processes::start(under_test(), 5, &[(liar, Kind::CorruptMap)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sorted = folder.path().join("sorted");
    let sorted_name = sorted.to_str().expect("UTF-8");
    generate(&cluster, folder.path()).await;
    let sort = ["submit", "--input", "/records", "--output", "/sorted", "--reducers", "4", "--split", "1MiB"];
    works(cluster.terasort(&sort)).await;
    works(cluster.quorate(&["fs", "get", "/sorted", sorted_name])).await;
    assert_eq!(joined(&sorted), SORTED);
    let verdict = works(cluster.terasort(&["validate", sorted_name])).await;
    assert!(verdict.contains("c3068574c6ff"), "{verdict}");
    only_guilty(cluster.client(), &[(liar, Guilt::Suspected)]).await;
    cluster.stop().await;
}
