//! The log report against counting line by line.

mod data;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../src/bin/log-report/main.rs"]
mod log_report;
mod parquet_log;

use log_report::{ReportArgs, line};
use quorate::testing::Harness;
use std::collections::HashMap;

/// The report, by both jobs, on files of lines.
fn report(files: &[(&str, &[u8])], top: u64) -> Vec<String> {
    let counts = Harness::new(log_report::count_lines()).partitions(2).split_bytes(4_000).run(files).expect("counted");
    rank(&counts.parts, top)
}

fn rank(counts: &[Vec<u8>], top: u64) -> Vec<String> {
    let files: Vec<(&str, &[u8])> = counts.iter().map(|part| ("/counts", part.as_slice())).collect();
    Harness::new(log_report::rank(&ReportArgs { top })).run(&files).expect("ranked").lines()
}

/// One aggregate, counted and ranked another way.
fn reference(name: &str, values: impl Iterator<Item = String>, top: usize) -> Vec<String> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let mut ranked: Vec<_> = counts.into_iter().collect();
    ranked.sort_by(|(a, x), (b, y)| y.cmp(x).then(a.cmp(b)));
    ranked.truncate(top);
    ranked.iter().map(|(value, count)| format!("{name}\t{value}\t{count}")).collect()
}

#[test]
fn hdfs_logs_are_counted() {
    let Some(path) = data::shared("logs/HDFS.log") else { return };
    let text = std::fs::read_to_string(path).expect("readable");
    let field = |n: usize| text.lines().map(move |line| line.split(' ').nth(n).unwrap_or_default().to_owned());
    let hour = text.lines().map(|line| format!("20{}-{}-{} {}", &line[..2], &line[2..4], &line[4..6], &line[7..9]));
    let mut expected = reference("component", field(4).map(|c| c.trim_end_matches(':').to_owned()), 3);
    expected.extend(reference("hour", hour, 3));
    expected.extend(reference("level", field(3), 3));
    assert_eq!(expected.last().map(String::as_str), Some("level\tWARN\t80"));
    assert_eq!(report(&[("/HDFS.log", text.as_bytes())], 3), expected);
}

#[test]
fn all_three_forms_are_read() {
    for (name, level) in [("Hadoop.log", "INFO"), ("Apache.log", "notice"), ("HDFS.log", "INFO")] {
        let Some(path) = data::shared(&format!("logs/{name}")) else { return };
        let text = std::fs::read(path).expect("readable");
        let outcome = Harness::new(log_report::count_lines()).run(&[("/log", &text)]).expect("counted");
        let unreadable = outcome.counters.get("unreadable lines").copied().unwrap_or(0);
        assert_eq!(unreadable, 0, "{name}");
        assert!(outcome.lines().iter().any(|line| line.starts_with(&format!("level\t{level}\t"))), "{name}");
    }
}

#[test]
fn lines_in_no_form_are_counted_apart() {
    for wrong in [
        "",
        " ",
        "[",
        "[x] [",
        "2015-10-18",
        "081109 203615 148",
        "2015-10-18 é INFO [main] x: y",
        "[Sun Foo 04 04:47:44 2005] [error] x",
    ] {
        assert_eq!(line::parse(wrong), None, "{wrong:?}");
    }
    let outcome = Harness::new(log_report::count_lines()).run(&[("/log", b"nonsense\n")]).expect("counted");
    assert_eq!(outcome.counters["unreadable lines"], 1);
}

#[test]
fn parquet_columns_give_the_same_report() {
    let file = parquet_log::parquet_log();
    let counts = Harness::new(log_report::count_columns()).run(&[("/log.parquet", &file)]).expect("counted");
    let expected = [
        "component\ta\t2",
        "component\tb\t1",
        "hour\t2015-10-18 18\t2",
        "hour\t2015-10-19 00\t1",
        "level\tINFO\t2",
        "level\tWARN\t1",
    ];
    assert_eq!(rank(&counts.parts, 10), expected);
}

#[test]
fn one_kind_of_files_is_read_at_a_time() {
    let job_for =
        |files: &[&str]| log_report::job_for(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>());
    assert_eq!(job_for(&["/a.parquet", "/b.parquet"]).expect("one kind"), "count-columns");
    assert_eq!(job_for(&["/a.log", "/b"]).expect("one kind"), "count-lines");
    let mixed = job_for(&["/a.log", "/b.parquet"]).expect_err("two kinds").to_string();
    assert!(mixed.contains("/a.log") && mixed.contains("/b.parquet"), "{mixed}");
}

#[test]
fn a_damaged_parquet_file_is_refused_by_name() {
    let Some(path) = data::shared("parquet/datapage_v1-corrupt-checksum.parquet") else { return };
    let bytes = std::fs::read(path).expect("readable");
    let error = Harness::new(log_report::count_columns()).run(&[("/damaged.parquet", &bytes)]).expect_err("damaged");
    assert!(error.to_string().contains("/damaged.parquet"), "{error}");
}
