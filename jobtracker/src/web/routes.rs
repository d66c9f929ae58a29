//! The paths of the API, and what is answered to each.

use super::{
    answers::{
        Agreement, Cluster, Failed, Fault, FileDetail, FileEntry, Files, Job, JobDetail, Jobs, Peer, Position, Reason,
        Standing, Tracker, TrackerDetail,
    },
    assets::ASSETS,
    evidence,
    guard::{self, Pages},
    live::{Live, is_halted, newest, not_ready},
    metrics, openapi,
    pulse::Pulse,
    stream,
};
use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use quorate_protocol::{
    command::Refusal,
    file,
    ids::{JobId, TrackerId},
    query::{Answer, Question},
};
use serde::Deserialize;
use std::{borrow::Cow, str::FromStr, sync::Arc};
use tokio::sync::{Semaphore, watch};

/// What the server of a page has.
pub(crate) struct Site {
    pub(crate) live: Arc<Live>,
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
}

impl Refused {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let reason = Reason { code: self.code, message: self.message.into_owned() };
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
        .route("/api/v1/trackers/{tracker}", get(tracker))
        .route("/api/v1/files", get(files))
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

/// Whatever a question is answered with that does not belong to it, which honest state never does.
fn other_answer() -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer does not belong to the question")
}

/// The cluster, its replicas and trackers, as this replica sees them.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
async fn cluster(State(site): Here) -> Answered<Cluster> {
    site.live.overview(&site.pages).await.map(Json)
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
    site.live.standing(asked(at)?.at).await.map(Json)
}

/// How the agreement goes on, as this replica sees it.
#[utoipa::path(get, path = "/api/v1/agreement", tag = "cluster", responses((status = 200, body = Agreement)))]
async fn agreement(State(site): Here) -> Answered<Agreement> {
    let report = site.live.report().await?;
    let newest = newest(&report, site.live.cluster().f);
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
    let outline = site.live.outline().await?;
    let jobs = outline.jobs.iter().map(|summary| Job::new(summary, 0, 0)).collect();
    Ok(Json(Jobs { position: outline.history.map(Position::from), jobs }))
}

/// A job in full.
#[utoipa::path(get, path = "/api/v1/jobs/{job}", tag = "jobs", params(("job" = String, Path, example = "3")), responses(
    (status = 200, body = JobDetail),
    (status = 404, body = Failed),
))]
async fn job(State(site): Here, Path(job): Path<String>) -> Answered<JobDetail> {
    let job: JobId = id(&job)?;
    match site.live.ask(Question::Job(job)).await? {
        (_, Answer::Job(view)) => Ok(Json(JobDetail::new(&view, 0))),
        _ => Err(other_answer()),
    }
}

/// A tracker, what it ran, and every accusation with its proof.
#[utoipa::path(get, path = "/api/v1/trackers/{tracker}", tag = "trackers",
    params(("tracker" = String, Path, example = "2")), responses(
    (status = 200, body = TrackerDetail),
    (status = 404, body = Failed),
))]
async fn tracker(State(site): Here, Path(tracker): Path<String>) -> Answered<TrackerDetail> {
    let tracker: TrackerId = id(&tracker)?;
    let outline = site.live.outline().await?;
    let view = outline.trackers.iter().find(|view| view.id == tracker);
    let view = view.ok_or_else(|| {
        Refused::new(StatusCode::NOT_FOUND, "not-found", Refusal::NotFound(tracker.to_string()).to_string())
    })?;
    let (_, Answer::Evidence(pieces)) = site.live.ask(Question::Evidence(tracker)).await? else {
        return Err(other_answer());
    };
    let cluster = Arc::clone(site.live.cluster());
    // Signatures are checked: not for an async task.
    let show = move || pieces.iter().map(|piece| evidence::show(&cluster, piece)).collect();
    let accusations = tokio::task::spawn_blocking(show).await.map_err(|_| other_answer())?;
    Ok(Json(TrackerDetail { tracker: Tracker::from(view), attempts: Vec::new(), accusations }))
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
    let (_, Answer::List(entries)) = site.live.ask(Question::List(path.clone())).await? else {
        return Err(other_answer());
    };
    let is_file = matches!(entries.as_slice(), [entry] if entry.path == path && entry.files.is_none());
    let file = match site.live.ask(Question::File(path)).await {
        Ok((_, Answer::File(file))) if is_file => Some(FileDetail::from(&*file)),
        Ok(_) | Err(_) => None,
    };
    let entries = if is_file { Vec::new() } else { entries.iter().map(FileEntry::from).collect() };
    Ok(Json(Files { path: text, entries, file }))
}

/// What is measured, for Prometheus.
async fn scrape(State(site): Here) -> Result<Response, Refused> {
    let (report, outline) = (site.live.report().await?, site.live.outline().await?);
    let text = metrics::encode(&report, &outline, site.live.cluster().f);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Whether the replica is up to date and votes.
async fn ready(State(site): Here) -> Result<Response, Refused> {
    let report = site.live.report().await?;
    Ok(match not_ready(&report, site.live.cluster().f) {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    })
}

pub(crate) mod paths {
    //! What the description of the API is made from.
    pub(crate) use super::{
        __path_agreement, __path_cluster, __path_files, __path_job, __path_jobs, __path_standing, __path_tracker,
    };
}
