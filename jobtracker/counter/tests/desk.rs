//! The desk in front of devices that are slow, broken or fine. Devices here wait for the test, so nothing depends on time.

use quorate_counter::{
    Attestation, Completion, DESK_QUEUE_MAX, Desk, DeskError, DeviceError, Epoch, EpochRecord, Head, Position,
    Simulated, TrustedLog,
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Tells when it is asked for something, and does it when it is let.
struct Gated {
    device: Simulated,
    asked: Sender<usize>,
    go: Receiver<bool>,
}

impl TrustedLog for Gated {
    fn record(&self) -> &EpochRecord {
        self.device.record()
    }
    fn append(&mut self, digests: &[Digest]) -> Result<Attestation, DeviceError> {
        self.asked.send(digests.len()).expect("the test listens");
        let works = self.go.recv().expect("the test decides");
        if works { self.device.append(digests) } else { Err(DeviceError::Malfunction("out of order".into())) }
    }
    fn renew(&mut self, epoch: Epoch) -> Result<(), DeviceError> {
        self.device.renew(epoch)
    }
}

struct Bench {
    desk: Desk,
    asked: Receiver<usize>,
    go: SyncSender<bool>,
    told: Receiver<Completion>,
    record: EpochRecord,
}

fn bench() -> Bench {
    let device = Simulated::new([1; 32], Digest::of(b"cluster"), ReplicaId::new(0));
    let record = device.record().clone();
    let ((asks, asked), (go, gate), (tell, told)) = (channel(), sync_channel(1024), channel());
    let device = Box::new(Gated { device, asked: asks, go: gate });
    let desk = Desk::start(device, Box::new(move |done| tell.send(done).expect("the test listens"))).expect("starts");
    Bench { desk, asked, go, told, record }
}

fn digests(count: u8) -> Vec<Digest> {
    (0..count).map(|number| Digest::of(&[number])).collect()
}

impl Bench {
    fn asked(&self) -> usize {
        self.asked.recv().expect("the device is asked")
    }
    fn attested(&self) -> Head {
        match self.told.recv().expect("told") {
            Completion::Attested(Attestation { head, certificate }) => {
                assert_eq!(self.record.verify(head, &certificate), Ok(()));
                head
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_waits_shares_the_next_attestation_in_order() {
    let bench = bench();
    bench.desk.submit(digests(1)).expect("takes it");
    assert_eq!(bench.asked(), 1);
    for count in [2, 0, 5] {
        bench.desk.submit(digests(count)).expect("takes it while the device is busy");
    }
    bench.go.send(true).expect("goes on");
    let first = bench.attested();
    assert_eq!(bench.asked(), 7, "all that waited");
    bench.go.send(true).expect("goes on");
    let expected = bench.record.extend(first, digests(2).into_iter().chain(digests(5)));
    assert_eq!(bench.attested(), expected);
    bench.desk.stop();
    assert!(bench.told.recv().is_err(), "one completion for all of them");
}

#[test]
fn a_new_epoch_waits_for_what_was_ordered_before_it() {
    let bench = bench();
    bench.desk.submit(digests(1)).expect("takes it");
    assert_eq!(bench.asked(), 1);
    bench.desk.submit(digests(2)).expect("takes it");
    bench.desk.renew(Epoch(5)).expect("takes it");
    bench.desk.submit(digests(3)).expect("takes it");
    (0..4).for_each(|_| bench.go.send(true).expect("goes on"));
    assert_eq!(bench.attested().position, Position(1));
    assert_eq!(bench.attested().position, Position(3));
    let Ok(Completion::Renewed(record, certificate)) = bench.told.recv() else { panic!("a new epoch") };
    assert_eq!((record.epoch, record.verify(record.genesis(), &certificate)), (Epoch(5), Ok(())));
    let Ok(Completion::Attested(last)) = bench.told.recv() else { panic!("attested") };
    assert_eq!(last.head, record.extend(record.genesis(), digests(3)));
}

#[test]
fn the_queue_is_full_at_its_bound_and_stop_does_all_that_was_taken() {
    let bench = bench();
    bench.desk.submit(digests(1)).expect("takes it");
    assert_eq!(bench.asked(), 1, "the device has it");
    for _ in 0..DESK_QUEUE_MAX {
        bench.desk.submit(digests(1)).expect("takes it");
    }
    assert!(matches!(bench.desk.submit(digests(1)), Err(DeskError::Full)));
    (0..2).for_each(|_| bench.go.send(true).expect("goes on"));
    let Bench { desk, told, .. } = bench;
    desk.stop();
    let positions: Vec<_> = told
        .iter()
        .map(|done| match done {
            Completion::Attested(attestation) => attestation.head.position.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(positions, [1, 1 + DESK_QUEUE_MAX as u64], "and the desk has ended");
}

#[test]
fn a_failure_is_told_once_and_ends_the_desk() {
    let bench = bench();
    bench.desk.submit(digests(1)).expect("takes it");
    assert_eq!(bench.asked(), 1);
    bench.desk.submit(digests(1)).expect("takes it");
    bench.go.send(false).expect("goes on");
    assert!(matches!(bench.told.recv(), Ok(Completion::Failed(DeviceError::Malfunction(_)))));
    assert!(bench.told.recv().is_err(), "nothing comes after it");
    assert!(matches!(bench.desk.submit(digests(1)), Err(DeskError::Ended)));
}

#[test]
fn an_epoch_that_is_not_above_fails() {
    let bench = bench();
    bench.desk.renew(Epoch(0)).expect("takes it");
    assert!(matches!(bench.told.recv(), Ok(Completion::Failed(DeviceError::NotAbove { .. }))));
}

#[test]
fn too_much_at_once_is_refused_and_too_much_together_is_split() {
    let most = vec![Digest::of(b"d"); quorate_counter::APPEND_DIGESTS_MAX];
    let bench = bench();
    let above = [most.clone(), digests(1)].concat();
    assert!(matches!(bench.desk.submit(above), Err(DeskError::Refused(DeviceError::TooMany { .. }))));
    bench.desk.submit(digests(1)).expect("takes it");
    assert_eq!(bench.asked(), 1);
    bench.desk.submit(most.clone()).expect("takes it");
    bench.desk.submit(digests(1)).expect("takes it");
    (0..3).for_each(|_| bench.go.send(true).expect("goes on"));
    assert_eq!((bench.asked(), bench.asked()), (most.len(), 1));
    bench.desk.stop();
}
