//! A job's certificate, with what the replicas' trusted logs attest in it.
//!
//! The signatures of a certificate are checked in [`quorate_protocol::certificate`]. Here is the rest: with its signature, each
//! replica shows where its trusted log stood when it signed, [`Attested`], and [`check`] sees that the device which the cluster's
//! configuration has for that replica attested just that head.
//!
//! What that shows, and what not. A trusted log binds the statements of the agreement; that this job ended so is none of
//! them. That head and signature belong together is the replica's word, by its ordinary key. So an attestation shows that whoever
//! signed for the replica had its trusted log at hand, or what that had attested before; and it ties the certificate to
//! a place of the one log that the replica has: a replica that is later found to have had two histories is held to
//! that. How much a head is bound to depends on the log:
//!
//! * The software log signs cluster, replica, epoch, position and chain.
//! * Witnesses sign the same, a quorum of them.
//! * A TPM attests the chain alone, with the boot that it is in. The position is the replica's word.
//!
//! That the cluster had admitted the epoch only its replicas know: that `cluster.f + 1` of them signed vouches for it.

use crate::{device::is_of, keys::configured, report::Log};
use quorate_counter::{EpochRecord, Head, LogKey, Rejection};
use quorate_protocol::{
    canonical::{self, DecodeError},
    certificate::{Certificate, CertificateError, Endorsement, verify_endorsement},
    cluster::Cluster,
    command::History,
    digest::Digest,
    ids::ReplicaId,
    sign::{Signed, Statement},
};
use serde::{Deserialize, Serialize};

/// Where a replica's trusted log stood, by the device's own certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attested {
    record: EpochRecord,
    head: Head,
    certificate: quorate_counter::Certificate,
}

/// A replica's signature that holds, with its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endorsed {
    /// Who signed.
    pub replica: ReplicaId,
    /// What it had executed.
    pub executed: History,
    /// The kind of its trusted log, for people.
    pub log: &'static str,
    /// The log's epoch.
    pub epoch: u64,
    /// The log's position.
    pub position: u64,
}

/// Why a certificate does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Its signatures do not.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What stands for a replica's trusted log is nothing of the kind.
    #[error("what {replica} shows of its trusted log cannot be read: {source}")]
    Unreadable {
        /// The replica.
        replica: ReplicaId,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// It is another device.
    #[error("{0} shows another trusted log than the cluster's configuration has for it")]
    Foreign(ReplicaId),
    /// The device did not attest it.
    #[error("the trusted log of {replica} did not attest what it shows: {source}")]
    Log {
        /// The replica.
        replica: ReplicaId,
        /// Why.
        #[source]
        source: Rejection,
    },
}

impl Attested {
    pub(crate) fn of(log: Log) -> Option<Self> {
        Some(Self { record: log.record, head: log.head, certificate: log.certificate? })
    }

    fn kind(&self) -> &'static str {
        match &self.record.key {
            LogKey::Tpm(_) => "TPM",
            key if key.witnesses().is_some() => "witnessed log",
            _software => "software log",
        }
    }
}

/// Checks a certificate with nothing but the cluster's configuration: its votes, its replicas' signatures, and what their
/// trusted logs attested.
///
/// # Errors
/// [`CheckError`]: it certifies nothing.
pub fn check(certificate: &Certificate, cluster: &Cluster) -> Result<Vec<Endorsed>, CheckError> {
    let endorsements = certificate.check(cluster)?;
    endorsements.iter().map(|endorsement| check_log(cluster, endorsement)).collect()
}

/// Checks one replica's signature under the record with this digest, and its log.
///
/// # Errors
/// [`CheckError`].
pub(crate) fn check_endorsement(
    cluster: &Cluster,
    completion: Digest,
    signed: &Signed<Endorsement>,
) -> Result<Endorsed, CheckError> {
    check_log(cluster, &verify_endorsement(cluster, completion, signed)?)
}

fn check_log(cluster: &Cluster, endorsement: &Endorsement) -> Result<Endorsed, CheckError> {
    let replica = endorsement.replica;
    let attested: Attested = canonical::decode(&endorsement.log, Endorsement::BYTES_MAX)
        .map_err(|source| CheckError::Unreadable { replica, source })?;
    let Attested { record, head, certificate } = &attested;
    let expected = configured(cluster).into_iter().find(|expected| expected.replica == replica);
    if !expected.is_some_and(|expected| is_of(record, &expected)) {
        return Err(CheckError::Foreign(replica));
    }
    record.verify(*head, certificate).map_err(|source| CheckError::Log { replica, source })?;
    Ok(Endorsed {
        replica,
        executed: endorsement.executed,
        log: attested.kind(),
        epoch: record.epoch.0,
        position: head.position.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster_of, replica_key};
    use quorate_counter::{Epoch, Position, Software, TrustedLog};
    use quorate_protocol::sign::SecretKey;

    const COMPLETION: [u8; 32] = [7; 32];

    fn cluster() -> Cluster {
        cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned))
    }

    /// A replica's log after one digest in an epoch.
    fn attested(cluster: &Cluster, replica: u32, key: SecretKey, epoch: u64) -> Attested {
        let mut log = Software::new(key, cluster.id(), ReplicaId::new(replica), Epoch(epoch));
        let attestation = log.append(&[Digest::of(b"statement")]).expect("in memory");
        Attested { record: log.record().clone(), head: attestation.head, certificate: attestation.certificate }
    }

    fn signed(cluster: &Cluster, replica: u32, log: Vec<u8>) -> Signed<Endorsement> {
        let executed = History { ordered: 1, digest: Digest::of(b"history") };
        let (cluster, completion) = (cluster.id(), Digest::from_bytes(COMPLETION));
        let endorsement = Endorsement { cluster, replica: ReplicaId::new(replica), completion, executed, log };
        Signed::seal(&endorsement, &replica_key(replica))
    }

    fn checked(replica: u32, log: &Attested) -> Result<Endorsed, CheckError> {
        let signed = signed(&cluster(), replica, canonical::encode(log));
        check_endorsement(&cluster(), Digest::from_bytes(COMPLETION), &signed)
    }

    #[test]
    fn a_replica_shows_its_own_log_in_whatever_epoch() {
        for epoch in [0, 5] {
            let endorsed = checked(1, &attested(&cluster(), 1, replica_key(1), epoch)).expect("it holds");
            let Endorsed { replica, log, epoch: shown, position, .. } = endorsed;
            assert_eq!((replica.number(), log, shown, position), (1, "software log", epoch, 1));
        }
        let mut helped = cluster();
        helped.replicas[1].log = Some(replica_key(9).public());
        let log = attested(&helped, 1, replica_key(9), 0);
        let signed = signed(&helped, 1, canonical::encode(&log));
        assert!(
            check_endorsement(&helped, Digest::from_bytes(COMPLETION), &signed).is_ok(),
            "a log with a key of its own"
        );
    }

    #[test]
    fn another_log_head_or_certificate_is_refused() {
        let good = attested(&cluster(), 1, replica_key(1), 0);
        assert!(matches!(checked(1, &attested(&cluster(), 2, replica_key(2), 0)), Err(CheckError::Foreign(_))));
        assert!(matches!(checked(1, &attested(&cluster(), 1, replica_key(2), 0)), Err(CheckError::Foreign(_))));
        let mut elsewhere = cluster();
        elsewhere.name = "another".to_owned();
        assert!(matches!(checked(1, &attested(&elsewhere, 1, replica_key(1), 0)), Err(CheckError::Foreign(_))));
        let refused = |change: &dyn Fn(&mut Attested)| {
            let mut log = good.clone();
            change(&mut log);
            assert!(matches!(checked(1, &log), Err(CheckError::Log { .. })), "{log:?}");
        };
        refused(&|log| log.head.position = Position(2));
        refused(&|log| log.head.chain = Digest::of(b"another chain"));
        refused(&|log| log.record.epoch = Epoch(1));
        refused(&|log| log.certificate.0[0] ^= 1);
        refused(&|log| log.certificate.0.clear());
        let signed = signed(&cluster(), 1, b"no log".to_vec());
        let unreadable = check_endorsement(&cluster(), Digest::from_bytes(COMPLETION), &signed);
        assert!(matches!(unreadable, Err(CheckError::Unreadable { .. })), "{unreadable:?}");
    }
}
