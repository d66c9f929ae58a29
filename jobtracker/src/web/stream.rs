//! Server-sent events: what has changed, for pages that stay open.
//!
//! Nothing is queued for anybody. Each stream remembers what it told last and, when it may tell again, tells what is
//! different by then; so a slow reader costs as much as a fast one, and is cut off when it does not read at all.

use super::{
    answers::{Position, Tally},
    pulse::Pulse,
    routes::{Refused, Site, asked, id},
    source::Source,
    told,
};
use crate::record::Changes;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::stream::{self, Stream};
use quorate_protocol::ids::{JobId, Stage};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::ToSchema;

/// Where the events are.
pub(crate) const PATH: &str = "/api/v1/events";
/// Something is sent at least so often, so that a reader that has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Tasks of which changes are told at once; after more the matrix is loaded anew.
const TASKS_TOLD_MAX: usize = 5000;
/// How long a browser waits before it comes again.
const RETRY: Duration = Duration::from_secs(2);

/// The first event, `hello`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Hello {
    replica: Option<u32>,
    position: Option<Position>,
}

/// An event `change`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    position: Option<Position>,
    time: u64,
    view: u64,
    primary: u32,
    ready: bool,
    /// Changes when somebody else is suspected than before.
    standing: String,
    /// The jobs that changed.
    jobs: Vec<ChangedJob>,
}

/// How a job that changed stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedJob {
    job: u64,
    state: &'static str,
    revision: u64,
    maps: Tally,
    reduces: Tally,
}

/// An event `tasks`: what changed in one stage of the job that the reader follows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskChanges {
    job: u64,
    stage: &'static str,
    /// The job's revision that the reader has with this.
    revision: u64,
    all: u32,
    settled: bool,
    /// Of each task its number, its letter, its attempts' letters and its attempts' trackers, as in the vote matrix.
    tasks: Vec<(u32, char, String, String)>,
}

/// An event `reset`: more has changed than can be told; the vote matrix must be loaded anew.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reset {
    job: u64,
}

/// What a reader wants to follow.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(crate) struct Follows {
    /// The job whose tasks it wants to know of.
    job: Option<String>,
}

/// The job that a reader follows.
struct Followed {
    job: JobId,
    /// The revision that it has.
    revision: u64,
    is_settled: bool,
}

/// One reader's stream.
struct Reader {
    source: Source,
    followed: Option<Followed>,
    /// What it is told before anything else.
    ready: VecDeque<Event>,
    pulse: watch::Receiver<Arc<Pulse>>,
    stopping: watch::Receiver<bool>,
    next: Next,
    /// What it was told last.
    told: Arc<Pulse>,
    _place: OwnedSemaphorePermit,
}

/// What a reader is told next.
enum Next {
    Hello(Option<u32>),
    Changes,
    Nothing,
}

/// Server-sent events: `hello`, then `change` when something changed, at most five times a second, and `bye` when the
/// replica stops. With a job, `tasks` has what changed in its vote matrix since the stream began, and `reset` says that
/// it must be loaded anew. A reader that cannot follow is told what is different when it reads again, not all that was in between.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Follows), responses(
    (status = 200, description = "A stream of events", content_type = "text/event-stream", body = Change),
    (status = 429, description = "Too many streams are open"),
))]
pub(crate) async fn events(
    State(site): State<Arc<Site>>,
    follows: Result<Query<Follows>, QueryRejection>,
) -> Result<Response, Refused> {
    let job: Option<JobId> = asked(follows)?.job.as_deref().map(id).transpose()?;
    let Ok(place) = Arc::clone(&site.streams).try_acquire_owned() else {
        return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "streams", "too many streams are open"));
    };
    let mut pulse = site.pulse.clone();
    pulse.mark_changed();
    // Whoever loads the matrix now may have a part of what is told again.
    let followed = job.map(|job| {
        let record = site.source.record_now(job);
        let (revision, is_settled) = record.map_or((0, false), |record| (record.events, record.is_settled()));
        Followed { job, revision, is_settled }
    });
    let reader = Reader {
        source: site.source.clone(),
        followed,
        ready: VecDeque::new(),
        pulse,
        stopping: site.stopping.clone(),
        next: Next::Hello(site.source.me()),
        told: Arc::default(),
        _place: place,
    };
    Ok(Sse::new(reader.into_stream()).into_response())
}

impl Reader {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut reader| async move {
            let event = reader.next_event().await?;
            Some((Ok(event), reader))
        })
    }

    async fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        match self.next {
            Next::Hello(replica) => {
                self.next = Next::Changes;
                let position = self.pulse.borrow().position.clone();
                Some(event("hello", &Hello { replica, position }).retry(RETRY))
            }
            Next::Changes => {
                let changed = tokio::select! {
                    biased;
                    // An error says that the replica is gone.
                    _ = self.stopping.wait_for(|stop| *stop) => Err(()),
                    changed = self.pulse.changed() => changed.map(|()| true).map_err(drop),
                    () = tokio::time::sleep(HEARTBEAT) => Ok(false),
                };
                Some(match changed {
                    Ok(true) => self.change(),
                    Ok(false) => Event::default().comment("nothing new"),
                    Err(()) => self.bye(),
                })
            }
            Next::Nothing => None,
        }
    }

    fn bye(&mut self) -> Event {
        self.next = Next::Nothing;
        event("bye", &BTreeMap::<(), ()>::new())
    }

    fn change(&mut self) -> Event {
        let pulse = Arc::clone(&self.pulse.borrow_and_update());
        let changed = pulse.jobs.iter().filter(|job| self.told.job(job.job).is_none_or(|told| told.differs(job)));
        let jobs = changed.map(|job| ChangedJob {
            job: job.job,
            state: job.state,
            revision: job.revision,
            maps: job.maps,
            reduces: job.reduces,
        });
        let jobs = jobs.collect();
        self.told = Arc::clone(&pulse);
        self.follow();
        let Pulse { position, time, view, primary, ready, standing, .. } = (*pulse).clone();
        event("change", &Change { position, time, view, primary, ready, standing, jobs })
    }
}

impl Reader {
    /// Tells next what has changed in the job that is followed.
    fn follow(&mut self) {
        let Some(followed) = &mut self.followed else { return };
        let Some(record) = self.source.record_now(followed.job) else { return };
        let changes = match record.changes_since(followed.revision) {
            Changes::Tasks(tasks) if tasks.len() <= TASKS_TOLD_MAX => tasks,
            Changes::Tasks(_) | Changes::TooMany => {
                self.ready.push_back(event("reset", &Reset { job: followed.job.number() }));
                Vec::new()
            }
        };
        let is_settling = std::mem::replace(&mut followed.is_settled, record.is_settled()) != record.is_settled();
        followed.revision = record.events;
        for stage in [Stage::Map, Stage::Reduce] {
            let of_stage = changes.iter().filter(|(of, _)| *of == stage);
            let tasks: Vec<_> = of_stage.filter_map(|(_, index)| told::change(&record, stage, *index)).collect();
            if tasks.is_empty() && !(is_settling && stage == Stage::Reduce) {
                continue;
            }
            let changes = TaskChanges {
                job: followed.job.number(),
                stage: told::stage_name(stage),
                revision: record.events,
                all: record.stage(stage).all,
                settled: record.is_settled(),
                tasks,
            };
            self.ready.push_back(event("tasks", &changes));
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // Numbers and text without line ends: JSON of these always fits into an event.
    Event::default().event(name).json_data(data).unwrap_or_default()
}
