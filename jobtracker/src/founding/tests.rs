use super::*;
use crate::testing::{cluster_of, replica_key};
use quorate_counter::{Epoch, TpmKey, TpmPoint};
use quorate_protocol::{enrolled::EnrolledTpm, sign::SecretKey};

const FIRST: ReplicaId = ReplicaId::new(0);

fn device(number: u8) -> TpmDevice {
    TpmDevice { key: TpmPoint { x: [number; 32], y: [2; 32] }, firmware: 3, pcr: 14 }
}

/// Three replicas, of which two have TPMs.
fn cluster() -> Cluster {
    let mut cluster = cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned));
    for number in [0, 1] {
        cluster.replicas[number].tpm = Some(EnrolledTpm::from(device(number as u8)));
    }
    cluster
}

fn record(cluster: &Cluster, number: u32) -> EpochRecord {
    let start = Digest::from_bytes([0; 32]);
    let device = device(number as u8);
    let key = TpmKey { device, reset_count: 1, restart_count: 2, start, authority: None, approval: None };
    let replica = ReplicaId::new(number);
    EpochRecord { cluster: cluster.id(), replica, epoch: Epoch(7), key: LogKey::Tpm(key.into()) }
}

/// A founding that nobody attested.
pub(crate) fn founded(cluster: &Cluster, epoch: u64) -> Founding {
    let record = EpochRecord { epoch: Epoch(epoch), ..record(cluster, 0) };
    Founding { cluster: cluster.id(), records: BTreeMap::from([(FIRST, record)]) }
}

fn text(record: EpochRecord, key: &SecretKey) -> String {
    let replica = record.replica;
    let beginning = Beginning { record, certificate: Certificate(vec![1; 200]) };
    let signed = Signed::seal(&beginning, key).to_wire().iter().map(|byte| format!("{byte:02x}")).collect();
    toml::to_string(&Document { founding: vec![Part { replica, signed }] }).expect("TOML")
}

fn of(number: u32) -> String {
    text(record(&cluster(), number), &replica_key(number))
}

/// Everything but the certificate was right: no chip signed these.
fn all_but_attested(result: Result<Founding, FoundingError>) -> bool {
    matches!(result, Err(FoundingError::Certificate { replica: FIRST, .. }))
}

#[test]
fn what_is_not_every_replicas_own_is_refused_with_the_reason() {
    let read = |text: &str| Founding::read(text, &cluster());
    assert!(all_but_attested(read(&format!("{}{}", of(0), of(1)))));
    let refused = |text: &str, why: &str| {
        let said = read(text).expect_err("refused").to_string();
        assert!(said.contains(why), "{why}: {said}");
    };
    refused("nothing", "not a founding");
    refused(&"#".repeat(FOUNDING_BYTES_MAX + 1), "at most");
    assert!(matches!(read(&"#".repeat(FOUNDING_BYTES_MAX)), Err(FoundingError::Document(_))), "at the bound");
    refused("founding = []", "lacks replica-0");
    refused(&text(record(&cluster(), 2), &replica_key(2)), "replica-2, which has no TPM");
    refused(&text(record(&cluster(), 9), &replica_key(9)), "replica-9, which has no TPM");
    refused(&text(record(&cluster(), 0), &replica_key(1)), "not signed with the key");
    refused(&of(0).replace("signed = \"", "signed = \"f"), "cannot be read");
    refused(&of(0).replace("replica = 0", "replica = 1"), "not signed with the key");
    let mut other = cluster();
    other.name = "other".to_owned();
    refused(&text(record(&other, 0), &replica_key(0)), "another cluster");
    let stolen = EpochRecord { replica: ReplicaId::new(1), ..record(&cluster(), 1) };
    refused(&text(stolen, &replica_key(0)).replace("replica = 1", "replica = 0"), "another cluster or replica");
    let software = LogKey::Software(replica_key(0).public());
    refused(&text(EpochRecord { key: software, ..record(&cluster(), 0) }, &replica_key(0)), "another TPM");
    let moved = EpochRecord { key: record(&cluster(), 1).key, ..record(&cluster(), 0) };
    refused(&text(moved, &replica_key(0)), "another TPM");
    let none = cluster_of(&["a:1".to_owned()]);
    assert!(matches!(Founding::read(&of(0), &none), Err(FoundingError::Unneeded)));
}

#[test]
fn the_digest_is_that_of_the_records() {
    let founding = |epoch| founded(&cluster(), epoch);
    assert_eq!(founding(7).digest(), founding(7).digest());
    assert_ne!(founding(7).digest(), founding(8).digest());
    assert_eq!(founding(7).digest().to_string(), "01a64ab7a639abdd3872d3e4b94d3fb65e0e30d0edc70af66f0bd63c035bf421");
}

#[test]
fn the_longest_beginning_is_within_its_bound() {
    let mut record = record(&cluster(), u32::MAX);
    record.epoch = Epoch(u64::MAX);
    if let LogKey::Tpm(key) = &mut record.key {
        let authority = replica_key(0);
        key.authority = Some(authority.public());
        key.approval = Some(quorate_counter::Approval::of(key.device, record.cluster, FIRST, &authority));
        (key.reset_count, key.restart_count, key.device.firmware) = (u32::MAX, u32::MAX, u64::MAX);
    }
    let certificate = Certificate(vec![255; quorate_counter::CERTIFICATE_BYTES_MAX]);
    assert!(canonical::encode(&Beginning { record, certificate }).len() <= Beginning::BYTES_MAX);
}
