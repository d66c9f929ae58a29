//! Forks of the ordered history, and the proof of one that anybody with the cluster's configuration can check.
//!
//! An honest replica states one digest for each place of the history, always the same. Two replies that state different
//! ones show that somebody lies. When f + 1 replicas state the one and f + 1 the other, more than f do, for each side has
//! an honest one only if the other has none: the agreement itself is broken, and nothing that this cluster says can be
//! believed any more.

use crate::{
    canonical,
    cluster::Cluster,
    command::{History, Reply},
    digest::Digest,
    ids::ReplicaId,
    limits,
    sign::{Rejection, Signed},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Replies that state two histories at one place: proof that somebody lies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForkProof {
    /// Replies that state, or confirm, the one history.
    pub one: Vec<Signed<Reply>>,
    /// Replies that state, or confirm, the other.
    pub other: Vec<Signed<Reply>>,
}

/// A fork, when its proof was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fork {
    /// One history, and who stated it.
    pub one: (History, BTreeSet<ReplicaId>),
    /// The other, at the same place.
    pub other: (History, BTreeSet<ReplicaId>),
}

impl Fork {
    /// Replicas that stated both: they lie, whatever the others do.
    pub fn two_faced(&self) -> BTreeSet<ReplicaId> {
        self.one.1.intersection(&self.other.1).copied().collect()
    }
    /// Whether it shows that more than `cluster.f` replicas lie.
    pub fn exceeds(&self, f: u32) -> bool {
        let quorum = |side: &BTreeSet<ReplicaId>| side.len() as u64 > u64::from(f);
        quorum(&self.one.1) && quorum(&self.other.1)
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |side: &BTreeSet<ReplicaId>| side.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let (one, other) = (&self.one, &self.other);
        write!(f, "{} signed the history {}, and {} signed {}", names(&one.1), one.0, names(&other.1), other.0)
    }
}

/// Why a proof of a fork proves none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// A signature or encoding is wrong.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It names a replica outside the configuration.
    #[error("{0} is not of this cluster")]
    Stranger(ReplicaId),
    /// A reply is of another cluster.
    #[error("a reply of another cluster")]
    Elsewhere,
    /// The replies do not state two histories at one place.
    #[error("the replies do not contradict each other")]
    NoContradiction,
}

impl From<canonical::DecodeError> for ForkError {
    fn from(error: canonical::DecodeError) -> Self {
        Self::Rejected(Rejection::Decode(error))
    }
}

impl Reply {
    /// The histories that the replica states with it.
    pub fn states(&self) -> impl Iterator<Item = History> {
        std::iter::once(self.history).chain(self.confirms)
    }
}

/// Who states which digest at each place.
type Statements = BTreeMap<u64, BTreeMap<Digest, BTreeSet<ReplicaId>>>;

fn statements(cluster: &Cluster, id: Digest, replies: &[Signed<Reply>]) -> Result<Statements, ForkError> {
    let mut statements = Statements::new();
    for signed in replies {
        let claimed = signed.peek()?.replica;
        let member = cluster.replica(claimed).ok_or(ForkError::Stranger(claimed))?;
        let reply = signed.verify(&member.key)?;
        if reply.cluster != id {
            return Err(ForkError::Elsewhere);
        }
        for history in reply.states() {
            statements.entry(history.ordered).or_default().entry(history.digest).or_default().insert(reply.replica);
        }
    }
    Ok(statements)
}

/// The digest at a place that all these replies state.
fn common(digests: &BTreeMap<Digest, BTreeSet<ReplicaId>>, replies: usize) -> Option<(Digest, BTreeSet<ReplicaId>)> {
    digests.iter().find(|(_, by)| by.len() == replies).map(|(digest, by)| (*digest, by.clone()))
}

/// The longest proof, in bytes: a few replies, each of which may be as long as any.
const PROOF_BYTES_MAX: usize = 8 * limits::REPLY_BYTES_MAX;

impl ForkProof {
    /// The form kept in a file: hexadecimal digits.
    pub fn to_hex(&self) -> String {
        canonical::encode(self).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads the form kept in a file; `None` when it is not one.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u8> =
            text.trim().chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
        let byte = |pair: &[u8]| pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        canonical::decode(&bytes, PROOF_BYTES_MAX).ok()
    }

    /// Checks the proof with nothing but the cluster's configuration: the replies of each side are of distinct replicas
    /// and state one history, and the two sides' histories differ at one place.
    ///
    /// # Errors
    /// [`ForkError`] when it proves nothing.
    pub fn check(&self, cluster: &Cluster) -> Result<Fork, ForkError> {
        let id = cluster.id();
        let one = statements(cluster, id, &self.one)?;
        let other = statements(cluster, id, &self.other)?;
        for (place, digests) in &one {
            let Some((digest, by)) = common(digests, self.one.len()) else { continue };
            let Some(there) = other.get(place).and_then(|there| common(there, self.other.len())) else { continue };
            if digest != there.0 {
                let history = |digest| History { ordered: *place, digest };
                return Ok(Fork { one: (history(digest), by), other: (history(there.0), there.1) });
            }
        }
        Err(ForkError::NoContradiction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::ReplicaMember, query::Answer, sign::SecretKey};

    fn key(replica: u32) -> SecretKey {
        SecretKey::from_seed([replica as u8 + 1; 32])
    }

    fn cluster() -> Cluster {
        let replica = |number| ReplicaMember {
            id: ReplicaId::new(number),
            address: String::new(),
            key: key(number).public(),
            log: None,
            tpm: None,
            page: None,
        };
        Cluster {
            name: "test".to_owned(),
            f: 1,
            agreement: Default::default(),
            allow_liars: false,
            clients: Vec::new(),
            authority: None,
            replicas: (0..3).map(replica).collect(),
            trackers: Vec::new(),
        }
    }

    fn at(ordered: u64, digest: &str) -> History {
        History { ordered, digest: Digest::of(digest.as_bytes()) }
    }

    fn reply(replica: u32, history: History, confirms: Option<History>) -> Signed<Reply> {
        let to = Digest::of(b"question");
        let replica_id = ReplicaId::new(replica);
        let reply = Reply {
            cluster: cluster().id(),
            replica: replica_id,
            to,
            history,
            confirms,
            view: 0,
            answer: Answer::Done,
        };
        Signed::seal(&reply, &key(replica))
    }

    #[test]
    fn two_quorums_with_two_histories_prove_that_more_than_f_lie() {
        let one = vec![reply(0, at(7, "x"), None), reply(1, at(9, "y"), Some(at(7, "x")))];
        let other = vec![reply(1, at(7, "z"), None), reply(2, at(8, "w"), Some(at(7, "z")))];
        let proof = ForkProof { one, other };
        assert_eq!(ForkProof::from_hex(&proof.to_hex()).as_ref(), Some(&proof));
        assert_eq!(ForkProof::from_hex("no proof"), None);
        let fork = proof.check(&cluster()).expect("a fork");
        assert_eq!((fork.one.0, fork.other.0), (at(7, "x"), at(7, "z")));
        assert_eq!(fork.two_faced(), BTreeSet::from([ReplicaId::new(1)]));
        assert!(fork.exceeds(1));
        assert!(fork.to_string().contains("replica-0 and replica-1 signed"), "{fork}");
    }

    #[test]
    fn one_contradicting_reply_shows_a_liar_and_no_more() {
        let one = vec![reply(0, at(7, "x"), None), reply(1, at(7, "x"), None)];
        let fork = ForkProof { one, other: vec![reply(2, at(7, "z"), None)] }.check(&cluster()).expect("a fork");
        assert!(!fork.exceeds(1) && fork.two_faced().is_empty());
    }

    #[test]
    fn what_does_not_contradict_or_is_not_signed_proves_nothing() {
        let check = |one: Vec<Signed<Reply>>, other: Vec<Signed<Reply>>| ForkProof { one, other }.check(&cluster());
        let honest = || vec![reply(0, at(7, "x"), None)];
        assert_eq!(check(honest(), vec![reply(1, at(8, "z"), None)]), Err(ForkError::NoContradiction));
        assert_eq!(check(honest(), vec![reply(1, at(7, "x"), None)]), Err(ForkError::NoContradiction));
        assert_eq!(check(honest(), Vec::new()), Err(ForkError::NoContradiction));
        let divided = vec![reply(1, at(7, "z"), None), reply(2, at(7, "w"), None)];
        assert_eq!(check(honest(), divided), Err(ForkError::NoContradiction), "a side states one history");
        let twice = vec![reply(1, at(7, "z"), None), reply(1, at(7, "z"), None)];
        assert_eq!(check(honest(), twice), Err(ForkError::NoContradiction), "a side's replicas are distinct");
        let forged = Signed::from_parts(reply(1, at(7, "z"), None).bytes().to_vec(), &[0; 64]);
        assert!(matches!(check(honest(), vec![forged]), Err(ForkError::Rejected(_))));
        let stranger = reply(9, at(7, "z"), None);
        assert_eq!(check(honest(), vec![stranger]), Err(ForkError::Stranger(ReplicaId::new(9))));
    }
}
