//! Where answers come from: a running replica, or event logs.

use super::{
    answers::{self, AttemptOfTracker, Evidence, Job, JobDetail, Jobs, Position, TrackerDetail},
    evidence,
    guard::Pages,
    live::Live,
    past::History,
    routes::Refused,
    told::{self, Story},
};
use crate::record::{JobRecord, Records};
use axum::http::StatusCode;
use quorate_protocol::{
    evidence as protocol,
    ids::{JobId, TrackerId},
    query::{Answer, JobSummary, Question},
};
use std::sync::Arc;

/// Attempts that are listed of a tracker.
const ATTEMPTS_LISTED_MAX: usize = 256;

/// What a page shows.
#[derive(Clone)]
pub(crate) enum Source {
    /// A running replica.
    Live(Arc<Live>),
    /// Event logs.
    History(Arc<History>),
}

/// Whatever a question is answered with that does not belong to it, which honest state never does.
pub(crate) fn other_answer() -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer does not belong to the question")
}

pub(crate) fn not_found(what: impl std::fmt::Display) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "not-found", format!("{what} does not exist"))
}

impl Source {
    /// The running replica, for what only one has.
    pub(crate) fn live(&self) -> Result<&Arc<Live>, Refused> {
        match self {
            Source::Live(live) => Ok(live),
            Source::History(_) => {
                Err(Refused::new(StatusCode::NOT_FOUND, "no-cluster", "only a running cluster has this"))
            }
        }
    }

    /// The replica that answers.
    pub(crate) fn me(&self) -> Option<u32> {
        self.live().ok().map(|live| live.me().number())
    }

    fn records(&self) -> Option<&Records> {
        match self {
            Source::Live(live) => live.records(),
            Source::History(history) => Some(history.records()),
        }
    }

    /// A tracker's failure domain.
    pub(crate) fn domain(&self, tracker: TrackerId) -> Option<String> {
        match self {
            Source::Live(live) => live.cluster().tracker(tracker).map(|member| member.domain.to_string()),
            Source::History(history) => history.domain(tracker),
        }
    }

    /// The cluster.
    pub(crate) async fn overview(&self, pages: &Pages) -> Result<answers::Cluster, Refused> {
        match self {
            Source::Live(live) => live.overview(pages).await,
            Source::History(history) => Ok(history.overview()),
        }
    }

    /// Who lies, as far as is known here.
    pub(crate) async fn standing(&self, at: Option<u64>) -> Result<answers::Standing, Refused> {
        match self {
            Source::Live(live) => live.standing(at).await,
            Source::History(history) => Ok(history.standing()),
        }
    }

    /// All jobs, newest first.
    pub(crate) async fn jobs(&self) -> Result<Jobs, Refused> {
        match self {
            Source::Live(live) => {
                let outline = live.outline().await?;
                let jobs = outline.jobs.iter().map(|summary| self.job_of(summary)).collect();
                Ok(Jobs { position: outline.history.map(Position::from), jobs })
            }
            Source::History(history) => Ok(Jobs { position: None, jobs: history.list() }),
        }
    }

    /// A job in a list, with what its record adds.
    pub(crate) fn job_of(&self, summary: &JobSummary) -> Job {
        let record = self.record_now(summary.job);
        let (disputed, revision) = record.map_or((0, 0), |record| (record.disputed, record.events));
        Job::new(summary, disputed, revision)
    }

    /// A job in full.
    pub(crate) async fn job(&self, job: JobId) -> Result<JobDetail, Refused> {
        match self {
            Source::Live(live) => {
                let (_, Answer::Job(view)) = live.ask(Question::Job(job)).await? else { return Err(other_answer()) };
                let story = self.record(job, Story::of).await;
                Ok(story.map_or_else(|| JobDetail::new(&view), |story| story.with(&view)))
            }
            Source::History(history) => {
                let history = Arc::clone(history);
                let detail = self.record(job, move |record| history.job(record)).await.flatten();
                detail.ok_or_else(|| not_found(job))
            }
        }
    }

    /// What is known of the job beside the state, in memory.
    pub(crate) fn record_now(&self, job: JobId) -> Option<Arc<JobRecord>> {
        self.records()?.live(job)
    }

    /// A look at what is known of the job beside the state, from its log if need be.
    pub(crate) async fn record<R: Send + 'static>(
        &self,
        job: JobId,
        look: impl FnOnce(&JobRecord) -> R + Send + 'static,
    ) -> Option<R> {
        let records = self.records()?.clone();
        // Logs are read, and large jobs looked through: not for an async task.
        tokio::task::spawn_blocking(move || records.of(job).map(|record| look(&record))).await.ok().flatten()
    }

    /// A tracker in full.
    pub(crate) async fn tracker(&self, id: TrackerId) -> Result<TrackerDetail, Refused> {
        let tracker = match self {
            Source::Live(live) => live.tracker(id).await?,
            Source::History(history) => history.tracker(id),
        };
        let tracker = tracker.ok_or_else(|| not_found(id))?;
        let accusations = self.accusations(id, |_| true).await?;
        Ok(TrackerDetail { tracker, attempts: self.attempts_of(id).await, accusations })
    }

    /// What is held against a tracker, as far as it concerns the asker. Logs do not have it.
    pub(crate) async fn accusations(
        &self,
        tracker: TrackerId,
        concerns: impl Fn(&protocol::Evidence) -> bool + Send + 'static,
    ) -> Result<Vec<Evidence>, Refused> {
        let Source::Live(live) = self else { return Ok(Vec::new()) };
        let (_, Answer::Evidence(pieces)) = live.ask(Question::Evidence(tracker)).await? else {
            return Err(other_answer());
        };
        let cluster = Arc::clone(live.cluster());
        let show = move || {
            let pieces = pieces.iter().filter(|piece| concerns(piece));
            pieces.map(|piece| evidence::show(&cluster, piece)).collect()
        };
        // Signatures are checked: not for an async task.
        tokio::task::spawn_blocking(show).await.map_err(|_| other_answer())
    }

    /// The newest of what a tracker ran for the jobs whose records are in memory, newest first.
    async fn attempts_of(&self, tracker: TrackerId) -> Vec<AttemptOfTracker> {
        let Some(records) = self.records().cloned() else { return Vec::new() };
        let look = move || {
            let mut all: Vec<AttemptOfTracker> = Vec::new();
            for record in records.newest() {
                all.extend(told::attempts_of(&record, tracker));
                if all.len() >= ATTEMPTS_LISTED_MAX {
                    break;
                }
            }
            all.sort_by_key(|attempt| std::cmp::Reverse((attempt.placed, attempt.job)));
            all.truncate(ATTEMPTS_LISTED_MAX);
            all
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}
