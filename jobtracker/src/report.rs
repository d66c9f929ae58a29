//! How a replica stands, for people.

use crate::histories::to_wire;
use quorate_counter::{Certificate, EpochRecord, Head};
use quorate_protocol::query::{FaultView, PeerView, ReplicaView};
use quorate_smr::{
    Fault, FaultKind,
    core::{PeerReport, Report},
};

/// The replica's own trusted log.
#[derive(Clone)]
pub(crate) struct Log {
    /// What people call it.
    pub(crate) kind: &'static str,
    /// The epoch that it is in.
    pub(crate) record: EpochRecord,
    /// Where it stands.
    pub(crate) head: Head,
    /// Its certificate of that head; none as long as a log that is witnessed had nothing to say.
    pub(crate) certificate: Option<Certificate>,
}

/// What is told of a replica. `garbage` is what its links saw.
pub(crate) fn view(report: &Report, garbage: &[Fault], log: &Log) -> ReplicaView {
    ReplicaView {
        replica: report.me,
        view: report.view.0,
        changing_to: report.changing_to.map(|view| view.0),
        primary: report.primary,
        executed: to_wire(report.executed),
        committed: report.committed.0,
        checkpoint: report.stable.0,
        pending: report.pending as u64,
        trusted_log: log.kind.to_owned(),
        epoch: report.epoch.0,
        position: log.head.position.0,
        voting: report.voting,
        peers: report.peers.iter().map(peer).collect(),
        faults: report.faults.iter().chain(garbage).map(fault).chain(halted(report)).collect(),
    }
}

/// A replica that is alone with its history says so of itself.
fn halted(report: &Report) -> Option<FaultView> {
    let what = "more than f replicas contradict what was executed here: it says nothing more".to_owned();
    report.halted.then_some(FaultView { replica: report.me, proof: false, what })
}

fn peer(peer: &PeerReport) -> PeerView {
    PeerView {
        replica: peer.replica,
        executed: peer.decided.map(|history| history.seq.0),
        epoch: peer.epoch.0,
        position: peer.position.0,
        waiting: peer.waiting as u64,
    }
}

fn fault(fault: &Fault) -> FaultView {
    let proof = match fault.kind {
        FaultKind::Forked { .. } | FaultKind::Breach { .. } | FaultKind::Divergent { .. } => true,
        FaultKind::Garbage(_) => false,
    };
    FaultView { replica: fault.replica, proof, what: describe(&fault.kind) }
}

fn describe(kind: &FaultKind) -> String {
    match kind {
        FaultKind::Forked { epoch, .. } => format!(
            "its trusted log attested two histories in epoch {}: it is broken, or was cloned or rolled back",
            epoch.0
        ),
        FaultKind::Breach { epoch, what, .. } => {
            format!("it broke the agreement's rules, in epoch {}: {what}", epoch.0)
        }
        FaultKind::Divergent { here, .. } => {
            format!("it signed another history than the one that was executed here, {}", to_wire(*here))
        }
        FaultKind::Garbage(what) => format!("it sent what is no message: {what}"),
    }
}

/// Says once, in the log, that somebody is faulty.
pub(crate) fn warn(fault: &Fault) {
    tracing::warn!(replica = %fault.replica, what = describe(&fault.kind), "a replica is faulty");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::REPLICA;
    use quorate_protocol::digest::Digest;
    use quorate_smr::{History, Seq};

    #[test]
    fn a_garbled_message_is_told_and_is_no_proof() {
        let view = fault(&Fault { replica: REPLICA, kind: FaultKind::Garbage("too long".to_owned()) });
        assert_eq!((view.proof, view.what.contains("too long")), (false, true));
    }

    #[test]
    fn a_breach_is_proof() {
        let history = History { seq: Seq(3), digest: Digest::of(b"history") };
        let statement = quorate_smr::message::Statement::Commit { view: quorate_smr::View(0), upto: history };
        let kind = FaultKind::Breach {
            epoch: quorate_counter::Epoch(2),
            what: "a vote after leaving".to_owned(),
            statement: Box::new(statement),
        };
        let view = fault(&Fault { replica: REPLICA, kind });
        assert_eq!((view.proof, view.what.contains("a vote after leaving")), (true, true));
    }
}
