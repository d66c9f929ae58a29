//! `quorate demo`: it shows what it says, and leaves nothing behind.

use crate::under_test;
use quorate_tests::processes::run;
use std::process::{Command, Stdio};

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_runs_through_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(under_test().quorate);
    command.args(["demo", "--yes"]).env("TMPDIR", folder.path()).stdin(Stdio::null());
    let output = run(command).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for expected in [
        "1 of 6",
        "leads now",
        "stays dead",
        "They are the same",
        "signed each part",
        "is the certified one",
        "part-r-00001 differs between its bytes",
    ] {
        assert!(said.contains(expected), "{expected:?}: {said}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
