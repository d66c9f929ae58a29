//! `check-determinism` on programs that do not give the same each time, and on some that do.

use quorate::exit::{Code, Exit};
use serde_json::Value;
use std::{fs, process::Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nondeterministic");

/// Lines of many words, and of two files, so that there are two map tasks.
fn check(mode: &str, more: &[&str]) -> (Option<i32>, Value, String) {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..2 {
        let words: Vec<String> = (0..40).map(|n| format!("word{}", char::from(b'a' + (n % 26) as u8))).collect();
        let lines: String = (0..8).map(|n| format!("{} {number}{n}\n", words.join(" "))).collect();
        fs::write(folder.path().join(number.to_string()), lines).expect("written");
    }
    let own = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(own.path())
        .args(["check-determinism", "--json", "--reducers", "1", "--mode", mode, "--input"])
        .arg(folder.path());
    let output = command.args(more).output().expect("it starts");
    let said =
        format!("{mode}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), json, said)
}

/// Asserts that a mode is found out, at this place, and that one of these is suspected first.
fn found_out(mode: &str, task: &str, suspects: &[&str]) {
    let (code, json, said) = check(mode, &[]);
    assert_eq!(code, Some(Exit::Differs as i32), "{said}");
    assert!(said.contains(&format!("error[{}]", Code::Differs)), "{said}");
    let first = &json["jobs"][0]["divergences"][0];
    assert_eq!(first["task"], task, "{said}");
    assert!(first["sides"][0] != first["sides"][1], "both sides are shown: {said}");
    assert!(suspects.iter().any(|suspect| first["suspects"][0] == *suspect), "{suspects:?}: {said}");
}

macro_rules! modes {
    ($($name:ident: $mode:literal, $task:literal, $suspects:expr;)*) => {
        $(#[test]
        fn $name() {
            found_out($mode, $task, &$suspects);
        })*

        #[test]
        fn there_are_more_than_twenty_modes() {
            assert!([$($mode),*].len() > 20);
        }
    };
}

modes! {
    clock_in_seconds: "clock-seconds", "map-0", ["clock"];
    clock_in_nanoseconds: "clock-nanoseconds", "map-0", ["clock"];
    clock_in_binary: "clock-binary", "map-0", ["clock"];
    a_duration: "instant", "map-0", ["duration"];
    random_numbers: "random", "map-0", ["random"];
    a_random_sample: "random-sample", "map-0", ["choice"];
    the_order_of_a_hash_map: "hash-map-order", "map-0", ["hash_order"];
    the_first_of_a_hash_set: "hash-set-first", "map-0", ["hash_order"];
    the_seed_of_a_hasher: "hash-seed", "map-0", ["random"];
    floats_in_a_hash_map: "hash-map-floats", "map-0", ["float_order"];
    floats_that_race: "float-race", "map-0", ["race", "float_order"];
    threads_that_race: "thread-race", "map-0", ["race", "hash_order"];
    the_order_of_a_channel: "channel-order", "map-0", ["race", "hash_order"];
    the_environment: "environment", "map-0", ["environment"];
    the_locale: "locale", "map-0", ["environment"];
    an_address: "address", "map-0", ["address"];
    the_order_of_addresses: "address-order", "map-0", ["hash_order"];
    the_process_id: "process-id", "map-0", ["process_id"];
    the_thread_id: "thread-id", "map-0", ["thread_id"];
    the_working_folder: "working-folder", "map-0", ["folder"];
    the_temporary_folder: "temporary-folder", "map-0", ["folder"];
    a_count_of_tasks: "count-of-tasks", "map-0", ["shared_state"];
    a_files_time: "file-time", "map-0", ["clock"];
    the_bits_of_a_nan: "nan-bits", "map-0", ["nan_bits"];
    the_order_in_a_reducer: "reducer-order", "reduce-0", ["hash_order"];
    a_counter: "counter", "reduce-0", ["duration", "random"];
}

#[test]
fn the_number_of_processors() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: there is one processor");
        return;
    }
    found_out("processors", "map-0", &["processors"]);
}

#[test]
fn the_hosts_name() {
    let (code, json, said) = check("host-name", &[]);
    let not_varied = json["jobs"][0]["not_varied"].as_array().expect("a list");
    if not_varied.iter().any(|what| what.as_str().is_some_and(|what| what.starts_with("the host's name"))) {
        println!("skipped: this machine lets no process have a host name of its own");
        assert_eq!(code, Some(0), "{said}");
        return;
    }
    found_out("host-name", "map-0", &["host_name"]);
}

#[test]
fn a_failure_that_does_not_come_each_time() {
    let (code, json, said) = check("random-failure", &[]);
    assert_eq!(code, Some(Exit::Differs as i32), "{said}");
    assert_eq!(json["jobs"][0]["divergences"][0]["place"], "the outcome", "{said}");
}

#[test]
fn what_gives_the_same_each_time_passes() {
    for mode in ["steady", "sorted-hash-map"] {
        let (code, json, said) = check(mode, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(json["jobs"][0]["divergences"].as_array().map(Vec::len), Some(0), "{said}");
        assert_eq!(json["jobs"][0]["maps"], serde_json::json!([2, 2]), "{said}");
    }
}

#[test]
fn the_command_runs_the_programs_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("input");
    fs::write(&input, "a b c\n").expect("written");
    let quorate = |mode: &str| {
        let mut command = Command::new(crate::under_test().quorate);
        command.args(["check-determinism", PROGRAM, "--", "--mode", mode, "--input"]).arg(&input);
        command.output().expect("it starts")
    };
    let steady = quorate("steady");
    assert_eq!(steady.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&steady.stdout).contains("no difference was found"));
    let clock = quorate("clock-nanoseconds");
    assert_eq!(clock.status.code(), Some(7));
    let said = String::from_utf8_lossy(&clock.stdout);
    assert!(said.contains("looks like a clock (a guess)") && said.contains("verdict: not deterministic"), "{said}");
    let missing = Command::new(crate::under_test().quorate).args(["check-determinism", "/no/such"]).output();
    assert_eq!(missing.expect("it starts").status.code(), Some(3));
}
