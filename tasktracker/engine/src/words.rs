//! The words of a text: what stands between ASCII whitespace.
//!
//! Whitespace is found for 64 bytes at a time, as bits of a number, by code that a compiler turns into vector instructions
//! and that gives the same on every machine. So looking for words costs a few instructions for each, and no guess about
//! their lengths.

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// The words of a text, as [`u8::is_ascii_whitespace`] separates them: the same as
/// `text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())`, and several times as fast.
///
/// ```
/// use quorate_engine::words::words;
/// assert!(words(b"to be,\r\n\tor ").eq([&b"to"[..], b"be,", b"or"]));
/// ```
#[inline]
pub fn words(text: &[u8]) -> Words<'_> {
    Words { text, base: 0, next: 0, edges: 0, after_space: true }
}

/// An iterator over words, made by [`words`].
#[derive(Clone, Debug)]
pub struct Words<'a> {
    text: &'a [u8],
    /// Where the block begins that `edges` is about, and the one after it.
    base: usize,
    next: usize,
    /// Bits for the bytes of the block at which words begin or have ended, and that were not given yet.
    edges: u64,
    /// Whether the byte before the next block is whitespace; so it is before the text.
    after_space: bool,
}

impl<'a> Words<'a> {
    /// The text.
    #[inline(always)]
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Where the next word begins and ends.
    #[inline(always)]
    pub(crate) fn next_span(&mut self) -> Option<(usize, usize)> {
        let start = self.edge()?;
        Some((start, self.edge().unwrap_or(self.text.len())))
    }

    #[inline(always)]
    fn edge(&mut self) -> Option<usize> {
        while self.edges == 0 {
            if self.next >= self.text.len() {
                return None;
            }
            self.look();
        }
        let at = self.base + self.edges.trailing_zeros() as usize;
        self.edges &= self.edges - 1;
        Some(at)
    }

    /// Looks at the next block.
    #[inline(always)]
    fn look(&mut self) {
        let rest = self.text.get(self.next..).unwrap_or_default();
        let space = match rest.first_chunk() {
            Some(block) => spaces(block),
            None => self.last_spaces(rest),
        };
        self.edges = space ^ (space << 1 | u64::from(self.after_space));
        self.after_space = space >> (BLOCK - 1) == 1;
        (self.base, self.next) = (self.next, self.next + BLOCK);
    }

    /// The bits of a block that the text ends in. Behind the text is whitespace.
    #[inline]
    fn last_spaces(&self, rest: &[u8]) -> u64 {
        let behind = u64::MAX.unbounded_shl(rest.len() as u32);
        match self.text.last_chunk() {
            Some(block) => spaces(block).unbounded_shr((BLOCK - rest.len()) as u32) | behind,
            None => {
                let mut block = [b' '; BLOCK];
                block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                spaces(&block)
            }
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (start, end) = self.next_span()?;
        self.text.get(start..end)
    }
}

impl std::iter::FusedIterator for Words<'_> {}

/// A bit for each byte that is whitespace.
#[inline]
fn spaces(block: &[u8; BLOCK]) -> u64 {
    let mut ones = [0; BLOCK];
    for (one, byte) in ones.iter_mut().zip(block) {
        *one = u8::from(byte.is_ascii_whitespace());
    }
    // The product has the lowest bits of all eight bytes in its highest byte: each is shifted there by one of the factor's bits.
    let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    ones.as_chunks().0.iter().rev().fold(0, |all, eight| all << 8 | bits(eight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
        text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => "[a-z]{1,9}".prop_map(String::into_bytes),
            3 => Just(b" ".to_vec()),
            1 => "[ \t\r\n\u{c}\u{b}]{1,3}".prop_map(String::into_bytes),
            1 => "[a-z ]{50,80}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 1..5),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn words_are_what_split_gives(text in text()) {
            // All beginnings of the text end in all places of a block.
            for end in text.len().saturating_sub(70)..=text.len() {
                prop_assert!(words(&text[..end]).eq(split(&text[..end])), "the first {} bytes", end);
            }
        }
    }

    #[test]
    fn each_byte_is_whitespace_or_not_in_each_place() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                let mut block = [b'x'; BLOCK];
                block[at] = byte;
                assert_eq!(spaces(&block), u64::from(byte.is_ascii_whitespace()) << at);
            }
        }
    }

    #[test]
    fn long_words_and_long_gaps_go_over_several_blocks() {
        for n in [1, 63, 64, 65, 127, 128, 129, 1000] {
            let text = [b" ".repeat(n), b"a".repeat(n), b" ".repeat(n), b"b".repeat(n)].concat();
            assert!(words(&text).eq(split(&text)), "{n}");
        }
        assert_eq!(words(b"").next(), None);
    }
}
