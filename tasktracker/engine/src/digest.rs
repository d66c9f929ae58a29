//! Digests of segments and files, taken by the tracker over what user code left behind.

use crate::program::Span;
use quorate_protocol::{digest::Digest, spent, vote::Segment};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes read and hashed at once.
const BLOCK_BYTES: u64 = 1 << 20;

/// The segments of a map attempt's data file, one for each span.
///
/// # Errors
/// When the file cannot be read, and `UnexpectedEof` when a span reaches over its end: spans are the word of user code.
pub fn digest_spans(data: &Path, spans: &[Span]) -> io::Result<Vec<Segment>> {
    let segment = |span: &Span| {
        let digest = digest_file(data, span.offset, span.length)?;
        Ok(Segment { digest, length: span.length, records: span.records })
    };
    spans.par_iter().map(segment).collect()
}

/// The digest of `length` bytes of a file from `offset` on.
///
/// # Errors
/// When the file cannot be read, and `UnexpectedEof` when it is too short.
pub fn digest_file(path: &Path, offset: u64, length: u64) -> io::Result<Digest> {
    if length == 0 {
        return Ok(Digest::of(&[]));
    }
    spent::digested(length);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; length.min(BLOCK_BYTES) as usize];
    let mut left = length;
    while left > 0 {
        let block = &mut block[..left.min(BLOCK_BYTES) as usize];
        file.read_exact(block)?;
        hasher.update_rayon(block);
        left -= block.len() as u64;
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_digests_of_their_bytes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data");
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES as usize + 17).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).expect("written");
        let span = |offset, length| Span { offset, length, records: 3 };
        let cut = 2 * BLOCK_BYTES + 5;
        let spans = [span(0, 0), span(0, cut), span(cut, bytes.len() as u64 - cut)];
        let segments = digest_spans(&path, &spans).expect("digests");
        let (first, last) = bytes.split_at(cut as usize);
        let expected = [&[], first, last].map(Digest::of);
        assert_eq!(segments.iter().map(|s| s.digest).collect::<Vec<_>>(), expected);
        assert_eq!(segments[2].length, last.len() as u64);
        let beyond = digest_spans(&path, &[span(cut, bytes.len() as u64)]).expect_err("too long");
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
