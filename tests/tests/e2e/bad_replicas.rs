//! Replicas that are started wrongly, or whose disk is in trouble: a clear error, and the others go on.

use crate::{
    disk_full::{FragileDisk, SmallDisk},
    under_test,
};
use quorate_protocol::{
    digest::Digest,
    file::{File, Manifest, Path},
    ids::ReplicaId,
    sign::SecretKey,
};
use quorate_tests::{
    Processes,
    peer::{Peer, VERSION, refuse},
    processes::run,
};
use std::{
    fs,
    path::{Path as FolderPath, PathBuf},
    process::Command,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// `quorate jobtracker` on these files.
fn jobtracker(cluster: &Processes, id: &str, configuration: PathBuf, key: &str, folder: &str) -> Command {
    let mut command = Command::new(under_test().quorate);
    command.args(["jobtracker", "--id", id, "--until-stdin-ends"]).stdin(std::process::Stdio::null());
    command.arg("--config").arg(configuration).arg("--key").arg(cluster.folder().join(key));
    command.arg("--dir").arg(cluster.folder().join(folder));
    command
}

async fn fails(command: Command, says: &str) {
    let output = run(command).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains(says) && !text.contains("panicked"), "{says:?}: {text}");
}

fn long_path(folder: u32, file: u32) -> Path {
    Path::parse(&format!("/{}/{folder}/{file}", "x".repeat(900))).expect("a path")
}

async fn works_on(cluster: &Processes) {
    let refused = cluster.client().remove(Path::parse("/nothing").expect("a path"), false).await;
    assert!(matches!(refused, Err(quorate_jobtracker::client::ClientError::Refused(_))), "{refused:?}");
    cluster.only_guilty_replicas(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_number_folder_or_configuration_is_explained_and_disturbs_nobody() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    let configuration = cluster.folder().join("replica-2.toml");
    let text = fs::read_to_string(&configuration).expect("TOML");
    let other = cluster.folder().join("other.toml");
    fs::write(&other, text.replace("name = \"test\"", "name = \"another\"")).expect("written");
    let even = cluster.folder().join("even.toml");
    fs::write(&even, text.replace("f = 1", "f = 2")).expect("written");
    cluster.kill("replica-2");
    let start = |id, file: &PathBuf, key, folder| jobtracker(&cluster, id, file.clone(), key, folder);
    fails(start("2", &configuration, "replica-1.key", "x"), "not the key").await;
    fails(start("7", &configuration, "replica-2.key", "x"), "replica-7").await;
    fails(start("2", &even, "replica-2.key", "x"), "needs 5 replicas").await;
    fails(start("2", &other, "replica-2.key", "replica-2"), "another cluster").await;
    fails(start("2", &configuration, "replica-2.key", "replica-1"), "is open in another process").await;
    // Its neighbour's port is taken, and where a replica is does not matter here.
    let neighbour = cluster.folder().join("neighbour.toml");
    let replica = &cluster.connection().cluster.replicas[1];
    let taken = [Some(&replica.address), replica.page.as_ref()].into_iter().flatten();
    fs::write(&neighbour, taken.fold(text, |text, address| text.replace(address, "127.0.0.1:0"))).expect("written");
    fails(start("1", &neighbour, "replica-1.key", "replica-2"), "belongs to another replica").await;
    fails(start("2", &configuration, "no-such.key", "x"), "no-such.key").await;
    works_on(&cluster).await;
    cluster.start_member("replica-2");
    cluster.replicas_agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_another_cluster_is_not_listened_to() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.kill("replica-2");
    let configuration = cluster.folder().join("replica-2.toml");
    let right = fs::read_to_string(&configuration).expect("TOML");
    // Its keys are right; what it takes the cluster to be is not.
    fs::write(&configuration, right.replace("name = \"test\"", "name = \"another\"")).expect("written");
    cluster.wipe("replica-2");
    cluster.start_member("replica-2");
    cluster.until("both sides say why they do not talk", async || cluster.logs().matches("cluster").count() >= 2).await;
    works_on(&cluster).await;
    cluster.kill("replica-2");
    cluster.wipe("replica-2");
    fs::write(&configuration, right).expect("written");
    cluster.start_member("replica-2");
    cluster.replicas_agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_full_disk_ends_with_a_clear_error_and_the_others_go_on() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.kill("replica-1");
    cluster.wipe("replica-1");
    let Some(disk) = SmallDisk::mount(&cluster.folder().join("replica-1"), "192m") else { return };
    cluster.start_member("replica-1");
    cluster.replicas_agree().await;
    let filler = disk.0.join("filler");
    let file = fs::File::create(&filler).expect("a file");
    let full = std::io::copy(&mut std::io::repeat(0), &mut &file).expect_err("the disk fills up");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    drop(file);
    // Whatever is ordered now is to be kept by everybody: more than the small disk holds.
    for number in 0..20 {
        let files = (0..400)
            .map(|file| (long_path(number, file), File { manifest: Manifest::default(), placements: Vec::new() }));
        cluster.client().create_files(files.collect()).await.expect("two of three have room");
    }
    let status = cluster.ends_by_itself("replica-1").await;
    assert!(!status.success());
    let log = fs::read_to_string(cluster.folder().join("replica-1.log")).expect("a log");
    assert!(log.contains("No space left"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    works_on(&cluster).await;
    fs::remove_file(filler).expect("removed");
    cluster.start_member("replica-1");
    cluster.replicas_agree().await;
    cluster.only_guilty_replicas(&[]).await;
    // Its files stay open, and the cluster's folder can be removed.
    drop(disk);
    cluster.stop().await;
}

/// What a member has said.
fn log(cluster: &Processes, member: &str) -> String {
    fs::read_to_string(cluster.folder().join(format!("{member}.log"))).expect("a log")
}

/// What can be said in the name of a member that does not run.
fn peer(cluster: &Processes, from: u32) -> Peer {
    let key = fs::read_to_string(cluster.folder().join(format!("replica-{from}.key"))).expect("a key file");
    let cluster = cluster.connection().cluster.clone();
    Peer::new(&cluster, ReplicaId::new(from), SecretKey::from_hex(&key).expect("a key"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_version_cluster_or_key_and_a_message_above_the_limit_are_refused_and_said() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.kill("replica-2");
    let (right, to) = (peer(&cluster, 2), cluster.connection().cluster.replicas[0].clone());
    let said = |what: &'static str| {
        let cluster = &cluster;
        async move { cluster.until(what, async || log(cluster, "replica-0").contains(what)).await }
    };
    let later = VERSION + 1;
    let newer = Peer { version: later, ..right.clone() }.dial(&to).await.expect_err("refused");
    let (theirs, ours) = (format!("version {later} of"), format!("speaks version {VERSION}"));
    assert!(newer.contains(&theirs) && newer.contains(&ours), "{newer}");
    cluster
        .until("another version", async || {
            log(&cluster, "replica-0").lines().any(|line| line.contains(&theirs) && line.contains(&ours))
        })
        .await;
    let other = Peer { cluster: Digest::of(b"another"), ..right.clone() }.dial(&to).await.expect_err("refused");
    assert!(other.contains("another cluster"), "{other}");
    said("configured for another cluster").await;
    let forged = Peer { key: SecretKey::generate().expect("randomness"), ..right.clone() };
    assert!(forged.dial(&to).await.expect_err("refused").contains("does not have the key"));
    said("does not have the key that the cluster's configuration has for replica-2").await;
    let mut link = right.dial(&to).await.expect("it is who it says");
    link.write_all(&u32::MAX.to_le_bytes()).await.expect("written");
    // With a reset or without.
    let _ = link.read_to_end(&mut Vec::new()).await;
    said("a frame of 4294967295 bytes, and at most").await;
    assert!(!log(&cluster, "replica-0").contains("panicked"));

    // Whoever is dialed may be of another version too.
    let listener = TcpListener::bind(&cluster.connection().cluster.replicas[2].address).await.expect("its port");
    let refusing = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            refuse(stream, "I speak another version").await;
        }
    });
    said("I speak another version").await;
    refusing.abort();
    assert!(refusing.await.is_err(), "its port is free again");
    works_on(&cluster).await;
    for nothing in [theirs.as_str(), "another cluster", "a frame of"] {
        assert!(!log(&cluster, "replica-1").contains(nothing), "{}", log(&cluster, "replica-1"));
    }
    cluster.start_member("replica-2");
    cluster.replicas_agree().await;
    cluster.only_guilty_replicas(&[]).await;
    cluster.stop().await;
}

fn copy(from: &FolderPath, to: &FolderPath) {
    for file in fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_does_not_start_on_a_read_only_disk_and_says_so() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    let configuration = cluster.folder().join("replica-1.toml");
    cluster.kill("replica-1");
    for (folder, used) in [("old", true), ("new", false)] {
        let Some(disk) = SmallDisk::mount(&cluster.folder().join(folder), "64m") else { return };
        if used {
            copy(&cluster.folder().join("replica-1"), &disk.0);
        }
        disk.make_read_only();
        let output = run(jobtracker(&cluster, "1", configuration.clone(), "replica-1.key", folder)).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{text}");
        assert!(text.contains(&format!("/{folder}")) && text.contains("Read-only file system"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    works_on(&cluster).await;
    cluster.start_member("replica-1");
    cluster.replicas_agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_disk_becomes_read_only_ends_with_a_clear_error_and_the_others_go_on() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.kill("replica-1");
    let folder = cluster.folder().join("replica-1");
    let saved = cluster.folder().join("saved");
    fs::rename(&folder, &saved).expect("moved");
    let Some(disk) = FragileDisk::mount(cluster.folder(), &folder) else { return };
    copy(&saved, &folder);
    cluster.start_member("replica-1");
    cluster.replicas_agree().await;
    disk.break_down();
    for _ in 0..3 {
        works_on(&cluster).await;
    }
    let status = cluster.ends_by_itself("replica-1").await;
    let said = log(&cluster, "replica-1");
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("error: ") && said.contains("replica-1/"), "{said}");
    assert!(said.contains("Read-only file system") && !said.contains("panicked"), "{said}");
    works_on(&cluster).await;
    drop(disk);
    // What was on it is gone with it.
    cluster.start_member("replica-1");
    cluster.replicas_agree().await;
    cluster.stop().await;
}
