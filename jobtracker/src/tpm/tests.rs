use super::*;
use crate::{
    device::{Device, LogPlace},
    founding::{Founding, FoundingError},
    testing::{REPLICA, cluster_of, replica_key},
};
use quorate_counter::{Approval, EpochRecord, LogKey};
use quorate_protocol::enrolled::EnrolledTpm;
use quorate_tpm::{
    TpmError,
    enrol::{Answer, Challenger, Request},
    swtpm::{Swtpm, installed},
};
use tempfile::TempDir;

const PCR: u8 = 14;

fn enrol(swtpm: &Swtpm) -> Enrolment {
    let mut chip = swtpm.chip().expect("a chip");
    let (challenger, challenge) = Challenger::new(Request::of(&mut chip, PCR).expect("asks")).expect("challenges");
    challenger.conclude(&Answer::to(&mut chip, &challenge).expect("answers")).expect("enrolled")
}

/// A cluster whose first replica has this TPM, and whose authority is the key of number 9.
fn cluster(swtpm: &Swtpm) -> Cluster {
    let mut cluster = cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned));
    cluster.replicas[0].tpm = Some(EnrolledTpm::from(enrol(swtpm).device()));
    cluster.authority = Some(replica_key(9).public());
    cluster
}

fn place(swtpm: &Swtpm) -> TpmPlace {
    TpmPlace { tcti: swtpm.tcti(), allow_software_tpm: true, enrolment: None }
}

fn open(cluster: &Cluster, founding: &Founding, directory: &TempDir, place: &TpmPlace) -> Result<Device, LogError> {
    let log = LogPlace::Tpm(Box::new(place.clone()));
    Device::open(cluster, Some(founding), REPLICA, &replica_key(0), directory.path(), &log)
}

#[test]
fn a_founded_log_begins_at_its_record_and_comes_back_as_a_later_epoch_after_a_reboot() {
    if !installed() {
        return;
    }
    let mut swtpm = Swtpm::start().expect("a TPM");
    let (cluster, directory) = (cluster(&swtpm), TempDir::new().expect("a directory"));
    let found = || found(&cluster, REPLICA, &replica_key(0), directory.path(), &place(&swtpm));
    let text = found().expect("founded");
    let founding = Founding::read(&text, &cluster).expect("genuine");
    let again = Founding::read(&found().expect("again"), &cluster).expect("genuine");
    assert_eq!(again.digest(), founding.digest(), "the same epoch of the same boot");
    let changed = text.replacen("signed = \"0", "signed = \"1", 1).replacen("signed = \"f", "signed = \"e", 1);
    assert!(changed == text || Founding::read(&changed, &cluster).is_err());
    let other = Cluster { name: "other".to_owned(), ..cluster.clone() };
    assert!(matches!(Founding::read(&text, &other), Err(FoundingError::Cluster(REPLICA))));

    let device = open(&cluster, &founding, &directory, &place(&swtpm)).expect("opens");
    let genesis = founding.record(REPLICA).expect("a record").clone();
    assert_eq!(device.place, (genesis.clone(), genesis.genesis()));
    assert_eq!(device.kind, "tpm, virtual");
    drop(device);
    let strict = TpmPlace { allow_software_tpm: false, ..place(&swtpm) };
    let Err(LogError::Tpm(why)) = open(&cluster, &founding, &directory, &strict) else { panic!("allowed") };
    assert!(matches!(why.downcast_ref(), Some(TpmError::Virtual(_))), "{why}");
    let software = Device::open(&cluster, Some(&founding), REPLICA, &replica_key(0), directory.path(), &LogPlace::Here);
    assert!(matches!(software.err(), Some(LogError::Kind { tpm: true, .. })));

    swtpm.reboot().expect("reboots");
    let (record, _) = open(&cluster, &founding, &directory, &place(&swtpm)).expect("opens").place;
    assert!(record.epoch > genesis.epoch && record.may_follow(&genesis), "{record:?}");
    swtpm.reboot().expect("reboots");
    let refounded = self::found(&cluster, REPLICA, &replica_key(0), directory.path(), &place(&swtpm));
    let refounded = Founding::read(&refounded.expect("before it has run"), &cluster).expect("genuine");
    assert_ne!(refounded.digest(), founding.digest());
}

#[test]
fn another_chip_is_refused_unless_the_authority_approved_it_for_this_replica() {
    if !installed() {
        return;
    }
    let (swtpm, spare) = (Swtpm::start().expect("a TPM"), Swtpm::start().expect("a TPM"));
    let (cluster, directory) = (cluster(&swtpm), TempDir::new().expect("a directory"));
    let text = found(&cluster, REPLICA, &replica_key(0), directory.path(), &place(&swtpm)).expect("founded");
    let founding = Founding::read(&text, &cluster).expect("genuine");
    let Err(LogError::Tpm(why)) = open(&cluster, &founding, &directory, &place(&spare)) else { panic!("another's") };
    assert!(matches!(why.downcast_ref(), Some(TpmError::OtherKey)), "{why}");

    let enrolment = enrol(&spare);
    let with = |enrolment: Enrolment| TpmPlace { enrolment: Some(enrolment), ..place(&spare) };
    let (id, authority) = (cluster.id(), replica_key(9));
    for unapproved in [
        enrolment.clone(),
        enrolment.clone().approved(id, REPLICA, &replica_key(0)),
        enrolment.clone().approved(id, ReplicaId::new(1), &authority),
    ] {
        let refused = open(&cluster, &founding, &directory, &with(unapproved)).err();
        assert!(matches!(refused, Some(LogError::NotApproved { replica: REPLICA })), "{refused:?}");
    }
    let approved = with(enrolment.clone().approved(id, REPLICA, &authority));
    let (record, _) = open(&cluster, &founding, &directory, &approved).expect("opens").place;
    let genesis: &EpochRecord = founding.record(REPLICA).expect("a record");
    assert!(record.may_follow(genesis) && !record.key.same_device(&genesis.key));
    let LogKey::Tpm(key) = &record.key else { panic!("no TPM") };
    assert_eq!(key.approval, Some(Approval::of(enrolment.device(), id, REPLICA, &authority)));
}

#[test]
fn a_log_that_was_used_founds_nothing() {
    if !installed() {
        return;
    }
    let swtpm = Swtpm::start().expect("a TPM");
    let (cluster, directory) = (cluster(&swtpm), TempDir::new().expect("a directory"));
    let found = |key| found(&cluster, REPLICA, &replica_key(key), directory.path(), &place(&swtpm));
    assert!(matches!(found(1), Err(FoundError::WrongKey(REPLICA))));
    found(0).expect("founded");
    let digest = quorate_protocol::digest::Digest::of(b"statement");
    let mut log = place(&swtpm).open(&cluster, REPLICA, directory.path()).expect("opens");
    log.append(&[digest]).expect("attested");
    drop(log);
    assert!(matches!(found(0), Err(FoundError::Used(REPLICA))));
}
