//! The digest tree of a segment, as it is spoken of between who looks for a difference and who has the bytes.
//!
//! BLAKE3 is a tree over 1 KiB leaves [BLAKE3 paper, section 2.1], so the digest that a tracker voted is a promise about
//! every part of the segment, and no second digest is needed. The tree is cut into levels here: a node of level 0 is a
//! *block* of 64 KiB, one of each next level covers 16 times as much. What a node covers depends on its level and index
//! alone, except that the last one of each level ends where the segment does. So equal nodes of two segments of different
//! lengths have equal values.

use blake3::{
    Hasher,
    hazmat::{self, HasherExt, Mode},
};
use quorate_protocol::digest::Digest;

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
/// Nodes of one level below one of the next, as a power of two.
const FAN_OUT_BITS: u32 = 4;

/// What stands for a node's bytes.
pub(crate) type Value = hazmat::ChainingValue;

/// Bytes that a node of a level covers, unless the segment ends before.
pub(crate) fn reach(level: u32) -> u64 {
    let bits = BLOCK_BYTES.trailing_zeros().saturating_add(level.saturating_mul(FAN_OUT_BITS));
    1u64.checked_shl(bits).unwrap_or(u64::MAX)
}

/// The node above, `levels` higher.
pub(crate) fn above(index: u64, levels: u32) -> u64 {
    index.checked_shr(levels.saturating_mul(FAN_OUT_BITS)).unwrap_or(0)
}

/// The first node one level below.
pub(crate) fn first_below(index: u64) -> u64 {
    index.saturating_mul(1 << FAN_OUT_BITS)
}

/// The level at which one node covers a segment of this length.
pub(crate) fn root_level(length: u64) -> u32 {
    (0..).find(|level| reach(*level) >= length).unwrap_or(u32::MAX)
}

/// What a node covers: first byte and length. `None` when the segment ends before it.
pub(crate) fn span(length: u64, level: u32, index: u64) -> Option<(u64, u64)> {
    let start = index.checked_mul(reach(level))?;
    let rest = length.checked_sub(start)?;
    (rest > 0 || start == 0).then_some((start, rest.min(reach(level))))
}

/// The lengths of the nodes one level below a node, which covers so many bytes.
pub(crate) fn lengths_below(level: u32, covered: u64) -> impl Iterator<Item = u64> {
    let reach = reach(level.saturating_sub(1));
    (0..covered.div_ceil(reach)).map(move |index| reach.min(covered - index * reach))
}

/// The value of bytes that begin at `start` of a segment: a multiple of what their level reaches, and no more than that.
/// They are not empty.
pub(crate) fn value_of(bytes: &[u8], start: u64) -> Value {
    Hasher::new().set_input_offset(start).update(bytes).finalize_non_root()
}

/// The value of a node, from those of all nodes one level below it. There is at least one.
pub(crate) fn merged(level: u32, covered: u64, below: &[Value]) -> Value {
    match below {
        [] => unreachable!("a node has nodes below it"),
        [only] => *only,
        _ => {
            let (left, right) = halves(level, covered, below);
            hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

/// The digest of a segment, from the values of all nodes below its root: at least two.
pub(crate) fn digest(level: u32, length: u64, below: &[Value]) -> Digest {
    let (left, right) = halves(level, length, below);
    hazmat::merge_subtrees_root(&left, &right, Mode::Hash).into()
}

/// The two parts that BLAKE3 makes of a node: the left one is as long as a power of two can be, and not all.
fn halves(level: u32, covered: u64, below: &[Value]) -> (Value, Value) {
    let left = hazmat::left_subtree_len(covered);
    let (first, last) = below.split_at((left / reach(level.saturating_sub(1))) as usize);
    (merged(level, left, first), merged(level, covered - left, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The value of a node by way of all levels below it.
    fn by_levels(bytes: &[u8], level: u32, index: u64) -> Value {
        let (start, covered) = span(bytes.len() as u64, level, index).expect("a node");
        if level == 0 {
            return value_of(&bytes[start as usize..(start + covered) as usize], start);
        }
        merged(level, covered, &below(bytes, level, index))
    }

    fn below(bytes: &[u8], level: u32, index: u64) -> Vec<Value> {
        let (_, covered) = span(bytes.len() as u64, level, index).expect("a node");
        let count = lengths_below(level, covered).count() as u64;
        (0..count).map(|n| by_levels(bytes, level - 1, first_below(index) + n)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_tree_gives_the_digest_that_is_voted(length in prop_oneof![
            1u64..6 << 20,
            (1u64..90, 0u64..3).prop_map(|(blocks, less)| (blocks << 16) + 1 - less),
        ]) {
            let bytes: Vec<u8> = (0..length).map(|n| ((n * n) >> 7) as u8).collect();
            let level = root_level(length);
            let digest = if level == 0 { Digest::of(&bytes) } else { digest(level, length, &below(&bytes, level, 0)) };
            prop_assert_eq!(digest, Digest::of(&bytes));
            // A group is digested as a whole where its blocks are not asked for.
            for index in 0..length.div_ceil(reach(1)) {
                let (start, covered) = span(length, 1, index).expect("a group");
                let whole = value_of(&bytes[start as usize..(start + covered) as usize], start);
                prop_assert_eq!(whole, by_levels(&bytes, 1, index));
            }
        }

        #[test]
        fn no_question_about_nodes_panics(length: u64, level: u32, index: u64) {
            if let Some((start, covered)) = span(length, level, index) {
                prop_assert!(start.checked_add(covered).is_some_and(|end| end <= length));
            }
            let root = root_level(length);
            prop_assert_eq!(span(length, root, 0), Some((0, length)));
            prop_assert!(root <= 12 && above(index, level) <= index);
            prop_assert!(lengths_below(root, length).count() <= 16 || root == 0);
        }
    }

    #[test]
    fn an_empty_segment_has_one_empty_block() {
        assert_eq!((root_level(0), span(0, 0, 0), span(0, 0, 1)), (0, Some((0, 0)), None));
        assert_eq!((root_level(BLOCK_BYTES), root_level(BLOCK_BYTES + 1)), (0, 1));
        assert_eq!((root_level(1 << 30), reach(root_level(1 << 30))), (4, 4 << 30));
    }
}
