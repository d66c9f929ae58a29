//! The second and third oracle: the job ended, and exactly the guilty are blamed.

use quorate_jobtracker::client::Client;
use quorate_protocol::{
    ids::TrackerId,
    query::{Blame, JobState, JobView},
};

/// What a lie must lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guilt {
    /// Silence, slowness, a crash or a network's replay: never evidence of a lie.
    Nothing,
    /// A lie or an accident.
    Suspected,
    /// Its own signatures prove it.
    Convicted,
}

/// Asserts that a job succeeded.
///
/// # Panics
/// When it did not.
pub fn succeeded(view: &JobView) {
    assert_eq!(view.summary.state, JobState::Succeeded, "{}", quorate::report::job(view));
}

/// Asserts that exactly these trackers are blamed, each at least as much as said, and that all evidence holds before a
/// third party that has nothing but the cluster's configuration.
///
/// # Panics
/// When somebody else is blamed, or a guilty one is not.
pub async fn only_guilty(client: &Client, guilty: &[(TrackerId, Guilt)]) {
    for tracker in client.trackers().await.expect("the job tracker answers") {
        let guilt = guilty.iter().find(|(id, _)| *id == tracker.id).map_or(Guilt::Nothing, |(_, guilt)| *guilt);
        let evidence = client.evidence(tracker.id).await.expect("the job tracker answers");
        let mut proven = Blame::None;
        for piece in &evidence {
            let (accused, blame) = piece.check(client.cluster()).expect("evidence that a third party accepts");
            assert_eq!(accused, tracker.id, "evidence is kept with the one it is against");
            proven = proven.max(blame);
        }
        assert_eq!(proven, tracker.blame, "blame is what the evidence shows");
        match guilt {
            Guilt::Nothing => assert_eq!(tracker.blame, Blame::None, "{} is innocent: {evidence:?}", tracker.id),
            Guilt::Suspected => assert!(tracker.blame >= Blame::Suspected, "{} got away", tracker.id),
            Guilt::Convicted => assert_eq!(tracker.blame, Blame::Convicted, "{} got away", tracker.id),
        }
    }
}
