//! Server-sent events: what has changed, for pages that stay open.
//!
//! Nothing is queued for anybody. Each stream remembers what it told last and, when it may tell again, tells what is
//! different by then; so a slow reader costs as much as a fast one, and is cut off when it does not read at all.

use super::{
    answers::{Position, Tally},
    pulse::Pulse,
    routes::{Refused, Site},
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::stream::{self, Stream};
use serde::Serialize;
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::ToSchema;

/// Where the events are.
pub(crate) const PATH: &str = "/api/v1/events";
/// Something is sent at least so often, so that a reader that has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(10);
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

/// One reader's stream.
struct Reader {
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
/// replica stops. A reader that cannot follow is told what is different when it reads again, not all that was in between.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", responses(
    (status = 200, description = "A stream of events", content_type = "text/event-stream", body = Change),
    (status = 429, description = "Too many streams are open"),
))]
pub(crate) async fn events(State(site): State<Arc<Site>>) -> Response {
    let Ok(place) = Arc::clone(&site.streams).try_acquire_owned() else {
        return Refused::new(StatusCode::TOO_MANY_REQUESTS, "streams", "too many streams are open").into_response();
    };
    let mut pulse = site.pulse.clone();
    pulse.mark_changed();
    let reader = Reader {
        pulse,
        stopping: site.stopping.clone(),
        next: Next::Hello(Some(site.live.me().number())),
        told: Arc::default(),
        _place: place,
    };
    Sse::new(reader.into_stream()).into_response()
}

impl Reader {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut reader| async move {
            let event = reader.next_event().await?;
            Some((Ok(event), reader))
        })
    }

    async fn next_event(&mut self) -> Option<Event> {
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
        let Pulse { position, time, view, primary, ready, standing, .. } = (*pulse).clone();
        event("change", &Change { position, time, view, primary, ready, standing, jobs })
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // Numbers and text without line ends: JSON of these always fits into an event.
    Event::default().event(name).json_data(data).unwrap_or_default()
}
