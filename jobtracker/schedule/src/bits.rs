//! A set of small numbers as bits: in a set of a million, adding, removing and finding the next one touch a line of memory
//! or two.

use serde::{Deserialize, Serialize};

/// Numbers below a bound that is given when the set is made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bits {
    /// The numbers' bits; then for each word a bit that tells whether it has any, and so on up to a single word.
    levels: Vec<Vec<u64>>,
}

const WORD: usize = u64::BITS as usize;

impl Bits {
    /// The empty set of numbers below `bound`.
    pub(crate) fn none(bound: u32) -> Self {
        let mut levels = Vec::new();
        let mut words = (bound as usize).div_ceil(WORD);
        while words > 0 {
            levels.push(vec![0; words]);
            words = if words == 1 { 0 } else { words.div_ceil(WORD) };
        }
        Self { levels }
    }
    /// All numbers below `bound`.
    pub(crate) fn all(bound: u32) -> Self {
        let mut all = Self::none(bound);
        let mut count = bound as usize;
        for level in &mut all.levels {
            for (at, word) in level.iter_mut().enumerate() {
                let bits = count.saturating_sub(at * WORD).min(WORD);
                *word = if bits == WORD { u64::MAX } else { (1 << bits) - 1 };
            }
            count = level.len();
        }
        all
    }

    /// Adds a number below the bound.
    pub(crate) fn insert(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / WORD) else { return };
            let before = std::mem::replace(word, *word | 1 << (at % WORD));
            if before != 0 {
                return;
            }
            at /= WORD;
        }
    }
    /// Takes a number out.
    pub(crate) fn remove(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / WORD) else { return };
            *word &= !(1 << (at % WORD));
            if *word != 0 {
                return;
            }
            at /= WORD;
        }
    }
    /// Whether a number is in it.
    pub(crate) fn contains(&self, number: u32) -> bool {
        let at = number as usize;
        self.levels.first().and_then(|level| level.get(at / WORD)).is_some_and(|word| word >> (at % WORD) & 1 == 1)
    }
    /// Whether it has no number.
    pub(crate) fn is_empty(&self) -> bool {
        self.levels.last().is_none_or(|top| top.iter().all(|word| *word == 0))
    }

    /// The least number from this one on.
    fn first_from(&self, from: u32) -> Option<u32> {
        let mut at = from as usize;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get(at / WORD)? & (u64::MAX << (at % WORD));
            if word != 0 {
                let top = at / WORD * WORD + word.trailing_zeros() as usize;
                let below = self.levels.get(..height)?.iter().rev();
                let found = below.fold(top, |at, level| at * WORD + level[at].trailing_zeros() as usize);
                return u32::try_from(found).ok();
            }
            at = at / WORD + 1;
        }
        None
    }
    /// All numbers from this one on, in order.
    pub(crate) fn from(&self, from: u32) -> impl Iterator<Item = u32> {
        let next = |number: &u32| number.checked_add(1).and_then(|from| self.first_from(from));
        std::iter::successors(self.first_from(from), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_holds_what_an_ordered_set_holds() {
        for bound in [0, 1, 63, 64, 65, 4095, 4096, 4097, 300_000] {
            assert_eq!(Bits::all(bound).from(0).count(), bound as usize, "all below {bound}");
            let (mut bits, mut set) = (Bits::none(bound), BTreeSet::new());
            let mut number = 1u32;
            for step in 0..2000u32 {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (it, from) = ((number >> 8) % bound.max(1), (number >> 4) % (bound + 2));
                if bound > 0 && step % 3 > 0 {
                    bits.insert(it);
                    set.insert(it);
                } else {
                    bits.remove(it);
                    set.remove(&it);
                }
                assert_eq!((bits.contains(it), bits.is_empty()), (set.contains(&it), set.is_empty()));
                assert!(bits.from(from).take(3).eq(set.range(from..).take(3).copied()), "{bound}: from {from}");
            }
            assert!(bits.from(0).eq(set.iter().copied()), "below {bound}");
            set.iter().for_each(|it| bits.remove(*it));
            assert_eq!(bits, Bits::none(bound));
        }
    }
}
