//! Chips and hosts that fail at the worst moment, and chips that answer what they like.

mod fixture;

use fixture::{
    Bench, PCR,
    between::{Between, EXTEND, QUOTE, code, refusal},
    digests, installed,
};
use quorate_counter::{DeviceError, Epoch, OpenError, TrustedLog};
use quorate_tpm::{Chip, Settings, TpmError, TpmLog, chip::Command, chip::PASSWORDS, enrol::Request};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

fn through(bench: &Bench, between: &Between) -> Result<TpmLog, TpmError> {
    TpmLog::open(Settings { tcti: between.tcti(), ..bench.settings() }, bench.cluster, bench.replica)
}

#[test]
fn a_pcr_that_something_else_extends_is_said_and_ends_the_epoch() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let now = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&now);
    let between = Between::new(&bench.swtpm.tcti(), move |chip, command| {
        if code(command) == QUOTE && heard.swap(false, Ordering::SeqCst) {
            chip.extend(PCR);
        }
        Some(chip.pass_on(command))
    });
    let mut log = through(&bench, &between).expect("opens");
    let record = log.record().clone();
    log.append(&digests(0..2)).expect("appends");
    now.store(true, Ordering::SeqCst);
    let failed = log.append(&digests(2..3)).expect_err("noticed");
    assert!(matches!(&failed, DeviceError::Malfunction(why) if why.contains("used by something else")), "{failed}");
    for again in [log.append(&[]).map(drop), log.renew(Epoch(9))] {
        assert!(matches!(&again, Err(DeviceError::Malfunction(why)) if why.contains("open it again")), "{again:?}");
    }
    drop(log);
    let log = through(&bench, &between).expect("opens");
    assert_eq!(log.record().epoch, Epoch(1));
    assert!(log.record().key.same_device(&record.key));
}

#[test]
fn a_process_that_ends_between_extends_goes_on_where_the_chip_is() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let (record, attested) = bench.appended();
    let mut head = attested.head;
    // Before the first extend, before the second, and so on; then before the quote. Each time also with the command done and unanswered.
    for (stop, done) in (0..=5usize).flat_map(|stop| [(stop, false), (stop, true)]) {
        let seen = AtomicUsize::new(0);
        let armed = Arc::new(AtomicBool::new(false));
        let hear = Arc::clone(&armed);
        let between = Between::new(&bench.swtpm.tcti(), move |chip, command| {
            let counts = hear.load(Ordering::SeqCst) && [EXTEND, QUOTE].contains(&code(command));
            if counts && seen.fetch_add(1, Ordering::SeqCst) == stop {
                if done {
                    chip.pass_on(command);
                }
                return None;
            }
            Some(chip.pass_on(command))
        });
        let mut log = through(&bench, &between).expect("opens");
        assert_eq!((log.append(&[]).expect("attests").head, log.record()), (head, &record));
        armed.store(true, Ordering::SeqCst);
        let failed = log.append(&digests(10..15)).expect_err("hung up");
        assert!(matches!(failed, DeviceError::Unreachable(_)), "{failed}");
        drop(log);
        drop(between);
        let appended = (stop + usize::from(done)).min(5);
        head = record.extend(head, digests(10..10 + appended as u8));
        let mut log = bench.open().expect("opens");
        assert_eq!(log.record(), &record, "the same epoch");
        let attestation = log.append(&[]).expect("attests");
        assert_eq!(attestation.head, head, "{appended} were extended");
    }
}

#[test]
fn a_process_that_ends_while_an_epoch_begins_begins_it() {
    if !installed() {
        return;
    }
    for done in [false, true] {
        let bench = Bench::new();
        let between = Between::new(&bench.swtpm.tcti(), move |chip, command| {
            if code(command) != EXTEND {
                return Some(chip.pass_on(command));
            }
            if done {
                chip.pass_on(command);
            }
            None
        });
        assert!(matches!(through(&bench, &between), Err(TpmError::Io(_))));
        drop(between);
        let mut log = bench.open().expect("opens");
        let genesis = log.record().genesis();
        assert_eq!((log.record().epoch, log.append(&[]).expect("attests").head), (Epoch(0), genesis), "done: {done}");
    }
}

#[test]
fn what_something_else_extended_between_two_processes_ends_the_epoch() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    bench.appended();
    bench.swtpm.chip().and_then(|mut chip| chip.extend(PCR, digests(0..1)[0])).expect("extends");
    let mut log = bench.open().expect("opens");
    let genesis = log.record().genesis();
    assert_eq!((log.record().epoch, log.append(&[]).expect("attests").head), (Epoch(1), genesis));
}

#[test]
fn a_busy_chip_is_asked_again_and_for_ever_is_too_long() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut turn = 0;
    let between = Between::new(&bench.swtpm.tcti(), move |chip, command| {
        turn += 1;
        Some(if turn % 3 == 0 { chip.pass_on(command) } else { refusal([0x922, 0x908][turn % 2]) })
    });
    let mut log = through(&bench, &between).expect("opens");
    log.append(&digests(0..3)).expect("appends");
    drop(log);
    let between = Between::new(&bench.swtpm.tcti(), |_, _| Some(refusal(0x90a)));
    assert_eq!(through(&bench, &between).expect_err("never ready").code(), Some(0x922));
}

#[test]
fn lockout_is_explained() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let between = Between::new(&bench.swtpm.tcti(), |chip, command| {
        Some(if code(command) == QUOTE { refusal(0x921) } else { chip.pass_on(command) })
    });
    let refused = through(&bench, &between).expect_err("locked out");
    assert!(refused.to_string().contains("reset the lockout"), "{refused}");
}

#[test]
fn a_chip_without_the_bank_is_explained() {
    if !installed() {
        return;
    }
    let mut bench = Bench::new();
    let mut chip = bench.swtpm.chip().expect("reached");
    // PCR_Allocate by the platform: SHA-1 in all PCRs, SHA-256 in none.
    let banks = [0, 0, 0, 2, 0, 4, 3, 255, 255, 255, 0, 0x0b, 3, 0, 0, 0];
    chip.run(&Command::new("TPM2_PCR_Allocate", 0x12b, &[0x4000_000c], &banks).with(&PASSWORDS[..1]))
        .expect("allocates");
    drop(chip);
    bench.swtpm.reboot().expect("starts");
    assert!(matches!(bench.open(), Err(TpmError::Bank(PCR))));
    let mut chip = bench.swtpm.chip().expect("reached");
    let refused = Request::of(&mut chip, PCR).expect_err("no bank");
    assert!(refused.to_string().contains("SHA-256"), "{refused}");
}

#[test]
fn a_chip_of_other_firmware_or_another_key_is_not_the_enrolled_one() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let changed = |change: fn(&mut Settings)| {
        let mut settings = bench.settings();
        change(&mut settings);
        TpmLog::open(settings, bench.cluster, bench.replica).map(drop)
    };
    assert!(matches!(changed(|settings| settings.device.firmware ^= 1), Err(TpmError::OtherFirmware)));
    assert!(matches!(changed(|settings| settings.device.key.x[0] ^= 1), Err(TpmError::OtherKey)));
    assert!(matches!(changed(|settings| settings.device.pcr = 16), Err(TpmError::Pcr(16))));
    let held = bench.open().expect("opens");
    drop(held);
    assert_eq!(
        bench.swtpm.chip().and_then(|mut chip| chip.handles(0x8000_0000)).expect("told"),
        Vec::<u32>::new(),
        "none left a key behind"
    );
}

#[test]
fn a_place_in_use_or_of_another_replica_is_refused() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let file = bench.settings().state;
    bench.appended();
    let held = std::fs::File::open(&file).expect("opens");
    held.try_lock().expect("locks");
    assert!(matches!(bench.open(), Err(TpmError::Place(OpenError::InUse(_)))));
    drop(held);
    let stranger = TpmLog::open(bench.settings(), bench.cluster, quorate_protocol::ids::ReplicaId::new(2));
    assert!(matches!(stranger, Err(TpmError::Place(OpenError::Foreign(_)))));
}

/// Whatever a chip answers to whichever command: an error, and never a panic.
#[test]
fn a_hostile_chip_gets_an_error() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let mut seed = 1u64;
    let mut random = move || {
        // Xorshift: the same bytes in each run.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..120usize {
        let (from, bytes, tag) = (round % 24, (random() % 200) as usize, (random() % 2) as u8 + 1);
        let noise: Vec<u8> = (0..bytes).map(|_| random() as u8).collect();
        let mut seen = 0;
        let between = Between::new(&bench.swtpm.tcti(), move |chip, command| {
            seen += 1;
            let mut answer = chip.pass_on(command);
            if seen > from {
                match round % 4 {
                    // Noise in a proper frame, cut short, a bit changed, another length claimed.
                    0 => {
                        answer = [&[0x80, tag], (10 + bytes as u32).to_be_bytes().as_slice(), &[0; 4], &noise].concat()
                    }
                    1 => {
                        let kept = answer.len().min(10 + bytes % 30);
                        answer.truncate(kept);
                        answer[2..6].copy_from_slice(&(kept as u32).to_be_bytes());
                    }
                    2 => {
                        let at = 6 + bytes % (answer.len() - 6);
                        answer[at] ^= 1 << (tag & 7);
                    }
                    _ => answer[2] = 0xff,
                }
            }
            Some(answer)
        });
        if let Ok(mut log) = through(&bench, &between) {
            while log.append(&digests(0..2)).is_ok_and(|attested| {
                assert_eq!(
                    log.record().verify(attested.head, &attested.certificate),
                    Ok(()),
                    "what it gives out counts"
                );
                attested.head.position.0 < 200
            }) {}
        }
        let _ = Chip::open(&between.tcti()).and_then(|mut chip| Request::of(&mut chip, PCR));
    }
}
