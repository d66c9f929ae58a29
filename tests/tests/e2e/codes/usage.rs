//! Command lines, settings and configurations that make no sense.

use super::Desk;
use quorate::exit::Code;
use quorate_protocol::{
    cluster::{Agreement, Cluster, ReplicaMember, TrackerMember},
    enrolled::EnrolledTpm,
    ids::{Domain, ReplicaId, TrackerId},
    sign::SecretKey,
};

#[tokio::test(flavor = "multi_thread")]
async fn command_lines_that_make_no_sense() {
    let desk = Desk::new();
    desk.provoke(Code::CommandLine, "-subcommand", desk.quorate(&["job", "lst"])).await;
    desk.provoke(Code::CommandLine, "-flag", desk.quorate(&["cluster", "up", "--trakers", "3"])).await;
    desk.provoke(Code::CommandLine, "-value", desk.quorate(&["job", "show", "x"])).await;
    desk.provoke(Code::CommandLine, "-job", desk.wordcount(&["submit", "--input", "/a"])).await;
    desk.provoke(Code::BadValue, "", desk.wordcount(&["--memory", "1MiB"])).await;
    desk.provoke(Code::TooFewTrackers, "-up", desk.quorate(&["cluster", "up", "--f", "3"])).await;
    desk.provoke(Code::TooFewTrackers, "-job", desk.wordcount(&["--f", "3"])).await;
    desk.provoke(Code::NoSuchLiar, "-kind", desk.wordcount(&["--liar", "fibber"])).await;
    desk.provoke(Code::NoSuchLiar, "-replica", desk.quorate(&["cluster", "up", "--liar", "jt3=censor"])).await;
    desk.provoke(Code::ReplicaNumber, "", desk.quorate(&["cluster", "up", "--jobtrackers", "4"])).await;
    let submit = ["submit", "--input", "/a", "--output", "/b/../c"];
    desk.provoke(Code::BadClusterPath, "", desk.wordcount(&submit)).await;
    desk.provoke(Code::NoInput, "", desk.mishap(&[])).await;
    let text = desk.write("text", "now\n");
    desk.provoke(Code::JobArguments, "", desk.mishap(&["--client", "refuse", "--input", &text])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_no_sense() {
    let desk = Desk::new();
    let with = |text: &str| {
        desk.write("quorate.toml", text);
        let mut command = desk.quorate(&["job", "list"]);
        command.env_remove("QUORATE_CONFIG");
        command
    };
    desk.provoke(Code::UnknownKey, "", with("# mine\n[job]\nmemroy = \"64MiB\"\n")).await;
    desk.provoke(Code::UnknownKey, "-table", with("[jobs]\nmemory = \"64MiB\"\n")).await;
    desk.provoke(Code::Settings, "-value", with("[job]\nmemory = \"plenty\"\n")).await;
    desk.provoke(Code::Settings, "-choice", with("color = \"red\"\n")).await;
    desk.provoke(Code::Settings, "-torn", with("[job\n")).await;
    let mut command = desk.quorate(&["job", "list"]);
    command.env("QUORATE_UP_TRACKERS", "many");
    desk.provoke(Code::Settings, "-environment", command).await;
}

/// A configuration of one replica and one tracker, with the key that all have.
fn cluster() -> (Cluster, SecretKey) {
    let key = |seed| SecretKey::from_seed([seed; 32]);
    let cluster = Cluster {
        name: "small".to_owned(),
        f: 0,
        agreement: Agreement::Minbft,
        allow_liars: false,
        clients: vec![key(9).public()],
        authority: None,
        replicas: vec![ReplicaMember {
            id: ReplicaId::new(0),
            address: "127.0.0.1:0".to_owned(),
            key: key(1).public(),
            log: None,
            tpm: None,
            page: None,
        }],
        trackers: vec![TrackerMember { id: TrackerId::new(0), domain: Domain("d".to_owned()), key: key(2).public() }],
    };
    (cluster, key(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_do_not_belong() {
    let desk = Desk::new();
    let (cluster, key) = cluster();
    let text = toml::to_string(&cluster).expect("TOML");
    desk.write("c.toml", &text);
    desk.write("key", key.to_hex());
    desk.write("other-key", SecretKey::from_seed([3; 32]).to_hex());
    desk.write("no-key", "hello");
    desk.write("misspelled.toml", text.replacen("domain", "domian", 1));
    desk.write("two.toml", text.replacen("f = 0", "f = 1", 1));
    desk.write("pbft.toml", text.replacen("minbft", "pbft", 1));
    let member = |role: &str, config: &str, key: &str, more: &[&str]| {
        let dir = format!("state-{config}");
        let mut command = desk.quorate(&[role, "--config", config, "--key", key, "--dir", &dir]);
        command.args(more).stdin(std::process::Stdio::null());
        command
    };
    let tracker = |config: &str, key: &str, more: &[&str]| member("tasktracker", config, key, more);
    desk.provoke(Code::ClusterConfiguration, "-key", tracker("misspelled.toml", "key", &["--id", "0"])).await;
    desk.provoke(Code::ClusterConfiguration, "-f", tracker("two.toml", "key", &["--id", "0"])).await;
    desk.provoke(Code::BadKeyFile, "", tracker("c.toml", "no-key", &["--id", "0"])).await;
    desk.provoke(Code::NotAMember, "-id", tracker("c.toml", "key", &["--id", "7"])).await;
    desk.provoke(Code::NotAMember, "-key", tracker("c.toml", "other-key", &["--id", "0"])).await;
    desk.provoke(Code::NotAMember, "-replica", member("jobtracker", "c.toml", "key", &["--id", "1"])).await;
    let lying = ["--id", "0", "--liar", "corrupt-map"];
    desk.provoke(Code::LiarsNotAllowed, "", tracker("c.toml", "key", &lying)).await;
    desk.write("replica-key", SecretKey::from_seed([1; 32]).to_hex());
    let log = ["--trusted-log", "socket"];
    desk.provoke(Code::TrustedLogChoice, "", member("jobtracker", "pbft.toml", "replica-key", &log)).await;
    let tpm = EnrolledTpm { pcr: 14, firmware: [1; 8], key: [2; 64] };
    let mut with_tpm = cluster.clone();
    with_tpm.replicas[0].tpm = Some(tpm);
    desk.write("tpm.toml", toml::to_string(&with_tpm).expect("TOML"));
    if cfg!(not(feature = "tpm")) {
        desk.provoke(Code::NotBuilt, "", member("jobtracker", "tpm.toml", "replica-key", &[])).await;
    }
    desk.provoke(Code::TrustedLogLost, "", member("jobtracker", "c.toml", "replica-key", &log)).await;
}
