//! Pieces: parts of a chunk that are verified without the rest of it.
//!
//! A chunk's name is the root of BLAKE3's hash tree over its bytes [BLAKE3, 2.1]. Its subtrees of 64 KiB are *pieces*, the
//! last one shorter. With a piece comes its *proof*: the hashes of the subtrees beside its way up to the root, the one at the
//! root first, which are ten of the largest chunk. Whoever knows the chunk's name and length works the root out of both.
//!
//! What must hold:
//! * PIECE-1: what [`is_piece`] accepts is that part of the only chunk with that name and length that anybody can find. It
//!   takes any bytes without a panic.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use quorate_protocol::{
    digest::{ChunkId, Digest},
    spent,
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes in a piece, but for the last one of a chunk.
pub const PIECE_BYTES: u64 = 64 << 10;
/// Pieces whose hashes are remembered in all, of 32 bytes each: those of 16 GiB of chunks.
const REMEMBERED_MAX: usize = 1 << 18;

/// The bytes of a chunk that are one of its pieces; `None` when a chunk of this length has no such piece.
pub(crate) fn range(length: u64, piece: u32) -> Option<Range<u64>> {
    let start = u64::from(piece) * PIECE_BYTES;
    (start < length).then(|| start..length.min(start + PIECE_BYTES))
}

/// The hashes of a chunk's pieces, in order: the tree down to there.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Tree {
    length: u64,
    pieces: Vec<ChainingValue>,
}

/// Makes a [`Tree`] of bytes that come one after the other.
pub(crate) struct TreeBuilder(Tree);

impl TreeBuilder {
    pub(crate) fn new() -> Self {
        Self(Tree { length: 0, pieces: Vec::new() })
    }

    /// Takes the next bytes: whole pieces, unless they are the last.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let Tree { length, pieces } = &mut self.0;
        assert!(length.is_multiple_of(PIECE_BYTES), "only the last piece is shorter");
        for piece in bytes.chunks(PIECE_BYTES as usize) {
            pieces.push(hash(piece, *length));
            *length += piece.len() as u64;
        }
    }

    /// The chunk's name and tree. Of a chunk that is a single piece, the hash as a piece is no part of the name: so the bytes
    /// that were added last are given once more.
    pub(crate) fn finish(self, last: &[u8]) -> (ChunkId, Tree) {
        let Self(tree) = self;
        let name = if tree.length <= PIECE_BYTES { Digest::of(last) } else { tree.root() };
        (ChunkId(name), tree)
    }
}

impl Tree {
    /// The name and the tree of a chunk.
    pub(crate) fn of(bytes: &[u8]) -> (ChunkId, Self) {
        let mut builder = TreeBuilder::new();
        builder.add(bytes);
        builder.finish(bytes)
    }

    /// The chunk's length.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    fn root(&self) -> Digest {
        let left = left_subtree_len(self.length);
        let (left, right) = (self.node(0..left), self.node(left..self.length));
        merge_subtrees_root(&left, &right, Mode::Hash).into()
    }

    /// The hash of an inner node, by the bytes under it.
    fn node(&self, Range { start, end }: Range<u64>) -> ChainingValue {
        if end - start <= PIECE_BYTES {
            return self.pieces[(start / PIECE_BYTES) as usize];
        }
        let middle = start + left_subtree_len(end - start);
        merge_subtrees_non_root(&self.node(start..middle), &self.node(middle..end), Mode::Hash)
    }

    /// The proof of a piece that the chunk has.
    pub(crate) fn proof(&self, piece: u32) -> Vec<u8> {
        way_down(self.length, piece).into_iter().flat_map(|(_, beside)| self.node(beside)).collect()
    }
}

/// The hash of a piece of a longer chunk.
fn hash(piece: &[u8], offset: u64) -> ChainingValue {
    blake3::Hasher::new().set_input_offset(offset).update(piece).finalize_non_root()
}

/// The way from the root to a piece: at each node whether it goes to the left, and the bytes beside it.
fn way_down(length: u64, piece: u32) -> Vec<(bool, Range<u64>)> {
    let wanted = u64::from(piece) * PIECE_BYTES;
    let (mut start, mut end, mut way) = (0, length, Vec::new());
    while end - start > PIECE_BYTES {
        let middle = start + left_subtree_len(end - start);
        let is_left = wanted < middle;
        way.push((is_left, if is_left { middle..end } else { start..middle }));
        (start, end) = if is_left { (start, middle) } else { (middle, end) };
    }
    way
}

/// Whether bytes are a piece of the chunk with this name and length. [PIECE-1]
pub(crate) fn is_piece(chunk: ChunkId, length: u64, piece: u32, bytes: &[u8], proof: &[u8]) -> bool {
    let Some(range) = range(length, piece) else { return false };
    let way = way_down(length, piece);
    let (beside, rest) = proof.as_chunks::<32>();
    if bytes.len() as u64 != range.end - range.start || beside.len() != way.len() || !rest.is_empty() {
        return false;
    }
    spent::read(bytes.len() as u64);
    if way.is_empty() {
        return Digest::of(bytes) == chunk.0;
    }
    let mut node = hash(bytes, range.start);
    for (depth, ((is_left, _), beside)) in way.iter().zip(beside).enumerate().rev() {
        let (left, right) = if *is_left { (&node, beside) } else { (beside, &node) };
        if depth == 0 {
            return Digest::from(merge_subtrees_root(left, right, Mode::Hash)) == chunk.0;
        }
        node = merge_subtrees_non_root(left, right, Mode::Hash);
    }
    false
}

/// The trees of the chunks that were digested last, so that giving a piece does not take digesting the chunk again. They are
/// no word on what a disk holds now: what is read there is checked against them.
#[derive(Debug, Default)]
pub(crate) struct Trees(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    trees: BTreeMap<ChunkId, Arc<Tree>>,
    /// Their order, the oldest first.
    order: VecDeque<ChunkId>,
    pieces: usize,
}

impl Trees {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        // Nothing under this lock can panic but an allocation, which ends the process.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, chunk: ChunkId) -> Option<Arc<Tree>> {
        self.lock().trees.get(&chunk).cloned()
    }

    pub(crate) fn keep(&self, chunk: ChunkId, tree: Tree) -> Arc<Tree> {
        let tree = Arc::new(tree);
        let mut kept = self.lock();
        let Remembered { trees, order, pieces } = &mut *kept;
        if trees.insert(chunk, Arc::clone(&tree)).is_none() {
            order.push_back(chunk);
            *pieces += tree.pieces.len();
        }
        while *pieces > REMEMBERED_MAX
            && let Some(oldest) = order.pop_front()
        {
            *pieces -= trees.remove(&oldest).map_or(0, |tree| tree.pieces.len());
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const P: u64 = PIECE_BYTES;

    fn bytes(length: u64) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8 ^ (n / P) as u8).collect()
    }

    fn part(bytes: &[u8], range: Range<u64>) -> &[u8] {
        &bytes[range.start as usize..range.end as usize]
    }

    #[test]
    fn every_piece_is_proven_and_nothing_else() {
        for length in [0, 1, 1024, P - 1, P, P + 1, 2 * P, 3 * P - 7, 4 * P, 5 * P + 1025, 64 * P, 67 * P + 3] {
            let all = bytes(length);
            let (name, tree) = Tree::of(&all);
            assert_eq!((name, tree.length()), (ChunkId(Digest::of(&all)), length));
            let count = length.div_ceil(P) as u32;
            for piece in (0..count).filter(|piece| *piece < 6 || count - piece < 3) {
                let (data, proof) = (part(&all, range(length, piece).expect("a piece")), tree.proof(piece));
                assert!(is_piece(name, length, piece, data, &proof), "{piece} of {length}");
                assert!(!is_piece(name, length, piece + 1, data, &proof), "it is no other piece");
                assert!(!is_piece(name, length + 1, piece, data, &proof) || length > P, "the length counts");
                let mut wrong = data.to_vec();
                wrong[data.len() / 2] ^= 1;
                assert!(!is_piece(name, length, piece, &wrong, &proof));
                assert!(!is_piece(ChunkId(Digest::of(b"another")), length, piece, data, &proof));
                if let Some(last) = proof.len().checked_sub(1) {
                    let mut wrong = proof.clone();
                    wrong[last] ^= 1;
                    assert!(!is_piece(name, length, piece, data, &wrong));
                    assert!(!is_piece(name, length, piece, data, &proof[..last]));
                }
                assert!(!is_piece(name, length, piece, data, &[&proof[..], &[0; 32]].concat()));
            }
            assert_eq!(range(length, count), None);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(
            length: u64,
            piece: u32,
            data in prop::collection::vec(any::<u8>(), 0..9),
            proof in prop::collection::vec(any::<u8>(), 0..99),
        ) {
            let name = ChunkId(Digest::of(b"a chunk"));
            prop_assert!(!is_piece(name, length % (64 << 20), piece, &data, &proof));
        }
    }

    #[test]
    fn so_many_trees_are_remembered_and_no_more() {
        let trees = Trees::default();
        let name = |n: u32| ChunkId(Digest::of(&n.to_le_bytes()));
        let tree = Tree { length: P, pieces: vec![[0; 32]; REMEMBERED_MAX / 4] };
        for n in 0..5 {
            trees.keep(name(n), tree.clone());
            trees.keep(name(n), tree.clone());
        }
        let there: Vec<bool> = (0..5).map(|n| trees.get(name(n)).is_some()).collect();
        assert_eq!(there, [false, true, true, true, true]);
    }
}
