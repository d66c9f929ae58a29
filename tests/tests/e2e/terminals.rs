//! What only a terminal gets: bars, colours, tables that fit. And readers that go away.

use crate::under_test;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output, Stdio},
};

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env("QUORATE_CONFIG", "").env("TERM", "xterm-256color");
    command.env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE").env_remove("RUST_LOG");
    command
}

fn quorate(arguments: &[&str]) -> Command {
    command(&under_test().quorate, arguments)
}

/// All that a command writes to a terminal of so many columns.
fn on_a_terminal(command: Command, columns: u16) -> String {
    typed_at_a_terminal(command, columns, None)
}

/// The same, when this is typed there.
fn typed_at_a_terminal(mut command: Command, columns: u16, typed: Option<&str>) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal of ours");
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).expect("a size");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let end =
        OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.to_bytes())).expect("its other end");
    if typed.is_some() {
        command.stdin(end.try_clone().expect("shared"));
    }
    let mut child = command.stdout(end.try_clone().expect("shared")).stderr(end).spawn().expect("it starts");
    // Nobody else holds the other end, so that reading ends with the child.
    drop(command);
    let (mut shown, mut block) = (Vec::new(), [0; 4096]);
    let mut master = File::from(master);
    master.write_all(typed.unwrap_or_default().as_bytes()).expect("typed");
    while let Ok(length @ 1..) = master.read(&mut block) {
        shown.extend_from_slice(&block[..length]);
    }
    assert!(child.wait().expect("it ends").success(), "{}", String::from_utf8_lossy(&shown));
    String::from_utf8_lossy(&shown).into_owned()
}

fn to_a_file(mut command: Command) -> Output {
    command.output().expect("it runs")
}

#[test]
fn a_table_fits_its_terminal_and_its_heading_stands_out() {
    let shown = on_a_terminal(quorate(&["errors"]), 44);
    assert!(shown.contains("\x1b[1mCODE\x1b[0m"), "{shown:?}");
    assert!(shown.contains('…'), "{shown}");
    let plain = on_a_terminal(quorate(&["errors", "--color", "never"]), 44);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    assert!(plain.lines().all(|line| line.chars().count() <= 44), "{plain}");
    assert!(on_a_terminal(quorate(&["errors"]), 200).contains("the input is not what the job's format says"));
}

#[test]
fn colours_are_for_terminals_unless_somebody_says_otherwise() {
    let coloured = |command: Command| String::from_utf8_lossy(&to_a_file(command).stdout).contains('\x1b');
    assert!(!coloured(quorate(&["errors"])));
    assert!(coloured(quorate(&["errors", "--color", "always"])));
    let with = |name: &str, value: &str| {
        let mut command = quorate(&["errors"]);
        command.env(name, value);
        command
    };
    assert!(!on_a_terminal(with("NO_COLOR", "1"), 80).contains('\x1b'));
    assert!(!on_a_terminal(with("QUORATE_COLOR", "never"), 80).contains('\x1b'));
    // A flag beats the environment.
    let mut both = quorate(&["errors", "--color", "always"]);
    both.env("QUORATE_COLOR", "never");
    assert!(coloured(both));
    // Errors of the parser too.
    let told = |command: Command| String::from_utf8_lossy(&to_a_file(command).stderr).into_owned();
    let mut wrong = quorate(&["job", "lst"]);
    wrong.env("QUORATE_COLOR", "always");
    let coloured = told(wrong);
    assert!(coloured.contains('\x1b') && coloured.contains("error[Q0201]"), "{coloured:?}");
    assert!(!told(quorate(&["job", "lst"])).contains('\x1b'));
}

#[test]
fn progress_is_a_bar_on_a_terminal_and_lines_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let job = |more: &[&str]| {
        let output = folder.path().join(format!("output{}", more.concat()));
        let output = output.to_str().expect("UTF-8").to_owned();
        command(&under_test().wordcount, &[&["--trackers", "3", "--output", &output, "--liar", "none"], more].concat())
    };
    let bar = on_a_terminal(job(&[]), 100);
    assert!(bar.contains("job-1 wordcount [") && bar.contains("==="), "{bar:?}");
    let told = |command: Command| String::from_utf8_lossy(&to_a_file(command).stderr).into_owned();
    let lines = told(job(&["--progress", "auto"]));
    assert!(lines.contains("job-1 wordcount: maps ") && !lines.contains("==="), "{lines}");
    let on_request = on_a_terminal(job(&["--progress", "lines"]), 100);
    assert!(on_request.contains("job-1 wordcount: maps ") && !on_request.contains("==="), "{on_request:?}");
    let quiet = told(job(&["--progress", "none"]));
    assert!(!quiet.contains("job-1"), "{quiet}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let gone = |mut command: Command| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output =
            command.stdout(writer).stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output);
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("panicked"), "{command:?}: {:?} {said}", output.status);
    };
    gone(quorate(&["errors"]));
    gone(quorate(&["errors", "--color", "always"]));
    gone(quorate(&["config", "example"]));
    gone(quorate(&["completions", "bash"]));
    gone(quorate(&["--help"]));
    gone(command(&under_test().wordcount, &["--trackers", "3"]));
    // Nor is nobody there to hear of an error.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut unheard = quorate(&["errors", "Q9999"]);
    assert_eq!(unheard.stderr(writer).status().expect("it runs").code(), Some(2));
}

/// A reader who takes his time must not find that the job is over before its primary is killed.
#[test]
fn the_demonstration_waits_for_its_reader_but_not_while_the_job_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = quorate(&["demo"]);
    demo.env("TMPDIR", folder.path());
    let shown = typed_at_a_terminal(demo, 120, Some("\n\n\n\n"));
    assert_eq!(shown.matches("[Enter to go on]").count(), 4, "{shown}");
    let (_, job) = shown.split_once("2 of 6").expect("a job");
    let (job, _) = job.split_once("leads now").expect("another primary");
    assert!(job.contains("kill -9") && !job.contains("[Enter to go on]"), "{job}");
}
