//! Where two parts differ first: reduce output, which is voted on as a list of chunks.
//!
//! Chunks with which both lists begin need not be looked at. Of those after them the bytes are fetched, each from the
//! tracker whose vote names it, and checked against their names, until bytes differ.

use super::search::{Shown, quoted, shown_part};
use bytes::Bytes;
use quorate_dfs::{ChunkClient, GetError};
use quorate_protocol::{digest::ChunkId, file::Manifest, ids::TrackerId};

/// Lines are counted when both lists begin with no more than this, in bytes.
const COUNTED_BYTES_MAX: u64 = 16 << 20;
/// What is fetched of parts whose lists cut the same bytes in different places, in bytes.
const FETCHED_BYTES_MAX: u64 = 256 << 20;
/// Bytes before the first difference that are remembered to show its line.
const TAIL_BYTES: usize = 4 << 10;

/// Where two parts differ.
pub(super) struct PartDifference {
    pub(super) byte: u64,
    /// The line, from 1, when it is not too far from the beginning.
    pub(super) line: Option<u64>,
    pub(super) sides: [Shown; 2],
    pub(super) fetched: u64,
}

/// Why parts could not be compared.
#[derive(Debug)]
pub(super) enum PartError {
    /// A tracker did not give a chunk.
    Chunk(TrackerId, GetError),
    /// They have the same bytes for too long.
    Cuts,
}

/// Compares two parts, each of a tracker that voted for it. `None` when they are alike but for where they are cut.
pub(super) async fn compare(
    chunks: &ChunkClient,
    left: (TrackerId, &Manifest),
    right: (TrackerId, &Manifest),
) -> Result<Option<PartDifference>, PartError> {
    let alike = |(one, other): &(&(ChunkId, u32), &(ChunkId, u32))| one == other;
    let common = left.1.chunks.iter().zip(&right.1.chunks).take_while(alike).count();
    let mut ours = Reader::new(chunks, left);
    let mut lines = ours.skip(common).await?;
    let mut theirs = Reader { next: common, ..Reader::new(chunks, right) };
    let (mut byte, mut tail) = (ours.skipped, Vec::new());
    loop {
        let (one, other) = (ours.bytes().await?, theirs.bytes().await?);
        let same = one.iter().zip(other.iter()).take_while(|(one, other)| one == other).count();
        let both = one.get(..same).unwrap_or_default();
        byte += same as u64;
        lines = lines.map(|lines| lines + newlines(both));
        tail.extend_from_slice(both);
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
        if same > 0 && (same == one.len() || same == other.len()) {
            ours.rest = one.slice(same..);
            theirs.rest = other.slice(same..);
            continue;
        }
        if one.is_empty() && other.is_empty() {
            return Ok(None);
        }
        let fetched = ours.fetched + theirs.fetched;
        let sides = [one, other].map(|bytes| shown_line(&tail, bytes.get(same..).unwrap_or_default(), byte));
        return Ok(Some(PartDifference { byte, line: lines.map(|lines| lines + 1), sides, fetched }));
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The line that a byte is in, from what comes before it and from it on.
fn shown_line(tail: &[u8], after: &[u8], byte: u64) -> Shown {
    if after.is_empty() {
        return Shown::Nothing;
    }
    let start = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let begins = start > 0 || byte == tail.len() as u64;
    let end = after.iter().position(|byte| *byte == b'\n').unwrap_or(after.len());
    let before = tail.get(start..).unwrap_or_default();
    let line = [before, after.get(..end).unwrap_or_default()].concat();
    let part = shown_part(&(0..line.len() as u64), before.len() as u64);
    let shown = line.get(part.start as usize..part.end as usize).unwrap_or_default();
    Shown::Text(quoted(shown, part.start > 0 || !begins, part.end < line.len() as u64))
}

/// A part's bytes, chunk by chunk.
struct Reader<'a> {
    chunks: &'a ChunkClient,
    server: TrackerId,
    manifest: &'a Manifest,
    next: usize,
    rest: Bytes,
    skipped: u64,
    fetched: u64,
}

impl<'a> Reader<'a> {
    fn new(chunks: &'a ChunkClient, (server, manifest): (TrackerId, &'a Manifest)) -> Self {
        Self { chunks, server, manifest, next: 0, rest: Bytes::new(), skipped: 0, fetched: 0 }
    }

    /// Goes over chunks that need not be compared, and counts their lines if they are few.
    async fn skip(&mut self, count: usize) -> Result<Option<u64>, PartError> {
        let skipped = self.manifest.chunks.get(..count).unwrap_or_default();
        self.skipped = skipped.iter().map(|(_, length)| u64::from(*length)).sum();
        if self.skipped > COUNTED_BYTES_MAX {
            self.next = count;
            return Ok(None);
        }
        let mut lines = 0;
        while self.next < count {
            lines += newlines(&self.fetch().await?);
        }
        Ok(Some(lines))
    }

    /// What comes next; nothing at the end.
    async fn bytes(&mut self) -> Result<Bytes, PartError> {
        if !self.rest.is_empty() {
            return Ok(std::mem::take(&mut self.rest));
        }
        self.fetch().await
    }

    async fn fetch(&mut self) -> Result<Bytes, PartError> {
        let Some((chunk, length)) = self.manifest.chunks.get(self.next) else { return Ok(Bytes::new()) };
        self.fetched += u64::from(*length);
        if self.fetched > FETCHED_BYTES_MAX {
            return Err(PartError::Cuts);
        }
        self.next += 1;
        let fetched = self.chunks.get(*chunk, *length, &[self.server]).await;
        fetched.map_err(|error| PartError::Chunk(self.server, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_around_the_byte() {
        let text = |tail: &[u8], after: &[u8], byte| shown_line(tail, after, byte).to_string();
        assert_eq!(text(b"", b"a\t1\nb\t2\n", 0), r#""a\t1""#);
        assert_eq!(text(b"x\nab", b"cd\nrest", 4), r#""abcd""#);
        assert_eq!(text(b"ab", b"cd", 4096), r#""…abcd""#);
        assert_eq!(text(b"x\n", b"", 2), "nothing more");
        assert_eq!(text(b"x\n", b"\nmore", 2), r#""""#);
        let long = text(&[b'a'; 200], &[b'b'; 200], 200);
        assert!(long.starts_with("\"…aaaa") && long.ends_with("bbb…\""), "{long}");
    }
}
