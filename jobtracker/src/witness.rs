//! Replicas that witness each other's logs, where no trusted log is configured: what they say to each other for that, and
//! the two threads that do it.
//!
//! * One thread is this replica's witness. It takes what the replicas ask for, considers it, brings what it must remember
//!   onto the disk, once for all that had come, and answers.
//! * The other one is the log's desk: it asks the witnesses for each attestation, this replica's own one among them, until
//!   enough have signed.
//!
//! A peer asks for one head at a time and answers one question at a time, so of each only the last word is kept: nobody can
//! fill the memory, or push others' words out.

use crate::{
    keys::genesis,
    links::Words,
    slots::{Slots, VALUE_BYTES_MAX},
};
use quorate_counter::{
    APPEND_DIGESTS_MAX, Answer, CERTIFICATE_BYTES_MAX, Certificate, Completion, Considered, Council, Desk, DeviceError,
    EpochRecord, Gather, Head, Place, Request, Seen, Witness, WitnessKey, Witnessed,
};
use quorate_protocol::{
    canonical::{self, DecodeError},
    cluster::Cluster,
    ids::ReplicaId,
    sign::SecretKey,
};
use quorate_smr::message::{Flush, Statement};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// The log's place, in the replica's directory.
const PLACE_FILE: &str = "witnessed-log";
/// What the replica has witnessed.
const MEMORY_FILE: &str = "witness";
/// How long answers are waited for before the silent witnesses are asked again.
const RETRY: Duration = Duration::from_millis(200);
/// The longest word.
pub(crate) const WORD_BYTES_MAX: usize = APPEND_DIGESTS_MAX * 32 + CERTIFICATE_BYTES_MAX + 512;

/// What replicas say to each other as witnesses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// To a witness.
    Request(Request),
    /// From one.
    Answer(Answer),
}

/// The last word of each replica.
#[derive(Debug)]
struct Latest<T> {
    words: Mutex<Option<BTreeMap<ReplicaId, T>>>,
    more: Condvar,
}

impl<T> Latest<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { words: Mutex::new(Some(BTreeMap::new())), more: Condvar::new() })
    }

    fn put(&self, from: ReplicaId, word: T) {
        if let Some(words) = self.words().as_mut() {
            words.insert(from, word);
            self.more.notify_one();
        }
    }

    /// Waits for words and takes all; none when the time is over first. `None` once it was closed.
    fn take(&self, patience: Duration) -> Option<BTreeMap<ReplicaId, T>> {
        let empty = |words: &mut Option<BTreeMap<ReplicaId, T>>| words.as_ref().is_some_and(BTreeMap::is_empty);
        let waited = self.more.wait_timeout_while(self.words(), patience, empty);
        let (mut words, _) = waited.unwrap_or_else(PoisonError::into_inner);
        words.as_mut().map(std::mem::take)
    }

    /// Ends whoever waits.
    fn close(&self) {
        *self.words() = None;
        self.more.notify_all();
    }

    /// Each change is a single step, so a panic elsewhere leaves it whole.
    fn words(&self) -> MutexGuard<'_, Option<BTreeMap<ReplicaId, T>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where words from other replicas go.
#[derive(Debug, Clone)]
pub(crate) struct Inlet {
    requests: Arc<Latest<Request>>,
    answers: Arc<Latest<Answer>>,
}

impl Inlet {
    fn new() -> Self {
        Self { requests: Latest::new(), answers: Latest::new() }
    }

    /// Takes a word that came by a replica's link.
    pub(crate) fn hear(&self, from: ReplicaId, bytes: &[u8]) -> Result<(), DecodeError> {
        match canonical::decode(bytes, WORD_BYTES_MAX)? {
            Word::Request(request) => self.requests.put(from, request),
            Word::Answer(answer) => self.answers.put(from, answer),
        }
        Ok(())
    }

    fn close(&self) {
        self.requests.close();
        self.answers.close();
    }
}

/// The log's desk and the replica's witness, before they have begun.
pub(crate) struct Assembly {
    me: ReplicaId,
    gather: Gather,
    place: Slots,
    path: PathBuf,
    witness: Witness,
    memory: Slots,
    inlet: Inlet,
}

fn damaged(error: &DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Assembly {
    /// Opens what a replica remembers in its directory.
    pub(crate) fn open(cluster: &Cluster, me: ReplicaId, key: &SecretKey, directory: &Path) -> io::Result<Self> {
        let owner = canonical::digest(&("quorate witnessed log of", cluster.id(), me, key.public()));
        let path = directory.join(PLACE_FILE);
        let (place, kept) = Slots::open(&path, owner)?;
        let kept = kept.map(|bytes| canonical::decode::<Place>(&bytes, VALUE_BYTES_MAX));
        let kept = kept.transpose().map_err(|error| damaged(&error))?;
        let owner = canonical::digest(&("quorate witness", cluster.id(), me, key.public()));
        let (memory, seen) = Slots::open(&directory.join(MEMORY_FILE), owner)?;
        let seen = seen.map(|bytes| canonical::decode::<Vec<Option<Seen>>>(&bytes, VALUE_BYTES_MAX));
        let seen = seen.transpose().map_err(|error| damaged(&error))?.unwrap_or_default();
        let logs = genesis(cluster, None);
        let own = logs.get(me.number() as usize).cloned();
        let own = own.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a replica of the cluster"))?;
        let key = || WitnessKey::Ed25519(key.clone());
        let gather = Gather::new(own, key(), kept);
        let witness = Witness::new(key(), logs, seen);
        Ok(Self { me, gather, place, path, witness, memory, inlet: Inlet::new() })
    }

    /// Where the log stands, and the certificate of its head, if there is one.
    pub(crate) fn stands(&self) -> ((EpochRecord, Head), Option<Certificate>) {
        let Place { head, certificate, .. } = self.gather.place();
        ((self.gather.record().clone(), head), certificate)
    }

    /// Where words from other replicas go.
    pub(crate) fn inlet(&self) -> Inlet {
        self.inlet.clone()
    }

    /// Goes on to what the replica's records have certified: the place was not on the disk yet when the machine crashed.
    /// What does not follow changes nothing.
    pub(crate) fn catch_up(&mut self, flush: &Flush) {
        if let Some(there) = self.gather.head().position.0.checked_sub(flush.after.0) {
            let missing = flush.statements.iter().skip(usize::try_from(there).unwrap_or(usize::MAX));
            self.gather.catch_up(missing.map(Statement::digest), &flush.certificate);
        }
    }

    /// Begins. `tell` hears of what was attested, on another thread.
    pub(crate) fn start(self, words: Words, tell: Box<dyn FnMut(Completion) + Send>) -> io::Result<Bench> {
        let Self { me, gather, place, path, witness, memory, inlet } = self;
        let council = Links { me, words: words.clone(), inlet: inlet.clone(), heard: VecDeque::new(), place };
        let work = Work { me, witness, memory, words, inlet: inlet.clone() };
        let thread = thread::Builder::new().name("witness".into()).spawn(move || work.run())?;
        // From here on dropping it ends the thread.
        let at_work = AtWork { inlet, thread: Some(thread) };
        let desk = Desk::start(Box::new(Witnessed::new(gather, council)), tell)?;
        Ok(Bench { at_work, desk, path })
    }
}

/// The log's desk and the replica's witness at work. Dropped, both end, whatever they wait for.
pub(crate) struct Bench {
    /// Dropped first: the desk may wait for answers.
    #[expect(dead_code, reason = "what it does it does when it is dropped")]
    at_work: AtWork,
    desk: Desk,
    path: PathBuf,
}

impl Bench {
    /// Where orders go.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }
    /// The file of the log's place.
    pub(crate) fn file(&self) -> &Path {
        &self.path
    }
}

/// The witness's thread, and the way of words to it and to the desk.
struct AtWork {
    inlet: Inlet,
    thread: Option<JoinHandle<()>>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.inlet.close();
        // A panic of the thread was printed by it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The witness's thread.
struct Work {
    me: ReplicaId,
    witness: Witness,
    memory: Slots,
    words: Words,
    inlet: Inlet,
}

impl Work {
    fn run(mut self) {
        while let Some(requests) = self.inlet.requests.take(RETRY) {
            if let Err(error) = self.consider(requests) {
                // What the disk has is unknown: signing on could contradict it.
                tracing::error!(error = &error as &dyn std::error::Error, "this replica witnesses nothing more");
                return self.inlet.requests.close();
            }
        }
    }

    fn consider(&mut self, requests: BTreeMap<ReplicaId, Request>) -> io::Result<()> {
        let (mut answers, mut moved) = (Vec::new(), false);
        for (of, request) in requests {
            match self.witness.consider(of, &request) {
                Ok(Considered { answer, keep }) => {
                    moved |= keep.is_some();
                    answers.push((of, answer));
                }
                Err(error) => tracing::warn!(replica = %of, why = %error, "a witness is asked for nonsense"),
            }
        }
        if moved {
            self.memory.keep(&canonical::encode(&self.witness.memory()))?;
            self.memory.sync()?;
        }
        for (of, answer) in answers {
            if of == self.me {
                self.inlet.answers.put(of, answer);
            } else {
                self.words.send(of, &Word::Answer(answer));
            }
        }
        Ok(())
    }
}

/// The way to the witnesses.
struct Links {
    me: ReplicaId,
    words: Words,
    inlet: Inlet,
    heard: VecDeque<(ReplicaId, Answer)>,
    place: Slots,
}

impl Council for Links {
    fn ask(&mut self, witnesses: &[ReplicaId], request: &Request) -> Result<(), DeviceError> {
        for witness in witnesses {
            if *witness == self.me {
                self.inlet.requests.put(self.me, request.clone());
            } else {
                self.words.send(*witness, &Word::Request(request.clone()));
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<Option<(ReplicaId, Answer)>, DeviceError> {
        if self.heard.is_empty() {
            let ended = || DeviceError::Unreachable(io::Error::new(io::ErrorKind::BrokenPipe, "the replica stops"));
            self.heard.extend(self.inlet.answers.take(RETRY).ok_or_else(ended)?);
        }
        Ok(self.heard.pop_front())
    }

    fn keep(&mut self, place: &Place) -> Result<(), DeviceError> {
        // It outlives the process. After a crash of the machine the replica's records bring it back.
        self.place.keep(&canonical::encode(place)).map_err(DeviceError::Storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{REPLICA, cluster_of, replica_key};
    use quorate_counter::Epoch;
    use quorate_protocol::{cluster::Agreement, digest::Digest};
    use tempfile::TempDir;

    fn cluster() -> Cluster {
        let addresses = ["a:1", "b:1", "c:1", "d:1"].map(str::to_owned);
        Cluster { f: 1, agreement: Agreement::Pbft, ..cluster_of(&addresses) }
    }
    fn work(directory: &TempDir) -> Work {
        let opened = Assembly::open(&cluster(), REPLICA, &replica_key(0), directory.path());
        let Assembly { me, witness, memory, inlet, .. } = opened.expect("opened");
        Work { me, witness, memory, words: Words::default(), inlet }
    }
    /// What a replica asks for its own log.
    fn request(of: u32, digests: &[Digest]) -> Request {
        let record = genesis(&cluster(), None).swap_remove(of as usize);
        let mut gather = Gather::new(record, WitnessKey::Ed25519(replica_key(of)), None);
        assert_eq!(gather.ask(digests).expect("few"), None);
        gather.request().expect("asked for").clone()
    }

    #[test]
    fn only_the_last_word_of_each_replica_is_kept() {
        let inlet = Inlet::new();
        let (one, other) = (request(1, &[]), request(1, &[Digest::of(b"a")]));
        for word in [&one, &other] {
            let bytes = canonical::encode(&Word::Request(word.clone()));
            inlet.hear(ReplicaId::new(1), &bytes).expect("a word");
        }
        let taken = inlet.requests.take(Duration::ZERO).expect("open");
        assert_eq!(taken, BTreeMap::from([(ReplicaId::new(1), other)]));
        assert_eq!(inlet.requests.take(Duration::ZERO), Some(BTreeMap::new()));
        inlet.close();
        inlet.requests.put(ReplicaId::new(1), one);
        assert_eq!(inlet.requests.take(Duration::MAX), None, "nobody waits for what was closed");
    }

    #[test]
    fn the_longest_request_is_within_the_bound_and_noise_is_refused() {
        let inlet = Inlet::new();
        let mut longest = request(1, &vec![Digest::of(b"many"); APPEND_DIGESTS_MAX]);
        longest.certificate = Certificate(vec![7; CERTIFICATE_BYTES_MAX]);
        (longest.epoch, longest.from.position) = (Epoch(u64::MAX), quorate_counter::Position(u64::MAX));
        let bytes = canonical::encode(&Word::Request(longest));
        assert!(bytes.len() <= WORD_BYTES_MAX);
        inlet.hear(ReplicaId::new(1), &bytes).expect("the bound itself");
        assert!(inlet.hear(ReplicaId::new(1), &vec![0; WORD_BYTES_MAX + 1]).is_err());
        assert!(inlet.hear(ReplicaId::new(1), &[9, 9, 9]).is_err());
    }

    #[test]
    fn what_was_signed_is_remembered_by_the_next_process() {
        let directory = TempDir::new().expect("a directory");
        let me = REPLICA;
        let (signed, other) = (request(0, &[Digest::of(b"a")]), request(0, &[Digest::of(b"b")]));
        let mut first = work(&directory);
        first.consider(BTreeMap::from([(me, signed)])).expect("kept");
        let answers = first.inlet.answers.take(Duration::ZERO).expect("open");
        assert!(matches!(answers.get(&me), Some(Answer::Signed { .. })));
        drop(first);
        let mut second = work(&directory);
        second.consider(BTreeMap::from([(me, other)])).expect("nothing to keep");
        let answers = second.inlet.answers.take(Duration::ZERO).expect("open");
        assert!(matches!(answers.get(&me), Some(Answer::Refused(_))));
    }
}
