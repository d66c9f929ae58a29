//! Real inputs, and what coreutils make of them.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A real input by its name. Without the data set the caller skips, and says so; on CI it must be there.
///
/// # Panics
/// On CI, when it is missing.
pub fn real_input(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, and on CI it must be there", path.display());
    eprintln!("skipped: {} is not there", path.display());
    None
}

/// The text of plays, or as long as it is not there a made-up text of the same kind.
pub fn plays() -> Vec<u8> {
    match real_input("shakespeare.txt") {
        Some(path) => std::fs::read(path).expect("a readable text"),
        None => made_up_text(1 << 20),
    }
}

/// Lines of words, the same on every machine.
pub fn made_up_text(bytes: usize) -> Vec<u8> {
    let (mut text, mut state) = (Vec::with_capacity(bytes + 80), 7u64);
    while text.len() < bytes {
        for _ in 0..10 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = (state >> 33) % 5000;
            write!(text, "w{} ", word * word / 5000).expect("memory");
        }
        text.push(b'\n');
    }
    text
}

/// Word counts as `word<TAB>count` lines in byte order, made by `tr`, `sort` and `uniq`.
///
/// # Panics
/// When coreutils are not there.
pub fn counted_by_coreutils(text: &[u8]) -> Vec<u8> {
    let script = r"tr -s '[:space:]' '\n' | sed '/^$/d' | sort | uniq -c | sed -E 's/^ *([0-9]+) (.*)$/\2\t\1/'";
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell with coreutils");
    let mut stdin = shell.stdin.take().expect("piped");
    let text = text.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&text));
    let output = shell.wait_with_output().expect("coreutils");
    feeding.join().expect("no panic").expect("coreutils read it all");
    assert!(output.status.success());
    output.stdout
}

/// The parts of a job's output as one sorted list of lines; checks that each part is sorted by itself.
///
/// # Panics
/// When a part is not sorted by its keys.
pub fn merged(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut all: Vec<&[u8]> = Vec::new();
    for part in parts {
        let lines: Vec<&[u8]> = part.split_inclusive(|byte| *byte == b'\n').collect();
        let key = |line: &[u8]| line.split(|byte| *byte == b'\t').next().unwrap_or_default().to_vec();
        assert!(lines.windows(2).all(|pair| key(pair[0]) < key(pair[1])), "a part is not sorted by its keys");
        all.extend(lines);
    }
    all.sort_by_key(|line| line.split(|byte| *byte == b'\t').next().unwrap_or_default().to_vec());
    all.concat()
}
