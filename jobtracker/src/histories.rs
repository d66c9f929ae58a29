//! The histories that this replica executed, for comparison with what others have seen (fork consistency).

use quorate_protocol::{command::History, digest::Digest};
use quorate_smr::Seq;
use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

/// Histories that are kept: whoever has seen an older one learns nothing here.
const KEPT_MAX: u64 = 4096;

/// The newest histories, shared between the thread that executes and those that answer.
pub(crate) struct Histories(RwLock<Kept>);

struct Kept {
    newest: History,
    digests: BTreeMap<u64, Digest>,
}

/// What a history that somebody has seen is worth here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judgement {
    /// It is one of this replica's, or nothing was seen.
    Confirmed(Option<History>),
    /// It is older than what is kept.
    Unknown,
    /// It is beyond what was executed here.
    Ahead,
    /// It is not the one that was executed here.
    Forked { here: History },
}

impl Judgement {
    /// The replica's own history at that place, if it knows.
    pub(crate) fn confirms(self) -> Option<History> {
        match self {
            Judgement::Confirmed(history) => history,
            Judgement::Forked { here } => Some(here),
            Judgement::Unknown | Judgement::Ahead => None,
        }
    }
}

impl Histories {
    /// Begins with what was executed, and what is known of the time before.
    pub(crate) fn new(newest: quorate_smr::History, known: impl Fn(Seq) -> Option<Digest>) -> Self {
        let histories = Self(RwLock::new(Kept { newest: to_wire(newest), digests: BTreeMap::new() }));
        histories.note(newest, |_| None);
        histories.fill(newest.seq.0.saturating_sub(KEPT_MAX)..newest.seq.0, known);
        histories
    }

    /// Takes over what was executed since. `known` tells the histories in between.
    pub(crate) fn note(&self, newest: quorate_smr::History, known: impl Fn(Seq) -> Option<Digest>) {
        let before = self.newest().ordered;
        let from = before.saturating_add(1).max(newest.seq.0.saturating_sub(KEPT_MAX));
        self.fill(from..newest.seq.0, known);
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.newest = to_wire(newest);
        kept.digests.insert(newest.seq.0, newest.digest);
        while kept.digests.len() as u64 > KEPT_MAX {
            kept.digests.pop_first();
        }
    }

    fn fill(&self, range: std::ops::Range<u64>, known: impl Fn(Seq) -> Option<Digest>) {
        if range.is_empty() {
            return;
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.digests.extend(range.filter_map(|ordered| Some((ordered, known(Seq(ordered))?))));
    }

    /// What was executed last.
    pub(crate) fn newest(&self) -> History {
        self.0.read().unwrap_or_else(PoisonError::into_inner).newest
    }

    /// The history at a place, when it is one of the newest.
    pub(crate) fn at(&self, ordered: u64) -> Option<History> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.digests.get(&ordered).map(|digest| History { ordered, digest: *digest })
    }

    /// Compares with what somebody has seen.
    pub(crate) fn judge(&self, seen: Option<History>) -> Judgement {
        let Some(seen) = seen else { return Judgement::Confirmed(None) };
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match kept.digests.get(&seen.ordered) {
            Some(digest) if *digest == seen.digest => Judgement::Confirmed(Some(seen)),
            Some(digest) => Judgement::Forked { here: History { ordered: seen.ordered, digest: *digest } },
            None if seen.ordered > kept.newest.ordered => Judgement::Ahead,
            None => Judgement::Unknown,
        }
    }
}

/// A history as it travels in replies.
pub(crate) fn to_wire(history: quorate_smr::History) -> History {
    History { ordered: history.seq.0, digest: history.digest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(ordered: u64) -> Digest {
        Digest::of(&ordered.to_le_bytes())
    }
    fn history(ordered: u64) -> quorate_smr::History {
        quorate_smr::History { seq: Seq(ordered), digest: digest(ordered) }
    }
    fn seen(ordered: u64) -> Option<History> {
        Some(History { ordered, digest: digest(ordered) })
    }

    #[test]
    fn what_was_seen_is_confirmed_or_a_fork_or_unknown() {
        let histories = Histories::new(history(10), |seq| (seq.0 >= 8).then(|| digest(seq.0)));
        assert_eq!(histories.judge(None), Judgement::Confirmed(None));
        for known in 8..=10 {
            assert_eq!(histories.judge(seen(known)), Judgement::Confirmed(seen(known)));
        }
        assert_eq!(histories.judge(seen(7)), Judgement::Unknown);
        assert_eq!(histories.judge(seen(11)), Judgement::Ahead);
        let other = Some(History { ordered: 9, digest: digest(0) });
        let here = History { ordered: 9, digest: digest(9) };
        assert_eq!(histories.judge(other), Judgement::Forked { here });
        assert_eq!(histories.judge(other).confirms(), Some(here));
    }

    #[test]
    fn histories_in_between_are_taken_over_and_all_are_bounded() {
        let histories = Histories::new(history(0), |_| None);
        histories.note(history(5), |seq| Some(digest(seq.0)));
        assert!((0..=5).all(|ordered| histories.judge(seen(ordered)) == Judgement::Confirmed(seen(ordered))));
        let far = 5 + 3 * KEPT_MAX;
        histories.note(history(far), |seq| Some(digest(seq.0)));
        assert_eq!(histories.newest(), seen(far).expect("some"));
        assert_eq!(histories.judge(seen(5)), Judgement::Unknown);
        assert_eq!(histories.judge(seen(far - KEPT_MAX)), Judgement::Unknown, "one beyond the bound");
        assert_eq!(histories.judge(seen(far - KEPT_MAX + 1)), Judgement::Confirmed(seen(far - KEPT_MAX + 1)));
    }
}
