//! What every trusted log must do, as plain functions: each backend's tests run [`check`].
//!
//! They panic at the first thing that is not as it must be.

use crate::{
    chain::{Certificate, Epoch, EpochRecord, Head, Rejection},
    device::{APPEND_DIGESTS_MAX, Attestation, DeviceError, TrustedLog},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};

/// Makes the devices that are checked.
pub trait Backend {
    /// A new device, at the beginning of an epoch.
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog>;
    /// Ends the device as abruptly as its kind can end, and starts it again.
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog>;
}

/// Checks a backend in every respect.
///
/// # Panics
/// When it does not conform.
pub fn check(backend: &mut dyn Backend) {
    let cluster = Digest::of(b"a cluster");
    let device = backend.fresh(cluster, ReplicaId::new(1));
    assert_eq!(
        (device.record().cluster, device.record().replica),
        (cluster, ReplicaId::new(1)),
        "it is who it should be"
    );
    let device = positions(device);
    let device = refusals(device);
    let device = restart(backend, device);
    let device = epochs(device);
    restart(backend, device);
    foreign(backend);
}

fn digests(range: std::ops::Range<u8>) -> Vec<Digest> {
    range.map(|number| Digest::of(&[number])).collect()
}

fn same_device(one: &EpochRecord, other: &EpochRecord) -> bool {
    (one.cluster, one.replica) == (other.cluster, other.replica) && one.key.same_device(&other.key)
}

fn append(device: &mut dyn TrustedLog, digests: &[Digest]) -> Attestation {
    let attestation = device.append(digests).expect("the device works");
    assert_eq!(device.record().verify(attestation.head, &attestation.certificate), Ok(()), "it verifies");
    attestation
}

/// The chain is the verifier's chain, without a gap, and one certificate covers a group.
fn positions(mut device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
    let record = device.record().clone();
    let empty = append(device.as_mut(), &[]);
    assert_eq!(empty.head, record.genesis(), "a fresh device is empty");
    let mut head = empty.head;
    for group in [digests(0..1), digests(1..2), digests(2..9), Vec::new(), digests(0..1)] {
        let attestation = append(device.as_mut(), &group);
        assert_eq!(attestation.head.position, head.position.after(group.len()), "positions have no gap");
        head = record.extend(head, group);
        assert_eq!(attestation.head, head, "the chain is the one that verifiers compute");
    }
    assert_eq!(append(device.as_mut(), &[]).head, head, "nothing appended, nothing moved");
    let most = vec![Digest::of(b"many"); APPEND_DIGESTS_MAX];
    assert_eq!(append(device.as_mut(), &most).head, record.extend(head, most), "the bound itself is allowed");
    device
}

/// What it refuses leaves it as it was, and its certificates are of one head only.
fn refusals(mut device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
    let record = device.record().clone();
    let Attestation { head, certificate } = append(device.as_mut(), &digests(0..3));
    let many = vec![Digest::of(b"many"); APPEND_DIGESTS_MAX + 1];
    assert!(matches!(device.append(&many), Err(DeviceError::TooMany { got }) if got == many.len()));
    for epoch in [Epoch(0), record.epoch] {
        let refused = device.renew(epoch);
        assert!(
            matches!(refused, Err(DeviceError::NotAbove { asked, have }) if (asked, have) == (epoch, record.epoch))
        );
    }
    assert_eq!(
        (append(device.as_mut(), &[]).head, device.record()),
        (head, &record),
        "what is refused changes nothing"
    );

    let refused = |head: Head, bytes: Vec<u8>| record.verify(head, &Certificate(bytes)).is_err();
    let next = record.extend(head, digests(0..1));
    assert!(refused(next, certificate.0.clone()), "another position");
    assert!(refused(Head { chain: Digest::of(b"other"), ..head }, certificate.0.clone()), "another chain");
    for at in 0..certificate.0.len() {
        let mut bytes = certificate.0.clone();
        bytes[at] ^= 1;
        assert!(refused(head, bytes), "byte {at} of the certificate counts");
        assert!(refused(head, certificate.0[..at].to_vec()), "{at} bytes of it are not enough");
    }
    let long = Certificate(vec![0; crate::CERTIFICATE_BYTES_MAX + 1]);
    assert!(matches!(record.verify(head, &long), Err(Rejection::TooLong { .. })));
    device
}

/// A device that was restarted goes on where it was, or is in a later epoch that is empty. It is never behind.
fn restart(backend: &mut dyn Backend, mut device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
    let before = device.record().clone();
    let attested = append(device.as_mut(), &digests(0..2));
    let mut device = backend.restart(device);
    let after = append(device.as_mut(), &[]);
    let record = device.record().clone();
    if record == before {
        assert_eq!(after.head, attested.head, "it goes on where it was");
    } else {
        assert!(record.epoch > before.epoch, "an epoch that it left does not come back");
        assert!(same_device(&record, &before), "it is the same device");
        assert_eq!(after.head, record.genesis(), "a new epoch is empty");
    }
    assert_eq!(before.verify(attested.head, &attested.certificate), Ok(()), "what was attested stays attested");
    assert_eq!(append(device.as_mut(), &digests(5..6)).head, record.extend(after.head, digests(5..6)));
    device
}

/// Epochs only grow, begin empty, and do not vouch for each other.
fn epochs(mut device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
    let old = device.record().clone();
    let attested = append(device.as_mut(), &digests(0..2));
    let later = Epoch(old.epoch.0 + 3);
    device.renew(later).expect("a later epoch, some being left out");
    let new = device.record().clone();
    assert!(new.epoch == later && same_device(&new, &old), "only the epoch has changed, and what a device tells of it");
    let empty = append(device.as_mut(), &[]);
    assert_eq!(empty.head, new.genesis(), "it begins empty");
    assert_ne!(new.genesis(), old.genesis(), "two epochs have no head in common");
    // As verifiers do: they compute each epoch's heads themselves.
    let there = new.extend(new.genesis(), digests(0..2));
    assert!(new.verify(there, &attested.certificate).is_err(), "the old epoch's certificate in the new one");
    assert!(new.verify(new.genesis(), &attested.certificate).is_err(), "the old epoch's certificate at the beginning");
    assert!(old.verify(attested.head, &empty.certificate).is_err(), "the new epoch's certificate in the old one");
    assert_eq!(old.verify(attested.head, &attested.certificate), Ok(()), "what was attested stays attested");
    let same = append(device.as_mut(), &digests(0..2));
    assert_ne!(same.head.chain, attested.head.chain, "the same digests in another epoch");
    let back = device.renew(old.epoch);
    assert!(matches!(back, Err(DeviceError::NotAbove { .. })), "not NotAbove, for an epoch that was left: {back:?}");
    device
}

/// A certificate counts for its own cluster, replica and device.
fn foreign(backend: &mut dyn Backend) {
    let (here, there) = (Digest::of(b"a cluster"), Digest::of(b"another"));
    let mut one = backend.fresh(here, ReplicaId::new(1));
    let Attestation { head, certificate } = append(one.as_mut(), &digests(0..2));
    for (cluster, replica) in [(there, ReplicaId::new(1)), (here, ReplicaId::new(2))] {
        let record = EpochRecord { cluster, replica, ..one.record().clone() };
        let there = record.extend(record.genesis(), digests(0..2));
        assert!(record.verify(there, &certificate).is_err(), "as if it were of {replica} of {cluster:?}");
        let mut other = backend.fresh(cluster, replica);
        assert_ne!(append(other.as_mut(), &digests(0..2)).head, head, "two logs have no head in common");
        assert!(other.record().verify(head, &certificate).is_err(), "another device's certificate");
    }
}
