//! Grep against a loop over the lines.

mod data;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../src/bin/grep.rs"]
mod grep;

use grep::GrepArgs;
use quorate::testing::{FailureKind, Harness, TaskError};

fn args(pattern: &str, ignore_case: bool) -> GrepArgs {
    GrepArgs { pattern: pattern.to_owned(), ignore_case }
}

#[test]
fn matching_lines_come_out_in_their_order() {
    let Some(path) = data::shared("logs/HDFS.log") else { return };
    let text = std::fs::read(path).expect("readable");
    let lines = std::str::from_utf8(&text).expect("UTF-8").lines();
    let expected: Vec<String> =
        lines.filter(|line| line.contains(" WARN ")).map(|line| format!("/HDFS.log\t{line}")).collect();
    assert_eq!(expected.len(), 80);
    let job = Harness::new(grep::job(&args("\\sWARN\\s", false))).split_bytes(5_000);
    let outcome = job.run(&[("/HDFS.log", &text)]).expect("found");
    assert_eq!(outcome.lines(), expected);
    assert_eq!((outcome.counters["lines"], outcome.counters["matches"]), (2000, 80));
}

#[test]
fn case_can_be_ignored() {
    let files: [(&str, &[u8]); 2] = [("/b", b"Yes\nno\n"), ("/a", b"YES\n")];
    let outcome = Harness::new(grep::job(&args("yes", true))).run(&files).expect("found");
    assert_eq!(outcome.lines(), ["/a\tYES", "/b\tYes"]);
}

#[test]
fn a_wrong_pattern_is_an_error() {
    let error = Harness::new(grep::job(&args("(", false))).run(&[]).expect_err("no pattern");
    assert!(matches!(error, TaskError::Program { kind: FailureKind::UserError, .. }), "{error}");
}
