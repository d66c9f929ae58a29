//! A key in sixteen bytes.
//!
//! A *short* key, of up to 15 bytes, stands in its name itself: padded with zeros and followed by its length. So short keys
//! are equal when two numbers are, and their order is that of two numbers. A longer key lies in an arena, and its name says
//! where.
//!
//! The last byte is the *tag*: the length of a short key, [`LONG`] for others.

use std::hint::select_unpredictable;

/// The longest key that stands in its name, in bytes.
pub(crate) const SHORT_MAX: usize = 15;
/// The tag of a key in the arena.
const LONG: u64 = 0xff;
/// How far the tag is shifted.
const TAG: u32 = 56;
/// Odd numbers with no pattern: digits of pi.
const PI: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345];

/// Which bits of sixteen bytes belong to a short key of each length.
const KEEP: [(u64, u64); SHORT_MAX + 1] = {
    let mut keep = [(0, 0); SHORT_MAX + 1];
    let mut length = 1;
    while length <= SHORT_MAX {
        let (low, high) = keep[length - 1];
        keep[length] = if length <= 8 { (low << 8 | 0xff, high) } else { (low, high << 8 | 0xff) };
        length += 1;
    }
    keep
};

/// A key's name: its bytes, or where they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    /// Bytes 0 to 7 of a short key, or the offset in the arena; the first byte is the lowest.
    low: u64,
    /// Bytes 8 to 14 of a short key, or length and some bits of the hash, below the tag.
    high: u64,
}

impl Name {
    /// The name of a short key; `None` for others.
    #[inline]
    pub(crate) fn short(key: &[u8]) -> Option<Self> {
        if key.len() > SHORT_MAX {
            return None;
        }
        let (low, high) = words(key);
        Some(Self { low, high: high | (key.len() as u64) << TAG })
    }

    /// The name of a short key in a text behind which the text goes on; `None` for others.
    #[inline(always)]
    pub(crate) fn within(text: &[u8], start: usize, end: usize) -> Option<Self> {
        let (low, high) = text.get(start..)?.first_chunk::<16>()?.split_at(8);
        let length = end.wrapping_sub(start);
        let (keep_low, keep_high) = KEEP.get(length)?;
        let word = |half: &[u8]| half.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Some(Self { low: word(low) & keep_low, high: word(high) & keep_high | (length as u64) << TAG })
    }

    /// The name of a key in the arena, without the offset. Keys are shorter than 2^32 bytes.
    pub(crate) fn long(hash: u64, length: usize) -> Self {
        Self { low: 0, high: LONG << TAG | (hash & 0xff_ffff) << 32 | length as u64 }
    }

    /// The same name with its offset.
    pub(crate) fn at(self, offset: usize) -> Self {
        Self { low: offset as u64, high: self.high }
    }

    /// Whether the key lies in the arena.
    #[inline]
    pub(crate) fn is_long(self) -> bool {
        self.high >> TAG == LONG
    }

    /// Whether two short names are the same; a short one and another are not.
    #[inline]
    pub(crate) fn is(self, other: Self) -> bool {
        // One branch, not two.
        (self.low ^ other.low) | (self.high ^ other.high) == 0
    }

    /// Whether this may be the name of the same long key: length and a part of the hash are the same.
    #[inline]
    pub(crate) fn may_be(self, long: Self) -> bool {
        self.high == long.high
    }

    /// A hash of a short name: the halves of a product [wyhash, by Wang Yi]. `high` is never the number it is mixed with,
    /// whose last byte is no tag, so all of `low` counts.
    #[inline]
    pub(crate) fn hash(self) -> u64 {
        let product = u128::from(self.low ^ PI[0]) * u128::from(self.high ^ PI[1]);
        (product >> 64) as u64 ^ product as u64
    }

    /// The key's bytes: from the name, for which there is `room`, or from the arena.
    #[inline]
    pub(crate) fn key<'a>(self, arena: &'a [u8], room: &'a mut [u8; 16]) -> &'a [u8] {
        if self.is_long() {
            let offset = self.low as usize;
            return &arena[offset..offset + (self.high as u32) as usize];
        }
        room[..8].copy_from_slice(&self.low.to_le_bytes());
        room[8..].copy_from_slice(&self.high.to_le_bytes());
        &room[..(self.high >> TAG) as usize]
    }

    /// Two numbers that sort like keys: the first 15 bytes, and the tag. Only long keys can have the same numbers and differ.
    ///
    /// Of short keys that differ in nothing but zeros at the end, the shorter has the smaller tag; a long key comes after its
    /// own beginning, and has the largest one.
    #[inline]
    pub(crate) fn order(self, arena: &[u8]) -> (u64, u64) {
        if !self.is_long() {
            return (self.low.swap_bytes(), self.high.swap_bytes());
        }
        let first = self.key(arena, &mut [0; 16]).first_chunk::<16>().map_or(0, |first| u128::from_be_bytes(*first));
        ((first >> 64) as u64, first as u64 | LONG)
    }
}

/// The bytes of a short key in two numbers, the first byte lowest.
///
/// A text's words have lengths that nobody can foresee, and a wrong guess costs more than all the loads here: so all are
/// done, from something else where the key is too short, and the right ones are selected. Loads overlap; what is loaded twice
/// stands in the same place twice.
#[inline(always)]
fn words(key: &[u8]) -> (u64, u64) {
    let (Some(first), Some(last)) = (key.first(), key.last()) else { return (0, 0) };
    let length = key.len();
    let at = |byte: u8, place: usize| u64::from(byte).wrapping_shl(8 * place as u32);
    let up_to_3 = u64::from(*first) | at(key[length / 2], length / 2) | at(*last, length - 1);
    let four = select_unpredictable(length >= 4, key, &[0; 4]);
    let up_to_8 = match (four.first_chunk(), four.last_chunk()) {
        (Some(first), Some(last)) => {
            let last = u64::from(u32::from_le_bytes(*last));
            u64::from(u32::from_le_bytes(*first)) | last.wrapping_shl(8 * (four.len() - 4) as u32)
        }
        _ => 0,
    };
    let eight = select_unpredictable(length >= 8, key, &[0; 8]);
    let (low, high) = match (eight.first_chunk(), eight.last_chunk()) {
        (Some(first), Some(last)) => {
            let last = u64::from_le_bytes(*last) >> 8;
            (u64::from_le_bytes(*first), last.wrapping_shr(8 * (SHORT_MAX - eight.len()) as u32))
        }
        _ => (0, 0),
    };
    let few = select_unpredictable(length >= 4, up_to_8, up_to_3);
    (select_unpredictable(length >= 8, low, few), high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Ordering;

    /// Keys around the borders, with zeros and the numbers of tags in them.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(16), Just(0xff), any::<u8>()], 0..24)
    }

    fn name(key: &[u8], arena: &mut Vec<u8>) -> Name {
        Name::short(key).unwrap_or_else(|| {
            let offset = arena.len();
            arena.extend_from_slice(key);
            Name::long(17, key.len()).at(offset)
        })
    }

    fn order(a: Name, b: Name, arena: &[u8]) -> Ordering {
        let rest = || a.key(arena, &mut [0; 16]).cmp(b.key(arena, &mut [0; 16]));
        a.order(arena).cmp(&b.order(arena)).then_with(rest)
    }

    proptest! {
        #[test]
        fn a_name_has_its_key_and_sorts_like_it(a in keys(), b in keys(), common in 0usize..20) {
            // Keys with a common beginning meet in all branches.
            let b = [&a[..common.min(a.len())], &b].concat();
            let mut arena = b"before".to_vec();
            let (x, y) = (name(&a, &mut arena), name(&b, &mut arena));
            for (name, key) in [(x, &a), (y, &b)] {
                let mut room = [0; 16];
                prop_assert_eq!(name.key(&arena, &mut room), key);
                prop_assert_eq!(Name::short(key).is_some(), key.len() <= SHORT_MAX);
            }
            prop_assert_eq!(order(x, y, &arena), a.cmp(&b));
            if x.order(&arena) == y.order(&arena) && !x.is_long() {
                prop_assert_eq!(&a, &b);
            }
            let text = [&a[..], &b, &[7; 16]].concat();
            for (start, end) in [(0, a.len()), (a.len(), a.len() + b.len())] {
                let (within, short) = (Name::within(&text, start, end), Name::short(&text[start..end]));
                prop_assert_eq!(within.is_some(), short.is_some());
                prop_assert!(within.zip(short).is_none_or(|(a, b)| a.is(b)));
            }
            if Name::short(&a).is_some() {
                prop_assert_eq!(x.is(y), a == b);
                prop_assert!(!x.may_be(Name::long(17, b.len())));
            }
        }
    }

    #[test]
    fn every_short_length_is_taken_whole() {
        let bytes: Vec<u8> = (1..=16).collect();
        for length in 0..=SHORT_MAX {
            let name = Name::short(&bytes[..length]).expect("short");
            assert_eq!(name.key(&[], &mut [0; 16]), &bytes[..length]);
        }
        assert!(Name::short(&bytes).is_none());
    }
}
