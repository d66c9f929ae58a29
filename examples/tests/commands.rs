//! The example programs as processes: what they print, what they leave, and their exit codes.

mod data;
mod parquet_log;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const WORDCOUNT: &str = env!("CARGO_BIN_EXE_wordcount");
const TERASORT: &str = env!("CARGO_BIN_EXE_terasort");
const GREP: &str = env!("CARGO_BIN_EXE_grep");
const LOG_REPORT: &str = env!("CARGO_BIN_EXE_log-report");

/// Runs a program with its temporary files in `temporary`.
fn run(program: &str, temporary: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .env("TMPDIR", temporary)
        .env("QUORATE_CONFIG", "")
        .env_remove("QUORATE_CLUSTER")
        .env_remove("XDG_RUNTIME_DIR");
    command.args(args).output().expect("it starts")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn entries(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("readable").map(|e| e.expect("readable").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn wordcount_shows_the_vote_and_leaves_only_its_output() {
    let temporary = tempfile::tempdir().expect("a folder");
    let place = tempfile::tempdir().expect("a folder");
    let (input, output) = (place.path().join("text"), place.path().join("words"));
    let text: String = (0..30_000).map(|n| format!("the word {}\n", n % 1_000)).collect();
    fs::write(&input, &text).expect("written");
    let args = ["--input", input.to_str().expect("UTF-8"), "--output", output.to_str().expect("UTF-8")];
    let printed = succeeded(&run(WORDCOUNT, temporary.path(), &[&args[..], &["--split", "20k"]].concat()));
    assert!(printed.contains("30000  the\n"), "{printed}");
    assert!(printed.contains("tracker-2 said") && printed.contains("(outvoted)"), "{printed}");
    assert!(printed.contains("tracker-2 is suspected"), "{printed}");
    // One for each of the five trackers.
    assert_eq!(entries(&output), [0, 1, 2, 3, 4].map(|part| format!("part-r-0000{part}")));
    let mut lines: Vec<String> = Vec::new();
    for part in entries(&output) {
        let part = fs::read_to_string(output.join(part)).expect("text");
        lines.extend(part.lines().map(str::to_owned));
    }
    lines.sort();
    let mut expected: Vec<String> = (0..1_000).map(|n| format!("{n}\t30")).collect();
    expected.extend(["the\t30000".to_owned(), "word\t30000".to_owned()]);
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(entries(temporary.path()), Vec::<String>::new(), "the cluster's files are gone");
    assert_eq!(entries(place.path()), ["text", "words"]);
}

#[test]
fn terasort_generates_sorts_and_validates() {
    let place = tempfile::tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name).to_str().expect("UTF-8").to_owned();
    succeeded(&run(TERASORT, place.path(), &["gen", "100000", &at("records")]));
    let sort =
        ["sort", "--input", &at("records"), "--output", &at("sorted"), "--reducers", "3", "--liar", "corrupt-map"];
    let printed = succeeded(&run(TERASORT, place.path(), &sort));
    assert!(printed.contains("tracker-2 is suspected"), "{printed}");
    let printed = succeeded(&run(TERASORT, place.path(), &["validate", &at("sorted")]));
    assert_eq!(printed, "100000 records, checksum c3068574c6ff, 0 duplicate keys\nsorted\n");
    let unsorted = run(TERASORT, place.path(), &["validate", &at("records")]);
    assert_eq!(unsorted.status.code(), Some(1), "{}", said(&unsorted));
}

#[test]
fn log_report_runs_two_jobs() {
    let Some(log) = data::shared("logs/HDFS.log") else { return };
    let place = tempfile::tempdir().expect("a folder");
    let printed = succeeded(&run(LOG_REPORT, place.path(), &["--input", log.to_str().expect("UTF-8"), "--top", "2"]));
    assert!(printed.contains("level\tINFO\t1920\nlevel\tWARN\t80\n"), "{printed}");
    assert!(printed.contains("log-report/count-lines") && printed.contains("log-report/rank"), "{printed}");
}

#[test]
fn log_report_reads_parquet_by_name() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("log.parquet");
    fs::write(&path, parquet_log::parquet_log()).expect("written");
    let path = path.to_str().expect("UTF-8");
    let printed = succeeded(&run(LOG_REPORT, place.path(), &["--input", path]));
    assert!(printed.contains("level\tINFO\t2\nlevel\tWARN\t1\n"), "{printed}");
    assert!(printed.contains("log-report/count-columns"), "{printed}");
}

#[test]
fn log_report_refuses_what_it_cannot_read() {
    let place = tempfile::tempdir().expect("a folder");
    let refuses = |inputs: &[&Path], code: i32, says: &[&str]| {
        let inputs = inputs.iter().map(|input| input.to_str().expect("UTF-8"));
        let output = run(LOG_REPORT, place.path(), &["--input"].into_iter().chain(inputs).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        for needle in says {
            assert!(said(&output).contains(needle), "{needle}: {}", said(&output));
        }
        assert!(!said(&output).contains("output:"), "{}", said(&output));
    };
    let (log, parquet) = (place.path().join("some.log"), place.path().join("some.parquet"));
    fs::write(&log, "nobody logs like this\n").expect("written");
    fs::write(&parquet, parquet_log::parquet_log()).expect("written");
    refuses(&[&log, &parquet], 2, &["/input/some.log", "/input/some.parquet", "hint"]);
    refuses(&[&log], 1, &["no messages", "HDFS"]);
    fs::write(&parquet, "no Parquet").expect("written");
    refuses(&[&parquet], 1, &["/input/some.parquet"]);
    let Some(damaged) = data::shared("parquet/datapage_v1-corrupt-checksum.parquet") else { return };
    refuses(&[&damaged], 1, &["/input/datapage_v1-corrupt-checksum.parquet", "the input is not what"]);
}

#[test]
fn a_damaged_input_fails_the_job_and_leaves_no_output() {
    let place = tempfile::tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name).to_str().expect("UTF-8").to_owned();
    fs::write(place.path().join("records"), [7; 950]).expect("written");
    let sort = run(TERASORT, place.path(), &["sort", "--input", &at("records"), "--output", &at("sorted")]);
    assert_eq!(sort.status.code(), Some(1), "{}", said(&sort));
    assert!(said(&sort).contains("50 are left over"), "{}", said(&sort));
    assert_eq!(entries(place.path()), ["records"]);
}

#[test]
fn bad_input_has_one_clear_error_and_its_exit_code() {
    let place = tempfile::tempdir().expect("a folder");
    let text = place.path().join("text");
    fs::write(&text, "words").expect("written");
    let text = text.to_str().expect("UTF-8");
    let here = place.path().to_str().expect("UTF-8");
    let cases: &[(&str, &[&str], i32, &str)] = &[
        (WORDCOUNT, &["--input", "/no/such/file"], 3, "/no/such/file"),
        (WORDCOUNT, &["--input", text, "--output", here], 3, "exists already"),
        (WORDCOUNT, &["--output", "/nope/deeper/x"], 3, "there is no folder /nope/deeper"),
        (WORDCOUNT, &["--input", text, "--liar", "2=fibber"], 2, "corrupt-map"),
        (WORDCOUNT, &["--input", text, "--liar", "9=corrupt-map"], 2, "0 to 4"),
        (WORDCOUNT, &["--input", text, "--f", "3"], 2, "--trackers 7"),
        (WORDCOUNT, &["--input", text, "--f", "9"], 2, "at most 8"),
        (WORDCOUNT, &["--input", text, "--memory", "1MiB"], 2, "16 MiB"),
        (WORDCOUNT, &["--input", text, "--memory", "much"], 2, "64MiB"),
        (WORDCOUNT, &["--input", text, "--reducers", "0"], 2, "--reducers"),
        (WORDCOUNT, &["--nonsense"], 2, "--nonsense"),
        (GREP, &["--input", text, "-e", "("], 2, "unclosed group"),
        (GREP, &["-e", "x"], 2, "--input"),
        (
            WORDCOUNT,
            &["submit", "--cluster", "/no/such/folder", "--input", "/a", "--output", "/b"],
            4,
            "quorate cluster up",
        ),
        (TERASORT, &["validate", "/no/such/file"], 3, "/no/such/file"),
        (TERASORT, &["gen", "1", text], 3, text),
    ];
    for (program, args, code, says) in cases {
        let output = run(program, place.path(), args);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {}", said(&output));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(says), "{args:?}: {error}");
        assert!(error.starts_with("error[Q0") && !error.contains("panicked"), "{args:?}: {error}");
    }
    assert_eq!(entries(place.path()), ["text"]);
}

#[test]
fn every_example_gives_the_same_each_time() {
    let place = tempfile::tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name).to_str().expect("UTF-8").to_owned();
    let text: String = (0..20_000).map(|n| format!("the word {}\n", n % 1_000)).collect();
    fs::write(at("text"), text).expect("written");
    fs::write(at("log.parquet"), parquet_log::parquet_log()).expect("written");
    succeeded(&run(TERASORT, place.path(), &["gen", "5000", &at("records")]));
    let programs: &[(&str, &[&str])] = &[
        (WORDCOUNT, &["--input", &at("text"), "--split", "64KiB"]),
        (GREP, &["--input", &at("text"), "-e", "word 9+", "--split", "64KiB"]),
        (env!("CARGO_BIN_EXE_inverted-index"), &["--input", &at("text")]),
        (LOG_REPORT, &["--input", &at("log.parquet")]),
        (TERASORT, &["--input", &at("records"), "--reducers", "3"]),
    ];
    for (program, args) in programs {
        let args: Vec<&str> =
            ["check-determinism", "--runs", "2", "--tasks", "2"].iter().chain(*args).copied().collect();
        let printed = succeeded(&run(program, place.path(), &args));
        assert!(printed.ends_with("verdict: no difference was found, as far as was looked\n"), "{printed}");
        assert!(!printed.contains(" 0 reduce tasks"), "{printed}");
    }
}

#[test]
fn every_example_explains_itself() {
    let place = tempfile::tempdir().expect("a folder");
    for program in [WORDCOUNT, GREP, LOG_REPORT, env!("CARGO_BIN_EXE_inverted-index")] {
        let help = succeeded(&run(program, place.path(), &["--help"]));
        for option in ["--input", "--output", "--liar", "--f ", "submit", "Exit codes"] {
            assert!(help.contains(option), "{program} {option}: {help}");
        }
    }
    let help = succeeded(&run(WORDCOUNT, place.path(), &["--help"]));
    assert!(help.starts_with("Counts the words of text files\n"), "{help}");
    assert!(help.contains("two-votes") && help.contains("tells the job tracker one thing"), "{help}");
    let help = succeeded(&run(WORDCOUNT, place.path(), &["submit", "--help"]));
    assert!(help.starts_with("Runs the job on a running cluster"), "{help}");
    let help = succeeded(&run(TERASORT, place.path(), &["--help"]));
    assert!(["gen", "sort", "validate", "submit"].iter().all(|command| help.contains(command)), "{help}");
}
