//! Who is in the cluster: the configuration that every process starts from.

use crate::{
    canonical,
    digest::Digest,
    enrolled::{EnrolledTpm, STATIC_PCRS},
    ids::{Domain, ReplicaId, TrackerId},
    sign::PublicKey,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// The most replicas that witness each other's logs: the certificates of larger clusters would be too long.
pub const WITNESSES_MAX: usize = 16;

/// How the replicas agree: what keeps a replica from saying two things, and thereby how many of them f liars need against
/// them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agreement {
    /// A trusted log in each replica, as in MinBFT: 2f + 1 replicas.
    #[default]
    Minbft,
    /// The replicas witness each other's logs, and nothing is trusted, as in PBFT: 3f + 1 replicas.
    Pbft,
}

impl Agreement {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Minbft, Self::Pbft];

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minbft => "minbft",
            Self::Pbft => "pbft",
        }
    }
    /// How many of so many replicas may lie.
    pub const fn faults(self, replicas: usize) -> usize {
        let others = replicas.saturating_sub(1);
        match self {
            Self::Minbft => others / 2,
            Self::Pbft => others / 3,
        }
    }
    /// How many replicas bear so many liars.
    pub const fn replicas(self, faults: usize) -> usize {
        match self {
            Self::Minbft => faults.saturating_mul(2).saturating_add(1),
            Self::Pbft => faults.saturating_mul(3).saturating_add(1),
        }
    }
    /// That number as a formula, for messages.
    pub const fn formula(self) -> &'static str {
        match self {
            Self::Minbft => "2f + 1",
            Self::Pbft => "3f + 1",
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no agreement's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no agreement {0:?}; there are minbft and pbft")]
pub struct UnknownAgreement(String);

impl FromStr for Agreement {
    type Err = UnknownAgreement;
    fn from_str(name: &str) -> Result<Self, UnknownAgreement> {
        let known = Self::ALL.into_iter().find(|agreement| agreement.name() == name);
        known.ok_or_else(|| UnknownAgreement(name.to_owned()))
    }
}

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
    /// `host:port` of its page for people, when it shows one. Like its address it is no part of the cluster's identity.
    #[serde(default)]
    pub page: Option<String>,
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
    /// How the replicas agree.
    #[serde(default)]
    pub agreement: Agreement,
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
        let (name, agreement) = (&self.name, self.agreement);
        let id =
            canonical::digest(&("quorate cluster", name, self.f, agreement, &self.clients, replicas, &self.trackers));
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
        // Most clusters number their trackers from 0, in order; in others it takes a search.
        let usual = self.trackers.get(id.number() as usize).filter(|tracker| tracker.id == id);
        usual.or_else(|| self.trackers.iter().find(|tracker| tracker.id == id))
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
        let needed = self.agreement.replicas(self.f as usize);
        if self.replicas.len() != needed {
            return Err(format!(
                "f = {} needs {needed} replicas with agreement = \"{}\", {} of them, and {} are configured",
                self.f,
                self.agreement,
                self.agreement.formula(),
                self.replicas.len()
            ));
        }
        match self.agreement {
            Agreement::Minbft => Ok(()),
            Agreement::Pbft => self.check_witnesses(),
        }
    }

    fn check_witnesses(&self) -> Result<(), String> {
        if self.replicas.len() > WITNESSES_MAX {
            return Err(format!("agreement = \"pbft\" works with at most {WITNESSES_MAX} replicas"));
        }
        if let Some(replica) = self.replicas.iter().find(|replica| replica.log.is_some()) {
            return Err(format!("agreement = \"pbft\" has no trusted logs, and {} is given a key of one", replica.id));
        }
        Ok(())
    }

    fn check_tpms(&self) -> Result<(), String> {
        if self.authority.is_some() && !self.has_tpms() {
            return Err("there is an authority for TPMs, and no replica has one".to_owned());
        }
        let mut keys = BTreeSet::new();
        for (replica, tpm) in self.replicas.iter().filter_map(|replica| Some((replica, replica.tpm.as_ref()?))) {
            if self.agreement == Agreement::Pbft {
                return Err(format!("{} has a TPM, and with agreement = \"pbft\" nobody uses it", replica.id));
            }
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

    /// How many replicas must vote for anything to be ordered.
    pub fn quorum(&self) -> usize {
        self.replicas.len().saturating_sub(self.f as usize)
    }

    /// What the cluster's safety rests on, in one sentence.
    pub fn assumption(&self) -> String {
        let (agreement, replicas, f) = (self.agreement, self.replicas.len(), self.f);
        let many = if replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
        let liars = match f {
            0 => "none of them lies".to_owned(),
            1 => "at most 1 of them lies".to_owned(),
            _ => format!("at most {f} of them lie"),
        };
        let trust = match agreement {
            Agreement::Minbft => " and no trusted log is broken",
            Agreement::Pbft => "; no trusted component",
        };
        format!("agreement: {agreement}, {many}: safe while {liars}{trust}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SecretKey;

    fn cluster(agreement: Agreement, f: u32, replicas: u32) -> Cluster {
        let key = |number: u32| SecretKey::from_seed([number as u8 + 1; 32]).public();
        let replica = |number| ReplicaMember {
            id: ReplicaId::new(number),
            address: "a:1".to_owned(),
            key: key(number),
            log: None,
            tpm: None,
            page: None,
        };
        let domain = Domain("d0".to_owned());
        Cluster {
            name: "test".to_owned(),
            f,
            agreement,
            allow_liars: false,
            clients: Vec::new(),
            authority: None,
            replicas: (0..replicas).map(replica).collect(),
            trackers: vec![TrackerMember { id: TrackerId::new(0), domain, key: key(100) }],
        }
    }

    #[test]
    fn each_agreement_wants_its_number_of_replicas() {
        for (agreement, f, replicas) in [(Agreement::Minbft, 1, 3), (Agreement::Pbft, 1, 4), (Agreement::Pbft, 5, 16)] {
            assert_eq!(cluster(agreement, f, replicas).check(), Ok(()));
            assert_eq!(agreement.faults(replicas as usize), f as usize);
        }
        for (agreement, f, replicas) in [(Agreement::Minbft, 1, 4), (Agreement::Pbft, 1, 3), (Agreement::Pbft, 6, 19)] {
            let refused = cluster(agreement, f, replicas).check().expect_err("another number");
            assert!(refused.contains(agreement.name()), "{refused}");
        }
        let needs = cluster(Agreement::Pbft, 1, 3).check().expect_err("another number");
        assert_eq!(needs, "f = 1 needs 4 replicas with agreement = \"pbft\", 3f + 1 of them, and 3 are configured");
    }

    #[test]
    fn replicas_that_witness_each_other_have_no_keys_of_trusted_logs() {
        let mut with_log = cluster(Agreement::Pbft, 1, 4);
        with_log.replicas[2].log = Some(SecretKey::from_seed([200; 32]).public());
        assert!(with_log.check().is_err_and(|why| why.contains("replica-2")));
    }

    #[test]
    fn the_agreement_is_a_part_of_the_clusters_identity() {
        assert_ne!(cluster(Agreement::Minbft, 0, 1).id(), cluster(Agreement::Pbft, 0, 1).id());
    }

    #[test]
    fn what_safety_rests_on_is_said_in_one_sentence() {
        let said = |agreement, f, replicas| cluster(agreement, f, replicas).assumption();
        let minbft = "agreement: minbft, 3 replicas: safe while at most 1 of them lies and no trusted log is broken";
        assert_eq!(said(Agreement::Minbft, 1, 3), minbft);
        let pbft = "agreement: pbft, 7 replicas: safe while at most 2 of them lie; no trusted component";
        assert_eq!(said(Agreement::Pbft, 2, 7), pbft);
    }

    fn with_tpms(tpms: [Option<EnrolledTpm>; 3]) -> Cluster {
        let mut cluster = cluster(Agreement::Minbft, 1, 3);
        cluster.clients = vec![SecretKey::from_seed([200; 32]).public()];
        cluster.replicas.iter_mut().zip(tpms).for_each(|(replica, tpm)| replica.tpm = tpm);
        cluster
    }

    fn tpm(first: u8) -> Option<EnrolledTpm> {
        let mut key = [7; 64];
        key[0] = first;
        Some(EnrolledTpm { pcr: 14, firmware: [first; 8], key })
    }

    #[test]
    fn golden_identities() {
        let software = with_tpms([None, None, None]);
        assert_eq!(software.id().to_string(), "0de5b3cfd05f78e6dadf37d5530f18e5e3280bded61394b00e2287ebae1d597d");
        let tpms = Cluster { authority: Some(software.clients[0]), ..with_tpms([tpm(1), None, tpm(2)]) };
        assert_eq!(tpms.check(), Ok(()));
        assert_eq!(tpms.id().to_string(), "4f5c70acf844c79f64aaec40dd4b07878a831441fbdea8265d5c03afbf1bfec0");
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
        let tpms = Cluster { authority: Some(with_tpms([None; 3]).clients[0]), ..with_tpms([tpm(1), tpm(2), None]) };
        let text = toml::to_string(&tpms).expect("TOML");
        assert!(text.contains("[replica.tpm]\npcr = 14\nfirmware = \"0101010101010101\""), "{text}");
        assert_eq!(toml::from_str::<Cluster>(&text).expect("read"), tpms);
        let torn = text.replacen("0101010101010101", "010101010101010", 1);
        assert!(toml::from_str::<Cluster>(&torn).is_err(), "an odd digit");
    }

    #[test]
    fn what_cannot_be_a_trusted_log_is_refused() {
        let refused = |change: &dyn Fn(&mut Cluster), why: &str| {
            let mut cluster = with_tpms([tpm(1), tpm(2), tpm(3)]);
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
