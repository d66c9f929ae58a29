//! What a client believes of the ordered history, and who contradicted it.
//!
//! The newest history that f + 1 replicas stated is the client's *anchor*. It goes along with all that the client asks,
//! and every reply is held against it. A replica that states another history at the anchor's place lies; when more than f
//! do, or when no f + 1 are left that do not, the job tracker has forked: the client says so, with the signed replies of
//! both sides, and from then on believes nothing any more.

use super::{ClientError, link::Checked};
use quorate_protocol::{
    cluster::Cluster,
    command::{History, Reply},
    fork::ForkProof,
    ids::ReplicaId,
    sign::Signed,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The longest signed reply that is kept as a part of an anchor, in bytes.
const ANCHOR_REPLY_BYTES_MAX: usize = 64 << 10;

/// A history that f + 1 replicas stated.
pub(super) struct Anchor {
    pub(super) history: History,
    replies: Vec<Signed<Reply>>,
}

/// A replica's reply that does not go with an anchor.
struct Contradiction {
    anchor: Arc<Anchor>,
    stated: History,
    signed: Signed<Reply>,
}

/// A replica whose replies were not all believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Distrust {
    /// Which.
    pub replica: ReplicaId,
    /// How many of its replies were not believed.
    pub replies: u64,
    /// What was wrong with the last one.
    pub what: String,
}

#[derive(Default)]
struct Inner {
    anchor: Option<Arc<Anchor>>,
    /// The last one of each replica.
    contradictions: BTreeMap<ReplicaId, Contradiction>,
    distrusted: BTreeMap<ReplicaId, Distrust>,
}

/// What a client believes of the history.
pub(super) struct Memory {
    cluster: Arc<Cluster>,
    inner: Mutex<Inner>,
}

impl Memory {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quorum(&self) -> usize {
        self.cluster.f as usize + 1
    }

    pub(super) fn anchor(&self) -> Option<Arc<Anchor>> {
        self.inner().anchor.clone()
    }

    pub(super) fn distrusted(&self) -> Vec<Distrust> {
        self.inner().distrusted.values().cloned().collect()
    }

    /// Those of [`Memory::distrusted`].
    pub(super) fn doubted(&self) -> Vec<ReplicaId> {
        self.inner().distrusted.keys().copied().collect()
    }

    /// Notes that a reply of a replica was not believed. It is said once for each replica.
    pub(super) fn distrust(&self, replica: ReplicaId, what: &str) {
        let mut inner = self.inner();
        let entry = inner.distrusted.entry(replica);
        let entry = entry.or_insert_with(|| Distrust { replica, replies: 0, what: String::new() });
        if entry.replies == 0 {
            tracing::warn!(%replica, what, "a reply is not believed; the others are asked all the same");
        }
        entry.replies = entry.replies.saturating_add(1);
        entry.what = what.to_owned();
    }

    /// The history that a reply states and that does not go with what was seen.
    pub(super) fn contradiction(
        &self,
        seen: Option<&Arc<Anchor>>,
        reply: &Reply,
        signed: &Signed<Reply>,
    ) -> Option<History> {
        let anchor = seen?;
        let differs =
            |stated: &History| stated.ordered == anchor.history.ordered && stated.digest != anchor.history.digest;
        let stated = reply.states().find(differs)?;
        let contradiction = Contradiction { anchor: Arc::clone(anchor), stated, signed: signed.clone() };
        self.inner().contradictions.insert(reply.replica, contradiction);
        Some(stated)
    }

    /// Takes over a newer history that f + 1 of these replies, of distinct replicas, state.
    pub(super) fn learn(&self, replies: &[&Checked]) {
        let stating = |history: History| replies.iter().filter(move |reply| reply.states.contains(&history));
        let stated = replies.iter().flat_map(|reply| &reply.states).copied();
        let Some(history) = stated.filter(|history| stating(*history).count() >= self.quorum()).max() else { return };
        let known =
            |inner: &Inner| inner.anchor.as_ref().is_some_and(|anchor| anchor.history.ordered >= history.ordered);
        let large = stating(history).any(|reply| reply.signed.bytes().len() > ANCHOR_REPLY_BYTES_MAX);
        let mut inner = self.inner();
        if !large && !known(&inner) {
            let replies = stating(history).map(|reply| reply.signed.clone()).collect();
            inner.anchor = Some(Arc::new(Anchor { history, replies }));
        }
    }

    /// The fork, when more than f replicas contradicted what f + 1 had stated.
    pub(super) fn fork(&self) -> Option<ClientError> {
        if self.inner().contradictions.len() >= self.quorum() { self.proof() } else { None }
    }

    /// The fork, when any replica contradicted what f + 1 had stated: for whoever cannot find f + 1 others any more.
    pub(super) fn proof(&self) -> Option<ClientError> {
        let inner = self.inner();
        let side = |of: &Contradiction| {
            let alike = |other: &&Contradiction| other.anchor.history == of.anchor.history && other.stated == of.stated;
            inner.contradictions.values().filter(alike).map(|other| other.signed.clone()).collect::<Vec<_>>()
        };
        let widest = inner.contradictions.values().max_by_key(|of| side(of).len())?;
        let proof = ForkProof { one: widest.anchor.replies.clone(), other: side(widest) };
        let fork = proof.check(&self.cluster).ok()?;
        Some(ClientError::Fork { fork: Box::new(fork), proof: Box::new(proof) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{cluster::ReplicaMember, digest::Digest, query::Answer, sign::SecretKey};

    fn three() -> (Arc<Cluster>, Vec<SecretKey>) {
        let keys: Vec<SecretKey> = (0..3).map(|seed| SecretKey::from_seed([90 + seed; 32])).collect();
        let replica = |(number, key): (u32, &SecretKey)| ReplicaMember {
            id: ReplicaId::new(number),
            address: String::new(),
            key: key.public(),
            log: None,
            tpm: None,
            page: None,
        };
        let cluster = Cluster {
            name: "test".to_owned(),
            f: 1,
            agreement: Default::default(),
            allow_liars: false,
            clients: Vec::new(),
            authority: None,
            replicas: (0..).zip(&keys).map(replica).collect(),
            trackers: Vec::new(),
        };
        (Arc::new(cluster), keys)
    }

    fn at(ordered: u64, digest: u8) -> History {
        History { ordered, digest: Digest::of(&[digest]) }
    }

    struct World {
        memory: Memory,
        cluster: Arc<Cluster>,
        keys: Vec<SecretKey>,
    }

    impl World {
        fn new() -> Self {
            let (cluster, keys) = three();
            Self { memory: Memory::new(Arc::clone(&cluster)), cluster, keys }
        }
        fn reply(&self, replica: u32, history: History, confirms: Option<History>) -> Checked {
            let id = ReplicaId::new(replica);
            let (cluster, to) = (self.cluster.id(), Digest::of(b"x"));
            let reply = Reply { cluster, replica: id, to, history, confirms, answer: Answer::Done, view: 0 };
            let signed = Signed::seal(&reply, &self.keys[replica as usize]);
            Checked { replica: id, states: reply.states().collect(), answer: Answer::Done, history, view: 0, signed }
        }
        fn hear(&self, replica: u32, history: History) -> Option<History> {
            let checked = self.reply(replica, history, None);
            let reply = checked.signed.peek().expect("its own");
            self.memory.contradiction(self.memory.anchor().as_ref(), &reply, &checked.signed)
        }
    }

    #[test]
    fn the_anchor_is_the_newest_history_that_f_plus_1_state() {
        let world = World::new();
        world.memory.learn(&[&world.reply(0, at(5, 1), None), &world.reply(1, at(6, 1), None)]);
        assert!(world.memory.anchor().is_none(), "one replica's word is none");
        world.memory.learn(&[&world.reply(0, at(5, 1), None), &world.reply(1, at(6, 2), Some(at(5, 1)))]);
        assert_eq!(world.memory.anchor().map(|anchor| anchor.history), Some(at(5, 1)));
        world.memory.learn(&[&world.reply(0, at(4, 1), None), &world.reply(1, at(4, 1), None)]);
        assert_eq!(world.memory.anchor().map(|anchor| anchor.history), Some(at(5, 1)), "never an older one");
    }

    #[test]
    fn one_that_contradicts_is_a_liar_and_f_plus_1_are_a_fork() {
        let world = World::new();
        world.memory.learn(&[&world.reply(0, at(5, 1), None), &world.reply(1, at(5, 1), None)]);
        assert_eq!(world.hear(2, at(6, 9)), None, "another place");
        assert_eq!(world.hear(2, at(5, 9)), Some(at(5, 9)));
        assert_eq!(world.hear(2, at(5, 9)), Some(at(5, 9)));
        assert!(world.memory.fork().is_none(), "however often one says it");
        assert_eq!(world.hear(1, at(5, 9)), Some(at(5, 9)));
        let Some(ClientError::Fork { fork, proof }) = world.memory.fork() else { panic!("a fork") };
        assert!(fork.exceeds(1));
        assert_eq!(proof.check(&world.cluster).as_ref(), Ok(&*fork));
        assert_eq!(fork.two_faced().into_iter().collect::<Vec<_>>(), [ReplicaId::new(1)]);
    }

    #[test]
    fn a_reply_too_large_to_keep_moves_no_anchor() {
        let world = World::new();
        let with = |length: usize, replica| {
            let answer = Answer::Refused(quorate_protocol::command::Refusal::NotFound("x".repeat(length)));
            let mut reply = world.reply(replica, at(5, 1), None).signed.peek().expect("its own");
            reply.answer = answer;
            let signed = Signed::seal(&reply, &world.keys[replica as usize]);
            Checked { signed, ..world.reply(replica, at(5, 1), None) }
        };
        let fits = ANCHOR_REPLY_BYTES_MAX - with(0, 0).signed.bytes().len() - 2;
        world.memory.learn(&[&with(fits + 1, 0), &with(fits + 1, 1)]);
        assert!(world.memory.anchor().is_none());
        world.memory.learn(&[&with(fits, 0), &with(fits, 1)]);
        assert!(world.memory.anchor().is_some());
    }
}
