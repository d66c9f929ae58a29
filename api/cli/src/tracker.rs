//! `quorate tracker`: what the trackers are given to do, what is held against them, and what an operator does about it.

use crate::print;
use clap::Subcommand;
use quorate::{
    connection::Connection,
    exit::{Exit, Failure},
    report,
};
use quorate_protocol::{
    ids::TrackerId,
    query::{Duty, TrackerView},
};
use std::path::Path;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists the trackers: their slots, their votes, what is held against them and what they are given to do.
    List,
    /// Shows one tracker, with all that is held against it.
    Show {
        /// Which: `tracker-1` or `1`.
        tracker: TrackerId,
    },
    /// Takes all work from a tracker, and gives it no more.
    ///
    /// What it ran is run elsewhere. What it stored can still be read.
    Quarantine {
        /// Which: `tracker-1` or `1`.
        tracker: TrackerId,
        /// Why, for whoever looks later.
        #[arg(long, default_value = "an operator said so")]
        reason: String,
    },
    /// Puts a tracker that is in quarantine on probation.
    ///
    /// It is given map tasks of running jobs whose answers are known. Some right answers bring it back, a wrong one puts it
    /// in quarantine again. What was held against it stays on record, and counts no more.
    Readmit {
        /// Which: `tracker-1` or `1`.
        tracker: TrackerId,
    },
}

pub(crate) async fn run(command: Command, folder: Option<&Path>) -> Result<(), Failure> {
    let connection = Connection::open(folder)?;
    let client = &connection.client;
    match command {
        Command::List => print(&report::trackers(&client.trackers().await?)),
        Command::Show { tracker } => show(&connection, tracker).await,
        Command::Quarantine { tracker, reason } => {
            client.quarantine(tracker, reason).await?;
            print(&format!("{tracker} is in quarantine\n"))
        }
        Command::Readmit { tracker } => {
            client.readmit(tracker).await?;
            print(&format!("{tracker} is on probation\n"))
        }
    }
}

async fn show(connection: &Connection, id: TrackerId) -> Result<(), Failure> {
    let trackers: Vec<TrackerView> = connection.client.trackers().await?;
    let Some(view) = trackers.into_iter().find(|view| view.id == id) else {
        return Err(Failure::new(Exit::Path, format!("{id} is not of this cluster"))
            .hint("`quorate tracker list` lists the trackers"));
    };
    print(&report::trackers(std::slice::from_ref(&view)))?;
    print(&match &view.duty {
        Duty::Full => String::new(),
        Duty::Quarantined(reason) => format!("in quarantine: {reason}\n"),
        Duty::Probation { passed, needed } => format!("on probation: {passed} of {needed} known answers given\n"),
    })?;
    for evidence in connection.client.evidence(id).await? {
        let holds = match evidence.check(&connection.cluster) {
            Ok((accused, _)) if accused == id => "",
            Ok(_) | Err(_) => " (which does not hold when checked here)",
        };
        print(&format!("{id} {}{holds}\n", report::evidence(&evidence)))?;
    }
    Ok(())
}
