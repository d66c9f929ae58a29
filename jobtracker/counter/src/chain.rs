//! What verifiers need: the chain of identifiers and the certificates of its head. Pure.

use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::ReplicaId,
    sign::{PublicKey, Signed, Statement},
};
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// The last identifier: `chain_c = H("quorate-ui" ‖ chain_{c-1} ‖ digest_c)`.
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
    /// The simulator's: whoever reads it can forge, which its actors do not.
    #[cfg(feature = "simulated")]
    Simulated([u8; 32]),
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
    /// It is longer than any device's.
    #[error("a certificate of {got} bytes, and at most {CERTIFICATE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
}

/// What the software log signs.
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
    canonical::digest(&("quorate-ui epoch", record))
}

impl EpochRecord {
    /// The head before the first digest.
    pub fn genesis(&self) -> Head {
        Head { position: Position(0), chain: genesis_chain(self) }
    }

    /// The head after so many more digests.
    pub fn extend(&self, head: Head, digests: impl IntoIterator<Item = Digest>) -> Head {
        digests.into_iter().fold(head, |head, digest| {
            let mut link = [0; 10 + 32 + 32];
            link[..10].copy_from_slice(b"quorate-ui");
            link[10..42].copy_from_slice(head.chain.as_bytes());
            link[42..].copy_from_slice(digest.as_bytes());
            Head { position: head.position.after(1), chain: Digest::of(&link) }
        })
    }

    /// Checks that this epoch's device attested this head, and thereby every digest up to it.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn verify(&self, head: Head, certificate: &Certificate) -> Result<(), Rejection> {
        if certificate.0.len() > CERTIFICATE_BYTES_MAX {
            return Err(Rejection::TooLong { got: certificate.0.len() });
        }
        let valid = match &self.key {
            LogKey::Software(key) => self.signed(head, certificate, key),
            #[cfg(feature = "simulated")]
            LogKey::Simulated(key) => certificate.0 == self.simulated(head, key),
        };
        if valid { Ok(()) } else { Err(Rejection::Certificate) }
    }

    /// What the software log signs for a head.
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

#[cfg(test)]
mod tests {
    use super::*;
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
}
