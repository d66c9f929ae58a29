//! Attacks on the trusted log by whoever is root on its host. Each is shown to work against a weaker construction, or to be possible up to its last
//! step, and each ends with verifiers that refuse it or with a new epoch, which counts for nothing until it is admitted.

mod fixture;

use fixture::{Bench, PCR, attacker::*, digests, enrol, installed};
use quorate_counter::{
    Certificate, Epoch, EpochRecord, LogKey, Rejection, TpmFault, TpmKey, TpmPoint, TrustedLog, key_template,
    quote::{genuine, selection_of},
};
use quorate_protocol::digest::Digest;
use quorate_tpm::{
    Chip, TpmError, TpmLog,
    chip::{Command, ENDORSEMENT, OWNER},
    enrol::{Answer, Challenger, Document, EnrolError, Request},
    swtpm::Start,
};
use std::fs;

fn fault(record: &EpochRecord, head: quorate_counter::Head, certificate: &[u8]) -> TpmFault {
    match record.verify(head, &Certificate(certificate.to_vec())) {
        Err(Rejection::Tpm(fault)) => fault,
        other => panic!("not refused as a TPM's: {other:?}"),
    }
}

fn tpm_key(record: &EpochRecord) -> &TpmKey {
    let LogKey::Tpm(key) = &record.key else { panic!("a TPM's record") };
    key
}

fn extend(chip: &mut Chip, pcr: u8, digests: &[Digest]) {
    digests.iter().for_each(|digest| chip.extend(pcr, *digest).expect("extends"));
}

#[test]
fn two_statements_at_one_position() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let (record, attested) = bench.appended();
    let mut chip = bench.swtpm.chip().expect("reached");
    let other = record.extend(record.genesis(), [digests(0..2), digests(9..10)].concat());
    assert_eq!(other.position, attested.head.position);
    // Neither is the PCR set back, nor the chip started again, without its power being cut.
    assert_eq!(reset_pcr(&mut chip, PCR).expect_err("static").code(), Some(0x907));
    assert_eq!(startup_clear(&mut chip).expect_err("started").code(), Some(0x100));
    // What is extended comes after.
    extend(&mut chip, PCR, &digests(9..10));
    let (key, _) = chip.attestation_key().expect("the key");
    let quote = chip.quote(key, b"whatever the host likes", &selection_of(PCR)).expect("quotes");
    assert_eq!(fault(&record, other, &quote), TpmFault::Value);
    let next = record.extend(attested.head, digests(9..10));
    assert_eq!(
        record.verify(next, &Certificate(quote)),
        Ok(()),
        "the fourth position, and with it the third as it was"
    );
}

#[test]
fn reset_and_extend_again_a_pcr_that_anybody_may_reset() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let (record, _) = bench.appended();
    let mut chip = bench.swtpm.chip().expect("reached");
    let (key, point) = chip.attestation_key().expect("the key");
    for pcr in [16, 23] {
        let mut there = tpm_key(&record).clone();
        there.device.pcr = pcr;
        there.start = Digest::from_bytes([0; 32]);
        let record = EpochRecord { key: LogKey::Tpm(Box::new(there)), ..record.clone() };
        let forks = [digests(0..2), digests(5..7)].map(|statements| {
            reset_pcr(&mut chip, pcr).expect("anybody may");
            extend(&mut chip, pcr, &[record.begin()]);
            extend(&mut chip, pcr, &statements);
            let quote = chip.quote(key, &[], &selection_of(pcr)).expect("quotes");
            (record.extend(record.genesis(), statements), quote)
        });
        assert_eq!(forks[0].0.position, forks[1].0.position);
        for (head, quote) in &forks {
            let quoted = genuine(&point, quote).expect("really signed");
            assert_eq!(
                quoted.value,
                sha256(&[head.chain.as_bytes()]).as_bytes(),
                "two histories, had PCR {pcr} been allowed"
            );
            assert_eq!(fault(&record, *head, quote), TpmFault::Pcr(pcr));
        }
        assert!(matches!(Request::of(&mut chip, pcr), Err(TpmError::Pcr(_))), "it is not enrolled either");
    }
}

#[test]
fn power_cut_and_the_chain_again_with_another_end() {
    if !installed() {
        return;
    }
    let mut bench = Bench::new();
    let (record, attested) = bench.appended();
    bench.swtpm.reboot().expect("starts");
    let mut chip = bench.swtpm.chip().expect("reached");
    let (key, _) = chip.attestation_key().expect("the key");
    // The epoch began with an empty PCR, as there is one again.
    extend(&mut chip, PCR, &[record.begin()]);
    extend(&mut chip, PCR, &[digests(0..2), digests(9..10)].concat());
    let forked = record.extend(record.genesis(), [digests(0..2), digests(9..10)].concat());
    let quote = chip.quote(key, &[], &selection_of(PCR)).expect("quotes");
    assert_eq!(
        quote_of(&quote).value,
        sha256(&[forked.chain.as_bytes()]).as_bytes(),
        "the PCR is where the liar wants it"
    );
    assert!(matches!(fault(&record, forked, &quote), TpmFault::Boot { .. }), "and the chip has counted the reset");
    drop(chip);
    let log = bench.open().expect("opens");
    assert_eq!(log.record().epoch, Epoch(1), "the honest replica begins a new epoch");
    assert!(log.record().may_follow(&record), "which may be admitted without anybody's approval");
    assert_eq!(record.verify(attested.head, &attested.certificate), Ok(()), "what was attested stays attested");
}

#[test]
fn suspend_and_resume() {
    if !installed() {
        return;
    }
    let mut bench = Bench::new();
    let (record, attested) = bench.appended();
    shutdown_state(&mut bench.swtpm.chip().expect("reached"));
    bench.swtpm.power_off().expect("off");
    bench.swtpm.power_on(Start::State).expect("resumes");
    let mut chip = bench.swtpm.chip().expect("reached");
    assert_eq!(chip.read_pcr(PCR).expect("reads"), attested.head.chain, "the PCR is kept");
    let (key, _) = chip.attestation_key().expect("the key");
    let quote = chip.quote(key, &[], &selection_of(PCR)).expect("quotes");
    assert!(matches!(fault(&record, attested.head, &quote), TpmFault::Boot { .. }), "the restart was counted");
    drop(chip);
    let log = bench.open().expect("opens");
    assert_eq!(log.record().epoch, Epoch(1));
    assert_eq!(tpm_key(log.record()).start, attested.head.chain);
}

#[test]
fn save_the_state_go_on_and_come_back_to_what_was_saved() {
    if !installed() {
        return;
    }
    let mut bench = Bench::new();
    let (record, attested) = bench.appended();
    let mut chip = bench.swtpm.chip().expect("reached");
    shutdown_state(&mut chip);
    extend(&mut chip, PCR, &digests(9..10));
    drop(chip);
    bench.swtpm.power_off().expect("off");
    assert!(bench.swtpm.power_on(Start::State).is_err(), "what was saved is void once the chip went on");
    bench.swtpm.power_on(Start::Clear).expect("starts");
    let log = bench.open().expect("opens");
    assert_eq!(log.record().epoch, Epoch(1));
    assert_ne!(tpm_key(log.record()).reset_count, tpm_key(&record).reset_count);
    assert_ne!(tpm_key(log.record()).start, attested.head.chain);
}

/// What no chip can do, and whoever holds a virtual TPM's state can: two histories with the same key and the same counts. No verifier of one
/// of them sees it. A replica that reads both has a proof, for they part at one position; replicas that read one each do not. So a virtual TPM is
/// as trustworthy as whoever holds its state, and is refused unless the operator allows it.
#[test]
fn the_state_directory_of_a_virtual_tpm_put_back_makes_two_histories() {
    if !installed() {
        return;
    }
    let mut bench = Bench::new();
    bench.swtpm.power_off().expect("off");
    let copy = bench.swtpm.copy_state().expect("copies");
    let mut histories = Vec::new();
    for statements in [digests(0..3), digests(5..8)] {
        bench.swtpm.put_back(copy.path()).expect("puts back");
        bench.swtpm.power_on(Start::Clear).expect("starts");
        let mut log = bench.open().expect("opens");
        histories.push((log.record().clone(), log.append(&statements).expect("appends")));
        drop(log);
        bench.swtpm.power_off().expect("off");
        fs::remove_file(bench.folder.path().join("place")).expect("the host's own file goes as well");
    }
    let [(record, one), (again, other)] = histories.as_slice() else { panic!("two histories") };
    assert_eq!(record, again, "the same epoch to every verifier");
    assert_eq!(one.head.position, other.head.position);
    assert_ne!(one.head.chain, other.head.chain);
    for attested in [one, other] {
        assert_eq!(record.verify(attested.head, &attested.certificate), Ok(()), "both count: this is the limit");
    }
    bench.swtpm.power_on(Start::Clear).expect("starts");
    let settings = quorate_tpm::Settings { allow_software_tpm: false, ..bench.settings() };
    let refused = TpmLog::open(settings, bench.cluster, bench.replica).expect_err("refused by default");
    assert!(matches!(&refused, TpmError::Virtual(_)), "{refused}");
    assert!(refused.to_string().contains("must be allowed explicitly"), "{refused}");
}

fn endorsement_key(chip: &mut Chip) -> (u32, TpmPoint) {
    let key = chip.create_primary(ENDORSEMENT, &key_template()).expect("makes it");
    let coordinate = |from: usize| key.public[from..from + 32].try_into().expect("32 bytes");
    let point = TpmPoint { x: coordinate(22), y: coordinate(56) };
    assert_eq!(point.public_area(), key.public, "the same attributes");
    (key.handle, point)
}

fn reboot_until(bench: &mut Bench, counts: (u32, u32)) -> Chip {
    for _ in 0..10 {
        bench.swtpm.reboot().expect("starts");
        let mut chip = bench.swtpm.chip().expect("reached");
        let (handle, _) = endorsement_key(&mut chip);
        let quote = chip.quote(handle, &[], &selection_of(PCR)).expect("quotes");
        chip.flush(handle).expect("flushes");
        if (quote_of(&quote).reset_count, quote_of(&quote).restart_count) == counts {
            return chip;
        }
    }
    panic!("the counts do not come back");
}

#[test]
fn clear_and_reboot_until_the_counts_match_with_a_key_in_the_endorsement_hierarchy() {
    if !installed() {
        return;
    }
    let mut bench = Bench::new();
    // A lying host enrols a key of the endorsement hierarchy: the record is as if that had gone through.
    let mut chip = bench.swtpm.chip().expect("reached");
    let (handle, point) = endorsement_key(&mut chip);
    let quote = chip.quote(handle, &[], &selection_of(PCR)).expect("quotes");
    let quoted = quote_of(&quote);
    let mut key = TpmKey {
        device: bench.enrolment.device(),
        reset_count: quoted.reset_count,
        restart_count: quoted.restart_count,
        start: Digest::from_bytes([0; 32]),
        authority: None,
        approval: None,
    };
    (key.device.key, key.device.firmware) = (point, quoted.firmware);
    let counts = (key.reset_count, key.restart_count);
    let record =
        EpochRecord { cluster: bench.cluster, replica: bench.replica, epoch: Epoch(0), key: LogKey::Tpm(key.into()) };
    let mut forks = Vec::new();
    for statements in [digests(0..2), digests(5..7)] {
        let (handle, again) = endorsement_key(&mut chip);
        assert_eq!(again, point, "clearing leaves the endorsement hierarchy's keys as they were");
        extend(&mut chip, PCR, &[record.begin()]);
        extend(&mut chip, PCR, &statements);
        let quote = chip.quote(handle, &[], &selection_of(PCR)).expect("quotes");
        forks.push((record.extend(record.genesis(), statements), quote));
        clear(&mut chip);
        chip = reboot_until(&mut bench, counts);
    }
    assert_ne!(forks[0].0, forks[1].0);
    for (head, quote) in &forks {
        let quoted = quote_of(quote);
        assert!(is_signed(&point, quote) && (quoted.reset_count, quoted.restart_count) == counts);
        assert_eq!(
            quoted.value,
            sha256(&[head.chain.as_bytes()]).as_bytes(),
            "two histories, to a verifier that asks no more"
        );
        assert_eq!(
            fault(&record, *head, quote),
            TpmFault::Signer,
            "the quote itself says which hierarchy its key is in"
        );
    }
}

#[test]
fn a_key_in_the_endorsement_hierarchy_is_not_enrolled() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut chip = bench.swtpm.chip().expect("reached");
    let (handle, point) = endorsement_key(&mut chip);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let owners = bench.enrolment.device().key;
    // The liar asks for the other key, whose attributes are what they should be.
    let text = Request::of(&mut chip, PCR).expect("asks").to_toml();
    let text = text.replace(&hex(&owners.x), &hex(&point.x)).replace(&hex(&owners.y), &hex(&point.y));
    let (challenger, challenge) = Challenger::new(Request::from_toml(&text).expect("a request")).expect("challenges");
    // The template of the endorsement key: an honest host makes it the same way.
    let template = endorsement_template();
    let endorsement = chip.create_primary(ENDORSEMENT, &template).expect("makes it");
    let secret = chip.activate(
        handle,
        endorsement.handle,
        &field(&challenge, "credential"),
        &field(&challenge, "encrypted_seed"),
    );
    let secret = secret.expect("the chip opens it: the key is in it, and its name is right");
    let quote = chip.quote(handle, &field(&challenge, "nonce"), &selection_of(PCR)).expect("quotes");
    let answer = format!("secret = \"{}\"\nquote = \"{}\"\n", hex(&secret), hex(&quote));
    let refused = challenger.conclude(&Answer::from_toml(&answer).expect("an answer")).expect_err("refused");
    assert!(matches!(refused, EnrolError::Quote(TpmFault::Signer)), "{refused}");
}

#[test]
fn clear_takes_the_owners_key_and_with_it_the_enrolment() {
    if !installed() {
        return;
    }
    let mut bench = Bench::new();
    let (record, _) = bench.appended();
    let mut chip = bench.swtpm.chip().expect("reached");
    clear(&mut chip);
    drop(chip);
    bench.swtpm.reboot().expect("starts");
    assert!(matches!(bench.open(), Err(TpmError::OtherKey)));
    let again = enrol(&mut bench.swtpm.chip().expect("reached"), PCR);
    assert_ne!(again.device().key, bench.enrolment.device().key);
    assert_eq!(again.endorsement_key(), bench.enrolment.endorsement_key(), "it is the same chip");
    let mut there = tpm_key(&record).clone();
    there.device = again.device();
    let record_of_new = EpochRecord { key: LogKey::Tpm(there.into()), ..record.clone() };
    assert!(!record_of_new.may_follow(&record), "nobody admits it without the authority");
}

#[test]
fn increment_and_certify_says_two_things_at_one_count_and_is_no_certificate_of_ours() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let (record, attested) = bench.appended();
    let mut chip = bench.swtpm.chip().expect("reached");
    let (key, point) = chip.attestation_key().expect("the key");
    define_nv(&mut chip, COUNTER, true, 8);
    increment(&mut chip);
    let said = [b"PREPARE op=A".as_slice(), b"PREPARE op=B"].map(|statement| {
        let statement = sha256(&[statement]);
        let certificate = certify(&mut chip, key, statement.as_bytes());
        assert!(certificate.windows(32).any(|part| part == statement.as_bytes()), "the statement is in what is signed");
        certificate
    });
    // Attested are, at the end, the counter's eight bytes; before the signature.
    let count = |certificate: &[u8]| certificate[certificate.len() - 72..certificate.len() - 64].to_vec();
    assert_eq!(count(&said[0]), count(&said[1]), "one count");
    for certificate in &said {
        assert!(is_signed(&point, certificate), "and both are validly signed: that construction is broken");
        assert_eq!(fault(&record, attested.head, certificate), TpmFault::Form);
    }
}

#[test]
fn a_quote_over_another_selection_or_bank() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let (record, attested) = bench.appended();
    let mut chip = bench.swtpm.chip().expect("reached");
    let (key, point) = chip.attestation_key().expect("the key");
    // A second history in another PCR: the same values, with another end.
    let other = record.extend(record.genesis(), digests(5..8));
    extend(&mut chip, 13, &[record.begin()]);
    extend(&mut chip, 13, &digests(5..8));
    let mut both = selection_of(PCR);
    both[8] |= selection_of(13)[8];
    let mut sha1 = selection_of(PCR);
    sha1[5] = 4;
    let twice = [&[0, 0, 0, 2], &selection_of(13)[4..], &selection_of(PCR)[4..]].concat();
    let selections = [
        ("another PCR", selection_of(13).to_vec(), other),
        ("both", both.to_vec(), attested.head),
        ("the other bank", sha1.to_vec(), attested.head),
        ("none", vec![0; 4], attested.head),
        ("two selections", twice, other),
    ];
    for (which, selection, head) in selections {
        let quote = chip.quote(key, &[], &selection).expect("the chip quotes whatever it is told to");
        assert!(genuine(&point, &quote).is_ok(), "{which}: validly signed");
        if which == "another PCR" {
            assert_eq!(quote_of(&quote).value, sha256(&[head.chain.as_bytes()]).as_bytes(), "and the value is right");
        }
        assert_eq!(fault(&record, head, &quote), TpmFault::Selection, "{which}");
    }
}

#[test]
fn a_quote_of_an_old_epoch() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut log = bench.open().expect("opens");
    let old = log.record().clone();
    let attested = log.append(&digests(0..3)).expect("appends");
    log.renew(Epoch(4)).expect("renews");
    let new = log.record().clone();
    assert_eq!(fault(&new, new.genesis(), &attested.certificate.0), TpmFault::Value);
    assert_eq!(fault(&new, new.extend(new.genesis(), digests(0..3)), &attested.certificate.0), TpmFault::Value);
    // And the old epoch does not go on: whatever it says next, the PCR has passed it.
    let empty = log.append(&[]).expect("attests");
    assert_eq!(fault(&old, attested.head, &empty.certificate.0), TpmFault::Value);
    let said = log.append(&digests(7..8)).expect("appends");
    assert_eq!(fault(&old, old.extend(attested.head, digests(7..8)), &said.certificate.0), TpmFault::Value);
    // The one way on is the record of the new epoch itself, which is no statement.
    assert_eq!(old.extend(attested.head, [new.begin()]).chain, new.genesis().chain);
}

#[test]
fn contexts_leaked_until_the_slots_run_out() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut thief = bench.swtpm.chip().expect("reached");
    let keys: Vec<_> = (0..3).map(|_| thief.create_primary(OWNER, &key_template()).expect("a slot").handle).collect();
    let begin = [&[0, 16], [0; 16].as_slice(), &[0, 0, 1, 0, 0x10, 0, 0x0b]].concat();
    let session = Command::new("TPM2_StartAuthSession", 0x176, &[0x4000_0007, 0x4000_0007], &begin);
    for _ in 0..3 {
        thief.run(&session.giving_handle()).expect("a slot");
    }
    // Even its own are found out: with no room left, it is told so, for what it holds itself is not taken from it.
    assert_eq!(thief.create_primary(OWNER, &key_template()).expect_err("full").code(), Some(0x902));
    assert_eq!(thief.run(&session.giving_handle()).expect_err("full").code(), Some(0x903));
    drop(thief);
    assert_eq!(
        bench.swtpm.chip().and_then(|mut chip| chip.handles(0x8000_0000)).expect("told"),
        keys,
        "they outlive the thief"
    );
    let mut log = bench.open().expect("makes room");
    log.append(&digests(0..3)).expect("appends");
    drop(log);
    let mut chip = bench.swtpm.chip().expect("reached");
    enrol(&mut chip, PCR);
    assert_eq!(chip.handles(0x8000_0000).expect("told"), Vec::<u32>::new(), "and none of ours stays");
    assert_eq!(chip.handles(0x0200_0000).expect("told"), Vec::<u32>::new());
}

#[test]
fn a_quote_made_up_by_the_host_and_signed_as_if_it_were_a_document() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let (record, attested) = bench.appended();
    let (quote, _) = quorate_counter::quote::split(&attested.certificate.0).expect("two parts");
    // The true quote with the value of another head.
    let other = record.extend(record.genesis(), digests(5..8));
    let mut forged = quote.to_vec();
    let value = forged.len() - 32;
    forged[value..].copy_from_slice(sha256(&[other.chain.as_bytes()]).as_bytes());
    let mut chip = bench.swtpm.chip().expect("reached");
    let (key, _) = chip.attestation_key().expect("the key");
    assert!(sign(&mut chip, key, sha256(&[&forged])).is_err(), "a restricted key signs no digest of unknown origin");
    assert!(hash_ticket(&mut chip, &forged).is_empty(), "and the chip vouches for none of what looks like its own");
    assert!(!hash_ticket(&mut chip, b"harmless").is_empty());
    let signature = &attested.certificate.0[quote.len()..];
    assert_eq!(fault(&record, other, &[&forged, signature].concat()), TpmFault::Signature);
}
