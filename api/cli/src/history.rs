//! `quorate history`: what event logs tell of jobs, without a cluster.

use crate::role::Interruption;
use clap::Args;
use quorate::{
    amounts::show_duration,
    exit::{Code, Failure},
    report,
    terminal::{print, print_table},
};
use quorate_jobtracker::{History, PastJob};
use std::{net::SocketAddr, path::PathBuf};
use tokio::net::TcpListener;

/// Lists the jobs of a folder of event logs, and shows their pages in a browser, without a cluster.
///
/// A replica keeps them in the folder `events` of its state: with `quorate cluster up --dir FOLDER` that is
/// FOLDER/replica-0/events, and so on. They are the word of that one replica.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A folder of event logs, a replica's state, or one log.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Shows the page here, or on a free port, until Ctrl-C.
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    ui: Option<SocketAddr>,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let path = options.path.clone();
    let opened = tokio::task::spawn_blocking(move || History::open(&path)).await;
    let history = opened
        .map_err(|error| Failure::new(Code::System, "cannot read event logs").caused_by(&error))?
        .map_err(|error| Failure::io("cannot read event logs in", &options.path, &error))?;
    print_table(&table(&history.jobs()))?;
    let Some(address) = options.ui else { return Ok(()) };
    let mut interruption = Interruption::listen()?;
    let cannot = |error: std::io::Error| {
        Failure::new(Code::CannotListen, format!("cannot listen on {address}")).caused_by(&error)
    };
    let page = history.show_page(TcpListener::bind(address).await.map_err(cannot)?).map_err(cannot)?;
    print(&format!("page: http://{}/\nCtrl-C ends it.\n", page.address()))?;
    interruption.came().await;
    page.stop().await;
    Ok(())
}

fn table(jobs: &[PastJob]) -> Vec<Vec<String>> {
    let heading = ["JOB", "NAME", "STATE", "TIME", "MAPS", "REDUCES", "DISPUTED", "FOUND OUT"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(jobs.iter().rev().map(row));
    rows
}

fn row(job: &PastJob) -> Vec<String> {
    let tally = |(agreed, all): (u32, u32)| format!("{agreed}/{all}");
    let state = job.state.as_ref().map_or("unknown", report::state);
    let gaps = if job.has_gaps { " (with gaps)" } else { "" };
    let blamed: Vec<String> =
        job.blamed.iter().map(|(tracker, blame)| format!("{tracker} {}", report::blame(*blame))).collect();
    vec![
        job.job.to_string(),
        job.name.clone(),
        format!("{state}{gaps}"),
        show_duration(job.until.since(job.submitted)),
        tally(job.maps),
        tally(job.reduces),
        job.disputed.to_string(),
        if blamed.is_empty() { "nobody".to_owned() } else { blamed.join(", ") },
    ]
}
