//! Trackers that share a process, and with it a disk: they read each other's map output where it lies.
//!
//! What is read so is checked against its server's vote like everything else. A tracker that serves other bytes than it has,
//! as liars do, and one that has stopped, are to be asked over the network.

use crate::outputs::Outputs;
use quorate_engine::{digest::digest_file, program::LocalBytes};
use quorate_liars::Lie;
use quorate_protocol::{
    ids::{AttemptId, TrackerId},
    vote::Segment,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// The trackers of one embedded cluster; clones are the same. A tracker in a process of its own has a new one.
#[derive(Clone, Default)]
pub struct Neighbours(Arc<Mutex<BTreeMap<TrackerId, Neighbour>>>);

struct Neighbour {
    outputs: Arc<Outputs>,
    lie: Arc<dyn Lie>,
    stop: CancellationToken,
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known().keys()).finish()
    }
}

impl Neighbours {
    fn known(&self) -> MutexGuard<'_, BTreeMap<TrackerId, Neighbour>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a tracker's output to the others until it stops.
    pub(crate) fn show(&self, tracker: TrackerId, outputs: Arc<Outputs>, lie: Arc<dyn Lie>, stop: CancellationToken) {
        self.known().insert(tracker, Neighbour { outputs, lie, stop });
    }

    /// Where a neighbour has a segment. Nothing is checked.
    pub(crate) fn find(&self, server: TrackerId, attempt: AttemptId, partition: u32) -> Option<LocalBytes> {
        let known = self.known();
        let neighbour = known.get(&server)?;
        let is_open = neighbour.lie.serves_rightly() && !neighbour.stop.is_cancelled();
        is_open.then(|| neighbour.outputs.segment(attempt, partition)).flatten()
    }
}

/// Whether bytes on this machine are the segment that was voted.
pub(crate) async fn is_right(bytes: LocalBytes, voted: Segment) -> bool {
    if bytes.length != voted.length {
        return false;
    }
    let digest = move || digest_file(&bytes.path, bytes.offset, bytes.length);
    matches!(tokio::task::spawn_blocking(digest).await, Ok(Ok(digest)) if digest == voted.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::Output;
    use quorate_engine::program::Span;
    use quorate_liars::{Honest, Kind};
    use quorate_protocol::{
        digest::Digest,
        sign::{SecretKey, Signed},
        vote::{Ballot, Vote},
    };
    use std::{fs, path::Path};

    const BYTES: &[u8] = b"firstsecond";
    const SECOND: Span = Span { offset: 5, length: 6, records: 1 };

    fn attempt() -> AttemptId {
        "job-1/map-0.0".parse().expect("an attempt")
    }

    fn voted() -> Segment {
        Segment { digest: Digest::of(b"second"), length: SECOND.length, records: 1 }
    }

    /// The outputs of a tracker that has finished one attempt, whose second segment is looked at.
    fn outputs(folder: &Path) -> Arc<Outputs> {
        let outputs = Outputs::open(folder.join("jobs"), folder.join("logs")).expect("opened");
        let own = outputs.folder(attempt());
        fs::create_dir_all(&own).expect("made");
        let data = own.join("data");
        fs::write(&data, BYTES).expect("written");
        let zero = Digest::from_bytes([0; 32]);
        let ballot = Ballot::Reduce { manifest: Default::default(), counters: Default::default() };
        let vote =
            Vote { cluster: zero, specification: zero, f: 0, attempt: attempt(), tracker: TrackerId::new(1), ballot };
        let vote = Signed::seal(&vote, &SecretKey::from_seed([1; 32]));
        let spans = vec![Span { offset: 0, length: 5, records: 1 }, SECOND];
        let output = Output { attempt: attempt(), vote, segments: vec![voted(); 2].into(), spans, data };
        outputs.keep(output).expect("kept");
        Arc::new(outputs)
    }

    #[tokio::test]
    async fn a_neighbours_segment_is_found_and_checked() {
        let folder = tempfile::tempdir().expect("a folder");
        let (neighbours, server) = (Neighbours::default(), TrackerId::new(1));
        let (outputs, stop) = (outputs(folder.path()), CancellationToken::new());
        assert_eq!(neighbours.find(server, attempt(), 1), None);
        neighbours.show(server, Arc::clone(&outputs), Arc::new(Honest), stop.clone());
        let found = neighbours.clone().find(server, attempt(), 1).expect("it is there");
        assert!(is_right(found.clone(), voted()).await);
        assert!(!is_right(found.clone(), Segment { length: 5, ..voted() }).await);
        assert_eq!(neighbours.find(server, attempt(), 2), None);
        assert_eq!(neighbours.find(TrackerId::new(2), attempt(), 1), None);
        fs::write(&found.path, b"firstsecund").expect("written");
        assert!(!is_right(found.clone(), voted()).await);
        fs::remove_file(&found.path).expect("removed");
        assert!(!is_right(found, voted()).await);
        stop.cancel();
        assert_eq!(neighbours.find(server, attempt(), 1), None);
    }

    #[test]
    fn a_liar_that_serves_wrong_bytes_is_asked_over_the_network() {
        let folder = tempfile::tempdir().expect("a folder");
        let (neighbours, server) = (Neighbours::default(), TrackerId::new(1));
        for kind in [Kind::ServeWrong, Kind::ServeWrongToOne, Kind::Garbled] {
            neighbours.show(server, outputs(folder.path()), kind.lie(), CancellationToken::new());
            assert_eq!(neighbours.find(server, attempt(), 1), None, "{kind}");
        }
    }
}
