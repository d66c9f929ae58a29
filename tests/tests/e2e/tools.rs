//! What the command says to programs and shells: JSON, completions, man pages, settings.

use crate::under_test;
use quorate::{exit::Code, json};
use quorate_protocol::{ids::TrackerId, query::Blame};
use quorate_tests::{
    Processes,
    processes::{Setup, run},
    reference::made_up_text,
};
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

async fn printed(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command).await;
    assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn alone(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(under_test().quorate);
    command.args(arguments).current_dir(folder).env("QUORATE_CONFIG", "").env_remove("QUORATE_CLUSTER");
    command.stdin(Stdio::null());
    command
}

/// JSON of the real commands is read with the types that are promised, says what the client is told, and no field of it is
/// missing there.
#[tokio::test(flavor = "multi_thread")]
async fn json_says_what_the_job_tracker_says() {
    fn read<T: serde::de::DeserializeOwned + serde::Serialize>(text: &str) -> T {
        let raw: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let shape: T = serde_json::from_str(text).expect("the promised shape");
        assert_eq!(serde_json::to_value(&shape).expect("JSON"), raw, "nothing is left over");
        shape
    }
    let liars = vec![(TrackerId::new(1), quorate_liars::Kind::CorruptMap)];
    let cluster = Processes::set_up(Setup { liars, ..Setup::new(under_test(), 3) }).await;
    let text = made_up_text(2 << 20);
    cluster.put(&text, "/in/text").await;
    let submit = ["submit", "--input", "/in", "--output", "/out", "--split", "256KiB"];
    printed(cluster.wordcount(&submit)).await;

    let jobs: Vec<json::Job> = read(&printed(cluster.quorate(&["job", "list", "--json"])).await);
    assert_eq!((jobs.len(), jobs[0].job, jobs[0].state.as_str()), (1, 1, "succeeded"));
    let detail: json::JobDetail = read(&printed(cluster.quorate(&["job", "show", "1", "--json"])).await);
    let view = cluster.client().job(quorate_protocol::ids::JobId::new(1)).await.expect("a job");
    assert_eq!(detail, json::JobDetail::from(&view));
    let outvoted = detail.disputes.iter().flat_map(|task| &task.attempts).filter(|attempt| attempt.state == "outvoted");
    let guilty: BTreeSet<u32> = outvoted.map(|attempt| attempt.tracker).collect();
    assert_eq!(guilty, BTreeSet::from([1]), "{detail:?}");

    let entries: Vec<json::Stored> = read(&printed(cluster.quorate(&["fs", "ls", "--json"])).await);
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["/in", "/out"]);
    assert_eq!((entries[0].bytes, entries[0].files), (text.len() as u64, Some(1)));
    let used: Vec<json::Stored> = read(&printed(cluster.quorate(&["fs", "du", "/in", "--json"])).await);
    assert_eq!((used[0].path.as_str(), used[0].files, used[0].copies), ("/in/text", None, 3));

    let status: json::Status = read(&printed(cluster.quorate(&["cluster", "status", "--json"])).await);
    assert!(status.replicas.iter().all(|replica| replica.standing.is_some()), "{status:?}");
    let trackers = cluster.client().trackers().await.expect("trackers");
    let suspected = trackers.iter().find(|tracker| tracker.blame != Blame::None).expect("the liar");
    assert_eq!(status.trackers[1].blame, "suspected");
    assert_eq!(status.trackers[1].outvoted, suspected.outvoted);
    assert!(status.evidence.iter().all(|piece| piece.tracker == 1) && !status.evidence.is_empty(), "{status:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_completes_subcommands_and_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(alone(&["completions", shell], folder.path())).await;
        assert!(script.contains("tasktracker") && !script.contains("\x1b"), "{shell}: {script}");
        std::fs::write(folder.path().join(shell), script).expect("written");
    }
    // What bash makes of it, as far as it goes without a terminal.
    let complete = |words: &str, number: u32| {
        let script = format!(
            "source ./bash; COMP_WORDS=({words}); COMP_CWORD={number}; \
             _quorate quorate \"${{COMP_WORDS[{number}]}}\" \"${{COMP_WORDS[{number}-1]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &script]).current_dir(folder.path());
        bash
    };
    assert_eq!(printed(complete("quorate job l", 2)).await, "list logs\n");
    assert_eq!(printed(complete("quorate cluster up --jobt", 3)).await, "--jobtrackers\n");
    let offered = printed(complete("quorate ''", 1)).await;
    assert!(["fs", "job", "cluster", "explain"].iter().all(|command| offered.contains(command)), "{offered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subcommand_has_a_man_page() {
    let folder = tempfile::tempdir().expect("a folder");
    printed(alone(&["man", "pages"], folder.path())).await;
    let entries = std::fs::read_dir(folder.path().join("pages")).expect("pages");
    let names: BTreeSet<String> =
        entries.map(|entry| entry.expect("a page").file_name().into_string().expect("UTF-8")).collect();
    for page in ["quorate.1", "quorate-cluster-up.1", "quorate-fs-put.1", "quorate-job-show.1", "quorate-errors.1"] {
        assert!(names.contains(page), "{page}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("launcher")), "{names:?}");
    let page = std::fs::read_to_string(folder.path().join("pages/quorate.1")).expect("a page");
    assert!(page.contains(".TH quorate 1") && page.contains("130 interrupted"), "{page}");
    let page = std::fs::read_to_string(folder.path().join("pages/quorate-cluster-up.1")).expect("a page");
    assert!(page.contains("\\-\\-trackers"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_come_from_flag_environment_file_and_default_in_this_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path();
    std::fs::create_dir_all(place.join("home/quorate")).expect("a folder");
    std::fs::write(place.join("home/quorate/quorate.toml"), "[up]\ntrackers = 2\nf = 0\n").expect("written");
    let show = |here: bool| {
        let mut command = alone(&["config", "show"], place);
        command.env_remove("QUORATE_CONFIG").env("XDG_CONFIG_HOME", place.join("home")).env("QUORATE_JOB_F", "2");
        let file = place.join("quorate.toml");
        match here {
            true => std::fs::write(file, "color = \"never\"\n\n[up]\ntrackers = 7\n").expect("written"),
            false => drop(std::fs::remove_file(file)),
        }
        printed(command)
    };
    let line = |text: &str, setting: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(setting));
        line.expect("a setting").split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let shown = show(true).await;
    assert_eq!(line(&shown, "up.trackers"), "7 quorate.toml:4:1");
    assert_eq!(line(&shown, "up.f"), "1 default", "one file counts");
    assert_eq!(line(&shown, "color"), "never quorate.toml:1:1");
    assert_eq!(line(&shown, "job.f"), "2 QUORATE_JOB_F");
    let shown = show(false).await;
    assert!(line(&shown, "up.f").starts_with("0 ") && line(&shown, "up.f").ends_with("quorate.toml:3:1"), "{shown}");

    // They reach the options, of job programs too: f = 3 needs seven trackers, and there are six.
    std::fs::write(place.join("quorate.toml"), "[job]\nf = 3\n[embedded]\ntrackers = 6\n").expect("written");
    let mut job = Command::new(under_test().wordcount);
    job.current_dir(place).env_remove("QUORATE_CONFIG").env_remove("QUORATE_JOB_F").stdin(Stdio::null());
    let output = run(job).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("error[{}]", Code::TooFewTrackers)), "{said}");
    assert!(said.contains("f = 3 needs 7 trackers") && said.contains("there are 6"), "{said}");
    // Each program says of its own options what the file makes of them, and a file that is no file stops no help.
    let mut help = Command::new(under_test().wordcount);
    help.arg("--help").current_dir(place).env_remove("QUORATE_CONFIG");
    assert!(printed(help).await.contains("[default: 6]"));
    std::fs::write(place.join("quorate.toml"), "nonsense").expect("written");
    let mut help = alone(&["--help"], place);
    help.env_remove("QUORATE_CONFIG");
    assert!(printed(help).await.contains("quorate config example"));
    let mut example = alone(&["config", "example"], place);
    example.env_remove("QUORATE_CONFIG");
    assert!(printed(example).await.contains("#trackers = 5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_keys_are_explained_and_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = printed(alone(&["errors"], folder.path())).await;
    assert_eq!(list.lines().count(), Code::ALL.len() + 1);
    let one = printed(alone(&["errors", "q0301"], folder.path())).await;
    assert!(one.starts_with("Q0301: a file or folder is not there\nExit code: 3\n") && one.contains("What to do: "));
    let public = printed(alone(&["key", "new", "some.key"], folder.path())).await;
    assert_eq!(printed(alone(&["key", "show", "some.key"], folder.path())).await, public);
    assert_eq!(public.trim().len(), 64);
    let again = run(alone(&["key", "new", "some.key"], folder.path())).await;
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("error[Q0304]"));
}
