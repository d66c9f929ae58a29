//! Word count against coreutils.

mod data;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../src/bin/wordcount.rs"]
mod wordcount;

use quorate::testing::Harness;
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// `count word` lines of `tr | sort | uniq -c`, as `word<TAB>count`, in the order of the words' bytes.
fn reference(text: &[u8]) -> Vec<String> {
    let script = "tr -s '[:space:]' '\\n' | sed '/^$/d' | LC_ALL=C sort | uniq -c";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("piped");
    let text = text.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&text));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("no panic").expect("all read");
    let lines = String::from_utf8(output.stdout).expect("the text is UTF-8");
    let line = |line: &str| {
        let (count, word) = line.trim_start().split_once(' ').expect("count and word");
        format!("{word}\t{count}")
    };
    lines.lines().map(line).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn a_play_is_counted_as_coreutils_do() {
    let Some(path) = data::shared("shakespeare.txt") else { return };
    let text = std::fs::read(path).expect("readable");
    let expected = reference(&text);
    assert!(expected.len() > 10_000);
    let one = Harness::new(wordcount::job()).run(&[("/text", &text)]).expect("counted");
    assert_eq!(one.lines(), expected, "one part is in the order of the words");
    assert_eq!(one.counters["words"], 202_651);
    let many = Harness::new(wordcount::job()).partitions(3).split_bytes(10_007).memory(16 << 20);
    let many = many.run(&[("/text", &text)]).expect("counted");
    assert_eq!(many.parts.len(), 3);
    assert_eq!(sorted(many.lines()), sorted(expected));
}

#[test]
fn line_ends_do_not_matter() {
    let text = b"b a\r\n\r\n  a\tb\nc";
    let outcome = quorate::testing::run(wordcount::job(), &[("/text", text)]).expect("counted");
    assert_eq!(outcome.lines(), ["a\t2", "b\t2", "c\t1"]);
}
