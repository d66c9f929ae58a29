//! What verifiers need: the chain of identifiers and the certificates of its head. Pure.

use crate::tpm::{self, TpmFault, TpmKey};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::ReplicaId,
    sign::{PublicKey, Signed, Statement},
};
use serde::{Deserialize, Serialize};
use std::{fmt, mem};

/// The longest certificate of any device, in bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 1024;

/// One life of a device: its positions start anew in the next one. Epochs of a replica only grow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// A place in the chain of one epoch. 0 stands before the first digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Position(pub u64);

impl Position {
    /// The place so many digests later.
    #[must_use]
    pub fn after(self, digests: usize) -> Self {
        Self(self.0.saturating_add(digests as u64))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The end of a chain: all digests up to a position, in one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Head {
    /// How many digests.
    pub position: Position,
    /// The last identifier: `chain_c = H("quorate-ui" ‖ chain_{c-1} ‖ digest_c)`, or what a TPM's PCR makes of it.
    pub chain: Digest,
}

/// A device's proof of its head.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Certificate(pub Vec<u8>);

/// What a device's certificates are checked with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum LogKey {
    /// The software log's Ed25519 key.
    Software(PublicKey),
    /// A TPM's attestation key, with the boot that the epoch belongs to.
    Tpm(Box<TpmKey>),
    /// The keys of all replicas, in their order: a quorum of them signs each head, and no device is trusted.
    Witnessed(Vec<PublicKey>),
    /// The simulator's: whoever reads it can forge, which its actors do not.
    #[cfg(feature = "simulated")]
    Simulated([u8; 32]),
    /// The same for the simulator's witnesses.
    #[cfg(feature = "simulated")]
    SimulatedWitnesses {
        /// The secret of all.
        key: [u8; 32],
        /// How many there are.
        witnesses: u32,
        /// How many make a certificate. Fewer than n - f are a mistake that a test makes on purpose.
        quorum: u32,
    },
}

/// One epoch of one replica's trusted log, as the other replicas admit it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The cluster, so that no certificate counts in another one.
    pub cluster: Digest,
    /// Whose log.
    pub replica: ReplicaId,
    /// Which of its lives.
    pub epoch: Epoch,
    /// What its certificates are checked with.
    pub key: LogKey,
}

/// Why a certificate does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// It is not of this device, or not of this head.
    #[error("the certificate does not attest this head of this trusted log")]
    Certificate,
    /// It is not of this chip, this boot, or this head.
    #[error(transparent)]
    Tpm(#[from] TpmFault),
    /// It is longer than any device's.
    #[error("a certificate of {got} bytes, and at most {CERTIFICATE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
}

impl Rejection {
    /// Whether it says nothing of the certificate, because this build has no verification of TPMs.
    pub fn is_not_built(&self) -> bool {
        *self == Self::Tpm(TpmFault::NotBuilt)
    }
}

/// What the software log and witnesses sign, each in a context of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Attested {
    pub(crate) cluster: Digest,
    pub(crate) replica: ReplicaId,
    pub(crate) epoch: Epoch,
    pub(crate) head: Head,
}

impl Statement for Attested {
    const CONTEXT: &'static str = "quorate 2026 trusted log v1";
    const BYTES_MAX: usize = 256;
}

/// The chain before the first digest of an epoch.
pub fn genesis_chain(record: &EpochRecord) -> Digest {
    let begin = record.begin();
    if let LogKey::Tpm(key) = &record.key { key.genesis(begin) } else { begin }
}

fn link(chain: Digest, digest: Digest) -> Digest {
    let mut link = [0; 10 + 32 + 32];
    link[..10].copy_from_slice(b"quorate-ui");
    link[10..42].copy_from_slice(chain.as_bytes());
    link[42..].copy_from_slice(digest.as_bytes());
    Digest::of(&link)
}

impl LogKey {
    /// Whether it is the same device, in whatever epoch. A TPM's key says more than which chip it is: also which boot.
    pub fn same_device(&self, other: &Self) -> bool {
        if let (Self::Tpm(one), Self::Tpm(other)) = (self, other) { one.device == other.device } else { self == other }
    }
}

impl EpochRecord {
    /// The digest of the record: what an epoch begins with.
    pub fn begin(&self) -> Digest {
        canonical::digest(&("quorate-ui epoch", self))
    }

    /// Whether an epoch may be admitted in a cluster that was configured with another one of the same replica. No replica moves to another
    /// kind of device by itself, and none to another TPM without the approval of the authority that its configuration names.
    pub fn may_follow(&self, configured: &Self) -> bool {
        let same_replica = (self.cluster, self.replica) == (configured.cluster, configured.replica);
        same_replica
            && match (&self.key, &configured.key) {
                (LogKey::Tpm(key), LogKey::Tpm(configured)) => key.may_follow(configured, self.cluster, self.replica),
                // Nobody chooses its witnesses.
                (key, configured) if key.witnesses().is_some() => key == configured,
                (key, configured) => mem::discriminant(key) == mem::discriminant(configured),
            }
    }

    /// The head before the first digest.
    pub fn genesis(&self) -> Head {
        Head { position: Position(0), chain: genesis_chain(self) }
    }

    /// The head after so many more digests.
    pub fn extend(&self, head: Head, digests: impl IntoIterator<Item = Digest>) -> Head {
        let fold = if let LogKey::Tpm(_) = &self.key { tpm::fold } else { link };
        digests
            .into_iter()
            .fold(head, |head, digest| Head { position: head.position.after(1), chain: fold(head.chain, digest) })
    }

    /// Checks that this epoch's device attested this head, and thereby every digest up to it.
    ///
    /// The head must be one that the caller got from [`EpochRecord::genesis`] by [`EpochRecord::extend`], or that was
    /// vouched for. A TPM attests the chain alone; that the chain began with this record, and how many digests it has,
    /// whoever follows it knows.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn verify(&self, head: Head, certificate: &Certificate) -> Result<(), Rejection> {
        if certificate.0.len() > CERTIFICATE_BYTES_MAX {
            return Err(Rejection::TooLong { got: certificate.0.len() });
        }
        let valid = match &self.key {
            LogKey::Software(key) => self.signed(head, certificate, key),
            LogKey::Tpm(key) => return Ok(verify_tpm(key, head, certificate)?),
            LogKey::Witnessed(_) => self.is_witnessed(head, certificate),
            #[cfg(feature = "simulated")]
            LogKey::Simulated(key) => certificate.0 == self.simulated(head, key),
            #[cfg(feature = "simulated")]
            LogKey::SimulatedWitnesses { .. } => self.is_witnessed(head, certificate),
        };
        if valid { Ok(()) } else { Err(Rejection::Certificate) }
    }

    /// What the software log and witnesses sign for a head.
    pub(crate) fn attested(&self, head: Head) -> Attested {
        Attested { cluster: self.cluster, replica: self.replica, epoch: self.epoch, head }
    }

    fn signed(&self, head: Head, certificate: &Certificate, key: &PublicKey) -> bool {
        // Only the signature travels; what it must cover is known here.
        let bytes = canonical::encode(&self.attested(head));
        let Ok(signature) = <&[u8; 64]>::try_from(certificate.0.as_slice()) else { return false };
        Signed::<Attested>::from_parts(bytes, signature).verify_signature(key).is_ok()
    }

    #[cfg(feature = "simulated")]
    pub(crate) fn simulated(&self, head: Head, key: &[u8; 32]) -> Vec<u8> {
        canonical::digest(&("simulated", key, self.attested(head))).as_bytes().to_vec()
    }
}

#[cfg(feature = "tpm")]
fn verify_tpm(key: &TpmKey, head: Head, certificate: &Certificate) -> Result<(), TpmFault> {
    crate::quote::verify(key, head, &certificate.0)
}

#[cfg(not(feature = "tpm"))]
fn verify_tpm(_: &TpmKey, _: Head, _: &Certificate) -> Result<(), TpmFault> {
    Err(TpmFault::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::{TpmDevice, TpmPoint};
    use quorate_protocol::sign::SecretKey;

    fn record() -> EpochRecord {
        EpochRecord {
            cluster: Digest::from_bytes([1; 32]),
            replica: ReplicaId::new(2),
            epoch: Epoch(3),
            key: LogKey::Software(SecretKey::from_seed([4; 32]).public()),
        }
    }

    #[test]
    fn golden_bytes_of_chain_and_statement() {
        let record = record();
        let genesis = record.genesis();
        let head = record.extend(genesis, [Digest::of(b"one"), Digest::of(b"two")]);
        assert_eq!(genesis.chain.to_string(), "e0a233d7079eec46362c5adfd845f131d01a51bf312860dcc4f4254a981e7c33");
        assert_eq!(
            (head.position, head.chain.to_string().as_str()),
            (Position(2), "9579986d4b7684906e2a1621f8961b75aa1ec3e0776601babb3d1de370849aac")
        );
        let bytes = canonical::encode(&record.attested(head));
        let expected = [[1; 32].as_slice(), &[2, 3, 2], head.chain.as_bytes()].concat();
        assert_eq!(bytes, expected, "cluster, replica, epoch, position, chain");
        let signature = Signed::<Attested>::seal_bytes(bytes, &SecretKey::from_seed([4; 32])).signature();
        assert_eq!(
            Digest::of(&signature).to_string(),
            "5282dbba64fda1b5508486e90fb7c9358a854e6e105f9b1a5c4a147bb7149c0e"
        );
        assert_eq!(record.verify(head, &Certificate(signature.to_vec())), Ok(()));
    }

    #[test]
    fn the_longest_statement_is_within_its_bound() {
        let head = Head { position: Position(u64::MAX), chain: Digest::of(b"") };
        let record = EpochRecord { replica: ReplicaId::new(u32::MAX), epoch: Epoch(u64::MAX), ..record() };
        assert!(canonical::encode(&record.attested(head)).len() <= Attested::BYTES_MAX);
    }

    #[test]
    fn a_chain_is_the_same_in_one_go_and_step_by_step() {
        let (record, digests) = (record(), [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")]);
        let steps = digests.iter().fold(record.genesis(), |head, digest| record.extend(head, [*digest]));
        assert_eq!(record.extend(record.genesis(), digests), steps);
        assert_ne!(record.extend(record.genesis(), digests.into_iter().rev()), steps);
    }

    fn of_a_tpm() -> EpochRecord {
        let device = TpmDevice { key: TpmPoint { x: [5; 32], y: [6; 32] }, firmware: 7, pcr: 14 };
        let start = Digest::from_bytes([8; 32]);
        let key = TpmKey { device, reset_count: 9, restart_count: 10, start, authority: None, approval: None };
        EpochRecord { key: LogKey::Tpm(Box::new(key)), ..record() }
    }

    #[test]
    fn golden_bytes_of_a_tpms_record_and_chain() {
        let record = of_a_tpm();
        let genesis = record.genesis();
        assert_eq!(record.begin().to_string(), "c57d53e52c2fa3e80d958a133a0398a816f8a7d9f1eacf77e5a926385edebbcc");
        assert_eq!(genesis.chain.to_string(), "2dc6b79b2ff1afffe2231e5b811e3ba0a460e7ee0f0f5b92f273c9b13f303a45");
        assert_eq!(genesis.chain, tpm::fold(Digest::from_bytes([8; 32]), record.begin()));
        let head = record.extend(genesis, [Digest::of(b"one"), Digest::of(b"two")]);
        assert_eq!(
            (head.position, head.chain.to_string().as_str()),
            (Position(2), "5105841d5c315bb7751a145f57cc1a928225ccebef1566fe5b6673cd5e1cb03c")
        );
    }

    #[test]
    fn no_replica_moves_to_another_kind_of_device_or_into_anothers_place() {
        let (software, tpm) = (record(), of_a_tpm());
        let other = EpochRecord { key: LogKey::Software(SecretKey::from_seed([9; 32]).public()), ..record() };
        assert!(other.may_follow(&software) && tpm.may_follow(&tpm));
        assert!(!software.may_follow(&tpm) && !tpm.may_follow(&software));
        assert!(!EpochRecord { replica: ReplicaId::new(0), ..record() }.may_follow(&software));
        assert!(!EpochRecord { cluster: Digest::of(b"other"), ..record() }.may_follow(&software));
    }

    #[test]
    fn a_software_certificate_is_of_its_cluster_replica_epoch_and_position_whatever_the_chain() {
        let record = record();
        let head = record.extend(record.genesis(), [Digest::of(b"one")]);
        let bytes = canonical::encode(&record.attested(head));
        let signature = Signed::<Attested>::seal_bytes(bytes, &SecretKey::from_seed([4; 32])).signature();
        let certificate = Certificate(signature.to_vec());
        assert_eq!(record.verify(head, &certificate), Ok(()));
        assert!(record.verify(Head { position: Position(2), ..head }, &certificate).is_err());
        for other in [
            EpochRecord { cluster: Digest::of(b"other"), ..record.clone() },
            EpochRecord { replica: ReplicaId::new(0), ..record.clone() },
            EpochRecord { epoch: Epoch(4), ..record.clone() },
        ] {
            assert!(other.verify(head, &certificate).is_err());
        }
    }

    #[cfg(not(feature = "tpm"))]
    #[test]
    fn without_the_feature_a_tpms_certificate_is_refused_with_the_reason() {
        let record = of_a_tpm();
        let refused = record.verify(record.genesis(), &Certificate(vec![0; 200]));
        assert_eq!(refused, Err(Rejection::Tpm(TpmFault::NotBuilt)));
    }
}
