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
    ($path:literal, $file:literal, $kind:literal) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("../../dashboard/", $file)) }
    };
}

/// All of them.
pub(crate) const ASSETS: &[Asset] = &[asset!("/", "index.html", "text/html; charset=utf-8")];

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
