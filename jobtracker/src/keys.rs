//! The replicas' keys as the agreement uses them, and what it is configured with.

use crate::{door::Door, founding::Founding};
use quorate_counter::{Epoch, EpochRecord, LogKey, TpmDevice, TpmKey};
use quorate_protocol::{
    cluster::{Agreement, Cluster, ReplicaMember},
    digest::Digest,
    enrolled::EnrolledTpm,
    ids::ReplicaId,
    sign::{PublicKey, SecretKey, Signed, Statement},
};
use quorate_smr::{Config, Identify, Keys, Limits, message::Signature};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The context of what replicas say to each other with their ordinary keys. The bytes are the agreement's own.
#[derive(Serialize, Deserialize)]
struct Claim(());

impl Statement for Claim {
    const CONTEXT: &'static str = "quorate 2026 replica claim v1";
    const BYTES_MAX: usize = 0;
}

/// One replica's secret key and everybody's public ones.
pub(crate) struct Keyring {
    own: SecretKey,
    members: Vec<PublicKey>,
}

impl Keyring {
    pub(crate) fn new(cluster: &Cluster, own: SecretKey) -> Self {
        Self { own, members: cluster.replicas.iter().map(|member| member.key).collect() }
    }
}

impl Keys for Keyring {
    fn sign(&self, bytes: &[u8]) -> Signature {
        let signature = Signed::<Claim>::seal_bytes(bytes.to_vec(), &self.own).signature();
        let (r, s) = signature.split_at(32);
        let half = |half: &[u8]| half.try_into().expect("a signature has two halves of 32 bytes");
        Signature(half(r), half(s))
    }
    fn verify(&self, by: ReplicaId, bytes: &[u8], signature: &Signature) -> bool {
        let Some(key) = self.members.get(by.number() as usize) else { return false };
        let mut both = [0; 64];
        both[..32].copy_from_slice(&signature.0);
        both[32..].copy_from_slice(&signature.1);
        Signed::<Claim>::from_parts(bytes.to_vec(), &both).verify_signature(key).is_ok()
    }
}

/// What the configuration says of each replica's trusted log, as a first epoch of it. That of a TPM does not say which boot it is in.
pub(crate) fn configured(cluster: &Cluster) -> Vec<EpochRecord> {
    let id = cluster.id();
    let witnesses: Vec<_> = cluster.replicas.iter().map(|member| member.key).collect();
    let nothing = Digest::from_bytes([0; 32]);
    let in_tpm = |tpm: &EnrolledTpm| TpmKey {
        device: TpmDevice::from(tpm),
        reset_count: 0,
        restart_count: 0,
        start: nothing,
        authority: cluster.authority,
        approval: None,
    };
    let key = |member: &ReplicaMember| match (cluster.agreement, &member.tpm) {
        (Agreement::Minbft, None) => LogKey::Software(member.log.unwrap_or(member.key)),
        (Agreement::Minbft, Some(tpm)) => LogKey::Tpm(Box::new(in_tpm(tpm))),
        (Agreement::Pbft, _) => LogKey::Witnessed(witnesses.clone()),
    };
    let record =
        |member: &ReplicaMember| EpochRecord { cluster: id, replica: member.id, epoch: Epoch(0), key: key(member) };
    cluster.replicas.iter().map(record).collect()
}

/// The first epoch of each replica's trusted log: that of a TPM as the founding has it, and the others as they follow from the configuration.
pub(crate) fn genesis(cluster: &Cluster, founding: Option<&Founding>) -> Vec<EpochRecord> {
    let founded = |id| founding.and_then(|founding| founding.record(id)).cloned();
    configured(cluster).into_iter().map(|record| founded(record.replica).unwrap_or(record)).collect()
}

/// What the agreement is told when a replica starts.
pub(crate) fn configuration(
    cluster: &Cluster,
    founding: Option<&Founding>,
    me: ReplicaId,
    key: &SecretKey,
    door: Arc<Door>,
) -> Config {
    let keys = Arc::new(Keyring::new(cluster, key.clone()));
    let identify: Arc<Identify> = Arc::new(move |bytes| door.admit(bytes).ok().map(|admitted| admitted.id));
    Config::new(cluster.id(), me, genesis(cluster, founding), Limits::default(), keys, identify)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster_of, replica_key};

    #[test]
    fn a_claim_is_its_replicas_and_nobody_elses() {
        let cluster = cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned));
        let keys = Keyring::new(&cluster, replica_key(1));
        let signature = keys.sign(b"claim");
        assert!(keys.verify(ReplicaId::new(1), b"claim", &signature));
        assert!(!keys.verify(ReplicaId::new(1), b"claims", &signature));
        for other in [0, 2, 3, u32::MAX] {
            assert!(!keys.verify(ReplicaId::new(other), b"claim", &signature));
        }
    }
}
