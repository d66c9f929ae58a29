//! `quorate cluster status`: how the job tracker's replicas and the trackers stand, and what is held against them.

use quorate::{
    connection::Connection,
    exit::Failure,
    json::{self, Format},
    report,
    terminal::{print, print_table, visible},
};
use quorate_jobtracker::client::{ClientError, Distrust};
use quorate_protocol::{ids::ReplicaId, query::ReplicaView};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What each replica says of itself, or why it says nothing.
type Views = [(ReplicaId, Result<ReplicaView, ClientError>)];

pub(crate) async fn show(folder: Option<&Path>, format: Format) -> Result<(), Failure> {
    let connection = &Connection::open(folder)?;
    let client = &connection.client;
    let views = client.replicas().await;
    if format.json {
        return json::print(&status(connection, &views).await?);
    }
    print(&format!("{}\n", connection.cluster.assumption()))?;
    print_table(&replicas(&views))?;
    if let Some(line) = stands_still(&views, connection.cluster.quorum()) {
        print(&format!("{line}\n"))?;
    }
    for line in faults(&views, &client.audit().await) {
        print(&format!("{}\n", visible(&line)))?;
    }
    let trackers = client.trackers().await?;
    print("\n")?;
    print_table(&report::trackers(&trackers))?;
    for tracker in trackers.iter().filter(|tracker| tracker.evidence > 0) {
        for evidence in client.evidence(tracker.id).await? {
            print(&format!("{}: {}\n", tracker.id, report::evidence(&evidence)))?;
        }
    }
    Ok(())
}

/// The same for programs.
async fn status(connection: &Connection, views: &Views) -> Result<json::Status, Failure> {
    let Connection { client, cluster, .. } = connection;
    let seen = client.audit().await;
    let seen = seen.iter().map(|Distrust { replica, what, .. }| json::Fault {
        replica: replica.number(),
        proof: false,
        what: what.clone(),
        by: Vec::new(),
    });
    let told = told(views).into_iter().map(|((replica, proof, what), by)| json::Fault {
        replica: replica.number(),
        proof,
        what: what.to_owned(),
        by: by.into_iter().map(ReplicaId::number).collect(),
    });
    let trackers = client.trackers().await?;
    let mut evidence = Vec::new();
    for tracker in trackers.iter().filter(|tracker| tracker.evidence > 0) {
        let pieces = client.evidence(tracker.id).await?;
        evidence.extend(
            pieces.iter().map(|piece| json::Accusation { tracker: tracker.id.number(), what: report::evidence(piece) }),
        );
    }
    let replica = |(replica, view): &(ReplicaId, Result<ReplicaView, ClientError>)| json::Replica {
        replica: replica.number(),
        standing: view.as_ref().ok().map(json::ReplicaStanding::from),
        why: view.as_ref().err().map(|error| silence(error).to_owned()),
    };
    Ok(json::Status {
        cluster: cluster.name.clone(),
        f: cluster.f,
        agreement: cluster.agreement.to_string(),
        assumption: cluster.assumption(),
        quorum: cluster.quorum(),
        replicas: views.iter().map(replica).collect(),
        faults: told.chain(seen).collect(),
        trackers: trackers.iter().map(json::Tracker::from).collect(),
        evidence,
    })
}

/// The table of replicas. Each line is that replica's word alone.
fn replicas(views: &Views) -> Vec<Vec<String>> {
    let heading = ["REPLICA", "VIEW", "PRIMARY", "EXECUTED", "LAG", "CHECKPOINT", "TRUSTED LOG", "VOTING", "PENDING"];
    let newest = views.iter().filter_map(|(_, view)| view.as_ref().ok()).map(|view| view.executed.ordered).max();
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (replica, view) in views {
        match view {
            Ok(view) => rows.push(row(view, newest.unwrap_or_default())),
            Err(error) => rows.push(vec![replica.to_string(), silence(error).to_owned()]),
        }
    }
    rows
}

/// Said when too few replicas can vote.
fn stands_still(views: &Views, quorum: usize) -> Option<String> {
    let voting = views.iter().filter(|(_, view)| view.as_ref().is_ok_and(|view| view.voting)).count();
    (voting < quorum).then(|| format!("{voting} of them can vote, and it takes {quorum}: nothing is ordered"))
}

fn row(view: &ReplicaView, newest: u64) -> Vec<String> {
    let view_number = match view.changing_to {
        Some(to) => format!("{} (to {to})", view.view),
        None => view.view.to_string(),
    };
    vec![
        view.replica.to_string(),
        view_number,
        view.primary.to_string(),
        view.executed.to_string(),
        newest.saturating_sub(view.executed.ordered).to_string(),
        view.checkpoint.to_string(),
        format!("{}, epoch {}, position {}", view.trusted_log, view.epoch, view.position),
        if view.voting { "yes" } else { "no" }.to_owned(),
        view.pending.to_string(),
    ]
}

/// Why a replica says nothing, in short.
fn silence(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => "does not answer",
        ClientError::Rejected { .. } | ClientError::Refused(_) => "does not take the question",
        ClientError::Untrustworthy { .. }
        | ClientError::Disagreement
        | ClientError::Fork { .. }
        | ClientError::WrongKind { .. }
        | ClientError::TooLong { .. } => "gives an answer that cannot be believed",
    }
}

/// What replicas hold against each other, whether what was signed proves it to anybody, and who says so.
fn told(views: &Views) -> BTreeMap<(ReplicaId, bool, &str), BTreeSet<ReplicaId>> {
    let mut told: BTreeMap<(ReplicaId, bool, &str), BTreeSet<ReplicaId>> = BTreeMap::new();
    for view in views.iter().filter_map(|(_, view)| view.as_ref().ok()) {
        for fault in &view.faults {
            told.entry((fault.replica, fault.proof, &fault.what)).or_default().insert(view.replica);
        }
    }
    told
}

/// A line for each thing that is held against a replica: by whom, and whether what it signed proves it to anybody.
fn faults(views: &Views, distrusted: &[Distrust]) -> Vec<String> {
    let names = |by: BTreeSet<ReplicaId>| by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let line = |((replica, proof, what), by): ((ReplicaId, bool, &str), BTreeSet<ReplicaId>)| {
        let weight = if proof { "proof" } else { "suspicion" };
        format!("{replica}: {what} ({weight}; so say {})", names(by))
    };
    let seen = distrusted.iter().map(|Distrust { replica, what, .. }| format!("{replica}: {what} (seen from here)"));
    told(views).into_iter().map(line).chain(seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{command::History, digest::Digest, query::FaultView};

    fn view(number: u32, executed: u64) -> ReplicaView {
        ReplicaView {
            replica: ReplicaId::new(number),
            view: 4,
            changing_to: (number == 1).then_some(5),
            primary: ReplicaId::new(1),
            executed: History { ordered: executed, digest: Digest::of(b"history") },
            committed: executed,
            checkpoint: 1024,
            pending: 0,
            trusted_log: "software".to_owned(),
            epoch: 1,
            position: 77,
            voting: number != 1,
            peers: Vec::new(),
            faults: vec![FaultView { replica: ReplicaId::new(2), proof: true, what: "it lied".to_owned() }],
        }
    }

    fn two_of_three() -> [(ReplicaId, Result<ReplicaView, ClientError>); 3] {
        let lies =
            ClientError::Untrustworthy { replica: ReplicaId::new(2), what: "it is of another cluster".to_owned() };
        [(ReplicaId::new(0), Ok(view(0, 1100))), (ReplicaId::new(1), Ok(view(1, 1090))), (ReplicaId::new(2), Err(lies))]
    }

    #[test]
    fn the_table_shows_lag_and_liars_and_says_when_nothing_is_ordered() {
        let table = report::table(&replicas(&two_of_three()));
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("@1100") && lines[1].contains("software, epoch 1, position 77"), "{table}");
        assert!(lines[2].contains("4 (to 5)") && lines[2].contains("  10  "), "{table}");
        assert!(lines[3].contains("replica-2  gives an answer that cannot be believed"), "{table}");
        let said = stands_still(&two_of_three(), 2).expect("too few");
        assert_eq!(said, "1 of them can vote, and it takes 2: nothing is ordered");
        assert_eq!(stands_still(&two_of_three(), 1), None);
    }

    #[test]
    fn each_fault_is_told_once_with_who_says_so() {
        let seen = [Distrust { replica: ReplicaId::new(1), replies: 3, what: "it signed nonsense".to_owned() }];
        let told = faults(&two_of_three(), &seen);
        assert_eq!(
            told,
            [
                "replica-2: it lied (proof; so say replica-0, replica-1)",
                "replica-1: it signed nonsense (seen from here)"
            ]
        );
    }
}
