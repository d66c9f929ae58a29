//! Whole jobs, embedded and in real processes, honest and with liars.

mod bad_replicas;
mod certificates;
mod codes;
mod command_line;
mod crashes;
mod demo;
mod determinism;
mod disk_full;
mod embedded;
mod explain;
mod failures;
mod forks;
mod garbage;
mod liars;
mod lying_replicas;
mod page;
mod processes;
mod programs;
mod quarantine;
mod replicas;
mod sandbox;
mod terasort;
mod terminals;
mod tools;
mod trusted_log;
mod witnessed;

fn under_test() -> quorate_tests::processes::Programs {
    quorate_tests::processes::Programs {
        quorate: env!("CARGO_BIN_EXE_quorate-under-test").into(),
        wordcount: env!("CARGO_BIN_EXE_wordcount-under-test").into(),
        terasort: env!("CARGO_BIN_EXE_terasort-under-test").into(),
    }
}
