//! Lines of text, plain or compressed.
//!
//! A line starts at the file's beginning and after each LF, and ends before the next LF or at the file's end; one CR before
//! the LF belongs to the end. A plain file can be split anywhere: a split gives the lines whose first byte lies in it. So
//! a reader looks at the byte before its split to learn whether a line starts there, and reads over its end to finish
//! the last line. A compressed file is one split.

use super::{
    bad_input,
    chunks::{Chunks, task_error},
};
use crate::program::{InputSource, MapTask, TaskError, Watch};
use flate2::read::MultiGzDecoder;
use std::{io::Read, ops::Range};

/// The longest line, in bytes without its end.
pub const LINE_BYTES_MAX: usize = 64 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes read at once beyond the split, where only the rest of a line is wanted.
const BEYOND_BYTES: u64 = 64 << 10;

/// Gives the lines of a split, one by one or in blocks of whole lines.
pub struct LineReader<'a> {
    bytes: Box<dyn Read + 'a>,
    path: String,
    buffer: Vec<u8>,
    /// `start..filled` of the buffer is read and not given out.
    start: usize,
    filled: usize,
    /// Where the buffer begins in the text.
    base: u64,
    /// Lines that start here or later belong to others.
    end: u64,
    at_end: bool,
    records: u64,
}

impl<'a> LineReader<'a> {
    /// A reader of the task's split.
    ///
    /// # Errors
    /// [`TaskError::Machine`] when chunks cannot be had, [`TaskError::Program`] when the text cannot be decompressed.
    pub fn open(task: &MapTask, source: &'a mut dyn InputSource, watch: &'a Watch) -> Result<Self, TaskError> {
        let mut chunks = Chunks::new(task, source, watch);
        let path = task.path.clone();
        let split = task.split;
        if path.ends_with(".gz") {
            return Ok(Self::new(Box::new(MultiGzDecoder::new(chunks)), path, 0, u64::MAX, BUFFER_BYTES));
        }
        if path.ends_with(".zst") {
            let decoder = zstd::Decoder::new(chunks).map_err(|e| task_error(e, &path))?;
            return Ok(Self::new(Box::new(decoder), path, 0, u64::MAX, BUFFER_BYTES));
        }
        let start = split.start.saturating_sub(1);
        chunks.seek(start);
        let mut reader = Self::new(Box::new(chunks), path, start, split.end, BUFFER_BYTES);
        if split.start > 0 {
            reader.skip_line()?;
        }
        Ok(reader)
    }

    fn new(bytes: Box<dyn Read + 'a>, path: String, base: u64, end: u64, buffer_bytes: usize) -> Self {
        let buffer = vec![0; buffer_bytes];
        Self { bytes, path, buffer, start: 0, filled: 0, base, end, at_end: false, records: 0 }
    }

    /// The next line, without its end. It lies in the reader's buffer.
    ///
    /// # Errors
    /// [`TaskError::Program`] for a line above [`LINE_BYTES_MAX`] and for damaged compressed text,
    /// [`TaskError::Machine`] when chunks cannot be had, [`TaskError::Cancelled`].
    #[inline]
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, TaskError> {
        if self.base + self.start as u64 >= self.end {
            return Ok(None);
        }
        let Some(line) = self.find_line()? else { return Ok(None) };
        self.records += 1;
        Ok(Some(&self.buffer[line]))
    }

    /// A block of whole lines with their ends, as long as the buffer has; the split's last line may be without one. For
    /// mappers that do their own cutting. Where blocks begin depends on the split and its bytes, not on chunks.
    ///
    /// # Errors
    /// As [`LineReader::next_line`].
    pub fn next_block(&mut self) -> Result<Option<&[u8]>, TaskError> {
        if self.base + self.start as u64 >= self.end {
            return Ok(None);
        }
        let block = loop {
            if let Some(end) = self.block_end() {
                break self.start..end;
            }
            if self.at_end {
                break self.start..self.filled;
            }
            let line = memchr::memrchr(b'\n', &self.buffer[self.start..self.filled]);
            self.check_length(self.start + line.map_or(0, |at| at + 1))?;
            self.fill()?;
        };
        if block.is_empty() {
            return Ok(None);
        }
        self.start = block.end;
        let block = &self.buffer[block];
        let open = u64::from(block.last() != Some(&b'\n'));
        self.records += memchr::memchr_iter(b'\n', block).count() as u64 + open;
        Ok(Some(block))
    }

    /// The number of the line given last in this split, from 0; for a block, of its last line.
    pub fn record(&self) -> Option<u64> {
        self.records.checked_sub(1)
    }

    /// The end of the block at `start`: of the line that holds the split's last byte, or else of the last whole line in a
    /// buffer that has no room for more.
    fn block_end(&self) -> Option<usize> {
        let last_byte = usize::try_from(self.end - 1 - self.base).ok().filter(|last| *last < self.filled);
        if let Some(last) = last_byte {
            return memchr::memchr(b'\n', &self.buffer[last..self.filled]).map(|at| last + at + 1);
        }
        if !self.at_end && self.filled < self.buffer.len() {
            return None;
        }
        memchr::memrchr(b'\n', &self.buffer[self.start..self.filled]).map(|at| self.start + at + 1)
    }

    /// Finds the line at `start`, reading on as needed, and goes behind it.
    #[inline]
    fn find_line(&mut self) -> Result<Option<Range<usize>>, TaskError> {
        let mut searched = 0;
        loop {
            let have = &self.buffer[self.start..self.filled];
            if let Some(at) = memchr::memchr(b'\n', &have[searched..]) {
                let length = searched + at;
                let line = self.start..self.start + length;
                self.start = line.end + 1;
                let text = &self.buffer[line.clone()];
                let line = line.start..line.end - usize::from(text.last() == Some(&b'\r'));
                return self.checked(line).map(Some);
            }
            searched = have.len();
            if self.at_end {
                let line = self.start..self.filled;
                self.start = self.filled;
                return self.checked(line).map(|line| (!line.is_empty()).then_some(line));
            }
            self.check_length(self.start)?;
            self.fill()?;
        }
    }

    /// Goes behind the first LF: what is before it belongs to a line of the split before.
    fn skip_line(&mut self) -> Result<(), TaskError> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.start..self.filled]) {
                self.start += at + 1;
                return Ok(());
            }
            self.start = self.filled;
            if self.at_end || self.base + self.start as u64 >= self.end {
                return Ok(());
            }
            self.fill()?;
        }
    }

    #[inline]
    fn checked(&self, line: Range<usize>) -> Result<Range<usize>, TaskError> {
        if line.len() > LINE_BYTES_MAX { Err(self.too_long(line.start)) } else { Ok(line) }
    }

    /// Refuses to read on when the line at `start` is too long already, with room for a CR.
    fn check_length(&self, start: usize) -> Result<(), TaskError> {
        if self.filled - start > LINE_BYTES_MAX + 1 { Err(self.too_long(start)) } else { Ok(()) }
    }

    #[cold]
    fn too_long(&self, start: usize) -> TaskError {
        let offset = self.base + start as u64;
        let message = format!("{}: the line at byte {offset} is longer than {LINE_BYTES_MAX} bytes", self.path);
        bad_input(Some(self.records), message)
    }

    /// Reads more, keeping what was not given out.
    #[cold]
    fn fill(&mut self) -> Result<(), TaskError> {
        if self.filled == self.buffer.len() {
            if self.start == 0 {
                // Never larger than the longest line with its end, which `check_length` has seen not to be there.
                self.buffer.resize((2 * self.buffer.len()).min(LINE_BYTES_MAX + 2), 0);
            }
            self.buffer.copy_within(self.start..self.filled, 0);
            self.base += self.start as u64;
            self.filled -= self.start;
            self.start = 0;
        }
        let position = self.base + self.filled as u64;
        let wanted = if position < self.end { self.end - position } else { BEYOND_BYTES };
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.buffer.len() - self.filled);
        let room = &mut self.buffer[self.filled..self.filled + wanted];
        let read = self.bytes.read(room).map_err(|e| task_error(e, &self.path))?;
        self.filled += read;
        self.at_end = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::chunks::tests::{TestSource, Unavailable, map_task};
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use quorate_protocol::vote::FailureKind;
    use std::io::Write;

    /// The reference: what the module's text says, said in another way.
    fn reference(text: &[u8]) -> Vec<Vec<u8>> {
        let mut lines: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for line in &mut lines {
            if line.ends_with(b"\r\n") {
                line.truncate(line.len() - 2);
            } else if line.ends_with(b"\n") {
                line.truncate(line.len() - 1);
            }
        }
        lines
    }

    fn lines_of(reader: &mut LineReader<'_>) -> Result<Vec<Vec<u8>>, TaskError> {
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line()? {
            lines.push(line.to_vec());
            assert_eq!(reader.record(), Some(lines.len() as u64 - 1));
        }
        Ok(lines)
    }

    fn blocks_of(reader: &mut LineReader<'_>) -> Vec<Vec<u8>> {
        let mut text = Vec::new();
        while let Some(block) = reader.next_block().expect("read") {
            assert!(!block.is_empty());
            text.extend_from_slice(block);
        }
        let lines = reference(&text);
        assert_eq!(reader.record(), (lines.len() as u64).checked_sub(1));
        lines
    }

    /// A reader with a buffer so small that lines are cut by it.
    fn small<'a>(
        source: &'a mut TestSource,
        watch: &'a Watch,
        split: Range<u64>,
        buffer_bytes: usize,
    ) -> LineReader<'a> {
        let mut chunks = Chunks::new(&map_task("/f", split.start, split.end), source, watch);
        let start = split.start.saturating_sub(1);
        chunks.seek(start);
        let mut reader = LineReader::new(Box::new(chunks), "/f".to_owned(), start, split.end, buffer_bytes);
        if split.start > 0 {
            reader.skip_line().expect("read");
        }
        reader
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "[a-z]{0,6}".prop_map(String::into_bytes),
            2 => Just(b"\n".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => "[a-z]{10,40}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn splits_give_each_line_once(
            text in text(),
            chunks in prop::collection::vec(1usize..30, 1..4),
            cuts in prop::collection::vec(0u64..200, 0..6),
            buffer in 1usize..40,
        ) {
            let total = text.len() as u64;
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(total)).chain([0, total]).collect();
            cuts.sort_unstable();
            let (mut lines, mut small_lines, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
            for pair in cuts.windows(2) {
                let (mut source, watch) = (TestSource::new(&text, &chunks), Watch::default());
                let task = map_task("/f", pair[0], pair[1]);
                lines.extend(lines_of(&mut LineReader::open(&task, &mut source, &watch).expect("opened")).expect("read"));
                let split = pair[0]..pair[1];
                small_lines.extend(lines_of(&mut small(&mut source, &watch, split.clone(), buffer)).expect("read"));
                blocks.extend(blocks_of(&mut small(&mut source, &watch, split, buffer)));
            }
            let reference = reference(&text);
            prop_assert_eq!(&lines, &reference);
            prop_assert_eq!(&small_lines, &reference);
            prop_assert_eq!(&blocks, &reference);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn blocks_begin_at_the_same_places_for_any_chunks(
            text in text(),
            chunks in prop::collection::vec(1usize..30, 1..4),
            ends in (0u64..200, 0u64..200),
            buffer in 1usize..40,
        ) {
            let end = ends.0.max(ends.1).min(text.len() as u64);
            let split = ends.0.min(ends.1).min(end)..end;
            let blocks = |chunks: &[usize]| {
                let (mut source, watch) = (TestSource::new(&text, chunks), Watch::default());
                let mut reader = small(&mut source, &watch, split.clone(), buffer);
                let mut blocks = Vec::new();
                while let Some(block) = reader.next_block().expect("read") {
                    blocks.push(block.to_vec());
                }
                blocks
            };
            prop_assert_eq!(blocks(&chunks), blocks(&[1000]));
        }
    }

    #[test]
    fn only_the_chunks_of_a_split_are_read() {
        let text = "0123456\n".repeat(8);
        let (mut source, watch) = (TestSource::new(text.as_bytes(), &[16]), Watch::default());
        let task = map_task("/f", 17, 30);
        let lines = lines_of(&mut LineReader::open(&task, &mut source, &watch).expect("opened")).expect("read");
        assert_eq!(lines.len(), 1);
        assert_eq!(source.asked, [1]);
    }

    #[test]
    fn of_the_chunks_beside_a_split_no_more_is_read_than_shows_where_its_lines_begin_and_end() {
        let text = "0123456789\n".repeat(9);
        let (mut source, watch) = (TestSource::new(text.as_bytes(), &[16]), Watch::default());
        let task = map_task("/f", 16, 48);
        let lines = lines_of(&mut LineReader::open(&task, &mut source, &watch).expect("opened")).expect("read");
        assert_eq!(lines.len(), 3);
        assert_eq!((source.parts, source.asked), (vec![(0, 15..16), (3, 0..16)], vec![1, 2]));
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("written");
        encoder.finish().expect("written")
    }

    fn compressed(path: &str, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TaskError> {
        let (mut source, watch) = (TestSource::new(bytes, &[1000]), Watch::default());
        let task = map_task(path, 0, bytes.len() as u64);
        lines_of(&mut LineReader::open(&task, &mut source, &watch)?)
    }

    #[test]
    fn compressed_text_is_read_whole() {
        let text: String = (0..5000).map(|n| format!("line {n}\r\n")).collect();
        let (head, tail) = text.as_bytes().split_at(12_345);
        let members = [gzip(head), gzip(tail)].concat();
        assert_eq!(compressed("/f.gz", &members).expect("gzip"), reference(text.as_bytes()));
        let frames = [head, tail].map(|part| zstd::encode_all(part, 3).expect("encoded")).concat();
        assert_eq!(compressed("/f.zst", &frames).expect("zstd"), reference(text.as_bytes()));
    }

    #[test]
    fn damaged_compressed_text_is_bad_input_of_that_file() {
        let text: String = (0..5000).map(|n| format!("line {n}\n")).collect();
        // Only a frame with a checksum shows every damage.
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
        encoder.include_checksum(true).expect("a checksum");
        encoder.write_all(text.as_bytes()).expect("written");
        let zstandard = encoder.finish().expect("written");
        for (path, good) in [("/dir/f.gz", gzip(text.as_bytes())), ("/dir/f.zst", zstandard)] {
            let mut flipped = good.clone();
            flipped[good.len() / 2] ^= 0x55;
            for damaged in [&good[..good.len() - 3], &flipped, b"no such format"] {
                match compressed(path, damaged).map(|lines| lines.len()) {
                    Err(TaskError::Program { kind: FailureKind::BadInput, message, .. }) => {
                        assert!(message.starts_with(path), "{message}");
                    }
                    other => panic!("{path}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_chunk_that_cannot_be_had_is_the_machines_failure() {
        for path in ["/f", "/f.gz", "/f.zst"] {
            let watch = Watch::default();
            let mut source = Unavailable;
            let task = map_task(path, 0, 100);
            let lines = LineReader::open(&task, &mut source, &watch).and_then(|mut reader| lines_of(&mut reader));
            assert!(matches!(lines, Err(TaskError::Machine { .. })), "{path}");
        }
    }

    #[test]
    fn the_longest_line_is_read_and_a_longer_one_refused() {
        for (extra, end, accepted) in [(0, "\r\n", true), (0, "", true), (1, "\n", false), (1, "", false)] {
            let mut text = b"first\n".to_vec();
            text.resize(6 + LINE_BYTES_MAX + extra, b'x');
            text.extend_from_slice(end.as_bytes());
            let (mut source, watch) = (TestSource::new(&text, &[48 << 20]), Watch::default());
            let task = map_task("/f", 0, text.len() as u64);
            let mut reader = LineReader::open(&task, &mut source, &watch).expect("opened");
            assert_eq!(reader.next_line().expect("first"), Some(&b"first"[..]));
            match reader.next_line() {
                Ok(line) => assert!(accepted && line.map(<[u8]>::len) == Some(LINE_BYTES_MAX)),
                Err(error) => {
                    assert!(!accepted);
                    let expected = "/f: the line at byte 6 is longer than 67108864 bytes";
                    assert_eq!(error.to_string(), expected);
                }
            }
        }
    }
}
