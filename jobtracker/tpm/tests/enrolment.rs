//! Enrolment with real chips: what goes through, and what an answer cannot be made of.

mod fixture;

use fixture::{Bench, PCR, attacker::*, enrol, installed};
use proptest::prelude::*;
use quorate_counter::{EpochRecord, LogKey, TpmFault, TpmPoint, TrustedLog, key_template};
use quorate_protocol::sign::SecretKey;
use quorate_tpm::{
    Chip, Settings, TpmError, TpmLog,
    chip::OWNER,
    enrol::{Answer, Challenge, Challenger, DOCUMENT_BYTES_MAX, Document, EnrolError, Enrolment, Request},
    swtpm::Swtpm,
};

fn chip_of(swtpm: &Swtpm) -> Chip {
    swtpm.chip().expect("reached")
}

/// As it travels.
fn sent<T: Document>(document: &T) -> T {
    T::from_toml(&document.to_toml()).expect("reads what it wrote")
}

#[test]
fn four_documents_make_an_enrolment_and_a_log_of_it() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut chip = chip_of(&bench.swtpm);
    let certificate: Vec<u8> = (0..700u32).map(|byte| byte as u8).collect();
    define_nv(&mut chip, 0x01c0_000a, false, certificate.len() as u16);
    certificate.chunks(100).enumerate().for_each(|(part, bytes)| write_nv(&mut chip, 0x01c0_000a, part * 100, bytes));
    let request = sent(&Request::of(&mut chip, PCR).expect("asks"));
    assert_eq!(request.endorsement_certificate(), Some(certificate.as_slice()));
    assert!(request.platform().is_virtual());
    let (challenger, challenge) = Challenger::new(request).expect("challenges");
    let answer = sent(&Answer::to(&mut chip, &sent(&challenge)).expect("answers"));
    let enrolment = sent(&sent(&challenger).conclude(&answer).expect("enrols"));
    assert_eq!(enrolment.device(), bench.enrolment.device());
    assert_eq!(enrolment.endorsement_certificate(), Some(sha256(&[&certificate]).as_bytes().as_slice()));
    assert_eq!(bench.enrolment.endorsement_certificate(), None, "before it had one");
    assert_eq!(enrolment.approval(), None);
    drop(chip);
    assert_eq!(bench.open().expect("opens").record().epoch.0, 0);
}

#[test]
fn another_chip_comes_in_with_the_authoritys_approval_alone() {
    if !installed() {
        return;
    }
    let (old, new) = (Bench::new(), Bench::new());
    let authority = SecretKey::from_seed([3; 32]);
    let configured = {
        let settings = Settings { authority: Some(authority.public()), ..old.settings() };
        TpmLog::open(settings, old.cluster, old.replica).expect("opens").record().clone()
    };
    let enrolment = sent(&new.enrolment.clone().approved(new.cluster, new.replica, &authority));
    for (approval, admitted) in [(None, false), (enrolment.approval(), true)] {
        let settings = Settings { authority: Some(authority.public()), approval, ..new.settings() };
        let log = TpmLog::open(settings, new.cluster, new.replica).expect("opens");
        assert_eq!(log.record().may_follow(&configured), admitted);
        let elsewhere = EpochRecord { replica: quorate_protocol::ids::ReplicaId::new(2), ..log.record().clone() };
        assert!(!elsewhere.may_follow(&EpochRecord { replica: elsewhere.replica, ..configured.clone() }));
        assert!(matches!(log.record().key, LogKey::Tpm(_)));
    }
}

#[test]
fn a_challenge_is_opened_by_the_chip_with_both_keys_and_no_other() {
    if !installed() {
        return;
    }
    let (one, other) = (Bench::new(), Bench::new());
    let request = Request::of(&mut chip_of(&one.swtpm), PCR).expect("asks");
    let (_, challenge) = Challenger::new(request).expect("challenges");
    assert!(matches!(Answer::to(&mut chip_of(&other.swtpm), &challenge), Err(TpmError::Refused { .. })));
    // One chip's endorsement key, and the other one's attestation key.
    let text = Request::of(&mut chip_of(&one.swtpm), PCR).expect("asks").to_toml();
    let (head, tail) = text.split_once("[endorsement_key]").expect("it is there");
    let theirs = Request::of(&mut chip_of(&other.swtpm), PCR).expect("asks").to_toml();
    let (_, their_tail) = theirs.split_once("[endorsement_key]").expect("it is there");
    assert_ne!(tail, their_tail);
    let mixed = Request::from_toml(&format!("{head}[endorsement_key]{their_tail}")).expect("a request");
    let (_, challenge) = Challenger::new(mixed).expect("challenges");
    for bench in [&one, &other] {
        let mut chip = chip_of(&bench.swtpm);
        assert!(matches!(Answer::to(&mut chip, &challenge), Err(TpmError::Refused { .. })));
        assert_eq!(chip.handles(0x8000_0000).expect("told"), Vec::<u32>::new(), "nothing stays, though it was refused");
        assert_eq!(chip.handles(0x0200_0000).expect("told"), Vec::<u32>::new());
    }
}

#[test]
fn a_key_that_signs_anything_has_another_name_and_opens_nothing() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut chip = chip_of(&bench.swtpm);
    // Without `restricted`, the host could make quotes up.
    let mut template = key_template();
    template[5] &= !1;
    let key = chip.create_primary(OWNER, &template).expect("makes it");
    let coordinate = |from: usize| key.public[from..from + 32].try_into().expect("32 bytes");
    let point = TpmPoint { x: coordinate(22), y: coordinate(56) };
    assert_ne!(point.public_area(), key.public);
    assert!(sign(&mut chip, key.handle, sha256(&[b"a quote made up"])).is_ok(), "it signs anything");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let owners = bench.enrolment.device().key;
    chip.flush(key.handle).expect("flushes");
    let text = Request::of(&mut chip, PCR).expect("asks").to_toml();
    let text = text.replace(&hex(&owners.x), &hex(&point.x)).replace(&hex(&owners.y), &hex(&point.y));
    let (_, challenge) = Challenger::new(Request::from_toml(&text).expect("a request")).expect("challenges");
    let key = chip.create_primary(OWNER, &template).expect("makes it");
    let endorsement = chip.create_primary(quorate_tpm::chip::ENDORSEMENT, &endorsement_template()).expect("makes it");
    let (credential, seed) = (field(&challenge, "credential"), field(&challenge, "encrypted_seed"));
    assert!(chip.activate(key.handle, endorsement.handle, &credential, &seed).is_err());
}

#[test]
fn an_answer_to_another_challenge_or_over_another_pcr_is_refused() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut chip = chip_of(&bench.swtpm);
    let ask = |chip: &mut Chip| {
        let (challenger, challenge) = Challenger::new(Request::of(chip, PCR).expect("asks")).expect("challenges");
        let answer = Answer::to(chip, &challenge).expect("answers");
        (challenger, challenge, answer)
    };
    let ((first, _, old), (second, challenge, answer)) = (ask(&mut chip), ask(&mut chip));
    assert!(matches!(first.conclude(&answer), Err(EnrolError::Secret)));
    // The right secret with an older quote.
    let quote_line =
        |answer: &Answer| answer.to_toml().lines().find(|line| line.starts_with("quote")).map(str::to_owned);
    let secret_line =
        |answer: &Answer| answer.to_toml().lines().find(|line| line.starts_with("secret")).map(str::to_owned);
    let join = |secret: &Answer, quote: &Answer| {
        let lines = [secret_line(secret), quote_line(quote)].map(|line| line.expect("it is there"));
        Answer::from_toml(&lines.join("\n")).expect("an answer")
    };
    assert!(matches!(second.clone().conclude(&join(&answer, &old)), Err(EnrolError::Nonce)));
    let elsewhere = Challenge::from_toml(&challenge.to_toml().replace("pcr = 14", "pcr = 13")).expect("a challenge");
    let other = Answer::to(&mut chip, &elsewhere).expect("answers");
    assert!(matches!(second.clone().conclude(&other), Err(EnrolError::Quote(TpmFault::Selection))));
    assert!(second.conclude(&answer).is_ok());
    enrol(&mut chip, PCR);
}

#[test]
fn an_endorsement_key_that_is_no_point_and_a_pcr_that_is_no_chain_are_refused() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut text = Request::of(&mut chip_of(&bench.swtpm), PCR).expect("asks").to_toml();
    let off = Request::from_toml(&text.replace("pcr = 14", "pcr = 23")).expect("a request");
    assert!(matches!(Challenger::new(off), Err(EnrolError::Tpm(TpmError::Pcr(23)))));
    let at = text.rfind("y = \"").expect("a coordinate") + 5;
    let digit = if &text[at..=at] == "0" { "1" } else { "0" };
    text.replace_range(at..=at, digit);
    let bent = Request::from_toml(&text).expect("a request");
    assert!(matches!(Challenger::new(bent), Err(EnrolError::EndorsementKey)));
}

#[test]
fn documents_are_bounded() {
    let long = "#".repeat(DOCUMENT_BYTES_MAX);
    assert!(matches!(Answer::from_toml(&long), Err(EnrolError::Document(_))));
    assert!(matches!(Answer::from_toml(&format!("{long}#")), Err(EnrolError::TooLong { .. })));
    assert!(Answer::from_toml("secret = \"0\"\nquote = \"\"").is_err(), "half a byte");
    assert!(Answer::from_toml("secret = \"é0\"\nquote = \"\"").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let shaped = format!("secret = \"{hex}\"\nquote = \"{hex}\"");
        prop_assert!(Answer::from_toml(&shaped).is_ok());
        let _ = (Request::from_toml(&text).is_ok(), Challenge::from_toml(&text).is_ok(), Enrolment::from_toml(&text).is_ok());
    }
}
