//! Jobs, reboots, a TPM that was cleared, and a founding that is not the others'.

use crate::{fails, under_test, works};
use quorate::exit::Code;
use quorate_jobtracker::{certificate::check, client::ClientError};
use quorate_protocol::{
    file::Path,
    ids::{JobId, ReplicaId},
};
use quorate_tests::{
    Processes,
    oracle::{only_guilty, succeeded},
    processes::Setup,
    reference::{counted_by_coreutils, made_up_text, merged},
};
use quorate_tpm::{
    chip::{Command, PASSWORDS},
    swtpm::{Swtpm, installed},
};
use sha2::{Digest, Sha256};
use std::{fs, time::Duration};

const ALL: [ReplicaId; 3] = [ReplicaId::new(0), ReplicaId::new(1), ReplicaId::new(2)];
/// The digest of a hundred thousand records of the sort benchmark, sorted.
const SORTED: &str = "ef9a775fee35ecaa3d743b0713c3f62a259db9b5b286af74d01c97133f5cf283";

async fn cluster() -> Processes {
    Processes::set_up(Setup { tpms: true, ..Setup::new(under_test(), 3) }).await
}

fn log(cluster: &Processes, member: &str) -> String {
    fs::read_to_string(cluster.folder().join(format!("{member}.log"))).expect("a log")
}

/// Has something ordered, or not.
async fn order(cluster: &Processes, patience: Duration) -> bool {
    let client = cluster.client().clone().with_patience(patience);
    let answer = client.remove(Path::parse("/nothing").expect("a path"), false).await;
    match answer {
        Err(ClientError::Refused(_)) => true,
        Err(ClientError::Unreachable { .. }) => false,
        other => panic!("{other:?}"),
    }
}

/// All vote, in the epochs that they began with but for those that had to begin another one.
async fn all_vote(cluster: &Processes, later: &[ReplicaId]) {
    cluster.replicas_agree().await;
    cluster.only_guilty_replicas(&[]).await;
    for view in cluster.views().await {
        assert_eq!(view.trusted_log, "tpm, virtual");
        assert_eq!(view.epoch > 0, later.contains(&view.replica), "{view:?}");
    }
}

async fn count_words(cluster: &Processes) {
    let text = made_up_text(1 << 20);
    cluster.put(&text, "/in/text").await;
    let job = cluster.submit_wordcount(&["--split", "256KiB", "--reducers", "2"]).await;
    succeeded(&cluster.ended(job).await);
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(&text));
}

/// The job's certificate holds for whoever has the configuration, and those who signed it show their TPMs.
async fn certified(cluster: &Processes, job: JobId, later: &[ReplicaId]) {
    let certificate = cluster.client().certificate(job).await.expect("a certificate");
    for endorsed in check(&certificate, &cluster.connection().cluster).expect("it holds") {
        assert_eq!((endorsed.log, endorsed.epoch > 0), ("TPM", later.contains(&endorsed.replica)), "{endorsed:?}");
    }
}

/// The digest of a sorted output's parts, one after the other.
async fn sorted(cluster: &Processes) -> String {
    let bytes = cluster.read_all("/sorted").await.concat();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_must_and_a_machine_that_reboots_meanwhile_comes_back_as_a_later_epoch() {
    if !installed() {
        return;
    }
    let mut cluster = cluster().await;
    count_words(&cluster).await;
    all_vote(&cluster, &[]).await;
    let status = works(cluster.quorate(&["cluster", "status"])).await;
    assert!(status.contains("tpm, virtual, epoch 0, position"), "{status}");

    let records = cluster.folder().join("records");
    let records = records.to_str().expect("UTF-8");
    works(cluster.terasort(&["gen", "100000", records])).await;
    works(cluster.quorate(&["fs", "put", records, "/records"])).await;
    let sort = ["submit", "--detach", "--input", "/records", "--output", "/sorted", "--reducers", "4"];
    works(cluster.terasort(&[&sort[..], &["--split", "512KiB", "--timeout", "20s"]].concat())).await;
    let job = cluster.client().jobs().await.expect("jobs").iter().map(|job| job.job).max().expect("a job");
    let begun = async || cluster.client().job(job).await.is_ok_and(|view| view.summary.maps.0 >= 2);
    cluster.until("some maps are agreed", begun).await;
    let primary = cluster.primary().await;
    let view = cluster.client().job(job).await.expect("the job");
    assert!(!view.summary.state.is_ended(), "the sort was over before anything happened");
    cluster.reboot(primary);
    succeeded(&cluster.ended(job).await);
    assert_eq!(sorted(&cluster).await, SORTED);
    only_guilty(cluster.client(), &[]).await;
    all_vote(&cluster, &[primary]).await;
    certified(&cluster, job, &[primary]).await;
    // Its votes count: without them there are not enough.
    let other = ALL.into_iter().find(|id| *id != primary).expect("three replicas");
    cluster.kill(&other.to_string());
    assert!(order(&cluster, Duration::from_secs(60)).await, "{}", cluster.logs());
    cluster.start_member(&other.to_string());
    all_vote(&cluster, &[primary]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_rebooted_votes_only_when_the_others_admit_it() {
    if !installed() {
        return;
    }
    let mut cluster = cluster().await;
    assert!(order(&cluster, Duration::from_secs(60)).await);
    all_vote(&cluster, &[]).await;
    cluster.kill("replica-2");
    cluster.reboot(ALL[1]);
    cluster.until("it answers", async || cluster.views().await.iter().any(|view| view.replica == ALL[1])).await;
    assert!(!order(&cluster, Duration::from_secs(4)).await, "one replica alone admitted it");
    let view = cluster.views().await.into_iter().find(|view| view.replica == ALL[1]).expect("it answers");
    assert!(!view.voting, "{view:?}");
    cluster.start_member("replica-2");
    all_vote(&cluster, &[ALL[1]]).await;
    assert!(order(&cluster, Duration::from_secs(60)).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_machines_reboot_at_once_nothing_is_ordered_any_more_and_files_can_still_be_read() {
    if !installed() {
        return;
    }
    let mut cluster = cluster().await;
    let text = made_up_text(1 << 16);
    cluster.put(&text, "/in/text").await;
    // What is not followed by anything may lack the evidence on their disks.
    for _ in 0..3 {
        assert!(order(&cluster, Duration::from_secs(60)).await);
    }
    all_vote(&cluster, &[]).await;
    ALL.into_iter().for_each(|replica| cluster.reboot(replica));
    cluster.until("all answer", async || cluster.views().await.len() == 3).await;
    assert!(!order(&cluster, Duration::from_secs(5)).await, "who admitted whom?");
    assert!(cluster.views().await.iter().all(|view| !view.voting));
    let status = cluster.quorate(&["cluster", "status"]);
    let read = cluster.folder().join("read");
    works(cluster.quorate(&["fs", "get", "/in/text", read.to_str().expect("UTF-8")])).await;
    assert_eq!(fs::read(read).expect("read"), text);
    let said = quorate_tests::processes::run(status).await;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("0 of them can vote, and it takes 2: nothing is ordered"), "{said}");
    cluster.stop().await;
}

/// `TPM2_Clear`, as root on the host may.
fn clear(chip: &Swtpm) {
    const LOCKOUT: u32 = 0x4000_000a;
    let command = Command::new("TPM2_Clear", 0x126, &[LOCKOUT], &[]);
    chip.chip().and_then(|mut chip| chip.run(&command.with(&PASSWORDS[..1]))).expect("cleared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_that_was_cleared_is_refused_until_the_authority_approves_what_it_is_now() {
    if !installed() {
        return;
    }
    let mut cluster = cluster().await;
    assert!(order(&cluster, Duration::from_secs(60)).await);
    cluster.kill("replica-0");
    clear(cluster.chip(ALL[0]));
    cluster.start_member("replica-0");
    let status = cluster.ends_by_itself("replica-0").await;
    let said = log(&cluster, "replica-0");
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("not the TPM that was enrolled, or it was cleared since"), "{said}");
    assert!(said.contains("quorate tpm approve") && !said.contains("panicked"), "{said}");
    assert!(order(&cluster, Duration::from_secs(60)).await, "the others go on");

    let file = |name: &str| cluster.folder().join(name).to_str().expect("UTF-8").to_owned();
    let tcti = cluster.chip(ALL[0]).tcti().to_string();
    works(cluster.quorate(&["tpm", "enrol", "here", "--tpm", &tcti, "--output", &file("again")])).await;
    let approve = |key: &str, id: &str| {
        let (again, approved) = (file("again"), file("approved"));
        let mut command = cluster.quorate(&["tpm", "approve", &again, "--id", id, "--output", &approved]);
        command.args(["--config", &file("config.toml"), "--key", &file(key)]);
        command
    };
    fails(Code::BadKeyFile, approve("client.key", "0"), &["not the key of the cluster's authority"]).await;
    works(approve("authority.key", "1")).await;
    let approved = cluster.folder().join("approved");
    cluster.enrolled_with(ALL[0], &approved);
    cluster.start_member("replica-0");
    cluster.ends_by_itself("replica-0").await;
    assert!(log(&cluster, "replica-0").contains("has not approved it for replica-0"), "approved for another one");

    let file = |name: &str| cluster.folder().join(name).to_str().expect("UTF-8").to_owned();
    let mut command = cluster.quorate(&["tpm", "approve", &file("again"), "--id", "0", "--output", &file("approved")]);
    command.args(["--config", &file("config.toml"), "--key", &file("authority.key")]);
    works(command).await;
    cluster.start_member("replica-0");
    all_vote(&cluster, &[ALL[0]]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_another_founding_is_not_linked_and_that_is_said() {
    if !installed() {
        return;
    }
    let mut cluster = cluster().await;
    assert!(order(&cluster, Duration::from_secs(60)).await);
    cluster.kill("replica-2");
    let (part, other) = (cluster.folder().join("part"), cluster.folder().join("other"));
    works(cluster.found_command(ALL[2], "elsewhere", &part)).await;
    let founding = fs::read_to_string(cluster.founding()).expect("a founding");
    let own = founding.find("[[founding]]\nreplica = 2").expect("its part");
    let another = format!("{}{}", &founding[..own], fs::read_to_string(&part).expect("a part"));
    assert_ne!(another, founding);
    fs::write(&other, another).expect("written");
    cluster.founded_with(ALL[2], &other);
    cluster.start_member("replica-2");
    assert_eq!(cluster.ends_by_itself("replica-2").await.code(), Some(5));
    assert!(log(&cluster, "replica-2").contains("belongs to another founding of the cluster"));

    cluster.wipe("replica-2");
    cluster.start_member("replica-2");
    for replica in ["replica-0", "replica-2"] {
        cluster.until("it is said", async || log(&cluster, replica).contains("started with another founding")).await;
    }
    assert!(order(&cluster, Duration::from_secs(60)).await, "the others go on");
    let view = cluster.views().await.into_iter().find(|view| view.replica == ALL[2]).expect("it answers");
    assert!(!view.voting && view.executed.ordered == 0, "{view:?}");

    cluster.kill("replica-2");
    cluster.wipe("replica-2");
    let founding = cluster.founding();
    cluster.founded_with(ALL[2], &founding);
    cluster.start_member("replica-2");
    all_vote(&cluster, &[ALL[2]]).await;
    cluster.stop().await;
}
