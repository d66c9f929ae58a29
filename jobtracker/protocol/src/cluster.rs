//! Who is in the cluster: the configuration that every process starts from.

use crate::{
    canonical,
    digest::Digest,
    ids::{Domain, ReplicaId, TrackerId},
    sign::PublicKey,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A job-tracker replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaMember {
    /// Its number.
    pub id: ReplicaId,
    /// `host:port` of its service.
    pub address: String,
    /// It signs its replies with this key.
    pub key: PublicKey,
    /// Its trusted log attests with this key; with its own one when none is given.
    #[serde(default)]
    pub log: Option<PublicKey>,
}

/// A task tracker. Its address is not here: it registers one when it starts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackerMember {
    /// Its number.
    pub id: TrackerId,
    /// Its failure domain.
    pub domain: Domain,
    /// It signs its votes with this key.
    pub key: PublicKey,
}

/// The cluster's configuration, the same for every process of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// A name for people. Part of the identity: two clusters of one name still differ in their keys.
    pub name: String,
    /// `cluster.f`: how many replicas may lie.
    pub f: u32,
    /// Whether lying trackers may be started, for tests and demonstrations. Off unless said otherwise.
    #[serde(default)]
    pub allow_liars: bool,
    /// The keys that may submit jobs and change files.
    pub clients: Vec<PublicKey>,
    /// The job tracker's replicas.
    #[serde(rename = "replica")]
    pub replicas: Vec<ReplicaMember>,
    /// The task trackers.
    #[serde(rename = "tracker")]
    pub trackers: Vec<TrackerMember>,
}

impl Cluster {
    /// What binds every signature to this cluster: the digest of its members. Replica addresses are not part of it, so
    /// that a replica may move.
    pub fn id(&self) -> Digest {
        let replicas: Vec<_> = self.replicas.iter().map(|r| (r.id, r.key, r.log)).collect();
        canonical::digest(&("quorate cluster", &self.name, self.f, &self.clients, replicas, &self.trackers))
    }
    /// A tracker of the configuration.
    pub fn tracker(&self, id: TrackerId) -> Option<&TrackerMember> {
        self.trackers.iter().find(|t| t.id == id)
    }
    /// A replica of the configuration.
    pub fn replica(&self, id: ReplicaId) -> Option<&ReplicaMember> {
        self.replicas.iter().find(|r| r.id == id)
    }
    /// How many failure domains the trackers span.
    pub fn domains(&self) -> usize {
        self.trackers.iter().map(|t| &t.domain).collect::<BTreeSet<_>>().len()
    }
    /// Checks that the configuration makes sense.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn check(&self) -> Result<(), String> {
        if self.replicas.is_empty() || self.trackers.is_empty() {
            return Err("a cluster has at least one replica and one tracker".to_owned());
        }
        if !self.replicas.iter().map(|r| r.id.number()).eq(0..self.replicas.len() as u32) {
            return Err("replicas are numbered 0, 1, 2 and so on, and listed in that order".to_owned());
        }
        if self.trackers.iter().map(|t| t.id).collect::<BTreeSet<_>>().len() != self.trackers.len() {
            return Err("two trackers have the same id".to_owned());
        }
        let replicas = self.replicas.iter().flat_map(|r| [Some(r.key), r.log.filter(|log| *log != r.key)]).flatten();
        let keys: Vec<_> = replicas.chain(self.trackers.iter().map(|t| t.key)).collect();
        if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
            return Err("two members have the same key".to_owned());
        }
        if self.replicas.len() as u64 != 2 * u64::from(self.f) + 1 {
            return Err(format!(
                "f = {} needs {} replicas, and {} are configured",
                self.f,
                2 * u64::from(self.f) + 1,
                self.replicas.len()
            ));
        }
        Ok(())
    }
}
