//! The chunk servers as a client knows them at the moment.

use quorate_protocol::{
    ids::{Domain, TrackerId},
    query::{Blame, TrackerView},
};
use std::collections::BTreeMap;

/// One chunk server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its failure domain.
    pub domain: Domain,
    /// `host:port`; empty when it never registered.
    pub address: String,
    /// Whether it is there and trusted with new chunks. One that is not is still asked for old ones, last of all.
    pub live: bool,
}

/// All chunk servers. The caller refreshes them with [`crate::ChunkClient::set_servers`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Servers(BTreeMap<TrackerId, Server>);

impl Servers {
    /// The servers that the job tracker knows. A convicted one counts as gone.
    pub fn of(views: &[TrackerView]) -> Self {
        let server = |view: &TrackerView| Server {
            domain: view.domain.clone(),
            address: view.address.clone(),
            live: view.live && view.blame != Blame::Convicted,
        };
        views.iter().map(|view| (view.id, server(view))).collect()
    }

    /// One of them.
    pub fn get(&self, id: TrackerId) -> Option<&Server> {
        self.0.get(&id)
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (TrackerId, &Server)> {
        self.0.iter().map(|(id, server)| (*id, server))
    }

    /// Whether one is there.
    pub(crate) fn is_live(&self, id: TrackerId) -> bool {
        self.get(id).is_some_and(|server| server.live && !server.address.is_empty())
    }
}

impl FromIterator<(TrackerId, Server)> for Servers {
    fn from_iter<I: IntoIterator<Item = (TrackerId, Server)>>(servers: I) -> Self {
        Self(servers.into_iter().collect())
    }
}
