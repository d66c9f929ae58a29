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

async fn works(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn sha256(path: &Path) -> String {
    Sha256::digest(std::fs::read(path).expect("a file")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The parts of a sorted output, one after the other.
fn joined(folder: &Path) -> Vec<u8> {
    let mut parts: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|part| part.expect("a part").path()).collect();
    parts.sort();
    parts.iter().flat_map(|part| std::fs::read(part).expect("a part")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_records_are_sorted_to_the_golden_digest_beside_a_liar() {
    let liar = TrackerId::new(3);
    let cluster = Processes::start(under_test(), 5, &[(liar, Kind::CorruptMap)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (input, sorted) = (folder.path().join("records"), folder.path().join("sorted"));
    let (input_name, sorted_name) = (input.to_str().expect("UTF-8"), sorted.to_str().expect("UTF-8"));
    works(cluster.terasort(&["gen", "100000", input_name])).await;
    assert_eq!(sha256(&input), "b448d01a3705d4908bf9170e6d5591f6bf94f9219d0faed44b3e4011eef91087");

    works(cluster.quorate(&["fs", "put", input_name, "/records"])).await;
    let sort = ["submit", "--input", "/records", "--output", "/sorted", "--reducers", "4", "--split", "1MiB"];
    works(cluster.terasort(&sort)).await;
    works(cluster.quorate(&["fs", "get", "/sorted", sorted_name])).await;
    let whole = folder.path().join("whole");
    std::fs::write(&whole, joined(&sorted)).expect("written");
    assert_eq!(sha256(&whole), "ef9a775fee35ecaa3d743b0713c3f62a259db9b5b286af74d01c97133f5cf283");
    let verdict = works(cluster.terasort(&["validate", sorted_name])).await;
    assert!(verdict.contains("c3068574c6ff"), "{verdict}");
    only_guilty(cluster.client(), &[(liar, Guilt::Suspected)]).await;
    cluster.stop().await;
}
