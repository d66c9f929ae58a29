//! User code in its child process: what it cannot do, and what is kept of what it says.

use crate::under_test;
use quorate_tests::{Processes, oracle::only_guilty, processes::run};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn user_code_reads_no_key_writes_nowhere_else_uses_no_network_and_its_words_are_kept() {
    let cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.put(b"one line\n", "/in/text").await;
    let (secret, forbidden) = (cluster.folder().join("tracker-0.key"), cluster.folder().join("spied"));
    let mut spy = Command::new(env!("CARGO_BIN_EXE_spy"));
    spy.args(["submit", "--input", "/in", "--output", "/out", "--reducers", "1"])
        .arg("--secret")
        .arg(&secret)
        .arg("--forbidden")
        .arg(&forbidden)
        .args(["--address", &cluster.connection().cluster.replicas[0].address])
        .env("QUORATE_CLUSTER", cluster.folder().join("connection"));
    let output = run(spy).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let logs = run(cluster.quorate(&["job", "logs", "1"])).await;
    let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
    assert!(logs.contains("job-1/map-0.0 on tracker-") && logs.contains("write-own: worked"), "{logs}");
    if logs.contains("Landlock") {
        assert!(std::env::var_os("CI").is_none(), "on CI the kernel has all of Landlock: {logs}");
        eprintln!("skipped: this kernel's Landlock is old or missing");
        return cluster.stop().await;
    }
    let told = String::from_utf8(cluster.read_all("/out").await.concat()).expect("text");
    let denied = "connect\tPermissionDenied\nread\tPermissionDenied\nwrite\tPermissionDenied\nwrite-own\tworked\n";
    assert_eq!(told, denied);
    assert!(!forbidden.exists());
    only_guilty(cluster.client(), &[]).await;
    cluster.stop().await;
}
