//! `quorate bench` hands over to another program, and says how to get it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tempfile::TempDir;

/// One test at a time: a process that another thread starts while a program is being written has it open for writing until
/// it becomes what it is to be, and meanwhile nobody can run the program.
static ALONE: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The command, alone in a folder.
fn alone() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(env!("CARGO_BIN_EXE_quorate"), folder.path().join("quorate")).expect("copied");
    folder
}

/// A program that says its name and arguments, and ends with 7.
fn put_program(folder: &Path, says: &str) {
    let path = folder.join("quorate-bench");
    fs::write(&path, format!("#!/bin/sh\necho {says} \"$@\"\nexit 7\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
}

fn bench(folder: &Path, path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(folder.join("quorate"));
    command.arg("bench").args(arguments).env("PATH", path).output().expect("it runs")
}

#[test]
fn without_the_program_it_says_how_to_build_it() {
    let _alone = one_at_a_time();
    let (folder, empty) = (alone(), tempfile::tempdir().expect("a folder"));
    let output = bench(folder.path(), empty.path(), &["overhead"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("quorate-bench") && text.contains("cargo build --release -p quorate-bench"), "{text}");
}

#[test]
fn arguments_go_through_as_they_are_and_the_exit_code_comes_back() {
    let _alone = one_at_a_time();
    let folder = alone();
    put_program(folder.path(), "beside");
    let output = bench(folder.path(), folder.path(), &["overhead", "--size", "1MiB", "--help"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "beside overhead --size 1MiB --help\n");
    assert_eq!(output.status.code(), Some(7));
    let help = bench(folder.path(), folder.path(), &["--help"]);
    assert_eq!(String::from_utf8_lossy(&help.stdout), "beside --help\n");
}

#[test]
fn the_program_beside_it_comes_before_one_on_the_path() {
    let _alone = one_at_a_time();
    let (folder, other) = (alone(), tempfile::tempdir().expect("a folder"));
    put_program(other.path(), "path");
    let found = bench(folder.path(), other.path(), &["x"]);
    assert_eq!(String::from_utf8_lossy(&found.stdout), "path x\n");
    put_program(folder.path(), "beside");
    let found = bench(folder.path(), other.path(), &["x"]);
    assert_eq!(String::from_utf8_lossy(&found.stdout), "beside x\n");
}
