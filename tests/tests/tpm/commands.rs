//! `quorate tpm`: what operators see, and what they see when something is wrong.

use crate::{fails, under_test, works};
use quorate::exit::Code;
use quorate_tests::{Processes, processes::Setup};
use quorate_tpm::swtpm::{Swtpm, installed};
use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

fn quorate<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(under_test().quorate);
    command.args(arguments);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_in_plain_words_whether_a_tpm_will_do() {
    if !installed() {
        return;
    }
    let swtpm = Swtpm::start().expect("a TPM");
    let tcti = swtpm.tcti().to_string();
    let check = |more: &[&str]| quorate(&[&["tpm", "check", "--tpm", &tcti], more].concat());
    let said = works(check(&[])).await;
    for words in
        ["it is a program", "nothing has extended it", "ms for a quote", "batches a second", "Verdict: will do"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    swtpm.chip().and_then(|mut chip| chip.extend(14, quorate_protocol::digest::Digest::of(b"boot"))).expect("extended");
    assert!(works(check(&[])).await.contains("something has extended it"));
    assert!(works(check(&["--pcr", "15"])).await.contains("nothing has extended it"));
    fails(Code::TpmTrouble, check(&["--pcr", "16"]), &["will not do", "only 0 to 15"]).await;
    fails(Code::TpmTrouble, quorate(&["tpm", "check", "--tpm", "device:/nowhere"]), &["there is no TPM at /nowhere"])
        .await;
    fails(Code::CommandLine, quorate(&["tpm", "check", "--tpm", "nonsense"]), &["device:/dev/tpmrm0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_sits_at_is_enrolled_in_three_steps() {
    if !installed() {
        return;
    }
    let (swtpm, other) = (Swtpm::start().expect("a TPM"), Swtpm::start().expect("a TPM"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (tcti, foreign) = (swtpm.tcti().to_string(), other.tcti().to_string());
    let enrol = |arguments: &[&str]| quorate(&[&["tpm", "enrol"], arguments].concat());
    works(enrol(&["request", "--tpm", &tcti, "--pcr", "13", "--output", &file("request")])).await;
    works(enrol(&["challenge", &file("request"), "--output", &file("challenge"), "--secret", &file("secret")])).await;
    let mode = fs::metadata(file("secret")).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let answer = |tcti: &str| enrol(&["answer", &file("challenge"), "--tpm", tcti, "--output", &file("answer")]);
    fails(Code::TpmTrouble, answer(&foreign), &["TPM2_ActivateCredential"]).await;
    works(answer(&tcti)).await;
    let conclude =
        || enrol(&["conclude", &file("answer"), "--secret", &file("secret"), "--output", &file("enrolment")]);
    let said = works(conclude()).await;
    assert!(said.contains("[replica.tpm]\npcr = 13\n") && said.contains("Endorsement key: "), "{said}");
    // The enrolment of a challenge that was made anew needs a new answer.
    works(enrol(&["challenge", &file("request"), "--output", &file("challenge"), "--secret", &file("secret")])).await;
    fails(Code::TpmDocument, conclude(), &["the challenge was not opened", "hint:"]).await;
    fails(
        Code::TpmDocument,
        enrol(&["challenge", &file("answer"), "--output", &file("x"), "--secret", &file("y")]),
        &["answer"],
    )
    .await;
    assert!(!Path::new(&file("x")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_started_wrongly_says_how_it_is_started() {
    if !installed() {
        return;
    }
    let mut cluster = Processes::set_up(Setup { tpms: true, ..Setup::new(under_test(), 3) }).await;
    cluster.kill("replica-0");
    let zero = quorate_protocol::ids::ReplicaId::new(0);
    let tcti = cluster.chip(zero).tcti().to_string();
    let founding = cluster.founding().to_str().expect("UTF-8").to_owned();
    let start = |arguments: &[&str]| {
        let mut command = quorate(&[&["jobtracker", "--id", "0"], arguments].concat());
        for (option, file) in [("--config", "replica-0.toml"), ("--key", "replica-0.key"), ("--dir", "new")] {
            command.arg(option).arg(cluster.folder().join(file));
        }
        command
    };
    fails(
        Code::TrustedLogChoice,
        start(&["--founding", &founding]),
        &["has a TPM as the trusted log", "--tpm device:"],
    )
    .await;
    fails(
        Code::TrustedLogChoice,
        start(&["--tpm", &tcti, "--allow-software-tpm"]),
        &["cluster's founding", "quorate tpm found"],
    )
    .await;
    let strict = start(&["--tpm", &tcti, "--founding", &founding]);
    fails(Code::TpmTrouble, strict, &["software or virtual TPM", "--allow-software-tpm"]).await;
    let nowhere = start(&["--tpm", "device:/nowhere", "--founding", &founding]);
    fails(Code::TpmTrouble, nowhere, &["there is no TPM at /nowhere"]).await;
    let torn = cluster.folder().join("torn");
    let whole = fs::read_to_string(&founding).expect("a founding");
    fs::write(&torn, &whole[..whole.rfind("[[founding]]").expect("parts")]).expect("written");
    let torn = torn.to_str().expect("UTF-8");
    fails(
        Code::TpmDocument,
        start(&["--tpm", &tcti, "--allow-software-tpm", "--founding", torn]),
        &["lacks replica-2"],
    )
    .await;

    let used = cluster.found_command(zero, "replica-0", &cluster.folder().join("again"));
    fails(Code::ReplicaTrouble, used, &["has been used", "under another name"]).await;
    assert!(!cluster.folder().join("again").exists());
    cluster.start_member("replica-0");
    cluster.replicas_agree().await;
    cluster.stop().await;
}
