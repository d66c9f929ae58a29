//! The command line as people meet it: round trips, mistakes, and a clean end.

use crate::under_test;
use quorate_tests::{
    Processes,
    processes::{PATIENCE, run},
    reference::{counted_by_coreutils, made_up_text, merged},
};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Output, Stdio},
    time::Instant,
};

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn fails(command: Command, code: i32, says: &[&str]) {
    let shown = format!("{command:?}");
    let output = run(command).await;
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(code), "{shown}: {text}");
    for needle in says {
        assert!(text.contains(needle), "{shown} does not say {needle:?}: {text}");
    }
    assert!(!text.contains("panicked"), "{shown}: {text}");
}

async fn works(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command).await;
    assert!(output.status.success(), "{shown}: {}", text_of(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_and_come_out_and_mistakes_are_explained() {
    let cluster = Processes::start(under_test(), 3, &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let local = folder.path().join("text");
    let text = made_up_text(5 << 20);
    std::fs::write(&local, &text).expect("written");
    let local = local.to_str().expect("UTF-8");

    works(cluster.quorate(&["fs", "put", local, "/a/text"])).await;
    fails(cluster.quorate(&["fs", "put", local, "/a/text"]), 3, &["/a/text exists already"]).await;
    fails(cluster.quorate(&["fs", "put", "/no/such/file", "/b"]), 3, &["/no/such/file", "hint"]).await;
    fails(cluster.quorate(&["fs", "put", local, "/a/../b"]), 2, &["'..'"]).await;
    assert!(works(cluster.quorate(&["fs", "ls"])).await.contains("/a/"));
    assert!(works(cluster.quorate(&["fs", "ls", "/a"])).await.contains("2 copies"));
    assert!(works(cluster.quorate(&["fs", "du"])).await.contains("5.0 MiB"));
    assert_eq!(works(cluster.quorate(&["fs", "cat", "/a/text"])).await.as_bytes(), text);
    fails(cluster.quorate(&["fs", "cat", "/nothing"]), 3, &["/nothing does not exist"]).await;

    let copy = folder.path().join("copy");
    let copy_name = copy.to_str().expect("UTF-8");
    works(cluster.quorate(&["fs", "get", "/a/text", copy_name])).await;
    assert_eq!(std::fs::read(&copy).expect("a copy"), text);
    fails(cluster.quorate(&["fs", "get", "/a/text", copy_name]), 3, &["exists already"]).await;
    fails(cluster.quorate(&["fs", "rm", "/a"]), 3, &["is a folder", "-r"]).await;

    let submit = |more: &[&str]| {
        let mut all = vec!["submit", "--input", "/a", "--output", "/out"];
        all.extend(more);
        cluster.wordcount(&all)
    };
    fails(submit(&["--f", "2"]), 4, &["f = 2 needs 5 failure domains", "there are 3", "hint"]).await;
    fails(cluster.wordcount(&["submit", "--input", "/none", "--output", "/o"]), 3, &["/none does not exist"]).await;
    fails(cluster.wordcount(&["submit", "--input", "/a", "--output", "/a"]), 3, &["/a exists already"]).await;
    fails(submit(&["--memory", "1MiB"]), 2, &["16"]).await;
    let printed = works(submit(&[])).await;
    assert!(printed.contains("the most frequent") && printed.contains("/out"), "{printed}");
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(&text));
    let shown = works(cluster.quorate(&["job", "show", "1"])).await;
    assert!(shown.contains("succeeded"), "{shown}");
    assert!(works(cluster.quorate(&["job", "list"])).await.contains("job-1"));
    fails(cluster.quorate(&["job", "show", "99"]), 3, &["job-99 does not exist"]).await;
    fails(cluster.quorate(&["job", "show", "x"]), 2, &["invalid"]).await;
    works(cluster.quorate(&["fs", "rm", "-r", "/a"])).await;
    fails(cluster.quorate(&["fs", "ls", "/a"]), 3, &["/a does not exist"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_job_ends_and_leaves_no_output_and_no_process() {
    let cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.put(&made_up_text(16 << 20), "/in/text").await;
    let job = cluster.submit_wordcount(&["--split", "64KiB"]).await;
    works(cluster.quorate(&["job", "kill", &job.to_string()])).await;
    let view = cluster.ended(job).await;
    assert_eq!(view.summary.state, quorate_protocol::query::JobState::Killed);
    fails(cluster.quorate(&["fs", "ls", "/out"]), 3, &["does not exist"]).await;
    fails(cluster.quorate(&["job", "wait", &job.to_string()]), 1, &["killed"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_without_a_cluster_are_explained() {
    let programs = under_test();
    let folder = tempfile::tempdir().expect("a folder");
    let none = folder.path().join("none");
    let command = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("QUORATE_CLUSTER", &none).env("QUORATE_CONFIG", "").current_dir(folder.path());
        command
    };
    fails(command(&programs.quorate, &["job", "list"]), 4, &["no cluster", "quorate cluster up"]).await;
    fails(command(&programs.wordcount, &["submit", "--input", "/a", "--output", "/b"]), 4, &["cluster up"]).await;
    fails(command(&programs.wordcount, &["--input", "nowhere"]), 3, &["nowhere", "hint"]).await;
    fails(command(&programs.wordcount, &["--output", "."]), 3, &["exists"]).await;
    fails(command(&programs.wordcount, &["--liar", "fibber"]), 2, &["fibber", "corrupt-map"]).await;
    fails(command(&programs.wordcount, &["--liar", "9=corrupt-map"]), 2, &["9"]).await;
    fails(command(&programs.wordcount, &["--f", "3"]), 2, &["7 trackers", "5"]).await;
    fails(command(&programs.quorate, &["cluster", "up", "--f", "3"]), 2, &["7 trackers", "hint"]).await;
    fails(command(&programs.quorate, &["cluster", "up", "--liar", "1=fibber"]), 2, &["corrupt-map"]).await;
    fails(command(&programs.quorate, &["cluster", "up", "--liar", "jt1=fibber"]), 2, &["stale-view"]).await;
    fails(command(&programs.quorate, &["cluster", "up", "--liar", "jt3=censor"]), 2, &["jt0 to jt2"]).await;
    fails(command(&programs.quorate, &["cluster", "up", "--liar", "jt1"]), 2, &["stale-view"]).await;
    for (even, hint) in [("0", "1 is the least"), ("2", "1 are as good"), ("4", "3 are as good, and 5")] {
        fails(command(&programs.quorate, &["cluster", "up", "--jobtrackers", even]), 2, &["odd", hint]).await;
    }
    std::fs::write(folder.path().join("config.toml"), "garbage").expect("a file");
    fails(command(&programs.quorate, &["cluster", "up", "--dir", "."]), 3, &["config.toml", "another --dir"]).await;
    fails(command(&programs.quorate, &["cluster", "up", "--dir", "config.toml"]), 3, &["--dir is a folder"]).await;
    let many = ["cluster", "up", "--liar", "jt1=censor", "--liar", "jt2=censor", "--dir", "."];
    fails(command(&programs.quorate, &many), 3, &["2 replicas lie, and 1 may"]).await;
    let pbft = |more: &[&'static str]| [&["cluster", "up", "--agreement", "pbft"], more].concat();
    fails(command(&programs.quorate, &pbft(&["--jobtrackers", "3"])), 2, &["3f + 1", "hint: 1 are as good, and 4"])
        .await;
    fails(command(&programs.quorate, &pbft(&["--liar", "jt4=censor"])), 2, &["jt0 to jt3"]).await;
    fails(command(&programs.quorate, &["cluster", "up", "--agreement", "paxos"]), 2, &["minbft and pbft"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_refused_where_the_configuration_does_not_allow_liars() {
    let programs = under_test();
    let cluster = Processes::start(programs.clone(), 3, &[]).await;
    let folder = cluster.folder();
    let mut command = Command::new(&programs.quorate);
    command.args(["tasktracker", "--id", "0", "--liar", "corrupt-map"]);
    command.arg("--config").arg(folder.join("config.toml")).arg("--key").arg(folder.join("tracker-0.key"));
    command.arg("--dir").arg(folder.join("other"));
    fails(command, 2, &["error[Q0214]", "does not allow liars"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_up_serves_and_ctrl_c_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let (connection, temporary) = (folder.path().join("connection"), folder.path().join("tmp"));
    std::fs::create_dir(&temporary).expect("a folder");
    let mut up = Command::new(under_test().quorate)
        .args(["cluster", "up", "--trackers", "3", "--liar", "1=corrupt-map"])
        .env("QUORATE_CLUSTER", &connection)
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(up.stdout.take().expect("piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    assert!(first.contains("3 replicas") && first.contains("3 trackers in 3 domains"), "{first}");

    let pid = rustix::process::Pid::from_child(&up);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = up.try_wait().expect("a child") {
            break status;
        }
        assert!(Instant::now() < deadline, "cluster up does not stop");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let mut said = String::new();
    up.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(status.success(), "{said}");
    assert!(!said.contains("killed"), "{said}");
    assert!(!connection.exists(), "the connection is forgotten");
    let left: Vec<_> = std::fs::read_dir(&temporary).expect("a folder").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
