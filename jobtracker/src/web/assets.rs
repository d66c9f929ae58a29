//! The page's files. They are part of the program: nothing is fetched from anywhere else, and nothing is built.

use axum::{
    body::Body,
    http::{HeaderMap, Response, StatusCode, header},
    response::IntoResponse,
};
use quorate_protocol::digest::Digest;

/// A file of the page.
pub(crate) struct Asset {
    /// Its path.
    pub(crate) path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $file:literal, $kind:expr) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("../../dashboard/", $file)) }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them.
pub(crate) const ASSETS: &[Asset] = &[
    asset!("/", "index.html", "text/html; charset=utf-8"),
    asset!("/style.css", "style.css", "text/css; charset=utf-8"),
    asset!("/icon.svg", "icon.svg", "image/svg+xml"),
    asset!("/agreement.js", "agreement.js", SCRIPT),
    asset!("/cluster.js", "cluster.js", SCRIPT),
    asset!("/elements.js", "elements.js", SCRIPT),
    asset!("/job.js", "job.js", SCRIPT),
    asset!("/jobs.js", "jobs.js", SCRIPT),
    asset!("/live.js", "live.js", SCRIPT),
    asset!("/main.js", "main.js", SCRIPT),
    asset!("/matrix.js", "matrix.js", SCRIPT),
    asset!("/parts.js", "parts.js", SCRIPT),
    asset!("/replicas.js", "replicas.js", SCRIPT),
    asset!("/standing.js", "standing.js", SCRIPT),
    asset!("/states.js", "states.js", SCRIPT),
    asset!("/storage.js", "storage.js", SCRIPT),
    asset!("/task.js", "task.js", SCRIPT),
    asset!("/theme.js", "theme.js", SCRIPT),
    asset!("/tracker.js", "tracker.js", SCRIPT),
    asset!("/verdict.js", "verdict.js", SCRIPT),
    asset!("/watch.js", "watch.js", SCRIPT),
    asset!("/words.js", "words.js", SCRIPT),
];

impl Asset {
    /// Answers a request for it. A browser that has it already is told so.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        let tag = format!("\"{}\"", Digest::of(self.bytes).short());
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let about = [
            (header::CONTENT_TYPE, self.kind.to_owned()),
            (header::ETAG, tag),
            (header::CACHE_CONTROL, "no-cache".to_owned()),
        ];
        if known { (StatusCode::NOT_MODIFIED, about).into_response() } else { (about, self.bytes).into_response() }
    }
}
