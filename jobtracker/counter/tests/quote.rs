//! What a real TPM (swtpm 0.7.1) signed, and everything that is close to it and does not count.
#![cfg(feature = "tpm")]

use proptest::prelude::*;
use quorate_counter::{
    Certificate, EpochRecord, Head, LogKey, Position, Rejection, TpmFault, TpmKey,
    quote::{Quote, selection_of, split},
};
use quorate_protocol::{canonical, digest::Digest};

fn bytes(line: usize) -> Vec<u8> {
    let text = include_str!("golden/quote.hex").lines().nth(line).expect("two lines");
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).expect("a digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The record of an epoch, its head after two digests, and the certificate.
fn golden() -> (EpochRecord, Head, Certificate) {
    let record: EpochRecord = canonical::decode(&bytes(0), 1024).expect("a record");
    let head = record.extend(record.genesis(), [Digest::of(b"one"), Digest::of(b"two")]);
    (record, head, Certificate(bytes(1)))
}

fn changed(record: &EpochRecord, change: impl FnOnce(&mut TpmKey)) -> EpochRecord {
    let LogKey::Tpm(mut key) = record.key.clone() else { panic!("a TPM's record") };
    change(&mut key);
    EpochRecord { key: LogKey::Tpm(key), ..record.clone() }
}

#[test]
fn a_real_quote_counts_for_its_head_alone() {
    let (record, head, certificate) = golden();
    assert_eq!(head.position, Position(2));
    assert_eq!(record.verify(head, &certificate), Ok(()));
    let others = [
        record.genesis(),
        record.extend(record.genesis(), [Digest::of(b"one")]),
        record.extend(head, [Digest::of(b"x")]),
    ];
    for other in others {
        assert_eq!(record.verify(other, &certificate), Err(Rejection::Tpm(TpmFault::Value)));
    }
}

#[test]
fn everything_that_the_record_says_of_the_chip_must_stand_in_the_quote() {
    let (record, head, certificate) = golden();
    // The head is given, so that only the one thing differs; with the record the chain's beginning differs as well.
    let fault = |change: fn(&mut TpmKey)| match changed(&record, change).verify(head, &certificate) {
        Err(Rejection::Tpm(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert!(matches!(fault(|key| key.reset_count ^= 1), TpmFault::Boot { .. }));
    assert!(matches!(fault(|key| key.restart_count ^= 1), TpmFault::Boot { .. }));
    assert_eq!(fault(|key| key.device.firmware ^= 1), TpmFault::Firmware);
    assert_eq!(fault(|key| key.device.pcr = 13), TpmFault::Selection);
    assert_eq!(fault(|key| key.device.pcr = 16), TpmFault::Pcr(16));
    assert_eq!(fault(|key| key.device.pcr = 23), TpmFault::Pcr(23));
    assert_eq!(fault(|key| key.device.pcr = 255), TpmFault::Pcr(255));
    assert_eq!(fault(|key| key.device.key.x[0] ^= 1), TpmFault::Signer);
    // What the quote does not say begins the chain: another value is another chain.
    for other in [
        changed(&record, |key| key.start = Digest::of(b"")),
        EpochRecord { epoch: quorate_counter::Epoch(1), ..record.clone() },
    ] {
        let head = other.extend(other.genesis(), [Digest::of(b"one"), Digest::of(b"two")]);
        assert_eq!(other.verify(head, &certificate), Err(Rejection::Tpm(TpmFault::Value)));
    }
}

#[test]
fn every_bit_of_the_certificate_counts_and_nothing_may_follow() {
    let (record, head, certificate) = golden();
    for bit in 0..certificate.0.len() * 8 {
        let mut bytes = certificate.0.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(record.verify(head, &Certificate(bytes)).is_err(), "bit {bit}");
    }
    let (quote, signature) = split(&certificate.0).expect("two parts");
    for length in 0..quote.len() {
        assert_eq!(Quote::read(&quote[..length]), None, "{length} bytes");
    }
    let long = [quote, &[0], signature].concat();
    assert_eq!(record.verify(head, &Certificate(long)), Err(Rejection::Tpm(TpmFault::Form)));
}

#[test]
fn selections_name_one_pcr_of_24_and_never_panic() {
    assert_eq!(selection_of(0), [0, 0, 0, 1, 0, 0x0b, 3, 1, 0, 0]);
    assert_eq!(selection_of(15), [0, 0, 0, 1, 0, 0x0b, 3, 0, 0x80, 0]);
    assert_eq!(selection_of(255), [0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Reading ends, and accepts nothing but what the chip signed.
    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (record, head, _) = golden();
        prop_assert!(record.verify(head, &Certificate(bytes)).is_err());
    }

    /// The same near what is right: cut, doubled, overwritten.
    #[test]
    fn mutated_quotes_are_refused(
        at in 0usize..200, with in prop::collection::vec(any::<u8>(), 1..8), cut in 0usize..200,
    ) {
        let (record, head, certificate) = golden();
        let mut bytes = certificate.0.clone();
        let at = at.min(bytes.len());
        let removed = cut % 9;
        bytes.splice(at..(at + removed).min(certificate.0.len()), with);
        prop_assume!(bytes != certificate.0);
        let _ = Quote::read(&bytes);
        prop_assert!(record.verify(head, &Certificate(bytes)).is_err());
    }
}
