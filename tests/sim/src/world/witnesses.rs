//! Replicas as witnesses of each other's logs, where there are no trusted ones.
//!
//! What honest replicas ask and answer travels by the network like everything else, is lost and asked again, and what a
//! witness remembers is on its disk before it answers. Liars answer as they like, and to each other always what is wanted.

use super::{Event, Place, World, replicas::Device};
use crate::rng::Rng;
use quorate_counter::{
    Answer, Considered, Epoch, EpochRecord, Gather, Head, Heard, LogKey, Request, RequestError, Seen, Share, Witness,
    WitnessKey,
};
use quorate_protocol::ids::ReplicaId;
use quorate_smr::Input;
use std::{cell::RefCell, rc::Rc};

/// What replicas say to each other as witnesses.
pub(crate) enum Word {
    Request(Request),
    Answer(Answer),
}

/// How a liar answers when it is asked to sign an honest replica's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    /// As it should.
    Honest,
    /// Whatever it is asked for.
    Anything,
    /// Not at all.
    Silent,
    /// With signatures that are none.
    Noise,
    /// It refuses, and claims that the asker asked for something else before.
    Slander,
}

/// One replica's witness.
struct Host {
    key: WitnessKey,
    witness: Witness,
    /// What of its memory is on its disk.
    durable: Vec<Option<Seen>>,
    up: bool,
    /// It helps other liars.
    lies: bool,
}

/// All witnesses, for those to whom they are at hand.
#[derive(Clone)]
pub(crate) struct Witnesses {
    genesis: Rc<Vec<EpochRecord>>,
    hosts: Rc<RefCell<Vec<Host>>>,
}

/// The key of a witness; what its name is worth in a cluster with trusted logs nobody asks.
pub(super) fn key(record: &EpochRecord, by: ReplicaId) -> WitnessKey {
    let key = match &record.key {
        LogKey::SimulatedWitnesses { key, .. } => *key,
        LogKey::Simulated(_) | LogKey::Software(_) | LogKey::Tpm(_) | LogKey::Witnessed(_) => [0; 32],
    };
    WitnessKey::Simulated { key, by }
}

/// The head that is asked for, in its epoch.
fn wanted(genesis: &EpochRecord, request: &Request) -> (EpochRecord, Head) {
    let record = EpochRecord { epoch: request.epoch, ..genesis.clone() };
    let head = record.extend(request.from, request.digests.iter().copied());
    (record, head)
}

impl Witnesses {
    pub(super) fn new(genesis: &[EpochRecord], lies: impl Iterator<Item = bool>) -> Self {
        let host = |(record, lies): (&EpochRecord, bool)| {
            let key = key(record, record.replica);
            let witness = Witness::new(key.clone(), genesis.to_vec(), Vec::new());
            Host { key, witness, durable: vec![None; genesis.len()], up: true, lies }
        };
        let hosts = genesis.iter().zip(lies).map(host).collect();
        Self { genesis: Rc::new(genesis.to_vec()), hosts: Rc::new(RefCell::new(hosts)) }
    }

    /// What is on a disk.
    pub(super) fn memory(&self, node: usize) -> Vec<Option<Seen>> {
        self.hosts.borrow()[node].durable.clone()
    }

    /// Somebody puts another disk in.
    pub(super) fn replace(&self, node: usize, memory: Vec<Option<Seen>>) {
        self.hosts.borrow_mut()[node].durable = memory;
    }

    pub(super) fn stop(&self, node: usize) {
        self.hosts.borrow_mut()[node].up = false;
    }

    /// A process starts with what is on its disk.
    pub(super) fn start(&self, node: usize) {
        let host = &mut self.hosts.borrow_mut()[node];
        host.up = true;
        host.witness = Witness::new(host.key.clone(), self.genesis.to_vec(), host.durable.clone());
    }

    fn consider(&self, node: usize, of: usize, request: &Request) -> Result<Considered, RequestError> {
        self.hosts.borrow_mut()[node].witness.consider(ReplicaId::new(of as u32), request)
    }

    fn keep(&self, node: usize, of: usize, seen: Seen) {
        let durable = &mut self.hosts.borrow_mut()[node].durable;
        durable.resize(self.genesis.len(), None);
        let place = |seen: &Seen| (seen.epoch, seen.head.position);
        if durable[of].is_none_or(|kept| place(&kept) < place(&seen)) {
            durable[of] = Some(seen);
        }
    }

    fn sign_anything(&self, node: usize, of: usize, request: &Request) -> Answer {
        let (record, head) = wanted(&self.genesis[of], request);
        let share = self.hosts.borrow()[node].key.sign(&record, head);
        Answer::Signed { epoch: request.epoch, head, share }
    }

    /// Whether there are enough witnesses up for a log of a liar.
    pub(crate) fn can_certify(&self, record: &EpochRecord) -> bool {
        let up = self.hosts.borrow().iter().filter(|host| host.up).count();
        record.key.witnesses().is_some_and(|(_, quorum)| up >= quorum)
    }

    /// What a witness answers to a liar, at once and on its disk. Other liars sign anything.
    pub(crate) fn give_in(&self, by: ReplicaId, of: ReplicaId, request: &Request) -> Option<Answer> {
        let (node, of) = (by.number() as usize, of.number() as usize);
        let (up, lies) = self.hosts.borrow().get(node).map(|host| (host.up, host.lies))?;
        if !up {
            return None;
        }
        if lies {
            return Some(self.sign_anything(node, of, request));
        }
        let Considered { answer, keep } = self.consider(node, of, request).ok()?;
        if let Some(seen) = keep {
            self.keep(node, of, seen);
        }
        Some(answer)
    }
}

impl World<'_> {
    /// Asks all witnesses whose signatures are missing, and again after a while.
    pub(super) fn ask_witnesses(&mut self, place: Place) {
        let retry = self.retry();
        let Some(brain) = self.living(place) else { return };
        let Device::Witnessed(log) = &mut brain.device else { return };
        let Some(request) = log.gather.request().cloned() else { return };
        let missing = log.gather.missing();
        log.asked += 1;
        let asked = log.asked;
        self.after(retry, Event::Ask(place, asked));
        let word = Rc::new(Word::Request(request));
        for witness in missing {
            self.send_word(place.node, witness.number() as usize, &word);
        }
    }

    fn retry(&self) -> u64 {
        10 + 2 * self.scenario.network.delay_max + 2 * self.scenario.disk_latency
    }

    pub(super) fn ask_again(&mut self, place: Place, asked: u64) {
        let Some(brain) = self.living(place) else { return };
        if let Device::Witnessed(log) = &brain.device
            && log.asked == asked
            && log.gather.request().is_some()
        {
            self.coverage.count("witnesses asked again");
            self.ask_witnesses(place);
        }
    }

    fn send_word(&mut self, from: usize, to: usize, word: &Rc<Word>) {
        let delays = if from == to { vec![0] } else { self.journey(1 << from, 1 << to) };
        for delay in delays {
            self.after(delay, Event::Word { from, to, word: Rc::clone(word) });
        }
    }

    pub(super) fn hear_word(&mut self, from: usize, to: usize, word: &Word) {
        if self.nodes[to].down {
            return;
        }
        match word {
            Word::Request(request) => self.witness(from, to, request),
            Word::Answer(answer) => self.hear_answer(from, to, answer),
        }
    }

    /// A witness is asked.
    fn witness(&mut self, from: usize, to: usize, request: &Request) {
        if let Some(answer) = self.answer_of_liar(from, to, request) {
            if let Some(answer) = answer {
                self.send_word(to, from, &Rc::new(Word::Answer(answer)));
            }
            return;
        }
        match self.witnesses.consider(to, from, request) {
            Ok(considered) => {
                if matches!(considered.answer, Answer::Refused(_)) {
                    self.coverage.count("signatures refused");
                }
                let durable = self.rng.below(self.scenario.disk_latency + 1);
                let place = self.place(to, 0);
                self.after(durable, Event::Considered { place, of: from, considered });
            }
            Err(cause) => {
                // What an honest replica asked for before its disk was put back may contradict what it knows now, and is
                // refused; it is never garbage.
                let text = format!("witness {to} refuses the request of replica {from}: {cause}");
                self.oracle.violate("BLAME", || text);
            }
        }
    }

    /// What a witness remembers is on its disk: it answers.
    pub(super) fn considered(&mut self, place: Place, of: usize, considered: Considered) {
        if self.living(place).is_none() {
            return;
        }
        if let Some(seen) = considered.keep {
            self.witnesses.keep(place.node, of, seen);
        }
        self.send_word(place.node, of, &Rc::new(Word::Answer(considered.answer)));
    }

    /// How a liar answers; `None` when it has not begun to lie.
    fn answer_of_liar(&mut self, from: usize, to: usize, request: &Request) -> Option<Option<Answer>> {
        self.nodes[to].liar.as_ref().filter(|liar| self.tick >= liar.from)?;
        let habits = [Habit::Honest, Habit::Anything, Habit::Silent, Habit::Noise, Habit::Slander];
        let habit = *Rng::new(self.scenario.seed ^ 0x57_4954 ^ to as u64).pick(&habits);
        let genesis = self.nodes[to].config.genesis[from].clone();
        let (record, head) = wanted(&genesis, request);
        let noise = Share::invented(*head.chain.as_bytes());
        let (lie, answer) = match habit {
            Habit::Honest => return None,
            Habit::Anything => ("lie: a witness signs anything", Some(self.witnesses.sign_anything(to, from, request))),
            Habit::Silent => ("lie: a witness is silent", None),
            Habit::Noise => {
                let answer = Answer::Signed { epoch: request.epoch, head, share: noise };
                ("lie: a witness signs with noise", Some(answer))
            }
            Habit::Slander => {
                let epoch = Epoch(request.epoch.0 + u64::from(self.rng.chance(500)));
                let other = record.extend(head, [head.chain]);
                let own = key(&genesis, ReplicaId::new(to as u32)).sign(&record, other);
                let share = if self.rng.chance(500) { own } else { noise };
                ("lie: a witness slanders", Some(Answer::Refused(Seen { epoch, head: other, share })))
            }
        };
        self.coverage.count(lie);
        Some(answer)
    }

    /// An answer comes to an honest replica; liars have theirs at once.
    fn hear_answer(&mut self, from: usize, to: usize, answer: &Answer) {
        let place = self.place(to, 0);
        let latency = self.log_latency(to);
        let durable = self.rng.below(self.scenario.disk_latency + 1);
        let Some(brain) = self.living(place) else { return };
        let Device::Witnessed(log) = &mut brain.device else { return };
        let (what, input) = match log.gather.hear(ReplicaId::new(from as u32), answer) {
            Heard::Nothing => return,
            Heard::Lost => ("epochs lost by proof", Input::Lost),
            Heard::Attested(attestation) if log.renewing => {
                let record = log.gather.record().clone();
                ("epochs certified by witnesses", Input::Renewed(record, attestation.certificate))
            }
            Heard::Attested(attestation) => ("heads certified by witnesses", Input::Attested(attestation)),
        };
        self.coverage.count(what);
        self.after(durable + latency, Event::Done(place, input));
    }
}

/// A log that asks the witnesses.
pub(crate) struct Asking {
    pub(super) gather: Gather,
    /// What is on its disk.
    pub(super) durable: Option<quorate_counter::Place>,
    /// It asks for the beginning of an epoch.
    pub(super) renewing: bool,
    /// How often it asked.
    asked: u64,
}

impl Asking {
    pub(super) fn new(genesis: EpochRecord) -> Self {
        let key = key(&genesis, genesis.replica);
        Self { gather: Gather::new(genesis, key, None), durable: None, renewing: false, asked: 0 }
    }

    /// A process starts with what is on its disk.
    pub(super) fn start(&mut self, genesis: EpochRecord) {
        let key = key(&genesis, genesis.replica);
        self.gather = Gather::new(genesis, key, self.durable.clone());
        self.renewing = false;
    }
}
