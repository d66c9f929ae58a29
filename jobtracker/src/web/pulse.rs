//! The replica's pulse: what has changed, looked at a few times a second for all streams of events together.

use super::{
    answers::{AgreedStanding, Job, Position, SuspectedTracker, ViewChange},
    live::{Live, not_ready},
    source::Source,
};
use crate::order::wall_clock;
use quorate_protocol::digest::Digest;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// The least time between two beats.
const BEAT: Duration = Duration::from_millis(200);
/// The most time between two beats: views change without a batch being executed.
const REST: Duration = Duration::from_millis(1000);
/// View changes that are remembered.
const VIEW_CHANGES_MAX: usize = 64;
/// How much of the time before counts for the rate.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// How things stood at the last beat.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pulse {
    pub(crate) position: Option<Position>,
    pub(crate) time: u64,
    pub(crate) view: u64,
    pub(crate) primary: u32,
    pub(crate) ready: bool,
    /// The digest of who is suspected: changes when that does.
    pub(crate) standing: String,
    /// All jobs, newest first.
    pub(crate) jobs: Vec<Job>,
    /// The newest first.
    pub(crate) view_changes: VecDeque<ViewChange>,
    pub(crate) batches_per_s: f64,
}

impl Pulse {
    /// A job as it stood.
    pub(crate) fn job(&self, job: u64) -> Option<&Job> {
        let place = self.jobs.binary_search_by(|other| job.cmp(&other.job)).ok()?;
        self.jobs.get(place)
    }
}

/// Beats until it is told to stop, or the replica stops.
pub(crate) async fn run(source: Source, beat: watch::Sender<Arc<Pulse>>, mut stop: watch::Receiver<bool>) {
    let beating = async {
        // Nothing changes in logs.
        let Ok(live) = source.live() else { return std::future::pending().await };
        let (mut executed, mut rate) = (live.order().executed(), Rate::default());
        live.order().watch().await;
        loop {
            executed.borrow_and_update();
            let before = Arc::clone(&beat.borrow());
            let Some(pulse) = take(&source, live, &before, &mut rate).await else { return };
            beat.send_if_modified(|last| {
                let is_new = **last != pulse;
                *last = Arc::new(pulse);
                is_new
            });
            tokio::time::sleep(BEAT).await;
            if let Ok(Err(_)) = tokio::time::timeout(REST - BEAT, executed.changed()).await {
                return;
            }
        }
    };
    tokio::select! {
        // An error says that the replica is gone, which is a reason to stop as well.
        _ = stop.wait_for(|stop| *stop) => {}
        () = beating => {}
    }
}

async fn take(source: &Source, live: &Live, before: &Pulse, rate: &mut Rate) -> Option<Pulse> {
    let (outline, report) = (live.outline().await.ok()?, live.report().await.ok()?);
    let suspects = outline.suspects.iter().map(SuspectedTracker::from).collect();
    let ordered = outline.history.map_or(0, |history| history.ordered);
    let mut view_changes = before.view_changes.clone();
    if before.position.is_some() && before.view != report.view {
        let (from, to, primary) = (before.view, report.view, report.primary.number());
        view_changes.push_front(ViewChange { time: wall_clock().0, from, to, primary, ordered });
        view_changes.truncate(VIEW_CHANGES_MAX);
    }
    Some(Pulse {
        position: outline.history.map(Position::from),
        time: outline.time,
        view: report.view,
        primary: report.primary.number(),
        ready: not_ready(&report, live.cluster().f).is_none(),
        standing: standing(suspects),
        jobs: outline.jobs.iter().map(|summary| source.job_of(summary)).collect(),
        view_changes,
        batches_per_s: rate.note(Instant::now(), ordered),
    })
}

/// Names who is suspected, wherever in the history that is so.
fn standing(trackers: Vec<SuspectedTracker>) -> String {
    let standing = AgreedStanding { cluster: String::new(), position: None, trackers };
    Digest::of(&serde_json::to_vec(&standing).unwrap_or_default()).to_string()
}

/// How many batches a second, of late.
#[derive(Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn note(&mut self, now: Instant, ordered: u64) -> f64 {
        while self.0.len() > 1 && self.0.front().is_some_and(|(then, _)| now.duration_since(*then) > RATE_WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back((now, ordered));
        let Some((then, first)) = self.0.front().copied() else { return 0.0 };
        let seconds = now.duration_since(then).as_secs_f64();
        let tenths = if seconds > 0.0 { ordered.saturating_sub(first) as f64 / seconds * 10.0 } else { 0.0 };
        tenths.round() / 10.0
    }
}
