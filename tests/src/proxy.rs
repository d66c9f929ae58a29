//! Faults of the network between two replicas: a proxy on the way from one to the other that holds up what it forwards.
//!
//! Each replica dials each other one and speaks on that connection, so a proxy in front of one replica's address, known to
//! one other replica only, is one direction between the two.

use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of what is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Open,
    /// Nothing gets through, and no connection breaks: that is what a cut cable looks like.
    Cut,
    /// Each piece waits so long.
    Slow(Duration),
}

/// One direction between two replicas.
pub struct Proxy {
    address: String,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy that forwards to an address, whoever listens there by then.
    ///
    /// # Panics
    /// When there is no port for it.
    pub async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (way, seen) = watch::channel(Way::Open);
        let task = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(forward(from, to.clone(), seen.clone()));
            }
        });
        Self { address, way, task }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }
    /// Nothing gets through from now on.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }
    /// What gets through is late.
    pub fn slow(&self, by: Duration) {
        self.way.send_replace(Way::Slow(by));
    }
    /// What was held up gets through, and all that follows.
    pub fn heal(&self) {
        self.way.send_replace(Way::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(from: TcpStream, to: String, mut way: watch::Receiver<Way>) {
    if open(&mut way).await.is_none() {
        return;
    }
    let Ok(there) = TcpStream::connect(to).await else { return };
    let ((mut from_read, mut from_write), (mut there_read, mut there_write)) = (from.into_split(), there.into_split());
    let mut back = way.clone();
    // When one side ends, so does the other.
    tokio::select! {
        _ = pump(&mut from_read, &mut there_write, &mut way) => {}
        _ = pump(&mut there_read, &mut from_write, &mut back) => {}
    }
}

/// Waits until the way is open; `None` when the proxy is gone.
async fn open(way: &mut watch::Receiver<Way>) -> Option<Way> {
    way.wait_for(|way| *way != Way::Cut).await.ok().map(|way| *way)
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    way: &mut watch::Receiver<Way>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        match open(way).await {
            None => return Ok(()),
            Some(Way::Slow(by)) => tokio::time::sleep(by).await,
            Some(Way::Open | Way::Cut) => {}
        }
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
