//! Clusters that do not answer, refuse, or cannot be believed.

use super::{
    Desk,
    job_tracker::{Manner, refuses, start},
};
use crate::under_test;
use quorate::exit::Code;
use quorate_protocol::{command::Refusal, query::Answer};
use quorate_tests::{Processes, reference::made_up_text};
use std::{fs, process::Command};

#[tokio::test(flavor = "multi_thread")]
async fn clusters_that_are_not_there() {
    let desk = Desk::new();
    desk.provoke(Code::NoCluster, "", desk.quorate(&["job", "list"])).await;
    desk.provoke(Code::NoCluster, "-submit", desk.wordcount(&["submit", "--input", "/a", "--output", "/b"])).await;
}

/// What a job tracker that means well says no to.
#[tokio::test(flavor = "multi_thread")]
async fn real_clusters_that_refuse() {
    let desk = Desk::new();
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    desk.write("text", made_up_text(1 << 20));
    let here = |mut command: Command| {
        command.env("QUORATE_CLUSTER", cluster.folder().join("connection"));
        command
    };
    cluster.put(b"some words\n", "/a/text").await;
    let submit = ["submit", "--input", "/a", "--output"];
    let wordcount = |more: &[&str]| here(desk.wordcount(&[&submit, more].concat()));
    desk.provoke(Code::TooFewDomains, "-f", wordcount(&["/b", "--f", "2"])).await;
    desk.provoke(Code::TooFewDomains, "-copies", here(desk.quorate(&["fs", "put", "text", "/t", "--copies", "4"])))
        .await;
    desk.provoke(Code::Exists, "-cluster", wordcount(&["/a"])).await;
    desk.provoke(Code::NotInCluster, "", here(desk.quorate(&["fs", "cat", "/nothing"]))).await;
    desk.provoke(Code::IsFolder, "", here(desk.quorate(&["fs", "rm", "/a"]))).await;
    desk.provoke(Code::NoSuchJob, "", here(desk.quorate(&["job", "show", "99"]))).await;
    desk.provoke(Code::NoLog, "", here(desk.quorate(&["job", "logs", "job-1/map-0.0"]))).await;
    desk.provoke(Code::AlreadyRunning, "", here(desk.quorate(&["cluster", "up"]))).await;

    // Longer than a file can be, without a byte on the disk.
    let long = fs::File::create(desk.path("long")).expect("a file");
    long.set_len(4 << 40).expect("a long file");
    desk.provoke(Code::FileTooLong, "", here(desk.quorate(&["fs", "put", "long", "/long"]))).await;
    // So many empty files with such long names that their creation is no longer one command.
    let deep = desk.path("many").join("x".repeat(250)).join("y".repeat(250)).join("z".repeat(250));
    fs::create_dir_all(&deep).expect("a folder");
    (0..2_800).for_each(|number| fs::write(deep.join(number.to_string()), "").expect("written"));
    desk.provoke(Code::TooLong, "", here(desk.quorate(&["fs", "put", "many", "/many"]))).await;

    for tracker in ["tracker-0", "tracker-1", "tracker-2"] {
        cluster.kill(tracker);
    }
    let connection = cluster.folder().join("connection");
    let mut cat = desk.quorate(&["fs", "cat", "/a/text"]);
    cat.env("QUORATE_CLUSTER", &connection);
    desk.provoke(Code::Unreadable, "", cat).await;
    for replica in ["replica-0", "replica-1", "replica-2"] {
        cluster.kill(replica);
    }
    let mut list = desk.quorate(&["job", "list"]);
    list.env("QUORATE_CLUSTER", &connection);
    desk.provoke(Code::Unreachable, "", list).await;
}

/// What only a broken or lying job tracker says, or one that is overrun.
#[tokio::test(flavor = "multi_thread")]
async fn job_trackers_made_by_hand() {
    let trackers = || Box::new(Answer::Trackers(Vec::new()));
    let target = Refusal::WrongTarget { program: "sparc-plan9".to_owned(), trackers: "x86_64-linux".to_owned() };
    let list: &[&str] = &["job", "list"];
    let kill: &[&str] = &["job", "kill", "1"];
    // Some take as long as a client's patience, so all of them at once.
    let provoked = [
        (Code::WrongTarget, refuses(target), kill),
        (Code::NoSuchTracker, refuses(Refusal::NotFound("tracker-9".to_owned())), list),
        (Code::Full, refuses(Refusal::Full("1024 jobs wait or run".to_owned())), kill),
        (Code::NotAllowed, refuses(Refusal::NotAllowed("this key may not end jobs".to_owned())), kill),
        (Code::Stale, refuses(Refusal::Stale), kill),
        (Code::InvalidRequest, refuses(Refusal::Invalid("a job reads at most 16384 files".to_owned())), kill),
        (Code::OtherVersion, Manner::Alike(Box::new(Answer::Done)), list),
        (Code::Rejected, Manner::Reject, list),
        (Code::Untrustworthy, Manner::Forged, list),
        (Code::Disagreement, Manner::EachItsOwn, list),
        (Code::Forked, Manner::Stray(trackers()), &["fs", "cat", "/a"]),
    ]
    .map(async |(code, manner, arguments)| {
        let desk = Desk::new();
        start(&desk.path("connection"), manner).await;
        desk.provoke(code, "", desk.quorate(arguments)).await;
    });
    futures::future::join_all(provoked).await;
}
