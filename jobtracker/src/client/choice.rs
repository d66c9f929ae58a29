//! Whom a round asks first.
//!
//! f + 1 equal answers decide, so f + 1 replicas are asked first: the primary, which orders, and others in turn, so that
//! each is heard now and then and whoever lies is found. The rest is asked as soon as these fail, do not agree, or take
//! longer than answers usually take; after the latter all are asked at once for some rounds. Nothing here is trusted:
//! a wrong hint costs time.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// How long answers take before that is known.
const USUAL_FIRST: Duration = Duration::from_millis(25);
/// The rest is asked when an answer takes so many times as long as usual.
const PATIENCE_FACTOR: u32 = 4;
/// And not before.
const PATIENCE_MIN: Duration = Duration::from_millis(20);
/// And not later: replicas that wait for the primary must hear of what it withholds.
const PATIENCE_MAX: Duration = Duration::from_millis(500);
/// Rounds in which all are asked after one that took too long.
const WARY_ROUNDS: u32 = 16;

/// What earlier rounds taught.
pub(super) struct Choice {
    turn: AtomicUsize,
    view: AtomicU64,
    wary: AtomicU32,
    usual_us: AtomicU64,
}

impl Choice {
    /// `turn` says where taking turns begins.
    pub(super) fn new(turn: usize) -> Self {
        let usual_us = AtomicU64::new(micros(USUAL_FIRST));
        Self { turn: AtomicUsize::new(turn), view: AtomicU64::new(0), wary: AtomicU32::new(0), usual_us }
    }

    /// All replicas, best first, and how many of them are asked at once. `doubted` are asked last.
    pub(super) fn order(&self, replicas: usize, quorum: usize, doubted: impl Fn(usize) -> bool) -> (Vec<usize>, usize) {
        let (replicas_u64, view) = (replicas.max(1) as u64, self.view.load(Relaxed));
        let primary = (view % replicas_u64) as usize;
        let turn = self.turn.fetch_add(1, Relaxed);
        let mut order: Vec<usize> = (0..replicas).collect();
        order.sort_by_key(|&replica| {
            let away = (replica + replicas - primary) % replicas;
            let waits = away.checked_sub(1).map_or(0, |backup| 1 + (backup + turn) % (replicas - 1));
            (doubted(replica), waits)
        });
        let wary = self.wary.fetch_update(Relaxed, Relaxed, |rounds| rounds.checked_sub(1)).is_ok();
        (order, if wary { replicas } else { quorum.min(replicas) })
    }

    /// How long to wait for those that were asked first.
    pub(super) fn patience(&self) -> Duration {
        (Duration::from_micros(self.usual_us.load(Relaxed)) * PATIENCE_FACTOR).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// Those that were asked first took too long.
    pub(super) fn beware(&self) {
        self.wary.store(WARY_ROUNDS, Relaxed);
    }

    /// A round that took so long ended well; all who agreed are in this view at least.
    pub(super) fn learn(&self, took: Duration, view: u64) {
        self.view.store(view, Relaxed);
        let usual = self.usual_us.load(Relaxed);
        self.usual_us.store(usual - usual / 8 + micros(took.min(PATIENCE_MAX)) / 8, Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_primary_comes_first_and_each_backup_has_its_turn() {
        let choice = Choice::new(7);
        choice.learn(Duration::from_millis(1), 6);
        let orders: Vec<_> = (0..4).map(|_| choice.order(5, 3, |_| false)).collect();
        assert!(orders.iter().all(|(order, first)| order[0] == 1 && *first == 3));
        assert!(orders.iter().all(|(order, _)| order.iter().copied().collect::<BTreeSet<_>>() == (0..5).collect()));
        let second: BTreeSet<usize> = orders.iter().map(|(order, _)| order[1]).collect();
        assert_eq!(second, [0, 2, 3, 4].into());
    }

    #[test]
    fn who_is_doubted_comes_last_even_the_primary() {
        let choice = Choice::new(0);
        for _ in 0..3 {
            assert_eq!(choice.order(3, 2, |replica| replica == 0).0[2], 0);
        }
    }

    #[test]
    fn after_a_slow_round_all_are_asked_for_a_while() {
        let choice = Choice::new(0);
        choice.beware();
        let first: Vec<usize> = (0..=WARY_ROUNDS).map(|_| choice.order(3, 2, |_| false).1).collect();
        assert_eq!(first[..WARY_ROUNDS as usize], vec![3; WARY_ROUNDS as usize]);
        assert_eq!(first.last(), Some(&2));
    }

    #[test]
    fn patience_follows_what_is_usual_within_its_bounds() {
        let choice = Choice::new(0);
        assert_eq!(choice.patience(), USUAL_FIRST * PATIENCE_FACTOR);
        (0..200).for_each(|_| choice.learn(Duration::from_micros(100), 0));
        assert_eq!(choice.patience(), PATIENCE_MIN);
        (0..200).for_each(|_| choice.learn(Duration::MAX, 0));
        assert_eq!(choice.patience(), PATIENCE_MAX);
    }

    #[test]
    fn a_single_replica_is_asked() {
        assert_eq!(Choice::new(9).order(1, 1, |_| false), (vec![0], 1));
    }
}
