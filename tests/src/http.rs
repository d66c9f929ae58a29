//! A client of a replica's page: as little HTTP as a question takes.

use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for a path, and gives the status and the body; `None` when nobody answers.
pub async fn get(page: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(page).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {page}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.ok()?.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Asks for JSON.
///
/// # Panics
/// When there is none.
pub async fn json(page: &str, path: &str) -> serde_json::Value {
    let (status, body) = get(page, path).await.expect("an answer");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}
