//! The paths of the API, and what is answered to each.

use super::{
    answers::{
        Accusation, Agreement, Cluster, Difference, Failed, Fault, FileDetail, FileEntry, Files, JobDetail, Jobs, Peer,
        Position, Reason, Standing, Storage, StorageOfTracker, TaskDetail, Tasks, TrackerDetail,
    },
    assets::ASSETS,
    evidence,
    guard::{self, Pages},
    live::{is_halted, newest, not_ready},
    metrics, openapi,
    pulse::Pulse,
    source::{Source, not_found, other_answer},
    stream, told,
};
use crate::record::parse_task;
use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use quorate_protocol::{
    file,
    ids::{JobId, Stage, TaskId, TrackerId},
    query::{Answer, Question, TrackerView},
};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeSet, str::FromStr, sync::Arc};
use tokio::sync::{Semaphore, watch};

/// Tasks of one answer.
const TASKS_MAX: u32 = 100_000;

/// What the server of a page has.
pub(crate) struct Site {
    pub(crate) source: Source,
    pub(crate) pages: Pages,
    pub(crate) pulse: watch::Receiver<Arc<Pulse>>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) work: Semaphore,
    pub(crate) streams: Arc<Semaphore>,
}

/// Why something is not answered.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    hint: Option<&'static str>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), hint: None }
    }

    /// The same, with what may help.
    pub(crate) fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let reason = Reason { code: self.code, message: self.message.into_owned(), hint: self.hint };
        (self.status, Json(Failed { error: reason })).into_response()
    }
}

type Answered<T> = Result<Json<T>, Refused>;
type Here = State<Arc<Site>>;

/// All paths.
pub(crate) fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new()
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/standing", get(standing))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/jobs/{job}", get(job))
        .route("/api/v1/jobs/{job}/tasks", get(tasks))
        .route("/api/v1/jobs/{job}/tasks/{task}", get(task))
        .route("/api/v1/jobs/{job}/tasks/{task}/difference", get(difference))
        .route("/api/v1/trackers/{tracker}", get(tracker))
        .route("/api/v1/files", get(files))
        .route("/api/v1/storage", get(storage))
        .route("/api/v1/agreement", get(agreement))
        .route(stream::PATH, get(stream::events))
        .route("/api/v1/openapi.json", get(|| async { Json(openapi::document()) }))
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready));
    for asset in ASSETS {
        router = router.route(asset.path, get(async |headers: HeaderMap| asset.answer(&headers)));
    }
    router
        .fallback(|| async { Refused::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path") })
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard::guard))
        .with_state(site)
}

/// The id that a path names, as a number or as people write it.
pub(crate) fn id<T: FromStr>(text: &str) -> Result<T, Refused> {
    let no_id = |_| Refused::new(StatusCode::BAD_REQUEST, "no-id", format!("{text:?} names nothing here"));
    text.parse().map_err(no_id)
}

/// What a query says, or why it says nothing.
pub(crate) fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refused> {
    let bad = |error: QueryRejection| Refused::new(StatusCode::BAD_REQUEST, "query", error.to_string());
    query.map(|Query(query)| query).map_err(bad)
}

/// The cluster, its replicas and trackers, as this replica sees them.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
async fn cluster(State(site): Here) -> Answered<Cluster> {
    site.source.overview(&site.pages).await.map(Json)
}

/// Where in the history.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
struct At {
    /// After this many batches; now when it is left out.
    at: Option<u64>,
}

/// Who lies, as far as this replica knows. `agreed` is the same text on every honest replica for the same position.
#[utoipa::path(get, path = "/api/v1/standing", tag = "cluster", params(At), responses(
    (status = 200, body = Standing),
    (status = 404, description = "That position is too long ago", body = Failed),
    (status = 409, description = "The replica has not come so far", body = Failed),
))]
async fn standing(State(site): Here, at: Result<Query<At>, QueryRejection>) -> Answered<Standing> {
    site.source.standing(asked(at)?.at).await.map(Json)
}

/// How the agreement goes on, as this replica sees it.
#[utoipa::path(get, path = "/api/v1/agreement", tag = "cluster", responses((status = 200, body = Agreement)))]
async fn agreement(State(site): Here) -> Answered<Agreement> {
    let live = site.source.live()?;
    let report = live.report().await?;
    let newest = newest(&report, live.cluster().f);
    let pulse = Arc::clone(&site.pulse.borrow());
    Ok(Json(Agreement {
        position: Some(Position::from(report.executed)),
        committed: report.committed,
        checkpoint: report.checkpoint,
        view: report.view,
        changing_to: report.changing_to,
        primary: Some(report.primary.number()),
        pending: report.pending,
        voting: report.voting,
        halted: is_halted(&report),
        trusted_log: Some(report.trusted_log.clone()),
        epoch: report.epoch,
        log_position: report.position,
        batches: report.executed.ordered,
        batches_per_s: pulse.batches_per_s,
        peers: report.peers.iter().map(|peer| Peer::new(peer, newest)).collect(),
        faults: report.faults.iter().map(Fault::from).collect(),
        view_changes: pulse.view_changes.iter().cloned().collect(),
    }))
}

/// All jobs that are remembered, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", responses((status = 200, body = Jobs)))]
async fn jobs(State(site): Here) -> Answered<Jobs> {
    site.source.jobs().await.map(Json)
}

/// A job in full.
#[utoipa::path(get, path = "/api/v1/jobs/{job}", tag = "jobs", params(("job" = String, Path, example = "3")), responses(
    (status = 200, body = JobDetail),
    (status = 404, body = Failed),
))]
async fn job(State(site): Here, Path(job): Path<String>) -> Answered<JobDetail> {
    site.source.job(id(&job)?).await.map(Json)
}

/// Which tasks.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
struct OfStage {
    /// `map` or `reduce`.
    stage: String,
    /// The first.
    from: Option<u32>,
    /// How many at most, up to 100000.
    max: Option<u32>,
}

/// The vote matrix of a stage: a letter for each task, and one for each of its attempts.
#[utoipa::path(get, path = "/api/v1/jobs/{job}/tasks", tag = "jobs",
    params(("job" = String, Path, example = "3"), OfStage), responses(
    (status = 200, body = Tasks),
    (status = 404, description = "There is no such job, or no record of it", body = Failed),
))]
async fn tasks(
    State(site): Here,
    Path(job): Path<String>,
    of: Result<Query<OfStage>, QueryRejection>,
) -> Answered<Tasks> {
    let (job, of): (JobId, OfStage) = (id(&job)?, asked(of)?);
    let stage = match of.stage.as_str() {
        "map" => Stage::Map,
        "reduce" => Stage::Reduce,
        _ => return Err(Refused::new(StatusCode::BAD_REQUEST, "query", "stage is map or reduce")),
    };
    let (from, max) = (of.from.unwrap_or(0), of.max.unwrap_or(TASKS_MAX).min(TASKS_MAX));
    let tasks = site.source.record(job, move |record| told::tasks(record, stage, from, max)).await;
    tasks.map(Json).ok_or_else(|| no_record(job))
}

fn no_record(job: JobId) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "no-record", format!("there is no record of {job} here"))
}

/// The task that a path names.
fn task_id(job: &str, task: &str) -> Result<TaskId, Refused> {
    let no_task = || Refused::new(StatusCode::BAD_REQUEST, "no-id", format!("{task:?} is no task such as map-3"));
    parse_task(id(job)?, task).ok_or_else(no_task)
}

/// A task: its attempts, votes and story.
#[utoipa::path(get, path = "/api/v1/jobs/{job}/tasks/{task}", tag = "jobs",
    params(("job" = String, Path, example = "3"), ("task" = String, Path, example = "map-3")), responses(
    (status = 200, body = TaskDetail),
    (status = 404, description = "There is no such task, or no record of its job", body = Failed),
))]
async fn task(State(site): Here, Path((job, task)): Path<(String, String)>) -> Answered<TaskDetail> {
    let task = task_id(&job, &task)?;
    let job = task.job;
    let source = site.source.clone();
    let domain = move |tracker| source.domain(tracker);
    let detail = site.source.record(job, move |record| told::task(record, task, domain)).await;
    let mut detail = detail.ok_or_else(|| no_record(job))?.ok_or_else(|| not_found(task))?;
    if let Ok(live) = site.source.live() {
        detail.input = live.input(task).await?;
        if let Ok((_, Answer::Votes(votes))) = live.ask(Question::Votes(task)).await {
            evidence::describe_ballots(&mut detail.ballots, &votes);
        }
    }
    let blamed = detail.timeline.iter().filter(|moment| moment.what == "blamed");
    let trackers: BTreeSet<u32> = blamed.filter_map(|moment| moment.tracker).collect();
    for tracker in trackers {
        let accusations = site.source.accusations(TrackerId::new(tracker), move |piece| {
            piece.attempt().is_some_and(|attempt| attempt.task == task)
        });
        let of = |evidence| Accusation { tracker, evidence };
        detail.accusations.extend(accusations.await?.into_iter().map(of));
    }
    Ok(Json(detail))
}

/// Where the votes of a task differ: the first record or byte, found from the bytes of the trackers, which are checked against
/// their votes. It is compared when somebody asks, one task at a time.
#[utoipa::path(get, path = "/api/v1/jobs/{job}/tasks/{task}/difference", tag = "jobs",
    params(("job" = String, Path, example = "3"), ("task" = String, Path, example = "map-3")), responses(
    (status = 200, body = Difference),
    (status = 404, description = "There is no such task, there are no votes of it here, or they are alike", body = Failed),
    (status = 410, description = "A tracker no longer has what must be compared", body = Failed),
    (status = 503, description = "Other votes are being compared", body = Failed),
    (status = 504, description = "It took too long", body = Failed),
))]
async fn difference(State(site): Here, Path((job, task)): Path<(String, String)>) -> Answered<Difference> {
    let task = task_id(&job, &task)?;
    site.source.live()?.difference(task).await.map(Json)
}

/// A tracker, what it ran, and every accusation with its proof.
#[utoipa::path(get, path = "/api/v1/trackers/{tracker}", tag = "trackers",
    params(("tracker" = String, Path, example = "2")), responses(
    (status = 200, body = TrackerDetail),
    (status = 404, body = Failed),
))]
async fn tracker(State(site): Here, Path(tracker): Path<String>) -> Answered<TrackerDetail> {
    site.source.tracker(id(&tracker)?).await.map(Json)
}

/// A path in the cluster's file system.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
struct AtPath {
    /// A folder or file; the root when it is left out.
    path: Option<String>,
}

/// A folder's entries, or a file with its chunks.
#[utoipa::path(get, path = "/api/v1/files", tag = "storage", params(AtPath), responses(
    (status = 200, body = Files),
    (status = 404, body = Failed),
    (status = 413, description = "The folder has too many entries", body = Failed),
))]
async fn files(State(site): Here, at: Result<Query<AtPath>, QueryRejection>) -> Answered<Files> {
    let text = asked(at)?.path.unwrap_or_else(|| "/".to_owned());
    let path = file::Path::parse(&text).map_err(|why| Refused::new(StatusCode::BAD_REQUEST, "path", why))?;
    let live = site.source.live()?;
    let (_, Answer::List(entries)) = live.ask(Question::List(path.clone())).await? else {
        return Err(other_answer());
    };
    let is_file = matches!(entries.as_slice(), [entry] if entry.path == path && entry.files.is_none());
    let file = match live.ask(Question::File(path)).await {
        Ok((_, Answer::File(file))) if is_file => Some(FileDetail::from(&*file)),
        Ok(_) | Err(_) => None,
    };
    let entries = if is_file { Vec::new() } else { entries.iter().map(FileEntry::from).collect() };
    Ok(Json(Files { path: text, entries, file }))
}

/// What the files say that trackers hold. At most five seconds old.
#[utoipa::path(get, path = "/api/v1/storage", tag = "storage", responses((status = 200, body = Storage)))]
async fn storage(State(site): Here) -> Answered<Storage> {
    let live = site.source.live()?;
    let (outline, stored) = (live.outline().await?, live.storage().await?);
    let (history, stored) = &*stored;
    let of = |tracker: &TrackerView| {
        let (chunks, bytes) = stored.trackers.get(&tracker.id).copied().unwrap_or_default();
        StorageOfTracker { tracker: tracker.id.number(), live: tracker.live, chunks, bytes }
    };
    Ok(Json(Storage {
        position: history.map(Position::from),
        files: stored.files,
        bytes: stored.bytes,
        trackers: outline.trackers.iter().map(of).collect(),
        few_copies: stored.few_copies,
        lost: stored.lost,
        scanned: stored.is_whole,
    }))
}

/// What is measured, for Prometheus.
async fn scrape(State(site): Here) -> Result<Response, Refused> {
    let live = site.source.live()?;
    let (report, outline) = (live.report().await?, live.outline().await?);
    let text = metrics::encode(&report, &outline, live.cluster().f);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Whether the replica is up to date and votes.
async fn ready(State(site): Here) -> Result<Response, Refused> {
    let Ok(live) = site.source.live() else { return Ok("ready\n".into_response()) };
    let report = live.report().await?;
    Ok(match not_ready(&report, live.cluster().f) {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    })
}

pub(crate) mod paths {
    //! What the description of the API is made from.
    pub(crate) use super::{
        __path_agreement, __path_cluster, __path_difference, __path_files, __path_job, __path_jobs, __path_standing,
        __path_storage, __path_task, __path_tasks, __path_tracker,
    };
}
