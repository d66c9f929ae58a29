//! Trouble with this machine, and members that do not come up.

use super::Desk;
use quorate::exit::Code;
use quorate_protocol::{cluster::Cluster, sign::SecretKey};
use std::{fs, process::Command};

#[tokio::test(flavor = "multi_thread")]
async fn machines_in_trouble() {
    let desk = Desk::new();
    let through_a_shell = |script: &str| {
        let quorate = desk.quorate(&[]);
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(quorate.get_program()).current_dir(desk.path(""));
        quorate.get_envs().filter_map(|(name, value)| Some((name, value?))).for_each(|(name, value)| {
            command.env(name, value);
        });
        command
    };
    desk.provoke(Code::DiskFull, "", through_a_shell("exec \"$1\" errors > /dev/full")).await;
    desk.provoke(Code::System, "", through_a_shell("ulimit -n 8; exec \"$1\" job list")).await;
    // Alone in its folder, and with nothing on the path, it has no benchmarks.
    let alone = desk.path("quorate");
    fs::hard_link(desk.quorate(&[]).get_program(), &alone)
        .or_else(|_| fs::copy(desk.quorate(&[]).get_program(), &alone).map(drop))
        .expect("a copy");
    let mut command = desk.command(&alone, &["bench", "overhead"]);
    command.env("PATH", desk.path("none"));
    desk.provoke(Code::NoBenchmarks, "", command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_do_not_come_up() {
    let desk = Desk::new();
    fs::create_dir(desk.path("old")).expect("a folder");
    desk.write("old/tracker-1", "a file where its folder should be");
    let up = ["cluster", "up", "--dir", "old", "--trackers", "3", "--jobtrackers", "1"];
    desk.provoke(Code::MemberEnded, "", desk.quorate(&up)).await;
    // What it made stays in --dir, so its members can be started by hand.
    let member = |role: &str, name: &str, more: &[&str]| {
        let key = format!("old/keys/{name}");
        let mut command = desk.quorate(&[role, "--config", "old/config.toml", "--key", &key, "--id", "0"]);
        command.args(more);
        command
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let listen = ["--dir", "state", "--listen", &address];
    desk.provoke(Code::CannotListen, "", member("tasktracker", "tracker-0", &listen)).await;
    desk.provoke(Code::TrackerTrouble, "", member("tasktracker", "tracker-0", &["--dir", "old/tracker-1"])).await;
    desk.provoke(Code::ReplicaTrouble, "", member("jobtracker", "replica-0", &["--dir", "old/tracker-1"])).await;
    // What they read is what `cluster up` wrote.
    let text = fs::read_to_string(desk.path("old/config.toml")).expect("a configuration");
    assert!(toml::from_str::<Cluster>(&text).is_ok_and(|cluster| cluster.check().is_ok()));
    let key = fs::read_to_string(desk.path("old/keys/client")).expect("a key");
    assert!(SecretKey::from_hex(&key).is_some());
}
