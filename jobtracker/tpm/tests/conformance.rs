//! The suite that every trusted log passes, against real TPMs in software.

mod fixture;

use fixture::{Bench, installed};
use quorate_counter::{
    Completion, Desk, TrustedLog,
    conformance::{Backend, check},
};
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use std::sync::mpsc::channel;

/// One chip for each log. A restart ends the log's process, and with `Reset` also the chip's power.
struct Chips {
    benches: Vec<Bench>,
    reset: bool,
}

impl Backend for Chips {
    fn fresh(&mut self, cluster: Digest, replica: ReplicaId) -> Box<dyn TrustedLog> {
        let mut bench = Bench::new();
        (bench.cluster, bench.replica) = (cluster, replica);
        let log = bench.open().expect("opens");
        self.benches.push(bench);
        Box::new(log)
    }
    fn restart(&mut self, device: Box<dyn TrustedLog>) -> Box<dyn TrustedLog> {
        let bench = self.benches.last_mut().expect("there is one");
        if self.reset {
            bench.swtpm.power_off().expect("is killed");
        }
        drop(device);
        if self.reset {
            bench.swtpm.power_on(quorate_tpm::swtpm::Start::Clear).expect("starts");
        }
        Box::new(bench.open().expect("opens"))
    }
}

#[test]
fn a_tpm_conforms_when_its_process_restarts() {
    if installed() {
        check(&mut Chips { benches: Vec::new(), reset: false });
    }
}

#[test]
fn a_tpm_conforms_when_its_power_is_cut() {
    if installed() {
        check(&mut Chips { benches: Vec::new(), reset: true });
    }
}

#[test]
fn a_desk_gives_what_waits_one_quote() {
    if !installed() {
        return;
    }
    let bench = Bench::new();
    let log = bench.open().expect("opens");
    let record = log.record().clone();
    let (tell, told) = channel();
    let desk = Desk::start(Box::new(log), Box::new(move |done| tell.send(done).expect("heard"))).expect("starts");
    let digests: Vec<_> = (0..40u8).map(|number| Digest::of(&[number])).collect();
    digests.iter().for_each(|digest| desk.submit(vec![*digest]).expect("room"));
    desk.stop();
    let quotes: Vec<_> = told.iter().collect();
    let Some(Completion::Attested(last)) = quotes.last() else { panic!("attested: {quotes:?}") };
    assert_eq!(last.head, record.extend(record.genesis(), digests));
    assert_eq!(record.verify(last.head, &last.certificate), Ok(()));
    assert!(quotes.len() < 40, "{} quotes for 40 orders", quotes.len());
}
