//! What a witness signs, and certificates made of such signatures. Pure.
//!
//! A certificate of a witnessed log is a set of replicas as two bytes of bits, followed by the signature of each of them in
//! the order of replicas: exactly as many as make a quorum.

use crate::chain::{Attested, Certificate, EpochRecord, Head, LogKey};
use quorate_protocol::{
    canonical,
    cluster::WITNESSES_MAX,
    ids::ReplicaId,
    sign::{PublicKey, SecretKey, Signed, Statement},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SET_BYTES: usize = 2;
const SHARE_BYTES: usize = 64;

/// One witness's signature over one head: R and s of Ed25519.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Share([u8; 32], [u8; 32]);

impl Share {
    fn from_bytes(bytes: &[u8; SHARE_BYTES]) -> Self {
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&bytes[..32]);
        s.copy_from_slice(&bytes[32..]);
        Self(r, s)
    }
    fn to_bytes(self) -> [u8; SHARE_BYTES] {
        let mut bytes = [0; SHARE_BYTES];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&self.1);
        bytes
    }
    /// One that no key made.
    #[cfg(feature = "simulated")]
    pub fn invented(noise: [u8; 32]) -> Self {
        Self(noise, noise)
    }
}

/// What a witness signs: that this head of a log follows from what it signed of the log before, or from what a quorum did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Witnessed(Attested);

impl Statement for Witnessed {
    const CONTEXT: &'static str = "quorate 2026 witnessed log v1";
    const BYTES_MAX: usize = 256;
}

/// What a witness signs with.
#[derive(Clone, Debug)]
pub enum WitnessKey {
    /// A replica's ordinary key.
    Ed25519(SecretKey),
    /// The simulator's: one secret, with which honest witnesses sign in their own name only.
    #[cfg(feature = "simulated")]
    Simulated {
        /// The secret of all.
        key: [u8; 32],
        /// Who signs.
        by: ReplicaId,
    },
}

impl WitnessKey {
    /// Signs a head.
    pub fn sign(&self, record: &EpochRecord, head: Head) -> Share {
        match self {
            WitnessKey::Ed25519(key) => {
                Share::from_bytes(&Signed::seal(&Witnessed(record.attested(head)), key).signature())
            }
            #[cfg(feature = "simulated")]
            WitnessKey::Simulated { key, by } => simulated(key, *by, record, head),
        }
    }
}

#[cfg(feature = "simulated")]
fn simulated(key: &[u8; 32], by: ReplicaId, record: &EpochRecord, head: Head) -> Share {
    let digest = *canonical::digest(&("simulated witness", key, by, record.attested(head))).as_bytes();
    Share(digest, digest)
}

impl LogKey {
    /// How many witnesses there are and how many of them make a certificate; `None` for a log that needs none.
    pub fn witnesses(&self) -> Option<(usize, usize)> {
        match self {
            LogKey::Software(_) | LogKey::Tpm(_) => None,
            LogKey::Witnessed(keys) => Some((keys.len(), keys.len() - keys.len().saturating_sub(1) / 3)),
            #[cfg(feature = "simulated")]
            LogKey::Simulated(_) => None,
            #[cfg(feature = "simulated")]
            LogKey::SimulatedWitnesses { witnesses, quorum, .. } => Some((*witnesses as usize, *quorum as usize)),
        }
    }
}

impl EpochRecord {
    /// Whether a witness signed a head of this epoch.
    pub fn is_signed(&self, by: ReplicaId, head: Head, share: &Share) -> bool {
        match &self.key {
            LogKey::Software(_) | LogKey::Tpm(_) => false,
            LogKey::Witnessed(keys) => {
                let key = keys.get(by.number() as usize);
                key.is_some_and(|key| self.is_signed_with(key, head, share))
            }
            #[cfg(feature = "simulated")]
            LogKey::Simulated(_) => false,
            #[cfg(feature = "simulated")]
            LogKey::SimulatedWitnesses { key, witnesses, .. } => {
                by.number() < *witnesses && *share == simulated(key, by, self, head)
            }
        }
    }

    fn is_signed_with(&self, key: &PublicKey, head: Head, share: &Share) -> bool {
        let bytes = canonical::encode(&Witnessed(self.attested(head)));
        Signed::<Witnessed>::from_parts(bytes, &share.to_bytes()).verify_signature(key).is_ok()
    }

    /// What a quorum of the simulator's witnesses would sign, without asking them.
    #[cfg(feature = "simulated")]
    pub(crate) fn forged(&self, head: Head) -> Option<Certificate> {
        let LogKey::SimulatedWitnesses { key, quorum, .. } = &self.key else { return None };
        let sign = |by| (ReplicaId::new(by), simulated(key, ReplicaId::new(by), self, head));
        Some(encode(&(0..*quorum).map(sign).collect()))
    }

    /// Whether a quorum of witnesses signed a head.
    pub(crate) fn is_witnessed(&self, head: Head, certificate: &Certificate) -> bool {
        let Some((_, quorum)) = self.key.witnesses() else { return false };
        let Some(shares) = decode(certificate) else { return false };
        shares.len() == quorum && shares.iter().all(|(by, share)| self.is_signed(*by, head, share))
    }
}

/// A certificate of exactly these signatures.
pub(crate) fn encode(shares: &BTreeMap<ReplicaId, Share>) -> Certificate {
    let set = shares.keys().fold(0u16, |set, by| set | 1u16.checked_shl(by.number()).unwrap_or(0));
    let mut bytes = set.to_le_bytes().to_vec();
    shares.values().for_each(|share| bytes.extend_from_slice(&share.to_bytes()));
    Certificate(bytes)
}

fn decode(certificate: &Certificate) -> Option<Vec<(ReplicaId, Share)>> {
    let (set, mut rest) = certificate.0.split_first_chunk::<SET_BYTES>()?;
    let set = u16::from_le_bytes(*set);
    let mut shares = Vec::new();
    for by in (0..WITNESSES_MAX as u32).filter(|by| set & (1 << by) != 0) {
        let (share, more) = rest.split_first_chunk::<SHARE_BYTES>()?;
        shares.push((ReplicaId::new(by), Share::from_bytes(share)));
        rest = more;
    }
    rest.is_empty().then_some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{CERTIFICATE_BYTES_MAX, Epoch, Rejection};
    use quorate_protocol::digest::Digest;

    fn key(by: u32) -> SecretKey {
        SecretKey::from_seed([by as u8 + 1; 32])
    }
    fn record(witnesses: u32) -> EpochRecord {
        let keys = (0..witnesses).map(|by| key(by).public()).collect();
        let (cluster, replica) = (Digest::from_bytes([1; 32]), ReplicaId::new(2));
        EpochRecord { cluster, replica, epoch: Epoch(3), key: LogKey::Witnessed(keys) }
    }
    fn certificate(record: &EpochRecord, head: Head, by: impl IntoIterator<Item = u32>) -> Certificate {
        let sign = |by| (ReplicaId::new(by), WitnessKey::Ed25519(key(by)).sign(record, head));
        encode(&by.into_iter().map(sign).collect())
    }

    #[test]
    fn two_f_and_one_distinct_signatures_are_a_certificate_and_no_fewer() {
        let record = record(4);
        let head = record.extend(record.genesis(), [Digest::of(b"one")]);
        assert_eq!(record.verify(head, &certificate(&record, head, [0, 1, 3])), Ok(()));
        assert_eq!(record.verify(head, &certificate(&record, head, [1, 2, 3])), Ok(()));
        for too_few in [vec![], vec![1], vec![0, 3]] {
            assert_eq!(record.verify(head, &certificate(&record, head, too_few)), Err(Rejection::Certificate));
        }
        assert!(record.verify(head, &certificate(&record, head, 0..4)).is_err(), "there is one form of a certificate");
        let mut twice = certificate(&record, head, [0, 1]);
        twice.0.extend_from_slice(&twice.0.clone()[2..66]);
        assert!(record.verify(head, &twice).is_err(), "one signature twice");
        let mut stranger = certificate(&record, head, [0, 1, 2]);
        stranger.0[0] = 0b0001_0011;
        assert!(record.verify(head, &stranger).is_err(), "a witness that is none");
        let other = record.extend(head, [Digest::of(b"two")]);
        assert!(record.verify(other, &certificate(&record, head, [0, 1, 3])).is_err(), "another head");
    }

    #[test]
    fn the_largest_cluster_has_certificates_within_the_bound() {
        let record = record(WITNESSES_MAX as u32);
        let certificate = certificate(&record, record.genesis(), 5..16);
        assert!(certificate.0.len() <= CERTIFICATE_BYTES_MAX);
        assert_eq!(record.verify(record.genesis(), &certificate), Ok(()));
    }

    #[test]
    fn golden_bytes_of_a_certificate() {
        let record = record(4);
        let certificate = certificate(&record, record.genesis(), [0, 2, 3]);
        assert_eq!((certificate.0[0], certificate.0[1], certificate.0.len()), (0b1101, 0, 2 + 3 * 64));
        assert_eq!(
            Digest::of(&certificate.0).to_string(),
            "b3ee72f0660b41264721988cd9927418a248e369cfe48763c2bec47d826890b4"
        );
    }
}
