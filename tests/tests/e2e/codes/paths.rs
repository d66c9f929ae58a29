//! Inputs and outputs of this machine that are not as they should be.

use super::Desk;
use quorate::exit::Code;
use std::{fs, os::unix::ffi::OsStrExt};

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_this_machine() {
    let desk = Desk::new();
    desk.provoke(Code::NotFound, "", desk.wordcount(&["--input", "nowhere"])).await;
    let mut command = desk.quorate(&["config", "show"]);
    command.env("QUORATE_CONFIG", "nowhere.toml");
    desk.provoke(Code::NotFound, "-settings", command).await;
    // Nobody, root included, makes folders there.
    desk.provoke(Code::PermissionDenied, "", desk.quorate(&["man", "/sys/quorate"])).await;
    let mut command = desk.quorate(&["config", "show"]);
    command.env("QUORATE_CONFIG", ".");
    desk.provoke(Code::PathTrouble, "", command).await;
    desk.provoke(Code::Exists, "", desk.wordcount(&["--output", "."])).await;
    desk.provoke(Code::NoFolder, "", desk.wordcount(&["--output", "none/deeper"])).await;
    fs::create_dir(desk.path("empty")).expect("a folder");
    desk.write("empty/.hidden", "not counted");
    desk.provoke(Code::NoFiles, "", desk.wordcount(&["--input", "empty"])).await;
    fs::create_dir(desk.path("odd")).expect("a folder");
    fs::write(desk.path("odd").join(std::ffi::OsStr::from_bytes(b"line\nbreak")), "").expect("written");
    desk.provoke(Code::BadName, "", desk.wordcount(&["--input", "odd"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_hold_something_else() {
    let desk = Desk::new();
    fs::create_dir(desk.path("old")).expect("a folder");
    desk.write("old/config.toml", "garbage");
    desk.provoke(Code::OtherCluster, "", desk.quorate(&["cluster", "up", "--dir", "old"])).await;
    fs::create_dir(desk.path("connection")).expect("a folder");
    desk.write("connection/cluster.toml", "name = 3\n");
    desk.write("connection/client.key", "0");
    desk.provoke(Code::BadClusterFolder, "", desk.quorate(&["job", "list"])).await;
}
