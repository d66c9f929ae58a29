//! The web page, in a real headless browser, against running clusters of processes.

mod agreement;
mod failover;
mod liar;
mod scale;

use quorate_tests::{Processes, processes::Programs};

fn under_test() -> Programs {
    Programs {
        quorate: env!("CARGO_BIN_EXE_quorate-under-test").into(),
        wordcount: env!("CARGO_BIN_EXE_wordcount-under-test").into(),
        terasort: env!("CARGO_BIN_EXE_terasort-under-test").into(),
    }
}

/// Where a replica shows a page.
fn page(cluster: &Processes, replica: u32, at: &str) -> String {
    format!("http://{}/#/{at}", cluster.page(replica))
}
