//! What a running replica shows.
//!
//! WEB-1: its standing in the agreement and the state's outline are asked for at most once in [`FRESH`], whoever wants to
//! know how often.

use super::{
    answers::{self, JobCounts, Position},
    difference::{Compare, Comparisons},
    guard::Pages,
    routes::Refused,
    source::other_answer,
};
use crate::{application::Application, liars::Lie, order::Order, record::Records};
use axum::http::StatusCode;
use quorate_protocol::{
    cluster::Cluster,
    command::{History, Refusal},
    ids::{JobId, ReplicaId, TaskId, TrackerId},
    query::{Answer, Blame, Duty, JobState, JobSummary, Question, ReplicaView, Suspect, TrackerView},
};
use quorate_schedule::storage::{Storage, Totals};
use std::{cmp::Reverse, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// How old an answer may be that several share.
const FRESH: Duration = Duration::from_millis(200);
/// The same of what is stored, which all files must be looked through for.
const STORAGE_FRESH: Duration = Duration::from_secs(5);
/// Chunks that are looked at for it.
const CHUNKS_LOOKED_AT_MAX: usize = 1 << 18;
/// How long somebody waits for a place of the history that was not executed yet.
const PLACE_PATIENCE: Duration = Duration::from_secs(1);
/// A replica that is behind by so many batches is not ready: it must be sent the state.
const LAG_MAX: u64 = 256;

/// A running replica, as its page sees it.
pub(crate) struct Live {
    order: Order,
    cluster: Arc<Cluster>,
    me: ReplicaId,
    lie: Option<Arc<dyn Lie>>,
    records: Option<Records>,
    comparisons: Option<Comparisons>,
    report: Shared<ReplicaView>,
    outline: Shared<Outline>,
    storage: Shared<(Option<History>, Storage)>,
}

/// The state in outline, at one place of the history.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) history: Option<History>,
    pub(crate) time: u64,
    pub(crate) trackers: Vec<TrackerView>,
    pub(crate) suspects: Vec<Suspect>,
    pub(crate) jobs: Vec<JobSummary>,
    pub(crate) totals: Totals,
    /// Of each job that is remembered, the newest first.
    pub(crate) totals_by_job: Vec<(JobId, Totals)>,
}

/// A value that is made anew when it is asked for and old, by one asker for all.
struct Shared<T> {
    fresh: Duration,
    kept: Mutex<Option<(Instant, Arc<T>)>>,
}

impl<T> Shared<T> {
    fn new(fresh: Duration) -> Self {
        Self { fresh, kept: Mutex::new(None) }
    }
    async fn get<E>(&self, make: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let mut kept = self.kept.lock().await;
        if let Some((_, value)) = kept.as_ref().filter(|(made, _)| made.elapsed() < self.fresh) {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(make.await?);
        *kept = Some((Instant::now(), Arc::clone(&value)));
        Ok(value)
    }
}

fn stopped(_: crate::order::Stopped) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", "the replica has stopped")
}

impl Live {
    pub(crate) fn new(
        order: Order,
        cluster: Arc<Cluster>,
        me: ReplicaId,
        lie: Option<Arc<dyn Lie>>,
        records: Option<Records>,
        compare: Option<Arc<dyn Compare>>,
    ) -> Self {
        Self {
            order,
            cluster,
            me,
            lie,
            records,
            comparisons: compare.map(Comparisons::new),
            report: Shared::new(FRESH),
            outline: Shared::new(FRESH),
            storage: Shared::new(STORAGE_FRESH),
        }
    }

    /// The records of jobs, when they are kept.
    pub(crate) fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }
    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }
    pub(crate) fn me(&self) -> ReplicaId {
        self.me
    }
    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// How the replica stands in the agreement.
    pub(crate) async fn report(&self) -> Result<Arc<ReplicaView>, Refused> {
        self.report.get(self.order.report()).await.map_err(stopped)
    }

    /// The state in outline.
    pub(crate) async fn outline(&self) -> Result<Arc<Outline>, Refused> {
        let hides = self.hides();
        self.outline.get(self.order.read(move |state| Outline::of(state, hides))).await.map_err(stopped)
    }

    /// What the files say that trackers hold.
    pub(crate) async fn storage(&self) -> Result<Arc<(Option<History>, Storage)>, Refused> {
        let look = |state: &Application| (state.history(), state.scheduler().storage(CHUNKS_LOOKED_AT_MAX));
        self.storage.get(self.order.read(look)).await.map_err(stopped)
    }

    /// An answer of the state, and the history that it is of.
    pub(crate) async fn ask(&self, question: Question) -> Result<(Option<History>, Answer), Refused> {
        let look = move |state: &Application| (state.history(), state.scheduler().ask(&question));
        match self.order.read(look).await.map_err(stopped)? {
            (_, Answer::Refused(refusal)) => Err(refused(&refusal)),
            answered => Ok(answered),
        }
    }

    /// What a map task reads, while its job lives.
    pub(crate) async fn input(&self, task: TaskId) -> Result<Option<answers::Input>, Refused> {
        let look = move |state: &Application| {
            let (path, split) = state.scheduler().input(task)?;
            Some(answers::Input { path: path.to_string(), start: split.start, end: split.end })
        };
        self.order.read(look).await.map_err(stopped)
    }

    /// Where the votes of a task differ.
    pub(crate) async fn difference(&self, task: TaskId) -> Result<answers::Difference, Refused> {
        let Some(comparisons) = &self.comparisons else {
            let message = "this replica compares no votes";
            return Err(Refused::new(StatusCode::NOT_FOUND, "no-comparison", message));
        };
        let (_, Answer::Votes(votes)) = self.ask(Question::Votes(task)).await? else { return Err(other_answer()) };
        comparisons.of(task, votes, self.outline().await?.trackers.clone()).await
    }

    fn hides(&self) -> bool {
        self.lie.as_ref().is_some_and(|lie| lie.hides_suspects())
    }

    /// Who is suspected now, or was at a place of the history.
    pub(crate) async fn standing(&self, at: Option<u64>) -> Result<answers::Standing, Refused> {
        let (history, suspects) = match at {
            None => self.suspects_now().await?,
            Some(place) => self.suspects_at(place).await?,
        };
        let suspects = if self.hides() { Vec::new() } else { suspects };
        let report = self.report().await?;
        Ok(answers::Standing {
            agreed: answers::AgreedStanding {
                cluster: self.cluster.id().to_string(),
                position: history.map(Position::from),
                trackers: suspects.iter().map(answers::SuspectedTracker::from).collect(),
            },
            own: answers::OwnStanding {
                replica: Some(self.me.number()),
                faults: report.faults.iter().map(answers::Fault::from).collect(),
            },
        })
    }

    async fn suspects_now(&self) -> Result<(Option<History>, Vec<Suspect>), Refused> {
        let now = |state: &Application| (state.history(), state.scheduler().suspects());
        self.order.read(now).await.map_err(stopped)
    }

    async fn suspects_at(&self, place: u64) -> Result<(Option<History>, Vec<Suspect>), Refused> {
        let mut executed = self.order.executed();
        // Whether it got there, stopped, or took too long, the state says what is so.
        let _ = tokio::time::timeout(PLACE_PATIENCE, executed.wait_for(|executed| *executed >= place)).await;
        let look = move |state: &Application| {
            let is_there = state.history().is_some_and(|history| history.ordered >= place);
            is_there.then(|| state.standings().and_then(|standings| standings.at(place)))
        };
        let Some(suspects) = self.order.read(look).await.map_err(stopped)? else {
            let message = format!("the replica has not executed batch {place}");
            return Err(Refused::new(StatusCode::CONFLICT, "behind", message));
        };
        match (suspects, self.order.history_at(place)) {
            (Some(suspects), Some(history)) => Ok((Some(history), suspects.to_vec())),
            (None, _) | (_, None) => {
                Err(Refused::new(StatusCode::NOT_FOUND, "forgotten", format!("batch {place} is too long ago")))
            }
        }
    }

    /// The cluster as this replica sees it.
    pub(crate) async fn overview(&self, pages: &Pages) -> Result<answers::Cluster, Refused> {
        let (report, outline, storage) = (self.report().await?, self.outline().await?, self.storage().await?);
        let (_, storage) = &*storage;
        let cluster = &self.cluster;
        let not_ready = not_ready(&report, cluster.f);
        Ok(answers::Cluster {
            mode: answers::Mode::Live,
            name: cluster.name.clone(),
            id: cluster.id().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            f: cluster.f,
            agreement: cluster.agreement.to_string(),
            assumption: cluster.assumption(),
            domains: cluster.domains(),
            me: Some(self.me.number()),
            position: outline.history.map(Position::from),
            time: outline.time,
            view: report.view,
            changing_to: report.changing_to,
            primary: Some(report.primary.number()),
            voting: report.voting,
            ready: not_ready.is_none(),
            not_ready,
            committed: report.committed,
            checkpoint: report.checkpoint,
            pending: report.pending,
            replicas: self.replicas(&report, pages),
            trackers: outline.trackers.iter().map(|view| tracker(view, storage)).collect(),
            jobs: count(&outline.jobs),
        })
    }

    /// A tracker as the scheduler sees it.
    pub(crate) async fn tracker(&self, id: TrackerId) -> Result<Option<answers::Tracker>, Refused> {
        let (outline, storage) = (self.outline().await?, self.storage().await?);
        Ok(outline.trackers.iter().find(|view| view.id == id).map(|view| tracker(view, &storage.1)))
    }

    fn replicas(&self, report: &ReplicaView, pages: &Pages) -> Vec<answers::Replica> {
        let newest = newest(report, self.cluster.f);
        let mut replicas: Vec<_> = report
            .peers
            .iter()
            .filter(|peer| peer.replica != report.replica)
            .map(|view| (answers::Peer::new(view, newest), None))
            .collect();
        let own = answers::Peer {
            replica: report.replica.number(),
            executed: Some(report.executed.ordered),
            lag: Some(newest.saturating_sub(report.executed.ordered)),
            epoch: report.epoch,
            log_position: report.position,
            waiting: 0,
        };
        replicas.push((own, Some(report.trusted_log.clone())));
        replicas.sort_by_key(|(peer, _)| peer.replica);
        let replica = |(peer, trusted_log): (answers::Peer, Option<String>)| answers::Replica {
            replica: peer.replica,
            page: pages.url(peer.replica as usize),
            me: peer.replica == self.me.number(),
            primary: peer.replica == report.primary.number(),
            executed: peer.executed,
            lag: peer.lag,
            trusted_log,
            epoch: peer.epoch,
            log_position: peer.log_position,
            waiting: peer.waiting,
        };
        replicas.into_iter().map(replica).collect()
    }
}

impl Outline {
    fn of(state: &Application, hides: bool) -> Self {
        let scheduler = state.scheduler();
        let mut trackers = match scheduler.ask(&Question::Trackers) {
            Answer::Trackers(trackers) => trackers,
            _ => Vec::new(),
        };
        let mut suspects = scheduler.suspects();
        if hides {
            suspects.clear();
            for tracker in &mut trackers {
                (tracker.blame, tracker.evidence, tracker.duty) = (Blame::None, 0, Duty::Full);
            }
        }
        let jobs = match scheduler.ask(&Question::Jobs) {
            Answer::Jobs(jobs) => jobs,
            _ => Vec::new(),
        };
        let mut totals_by_job: Vec<_> = scheduler.totals_by_job().collect();
        totals_by_job.sort_by_key(|(job, _)| Reverse(*job));
        Self {
            history: state.history(),
            time: scheduler.time().0,
            trackers,
            suspects,
            jobs,
            totals: scheduler.totals(),
            totals_by_job,
        }
    }
}

fn tracker(view: &TrackerView, storage: &Storage) -> answers::Tracker {
    let mut tracker = answers::Tracker::from(view);
    let (chunks, bytes) = storage.trackers.get(&view.id).copied().unwrap_or_default();
    tracker.stored = storage.is_whole.then_some(answers::Stored { chunks, bytes });
    tracker
}

/// How many jobs are in each state.
pub(crate) fn count(jobs: &[JobSummary]) -> JobCounts {
    let mut counts = JobCounts::default();
    for job in jobs {
        let count = match job.state {
            JobState::Running => &mut counts.running,
            JobState::Waiting(_) => &mut counts.waiting,
            JobState::Succeeded => &mut counts.succeeded,
            JobState::Failed(_) => &mut counts.failed,
            JobState::Killed => &mut counts.killed,
        };
        *count += 1;
    }
    counts
}

/// How far the cluster has come: as far as f + 1 of the others say, so that an honest one is among them, or as far as this
/// replica has.
pub(crate) fn newest(report: &ReplicaView, f: u32) -> u64 {
    let mut said: Vec<u64> = report.peers.iter().filter_map(|peer| peer.executed).collect();
    said.sort_unstable_by(|a, b| b.cmp(a));
    said.get(f as usize).copied().unwrap_or(0).max(report.executed.ordered)
}

/// Whether a replica says nothing more, since more than f contradict it.
pub(crate) fn is_halted(report: &ReplicaView) -> bool {
    report.faults.iter().any(|fault| fault.replica == report.replica)
}

/// Why a replica is not ready; `None` when it is.
pub(crate) fn not_ready(report: &ReplicaView, f: u32) -> Option<String> {
    let lag = newest(report, f).saturating_sub(report.executed.ordered);
    if is_halted(report) {
        Some("more than f replicas contradict what was executed here: it says nothing more".to_owned())
    } else if !report.voting {
        Some("the cluster does not count the epoch of its trusted log: it may not vote".to_owned())
    } else if lag > LAG_MAX {
        Some(format!("it is {lag} batches behind"))
    } else {
        None
    }
}

fn refused(refusal: &Refusal) -> Refused {
    let (status, code) = match refusal {
        Refusal::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
        Refusal::Full(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-much"),
        Refusal::Exists(_)
        | Refusal::IsFolder(_)
        | Refusal::TooFewDomains { .. }
        | Refusal::WrongTarget { .. }
        | Refusal::Invalid(_)
        | Refusal::NotAllowed(_)
        | Refusal::Stale
        | Refusal::Fork { .. } => (StatusCode::BAD_REQUEST, "refused"),
    };
    Refused::new(status, code, refusal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{
        digest::Digest,
        query::{FaultView, PeerView},
    };

    fn report(executed: u64, peers: &[Option<u64>]) -> ReplicaView {
        let peer = |(number, executed): (u32, &Option<u64>)| PeerView {
            replica: ReplicaId::new(number),
            executed: *executed,
            epoch: 1,
            position: 1,
            waiting: 0,
        };
        ReplicaView {
            replica: ReplicaId::new(0),
            view: 0,
            changing_to: None,
            primary: ReplicaId::new(0),
            executed: History { ordered: executed, digest: Digest::of(b"") },
            committed: executed,
            checkpoint: 0,
            pending: 0,
            trusted_log: "software".to_owned(),
            epoch: 1,
            position: 1,
            voting: true,
            peers: (1..).zip(peers).map(peer).collect(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn one_liars_claim_makes_nobody_unready() {
        assert_eq!(not_ready(&report(5, &[Some(u64::MAX), Some(6)]), 1), None);
        assert_eq!(newest(&report(5, &[Some(u64::MAX), Some(6)]), 1), 6);
        let behind = not_ready(&report(5, &[Some(6 + LAG_MAX), Some(6 + LAG_MAX)]), 1);
        assert_eq!(behind.as_deref(), Some("it is 257 batches behind"));
        assert_eq!(not_ready(&report(5, &[Some(5 + LAG_MAX), Some(5 + LAG_MAX)]), 1), None);
        assert_eq!(not_ready(&report(0, &[None, None]), 1), None);
    }

    #[test]
    fn who_may_not_vote_or_is_alone_is_not_ready() {
        let unvoting = ReplicaView { voting: false, ..report(5, &[]) };
        assert!(not_ready(&unvoting, 0).is_some_and(|why| why.contains("may not vote")));
        let own = FaultView { replica: ReplicaId::new(0), proof: false, what: "halted".to_owned() };
        let halted = ReplicaView { faults: vec![own], ..report(5, &[]) };
        assert!(not_ready(&halted, 0).is_some_and(|why| why.contains("contradict")));
    }
}
