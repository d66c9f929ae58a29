//! How a cluster begins whose replicas have TPMs as trusted logs.
//!
//! The first epoch of a software log follows from the cluster's configuration. That of a TPM does not: its record has the boot that
//! the chip is in and the value that its PCR has, and it names the cluster, so that it can only be made once the
//! configuration is complete. Each host begins its log then, and signs the record of its first epoch. These are gathered in one file, the
//! *founding*, which every replica of the cluster is started with.
//!
//! What must hold: all replicas start from the same records. So the founding's digest is part of what two replicas prove to each
//! other when they link, and of what a replica's store belongs to: replicas with different foundings never speak.
//!
//! The file is text (TOML), a list: files of several hosts are gathered by writing one after the other.

use quorate_counter::{Certificate, EpochRecord, LogKey, Rejection, TpmDevice};
use quorate_protocol::{
    canonical,
    cluster::{Cluster, ReplicaMember},
    digest::Digest,
    ids::ReplicaId,
    sign::{Signed, Statement},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest founding in bytes.
pub const FOUNDING_BYTES_MAX: usize = 1 << 20;

/// Why a founding is not that of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The text is longer than any founding.
    #[error("a founding of {got} bytes, and at most {FOUNDING_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// The text is no founding.
    #[error("this is not a founding")]
    Document(#[source] toml::de::Error),
    /// Nobody's trusted log is in a TPM.
    #[error("the cluster's configuration has no TPMs, and so the cluster needs no founding")]
    Unneeded,
    /// A replica has no TPM in the configuration, or is none.
    #[error("the founding has {0}, which has no TPM in the cluster's configuration")]
    Stranger(ReplicaId),
    /// A replica is in it twice.
    #[error("the founding has {0} twice")]
    Twice(ReplicaId),
    /// A replica is not in it.
    #[error("the founding lacks {0}: run `quorate tpm found` on its host, and gather all files in one")]
    Missing(ReplicaId),
    /// What is there for a replica cannot be read.
    #[error("what the founding has for {0} cannot be read")]
    Malformed(ReplicaId),
    /// The replica did not sign it.
    #[error("what the founding has for {0} is not signed with the key that the cluster's configuration has for it")]
    Signature(ReplicaId),
    /// It was made for something else.
    #[error(
        "what the founding has for {0} was made for another cluster or replica: was the configuration changed since?"
    )]
    Cluster(ReplicaId),
    /// It is of another chip.
    #[error("what the founding has for {0} is of another TPM than the cluster's configuration has for it")]
    Device(ReplicaId),
    /// The chip did not attest it.
    #[error("the TPM of {replica} did not attest its first epoch")]
    Certificate {
        /// Whose.
        replica: ReplicaId,
        /// What is wrong with the certificate.
        #[source]
        source: Rejection,
    },
}

/// The first epoch of a replica's trusted log, with the chip's certificate of its empty chain: what the replica signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Beginning {
    record: EpochRecord,
    certificate: Certificate,
}

impl Statement for Beginning {
    const CONTEXT: &'static str = "quorate 2026 founding v1";
    const BYTES_MAX: usize = 2048;
}

/// One replica's part of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    replica: ReplicaId,
    /// A signed [`Beginning`], in hexadecimal digits.
    signed: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    founding: Vec<Part>,
}

/// The first epochs of all TPMs of a cluster. Each was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Founding {
    cluster: Digest,
    records: BTreeMap<ReplicaId, EpochRecord>,
}

impl Founding {
    /// Reads a cluster's founding and checks all of it.
    ///
    /// # Errors
    /// [`FoundingError`].
    pub fn read(text: &str, cluster: &Cluster) -> Result<Self, FoundingError> {
        if text.len() > FOUNDING_BYTES_MAX {
            return Err(FoundingError::TooLong { got: text.len() });
        }
        if !cluster.has_tpms() {
            return Err(FoundingError::Unneeded);
        }
        let document: Document = toml::from_str(text).map_err(FoundingError::Document)?;
        let id = cluster.id();
        let mut records = BTreeMap::new();
        for part in &document.founding {
            let record = part.check(cluster, id)?;
            if records.insert(part.replica, record).is_some() {
                return Err(FoundingError::Twice(part.replica));
            }
        }
        let missing = |member: &&ReplicaMember| member.tpm.is_some() && !records.contains_key(&member.id);
        match cluster.replicas.iter().find(missing) {
            Some(member) => Err(FoundingError::Missing(member.id)),
            None => Ok(Self { cluster: id, records }),
        }
    }

    /// The cluster that it founds.
    pub fn cluster(&self) -> Digest {
        self.cluster
    }

    /// What all replicas of a cluster must have in common. It covers the records, and not how they were attested.
    pub fn digest(&self) -> Digest {
        let records: Vec<_> = self.records.values().collect();
        canonical::digest(&("quorate founding v1", records))
    }

    pub(crate) fn record(&self, replica: ReplicaId) -> Option<&EpochRecord> {
        self.records.get(&replica)
    }
}

impl Part {
    fn check(&self, cluster: &Cluster, id: Digest) -> Result<EpochRecord, FoundingError> {
        let replica = self.replica;
        let member = cluster.replica(replica).ok_or(FoundingError::Stranger(replica))?;
        let tpm = member.tpm.as_ref().ok_or(FoundingError::Stranger(replica))?;
        let wire = bytes(&self.signed).ok_or(FoundingError::Malformed(replica))?;
        let signed = Signed::<Beginning>::from_wire(&wire).map_err(|_| FoundingError::Malformed(replica))?;
        let signed = signed.verify(&member.key).map_err(|_| FoundingError::Signature(replica))?;
        let Beginning { record, certificate } = signed.into_inner();
        if (record.cluster, record.replica) != (id, replica) {
            return Err(FoundingError::Cluster(replica));
        }
        let LogKey::Tpm(key) = &record.key else { return Err(FoundingError::Device(replica)) };
        if (key.device, key.authority, key.approval) != (TpmDevice::from(tpm), cluster.authority, None) {
            return Err(FoundingError::Device(replica));
        }
        let attested = record.verify(record.genesis(), &certificate);
        attested.map_err(|source| FoundingError::Certificate { replica, source })?;
        Ok(record)
    }
}

/// One replica's part of a founding, as text.
///
/// # Panics
/// Never: the document holds only what TOML can say.
#[cfg(feature = "tpm")]
pub(crate) fn part(record: EpochRecord, certificate: Certificate, key: &quorate_protocol::sign::SecretKey) -> String {
    let replica = record.replica;
    let signed = Signed::seal(&Beginning { record, certificate }, key).to_wire();
    let signed = signed.iter().map(|byte| format!("{byte:02x}")).collect();
    let document = Document { founding: vec![Part { replica, signed }] };
    toml::to_string(&document).expect("a founding holds a number and text")
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        digits.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let even = digits.len().is_multiple_of(2);
    even.then(|| digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
pub(crate) mod tests;
