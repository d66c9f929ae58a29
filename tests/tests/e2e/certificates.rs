//! Certificates of real jobs, checked where there is no cluster: by the command, with nothing but the public keys.

use crate::under_test;
use quorate::exit::Code;
use quorate_jobtracker::{ReplicaLiar, certificate::check};
use quorate_liars::Kind;
use quorate_protocol::{
    certificate::Certificate,
    cluster::Cluster,
    ids::{ReplicaId, TrackerId},
    sign::SecretKey,
};
use quorate_tests::{
    Processes,
    oracle::succeeded,
    processes::{Setup, run},
    reference::{counted_by_coreutils, made_up_text, merged},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ARGUMENTS: &[&str] = &["--split", "256KiB", "--reducers", "2", "--timeout", "5s"];

/// A folder that is no cluster's, with what was carried there.
struct Elsewhere(tempfile::TempDir);

impl Elsewhere {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn verify(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(under_test().quorate);
        command.arg("verify").args(arguments).current_dir(self.0.path()).env("QUORATE_CLUSTER", self.at("no-cluster"));
        command
    }
    /// It fails with this code, and says this.
    async fn fails(&self, code: Code, arguments: &[&str], says: &str) {
        self.says(arguments, code.exit() as i32, &[&format!("error[{code}]: "), says, "hint: "]).await;
    }
    async fn says(&self, arguments: &[&str], code: i32, says: &[&str]) {
        let output = run(self.verify(arguments)).await;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for needle in says {
            assert!(text.contains(needle), "{arguments:?} does not say {needle:?}: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

async fn works(mut command: Command, folder: &Path) -> Vec<u8> {
    command.current_dir(folder);
    let output = run(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Runs a word count, and carries its certificate, output and keys away. The cluster is gone then.
async fn carried_away(setup: Setup, arguments: &[&str]) -> Elsewhere {
    let (elsewhere, text) = (Elsewhere::new(), made_up_text(2 << 20));
    let cluster = Processes::set_up(setup).await;
    cluster.put(&text, "/in/text").await;
    let job = cluster.submit_wordcount(&[ARGUMENTS, arguments].concat()).await;
    succeeded(&cluster.ended(job).await);
    assert_eq!(merged(&cluster.read_all("/out").await), counted_by_coreutils(&text));
    let here = elsewhere.0.path();
    works(cluster.quorate(&["job", "certificate", &job.to_string(), "-o", "certificate"]), here).await;
    works(cluster.quorate(&["fs", "get", "/out"]), here).await;
    fs::write(elsewhere.at("keys.toml"), works(cluster.quorate(&["cluster", "keys"]), here).await).expect("written");
    fs::create_dir(elsewhere.at("input")).expect("made");
    fs::write(elsewhere.at("input/text"), &text).expect("written");
    cluster.stop().await;
    elsewhere
}

const VERIFY: &[&str] = &["certificate", "--keys", "keys.toml"];

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_liars_is_verified_elsewhere_and_a_changed_byte_is_named() {
    let liars = vec![(TrackerId::new(2), Kind::CorruptReduce)];
    let lying_replicas = vec![(ReplicaId::new(1), ReplicaLiar::WrongReply)];
    let setup = Setup { liars, lying_replicas, ..Setup::new(under_test(), 5) };
    let elsewhere = carried_away(setup, &[]).await;
    let program = under_test().wordcount;
    let all =
        [VERIFY, &["--output", "out", "--input", "input", "--program", program.to_str().expect("UTF-8")]].concat();
    let good = [
        "certificate holds",
        "f = 1: 2 trackers in distinct failure domains",
        "replica-0 at",
        "replica-2 at",
        "software log, epoch 0",
        "every byte of 2 parts of 2",
        "input: every byte of 1 file",
        "not show that the program is right",
    ];
    elsewhere.says(&all, 0, &good).await;

    // One byte of the output, one file too few and one too many.
    let with_output = [VERIFY, &["--output", "out"]].concat();
    let part = elsewhere.at("out/part-r-00001");
    let bytes = fs::read(&part).expect("a part");
    let mut changed = bytes.clone();
    changed[7] ^= 1;
    fs::write(&part, changed).expect("written");
    elsewhere.says(&with_output, 6, &["certificate holds", "part-r-00001 differs between its bytes 0 and"]).await;
    elsewhere.says(&[VERIFY, &["--output", "out/part-r-00000"]].concat(), 0, &["1 part of 2"]).await;
    fs::remove_file(&part).expect("removed");
    fs::write(elsewhere.at("out/part-r-00002"), b"").expect("written");
    elsewhere.says(&with_output, 6, &["part-r-00001 is missing", "part-r-00002 is there, and no such file"]).await;
    fs::write(elsewhere.at("input/text"), b"other text").expect("written");
    elsewhere.says(&[VERIFY, &["--input", "input"]].concat(), 6, &["input/text differs"]).await;
    elsewhere.says(&[VERIFY, &["--program", "keys.toml"]].concat(), 6, &["not the certified program"]).await;

    // What cannot be read, and what makes no sense.
    elsewhere.says(&["nothing", "--keys", "keys.toml"], 3, &["nothing"]).await;
    elsewhere.says(&["certificate"], 3, &["no-cluster", "--keys"]).await;
    elsewhere.fails(Code::NoPublicKeys, &["certificate", "--keys", "certificate"], "certificate").await;
    elsewhere.says(&[VERIFY, &["--output", "nowhere"]].concat(), 3, &["nowhere"]).await;
    elsewhere.says(&[VERIFY, &["--input", "a", "b"]].concat(), 2, &["/in"]).await;
    elsewhere.says(&[VERIFY, &["--output", "keys.toml"]].concat(), 2, &["part-r-00000"]).await;
    fs::write(elsewhere.at("long"), vec![0; 8 << 20]).expect("written");
    elsewhere.says(&["long", "--keys", "keys.toml"], 6, &["longer than any certificate"]).await;
    elsewhere.fails(Code::CertificateRefused, &["keys.toml", "--keys", "keys.toml"], "not a certificate").await;

    // Another cluster's keys.
    let keys = fs::read_to_string(elsewhere.at("keys.toml")).expect("keys");
    let mut another: Cluster = toml::from_str(&keys).expect("a configuration");
    another.trackers[0].key = SecretKey::from_seed([1; 32]).public();
    fs::write(elsewhere.at("other.toml"), toml::to_string(&another).expect("TOML")).expect("written");
    elsewhere
        .says(&["certificate", "--keys", "other.toml"], 6, &["does not hold", "the keys are of the cluster"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_of_a_real_certificate_counts() {
    let elsewhere = carried_away(Setup::new(under_test(), 3), &[]).await;
    let keys = fs::read_to_string(elsewhere.at("keys.toml")).expect("keys");
    let cluster: Cluster = toml::from_str(&keys).expect("a configuration");
    let bytes = fs::read(elsewhere.at("certificate")).expect("a certificate");
    let holds = |bytes: &[u8]| Certificate::from_bytes(bytes).is_ok_and(|it| check(&it, &cluster).is_ok());
    assert!(holds(&bytes));
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!holds(&bytes), "bit {bit} flipped, and it still holds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_replication_one_trackers_word_is_said_to_be_all() {
    let elsewhere = carried_away(Setup::new(under_test(), 3), &["--f", "0"]).await;
    let output = [VERIFY, &["--output", "out"]].concat();
    elsewhere.says(&output, 0, &["one tracker's word for each part is all there is"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_witness_each_other_certify_too() {
    let elsewhere = carried_away(Setup::without_trusted_logs(under_test(), 3), &[]).await;
    elsewhere.says(VERIFY, 0, &["certificate holds", "witnessed log, epoch 0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_outlive_a_restart_and_are_written_once() {
    let mut cluster = Processes::set_up(Setup::new(under_test(), 3)).await;
    cluster.put(&made_up_text(1 << 20), "/in/text").await;
    let job = cluster.submit_wordcount(ARGUMENTS).await;
    succeeded(&cluster.ended(job).await);
    for replica in ["replica-0", "replica-1", "replica-2"] {
        cluster.kill(replica);
    }
    for replica in ["replica-0", "replica-1", "replica-2"] {
        cluster.start_member(replica);
    }
    cluster.all_live().await;
    let elsewhere = Elsewhere::new();
    let here = elsewhere.0.path();
    works(cluster.quorate(&["job", "certificate", "1"]), here).await;
    let certificate = Certificate::from_bytes(&fs::read(elsewhere.at("job-1.certificate")).expect("written"));
    check(&certificate.expect("one"), &cluster.connection().cluster).expect("it holds");

    let mut again = cluster.quorate(&["job", "certificate", "1"]);
    again.current_dir(here);
    let output = run(again).await;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let unknown = run(cluster.quorate(&["job", "certificate", "9"])).await;
    assert_eq!(unknown.status.code(), Some(3), "{}", String::from_utf8_lossy(&unknown.stderr));
    assert_eq!(fs::read_dir(here).expect("a folder").count(), 1, "nothing half-written is left");
    cluster.stop().await;
}
