//! The other trackers: where they are, and one connection to each.

use crate::dataplane::Connections;
use quorate_protocol::{ids::TrackerId, limits, query::TrackerView, wire::tracker_client::TrackerClient};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Room for segments in flight, so that one stream fills the line.
const WINDOW_BYTES: u32 = 8 << 20;

/// A tracker that cannot be spoken to now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It is not registered, or gone.
    #[error("{0} is not registered")]
    Unknown(TrackerId),
    /// What it registered is no address.
    #[error("{0} registered the address {1:?}, which is none")]
    Address(TrackerId, String),
}

#[derive(Debug, Default)]
struct Known {
    addresses: BTreeMap<TrackerId, String>,
    channels: BTreeMap<TrackerId, (String, Channel)>,
}

/// The address book.
#[derive(Debug)]
pub struct Peers {
    known: Mutex<Known>,
    connections: Connections,
    changed: watch::Sender<Vec<TrackerId>>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { known: Mutex::default(), connections: Connections::default(), changed: watch::Sender::new(Vec::new()) }
    }
}

impl Peers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the job tracker says of all trackers.
    pub fn update(&self, trackers: &[TrackerView]) {
        let addresses: BTreeMap<_, _> = trackers
            .iter()
            .filter(|tracker| !tracker.address.is_empty())
            .map(|tracker| (tracker.id, tracker.address.clone()))
            .collect();
        let all: Vec<TrackerId> = addresses.keys().copied().collect();
        let mut known = self.known();
        known.channels.retain(|id, (address, _)| addresses.get(id) == Some(address));
        known.addresses = addresses;
        drop(known);
        self.changed.send_if_modified(|old| {
            let differs = *old != all;
            *old = all;
            differs
        });
    }

    /// The trackers that have an address, now and whenever that changes.
    pub fn all(&self) -> watch::Receiver<Vec<TrackerId>> {
        self.changed.subscribe()
    }

    /// Where a tracker is.
    pub(crate) fn address(&self, tracker: TrackerId) -> Result<String, PeerError> {
        self.known().addresses.get(&tracker).cloned().ok_or(PeerError::Unknown(tracker))
    }

    /// The connections of the data plane.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// A client for a tracker's service, connected when it is first used.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn client(&self, tracker: TrackerId) -> Result<TrackerClient<Channel>, PeerError> {
        let mut known = self.known();
        let address = known.addresses.get(&tracker).cloned().ok_or(PeerError::Unknown(tracker))?;
        let channel = match known.channels.get(&tracker) {
            Some((_, channel)) => channel.clone(),
            None => {
                let channel = connect(&address).ok_or_else(|| PeerError::Address(tracker, address.clone()))?;
                known.channels.insert(tracker, (address, channel.clone()));
                channel
            }
        };
        Ok(TrackerClient::new(channel)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX))
    }
}

fn connect(address: &str) -> Option<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3));
    Some(endpoint.connect_lazy())
}
