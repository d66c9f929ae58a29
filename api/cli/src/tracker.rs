//! `quorate tracker`: what the trackers are given to do, what is held against them, and what an operator does about it.

use clap::Subcommand;
use quorate::{
    connection::Connection,
    exit::{Code, Failure},
    json::{self, Format},
    report,
    terminal::{print, print_table, visible},
};
use quorate_protocol::{
    ids::TrackerId,
    query::{Duty, TrackerView},
};
use std::path::Path;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists the trackers: their slots, their votes, what is held against them and what they are given to do.
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Shows one tracker, with all that is held against it.
    Show {
        /// Which: `tracker-1` or `1`.
        tracker: TrackerId,
        #[command(flatten)]
        format: Format,
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
        Command::List { format } => {
            let trackers = client.trackers().await?;
            if format.json {
                return json::print(&trackers.iter().map(json::Tracker::from).collect::<Vec<_>>());
            }
            print_table(&report::trackers(&trackers))
        }
        Command::Show { tracker, format } => show(&connection, tracker, format).await,
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

async fn show(connection: &Connection, id: TrackerId, format: Format) -> Result<(), Failure> {
    let trackers: Vec<TrackerView> = connection.client.trackers().await?;
    let Some(view) = trackers.into_iter().find(|view| view.id == id) else {
        return Err(Failure::new(Code::NoSuchTracker, format!("{id} is not of this cluster")));
    };
    if format.json {
        return json::print(&json::Tracker::from(&view));
    }
    print_table(&report::trackers(std::slice::from_ref(&view)))?;
    print(&match &view.duty {
        Duty::Full => String::new(),
        Duty::Quarantined(reason) => format!("in quarantine: {}\n", visible(reason)),
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
