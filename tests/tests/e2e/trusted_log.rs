//! Trusted logs in processes of their own: jobs run, a log that dies stops its replica and no other, and what is started
//! wrongly is explained.

use crate::under_test;
use quorate_protocol::{file::Path, ids::ReplicaId};
use quorate_tests::{
    Processes,
    helpers::{name, others_can_run},
    oracle::{only_guilty, succeeded},
    processes::{Setup, run},
    reference::{counted_by_coreutils, made_up_text, merged},
};
use std::{fs, path::PathBuf, process::Command};

/// The user that owns nothing.
const NOBODY: u32 = 65534;

const ALL: [ReplicaId; 3] = [ReplicaId::new(0), ReplicaId::new(1), ReplicaId::new(2)];

/// Has something ordered.
async fn order(cluster: &Processes) {
    let refused = cluster.client().remove(Path::parse("/nothing").expect("a path"), false).await;
    assert!(matches!(refused, Err(quorate_jobtracker::client::ClientError::Refused(_))), "{refused:?}");
}

async fn count_words(cluster: &Processes) {
    let text = made_up_text(1 << 20);
    cluster.put(&text, "/in/text").await;
    let job = cluster.submit_wordcount(&["--split", "256KiB", "--reducers", "2"]).await;
    succeeded(&cluster.ended(job).await);
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(&text));
    only_guilty(cluster.client(), &[]).await;
}

/// All vote, with the trusted logs that they began with.
async fn all_as_ever(cluster: &Processes, helpers: &[ReplicaId]) {
    cluster.replicas_agree().await;
    cluster.only_guilty_replicas(&[]).await;
    for view in cluster.views().await {
        let kind = if helpers.contains(&view.replica) { "software, in a helper process" } else { "software" };
        assert_eq!((view.trusted_log.as_str(), view.epoch), (kind, 0), "{view:?}");
    }
}

fn log(cluster: &Processes, member: &str) -> String {
    fs::read_to_string(cluster.folder().join(format!("{member}.log"))).expect("a log")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_and_a_log_that_is_killed_stops_its_replica_until_both_are_started_again() {
    let setup = Setup { helpers: ALL.to_vec(), ..Setup::new(under_test(), 3) };
    let mut cluster = Processes::set_up(setup).await;
    count_words(&cluster).await;
    all_as_ever(&cluster, &ALL).await;
    cluster.kill(&name(ALL[1]));
    for _ in 0..3 {
        order(&cluster).await;
    }
    let status = cluster.ends_by_itself("replica-1").await;
    let said = log(&cluster, "replica-1");
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("error[Q0506]: the trusted log cannot be reached"), "{said}");
    assert!(said.contains("quorate trusted-log --socket") && !said.contains("panicked"), "{said}");

    cluster.start_member("replica-1");
    assert_eq!(cluster.ends_by_itself("replica-1").await.code(), Some(5), "its log is not there yet");
    let said = log(&cluster, "replica-1");
    assert!(said.contains("does not answer") && said.contains("`quorate trusted-log --id 1 "), "{said}");
    order(&cluster).await;

    cluster.start_helper(ALL[1]).await;
    cluster.start_member("replica-1");
    all_as_ever(&cluster, &ALL).await;
    // It votes: without it there are not enough.
    cluster.kill("replica-2");
    order(&cluster).await;
    cluster.start_member("replica-2");
    all_as_ever(&cluster, &ALL).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_belongs_to_another_user_than_its_replica() {
    if quorate_jobtracker::own_user() != 0 {
        eprintln!("skipped: only root starts processes of another user");
        return;
    }
    if !others_can_run(&under_test().quorate, NOBODY) {
        return;
    }
    let setup = Setup { helpers: vec![ALL[0]], helpers_user: Some(NOBODY), ..Setup::new(under_test(), 3) };
    let mut cluster = Processes::set_up(setup).await;
    count_words(&cluster).await;
    all_as_ever(&cluster, &ALL[..1]).await;
    // Replica and log stop and start again, one after the other.
    cluster.terminate("replica-0");
    assert!(cluster.ends_by_itself("replica-0").await.success(), "{}", log(&cluster, "replica-0"));
    cluster.terminate(&name(ALL[0]));
    assert!(cluster.ends_by_itself(&name(ALL[0])).await.success(), "{}", log(&cluster, &name(ALL[0])));
    assert!(!cluster.helper_socket(ALL[0]).exists(), "the socket is taken away");
    cluster.start_helper(ALL[0]).await;
    cluster.start_member("replica-0");
    all_as_ever(&cluster, &ALL[..1]).await;
    cluster.stop().await;
}

/// A command line with the cluster's configuration.
struct Line<'a> {
    cluster: &'a Processes,
    command: Command,
}

impl<'a> Line<'a> {
    fn trusted_log(cluster: &'a Processes, id: &str) -> Self {
        let command = Command::new(under_test().quorate);
        let line = Self { cluster, command }.word("trusted-log").word("--id").word(id);
        line.file("--config", "config.toml")
    }
    /// `quorate jobtracker` for a replica, with a new folder.
    fn replica(cluster: &'a Processes, id: &str, socket: &PathBuf) -> Self {
        let command = Command::new(under_test().quorate);
        let line = Self { cluster, command }.word("jobtracker").word("--id").word(id).word("--trusted-log");
        line.word(socket)
            .file("--config", "config.toml")
            .file("--dir", "new")
            .file("--key", &format!("replica-{id}.key"))
    }
    fn word(mut self, word: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(word);
        self
    }
    fn file(mut self, option: &str, file: &str) -> Self {
        self.command.arg(option).arg(self.cluster.folder().join(file));
        self
    }
    /// It ends with this exit code, and says all this.
    async fn fails(self, code: i32, says: &[&str]) {
        let shown = format!("{:?}", self.command);
        let output = run(self.command).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{shown}: {text}");
        assert!(says.iter().all(|says| text.contains(says)) && !text.contains("panicked"), "{shown}: {says:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_started_wrongly_is_explained_and_disturbs_nobody() {
    let setup = Setup { helpers: vec![ALL[0], ALL[1]], ..Setup::new(under_test(), 3) };
    let mut cluster = Processes::set_up(setup).await;
    let log = |id, key, folder, socket| {
        let line = Line::trusted_log(&cluster, id).file("--key", key);
        line.file("--dir", folder).file("--socket", socket)
    };
    log("0", "replica-0.key", "x", "s").fails(2, &["not the key", "trusted log of replica-0", "`log`"]).await;
    log("7", "trusted-log-0.key", "x", "s").fails(2, &["no replica-7", "--id"]).await;
    log("0", "no-such.key", "x", "s").fails(3, &["no-such.key"]).await;
    log("0", "trusted-log-0.key", "trusted-log-0", "s").fails(5, &["in use by another process", "runs already"]).await;
    log("0", "trusted-log-0.key", "x", "trusted-log-1/socket").fails(5, &["trusted-log-1/socket", "--socket"]).await;
    log("0", "trusted-log-0.key", "x", "no-such-folder/s").fails(5, &["no-such-folder/s", "the folder"]).await;
    log("0", "trusted-log-0.key", "x", "config.toml").fails(5, &["config.toml"]).await;
    order(&cluster).await;

    cluster.kill("replica-0");
    cluster.kill("replica-1");
    let foreign = Line::replica(&cluster, "0", &cluster.helper_socket(ALL[1]));
    foreign.fails(2, &["not the trusted log", "another replica's"]).await;
    let nobody = Line::replica(&cluster, "0", &cluster.folder().join("nowhere"));
    nobody.fails(5, &["nowhere does not answer", "`quorate trusted-log --id 0 "]).await;

    cluster.kill(&name(ALL[0]));
    let mut elsewhere = Line::trusted_log(&cluster, "0")
        .file("--key", "trusted-log-0.key")
        .file("--dir", "trusted-log-0")
        .file("--socket", "elsewhere")
        .word("--allow-user")
        .word((quorate_jobtracker::own_user() + 1).to_string());
    let mut child = elsewhere.command.spawn().expect("starts");
    cluster.until("it is there", async || cluster.folder().join("elsewhere").exists()).await;
    let turned_away = Line::replica(&cluster, "0", &cluster.folder().join("elsewhere"));
    turned_away.fails(5, &["does not answer", "--allow-user"]).await;
    child.kill().and_then(|()| child.wait()).expect("killed");

    cluster.start_helper(ALL[0]).await;
    cluster.start_member("replica-0");
    cluster.start_member("replica-1");
    all_as_ever(&cluster, &ALL[..2]).await;
    cluster.stop().await;
}
