//! Replicas that are started wrongly, or whose disk is in trouble: a clear error, and the others go on.

use crate::{disk_full::SmallDisk, under_test};
use quorate_protocol::file::{File, Manifest, Path};
use quorate_tests::{Processes, processes::run};
use std::{fs, path::PathBuf, process::Command};

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
    let address = &cluster.connection().cluster.replicas[1].address;
    fs::write(&neighbour, text.replace(address, "127.0.0.1:0")).expect("written");
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
    cluster.stop().await;
    drop(disk);
}
