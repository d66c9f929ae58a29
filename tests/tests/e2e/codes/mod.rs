//! Each error code is provoked: by the real programs, and with a job tracker made by hand where an honest one never says
//! such a thing. What people then read is kept in `snapshots`; with `INSTA_UPDATE=always` it is written anew.

mod cluster;
mod job_tracker;
mod jobs;
mod machine;
mod paths;
mod usage;

use quorate::exit::Code;
use quorate_tests::processes::run;
use regex::Regex;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A folder for mistakes: commands run in it, know no cluster, and heed no settings of whoever runs the tests.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
    programs: quorate_tests::processes::Programs,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("quorate-desk-").tempdir().expect("a folder");
        Self { folder, programs: crate::under_test() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and gives its name.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).expect("written");
        name.to_owned()
    }

    pub(crate) fn quorate(&self, arguments: &[&str]) -> Command {
        self.command(&self.programs.quorate, arguments)
    }

    pub(crate) fn wordcount(&self, arguments: &[&str]) -> Command {
        self.command(&self.programs.wordcount, arguments)
    }

    pub(crate) fn mishap(&self, arguments: &[&str]) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_mishap")), arguments)
    }

    pub(crate) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path());
        command.env("QUORATE_CLUSTER", self.path("connection")).env("QUORATE_CONFIG", "").env_remove("RUST_LOG");
        command
    }

    /// Runs a command that must fail with this code, and compares what it says with what it said before.
    pub(crate) async fn provoke(&self, code: Code, name: &str, command: Command) {
        let shown = format!("{command:?}");
        let output = run(command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("error[{code}]: ")), "{shown} does not fail with {code}: {said}");
        assert_eq!(output.status.code(), Some(code.exit() as i32), "{shown}: {said}");
        assert!(said.contains("hint: ") || code == Code::CommandLine, "{shown} helps nobody: {said}");
        assert!(!said.contains("panicked at") || said.contains("programs.rs"), "{shown}: {said}");
        self.shows(&format!("{code}{name}"), &said);
    }

    /// Compares a text with what was kept of it.
    pub(crate) fn shows(&self, name: &str, text: &str) {
        let text = steady(&text.replace(&*self.folder.path().to_string_lossy(), "[FOLDER]"));
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text);
        });
    }
}

/// The same text without what differs from run to run.
pub(crate) fn steady(text: &str) -> String {
    let mut steady = text.to_owned();
    for (pattern, instead) in [
        (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
        (r"[0-9a-f]{64,}", "[HEX]"),
        (r"\b[0-9a-f]{8}@\d+\b", "[DIGEST]"),
        // Which one answers first differs.
        (r"\breplica-\d\b", "replica-[N]"),
        (r"\btracker-\d ran it", "tracker-[N] ran it"),
        (r"\d+(\.\d+)? m?s\b", "[TIME]"),
        (r"/(tmp|var)/[^ :]*/?\.?quorate-[^ :/]*", "[TEMPORARY]"),
        (r"\bpid \d+", "pid [PID]"),
    ] {
        steady = Regex::new(pattern).expect("a pattern").replace_all(&steady, instead).into_owned();
    }
    steady
}

/// A code that nothing provokes would be a promise that nobody keeps.
#[test]
fn every_code_is_provoked_by_a_test() {
    let tests = [
        include_str!("cluster.rs"),
        include_str!("jobs.rs"),
        include_str!("machine.rs"),
        include_str!("paths.rs"),
        include_str!("usage.rs"),
        include_str!("../certificates.rs"),
        include_str!("../determinism.rs"),
        include_str!("../../tpm/commands.rs"),
    ];
    for code in Code::ALL {
        let name = format!("Code::{code:?}");
        let is_named = |test: &&str| test.split(&name).skip(1).any(|rest| !rest.starts_with(char::is_alphanumeric));
        assert!(tests.iter().any(is_named), "nothing provokes {code} ({code:?})");
    }
}
