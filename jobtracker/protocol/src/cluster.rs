//! Who is in the cluster: the configuration that every process starts from.

use crate::{
    canonical,
    digest::Digest,
    enrolled::{EnrolledTpm, STATIC_PCRS},
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
    /// The TPM that is its trusted log, when one is.
    #[serde(default)]
    pub tpm: Option<EnrolledTpm>,
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
    /// The key that may bring another TPM, or other firmware, into a replica's place. Nobody may when none is given.
    #[serde(default)]
    pub authority: Option<PublicKey>,
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
        let id = canonical::digest(&("quorate cluster", &self.name, self.f, &self.clients, replicas, &self.trackers));
        if self.has_tpms() { self.id_with_tpms(id) } else { id }
    }
    /// Whether a replica's trusted log is in a TPM.
    pub fn has_tpms(&self) -> bool {
        self.replicas.iter().any(|replica| replica.tpm.is_some())
    }
    fn id_with_tpms(&self, id: Digest) -> Digest {
        let tpms: Vec<_> = self.replicas.iter().map(|replica| &replica.tpm).collect();
        canonical::digest(&("quorate cluster with TPMs", id, &self.authority, tpms))
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
        self.check_tpms()?;
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

    fn check_tpms(&self) -> Result<(), String> {
        if self.authority.is_some() && !self.has_tpms() {
            return Err("there is an authority for TPMs, and no replica has one".to_owned());
        }
        let mut keys = BTreeSet::new();
        for (replica, tpm) in self.replicas.iter().filter_map(|replica| Some((replica, replica.tpm.as_ref()?))) {
            if replica.log.is_some() {
                return Err(format!("{} has a TPM and a key for a trusted log in software", replica.id));
            }
            if tpm.pcr >= STATIC_PCRS {
                return Err(format!("{} has PCR {}: only 0 to 15 keep their history", replica.id, tpm.pcr));
            }
            if !keys.insert(tpm.key) {
                return Err("two replicas have the same TPM".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SecretKey;

    fn cluster(tpms: [Option<EnrolledTpm>; 3]) -> Cluster {
        let key = |seed| SecretKey::from_seed([seed; 32]).public();
        let replica = |(number, tpm): (u32, Option<EnrolledTpm>)| ReplicaMember {
            id: ReplicaId::new(number),
            address: "a:1".to_owned(),
            key: key(number as u8),
            log: None,
            tpm,
        };
        Cluster {
            name: "test".to_owned(),
            f: 1,
            allow_liars: false,
            clients: vec![key(10)],
            authority: None,
            replicas: (0..).zip(tpms).map(replica).collect(),
            trackers: vec![TrackerMember { id: TrackerId::new(0), domain: Domain("d".to_owned()), key: key(11) }],
        }
    }

    fn tpm(first: u8) -> Option<EnrolledTpm> {
        let mut key = [7; 64];
        key[0] = first;
        Some(EnrolledTpm { pcr: 14, firmware: [first; 8], key })
    }

    #[test]
    fn golden_identities() {
        let software = cluster([None, None, None]);
        assert_eq!(software.id().to_string(), "2fbc1f2b6e80989ff8d766f268872f604534346974c4065ede20d430b4bc0001");
        let tpms = Cluster { authority: Some(software.clients[0]), ..cluster([tpm(1), None, tpm(2)]) };
        assert_eq!(tpms.check(), Ok(()));
        assert_eq!(tpms.id().to_string(), "22b82f42e98d7457a3cbeb5c2312e4cfcc5e731e29b9c343ce8a2acbc4fa8948");
        let other = |change: &dyn Fn(&mut Cluster)| {
            let mut other = tpms.clone();
            change(&mut other);
            assert_ne!(other.id(), tpms.id());
        };
        other(&|cluster| cluster.authority = None);
        other(&|cluster| cluster.replicas.swap(0, 1));
        other(&|cluster| cluster.replicas[0].tpm = tpm(3));
        other(&|cluster| cluster.replicas[0].tpm = None);
    }

    #[test]
    fn a_configuration_with_tpms_is_read_as_it_was_written() {
        let tpms = Cluster { authority: Some(cluster([None; 3]).clients[0]), ..cluster([tpm(1), tpm(2), None]) };
        let text = toml::to_string(&tpms).expect("TOML");
        assert!(text.contains("[replica.tpm]\npcr = 14\nfirmware = \"0101010101010101\""), "{text}");
        assert_eq!(toml::from_str::<Cluster>(&text).expect("read"), tpms);
        let torn = text.replacen("0101010101010101", "010101010101010", 1);
        assert!(toml::from_str::<Cluster>(&torn).is_err(), "an odd digit");
    }

    #[test]
    fn what_cannot_be_a_trusted_log_is_refused() {
        let refused = |change: &dyn Fn(&mut Cluster), why: &str| {
            let mut cluster = cluster([tpm(1), tpm(2), tpm(3)]);
            assert_eq!(cluster.check(), Ok(()));
            change(&mut cluster);
            let said = cluster.check().expect_err("refused");
            assert!(said.contains(why), "{said}");
        };
        refused(&|cluster| cluster.replicas[1].tpm = tpm(1), "the same TPM");
        refused(&|cluster| cluster.replicas[1].log = Some(cluster.clients[0]), "software");
        refused(
            &|cluster| cluster.replicas[2].tpm = tpm(3).map(|tpm| EnrolledTpm { pcr: STATIC_PCRS, ..tpm }),
            "PCR 16",
        );
        refused(
            &|cluster| {
                cluster.authority = Some(cluster.clients[0]);
                cluster.replicas.iter_mut().for_each(|replica| replica.tpm = None);
            },
            "no replica has one",
        );
    }
}
