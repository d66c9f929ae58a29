//! Who may ask, and how: looked at before anything is answered.
//!
//! The API is for reading and needs no key, so what a browser lets other pages read matters: only the pages of the
//! cluster's replicas may, which compare what the replicas say. A name that is not this server's in a request's `Host` says
//! that somebody else's name was made to point here (DNS rebinding), and is refused.

use super::routes::{Refused, Site};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// How long a request may take, streams apart.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pages of the cluster's replicas.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    /// `host:port` of each, by number.
    pub(crate) addresses: Vec<Option<String>>,
}

impl Pages {
    /// A replica's page.
    pub(crate) fn url(&self, replica: usize) -> Option<String> {
        let address = self.addresses.get(replica)?.as_ref()?;
        Some(format!("http://{address}/"))
    }

    /// Whether a page of this origin may read what is answered here.
    fn may_read(&self, origin: &str) -> bool {
        let Some(asking) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
            return false;
        };
        self.addresses.iter().flatten().any(|address| plain(address) == plain(asking))
    }

    /// Whether this server goes by the name of a request's `Host`: by an address, or a name that the configuration has.
    fn is_ours(&self, host: &str) -> bool {
        let name = name_of(host);
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_configured = || self.addresses.iter().flatten().any(|address| name_of(address) == name);
        is_address || name == "localhost" || name.ends_with(".localhost") || is_configured()
    }

    /// What the page may do: use its own files, and ask the replicas.
    fn policy(&self) -> String {
        let others = self.addresses.iter().flatten().map(|address| format!(" http://{address}"));
        let local = self.addresses.iter().flatten().filter_map(|address| {
            let port = address.strip_prefix("127.0.0.1:")?;
            Some(format!(" http://localhost:{port}"))
        });
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            others.chain(local).collect::<String>()
        )
    }
}

/// An address with the name that all machines have for themselves.
fn plain(address: &str) -> String {
    address.replacen("127.0.0.1:", "localhost:", 1)
}

fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// Refuses what may not be asked, bounds the time of what may, and says how browsers shall treat the answer.
pub(crate) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let refusal = refusal(&site.pages, &request);
    let is_stream = request.uri().path() == super::stream::PATH;
    let mut response = match refusal {
        Some(refused) => refused.into_response(),
        None if is_stream => next.run(request).await,
        None => within(&site, next.run(request)).await,
    };
    dress(response.headers_mut(), &site.pages, origin.as_ref());
    response
}

fn refusal(pages: &Pages, request: &Request) -> Option<Refused> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(Refused::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "read-only",
            "this API is for reading: GET and HEAD",
        ));
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_none_or(|host| !pages.is_ours(host)) {
        let message = "this server does not go by that name; ask for it by its address";
        return Some(Refused::new(StatusCode::MISDIRECTED_REQUEST, "other-name", message));
    }
    None
}

/// At most [`super::server::WORK_MAX`] requests are at work; more wait their turn for a while.
async fn within(site: &Site, answer: impl Future<Output = Response>) -> Response {
    let answered = tokio::time::timeout(PATIENCE, async {
        let _place = site.work.acquire().await;
        answer.await
    });
    answered.await.unwrap_or_else(|_| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the replica has too much to do").into_response()
    })
}

fn dress(headers: &mut HeaderMap, pages: &Pages, origin: Option<&HeaderValue>) {
    let policy = HeaderValue::from_str(&pages.policy()).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin.filter(|origin| origin.to_str().is_ok_and(|origin| pages.may_read(origin))) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages { addresses: vec![Some("127.0.0.1:8080".to_owned()), None, Some("jt2.example:80".to_owned())] }
    }

    #[test]
    fn only_the_pages_of_the_replicas_may_read_from_elsewhere() {
        for may in ["http://127.0.0.1:8080", "http://localhost:8080", "https://jt2.example:80"] {
            assert!(pages().may_read(may), "{may}");
        }
        for not in
            ["http://127.0.0.1:8081", "http://evil.example", "null", "http://jt2.example:80.evil.example", "file://"]
        {
            assert!(!pages().may_read(not), "{not}");
        }
    }

    #[test]
    fn a_name_of_somebody_else_is_refused() {
        for ours in ["127.0.0.1:1", "[::1]:8080", "localhost", "localhost:99", "10.0.0.7", "jt2.example:9"] {
            assert!(pages().is_ours(ours), "{ours}");
        }
        for other in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "jt2.example.evil", ""] {
            assert!(!pages().is_ours(other), "{other}");
        }
    }

    #[test]
    fn the_page_may_ask_the_replicas_and_nobody_else() {
        let policy = pages().policy();
        assert!(
            policy.contains("connect-src 'self' http://127.0.0.1:8080 http://jt2.example:80 http://localhost:8080;")
        );
        assert!(policy.starts_with("default-src 'none'"));
    }
}
