//! Records as segments hold them: key length, value length (base-128, shortest form), key, value.
//!
//! A segment is nothing but its records in the order of their keys; these bytes are what digests are taken of. They come
//! from other machines too, so reading them checks every length.

use crate::varint;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::PathBuf,
};

/// Key and value of one record together, in bytes: room for the longest line and a key beside it.
pub const RECORD_BYTES_MAX: u64 = 65 << 20;

/// Why bytes are not a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`RECORD_BYTES_MAX`].
    #[error("a record of {0} bytes, and at most {RECORD_BYTES_MAX} are allowed")]
    TooLong(u64),
    /// The segment ends within a record.
    #[error("the segment ends within a record")]
    Cut,
    /// A length is not in its one form.
    #[error("a record's length is malformed")]
    Malformed,
    /// A key is below the one before it.
    #[error("the segment's keys are not in order")]
    Unsorted,
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Appends a record.
#[inline]
pub fn append(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    varint::append(key.len() as u64, out);
    varint::append(value.len() as u64, out);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// The longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 2 * varint::VARINT_BYTES_MAX;

/// The lengths at the beginning of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the header itself.
    pub header: usize,
    /// Bytes of the key, which comes next.
    pub key: usize,
    /// Bytes of the value, which comes last.
    pub value: usize,
}

impl Header {
    /// The header at the beginning of `bytes`; `None` when they end within it.
    ///
    /// # Errors
    /// [`RecordError`] when it is none, or of a record that is too long.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, RecordError> {
        if let [key @ 0..0x80, value @ 0..0x80, ..] = bytes {
            return Ok(Some(Self { header: 2, key: usize::from(*key), value: usize::from(*value) }));
        }
        Self::read_long(bytes)
    }

    fn read_long(bytes: &[u8]) -> Result<Option<Self>, RecordError> {
        let mut header = 0;
        let mut lengths = [0; 2];
        for length in &mut lengths {
            match varint::read(bytes.get(header..).unwrap_or_default()) {
                varint::Read::Number(number, digits) => {
                    *length = number;
                    header += digits;
                }
                varint::Read::Cut => return Ok(None),
                varint::Read::Malformed => return Err(RecordError::Malformed),
            }
        }
        let [key, value] = lengths;
        let total = key.saturating_add(value);
        if total > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong(total));
        }
        Ok(Some(Self { header, key: key as usize, value: value as usize }))
    }

    /// The whole record's length. It cannot overflow: the parts are bounded.
    #[inline]
    pub fn total(self) -> usize {
        self.header + self.key + self.value
    }
}

/// The records of a segment in memory, as `(key, value)`.
pub fn records(segment: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), RecordError>> {
    let mut rest = segment;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = take(&mut rest);
        if record.is_err() {
            rest = &[];
        }
        Some(record)
    })
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), RecordError> {
    let header = Header::read(rest)?.ok_or(RecordError::Cut)?;
    let (record, after) = rest.split_at_checked(header.total()).ok_or(RecordError::Cut)?;
    *rest = after;
    let (_, body) = record.split_at(header.header);
    Ok(body.split_at(header.key))
}

/// Reads records in a stream, one span after the other, with one buffer that grows only for a record larger than it.
pub struct RecordReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// The buffer's usual length.
    buffer_bytes: usize,
    /// Bytes read and not yet given out: `start..filled` of the buffer.
    start: usize,
    filled: usize,
    /// Bytes of the span that are not yet given out.
    span: u64,
    record: Range<usize>,
    key: Range<usize>,
}

impl<R: Read> RecordReader<R> {
    /// A reader of `source`, which has to begin with [`RecordReader::begin_span`].
    pub fn new(source: R, buffer_bytes: usize) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            buffer_bytes: buffer_bytes.max(16),
            start: 0,
            filled: 0,
            span: 0,
            record: 0..0,
            key: 0..0,
        }
    }

    /// The next `length` bytes are to be read; what is left of the span before belongs to it.
    pub fn begin_span(&mut self, length: u64) {
        self.span = self.span.saturating_add(length);
    }

    /// Goes to the next record; `false` when the span has no more.
    ///
    /// # Errors
    /// Of the source, and [`RecordError`] as `InvalidData`.
    #[inline]
    pub fn advance(&mut self) -> io::Result<bool> {
        if self.span == 0 {
            self.record = 0..0;
            self.key = 0..0;
            return Ok(false);
        }
        let header = loop {
            let have = &self.buffer[self.start..self.filled];
            if let Some(header) = Header::read(have)?
                && header.total() <= have.len()
            {
                break header;
            }
            self.fill()?;
        };
        let total = header.total();
        self.span = self.span.checked_sub(total as u64).ok_or(RecordError::Cut)?;
        let key = self.start + header.header;
        self.record = self.start..self.start + total;
        self.key = key..key + header.key;
        self.start += total;
        Ok(true)
    }

    /// The current record's key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.buffer[self.key.clone()]
    }

    /// The current record's value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        &self.buffer[self.key.end..self.record.end]
    }

    /// The current record as it stands in the segment.
    #[inline]
    pub fn record(&self) -> &[u8] {
        &self.buffer[self.record.clone()]
    }

    /// Makes the bytes at `start` a whole record, or fails.
    #[cold]
    fn fill(&mut self) -> io::Result<()> {
        let have = self.filled - self.start;
        let needed = match Header::read(&self.buffer[self.start..self.filled])? {
            Some(header) => header.total(),
            None => have + 1,
        };
        if needed as u64 > self.span {
            return Err(RecordError::Cut.into());
        }
        self.buffer.copy_within(self.start..self.filled, 0);
        (self.start, self.filled) = (0, have);
        let length = needed.max(self.buffer_bytes);
        if self.buffer.len() != length {
            self.buffer.resize(length, 0);
            self.buffer.shrink_to_fit();
        }
        while self.filled < needed {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(RecordError::Cut.into()),
                Ok(n) => self.filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A part of a file as a stream. The file is opened for each read, so that a merge of a thousand inputs holds no file
/// open; readers come with large buffers.
pub struct FileRange {
    path: PathBuf,
    position: u64,
    end: u64,
}

impl FileRange {
    /// The part of `length` bytes from `offset` on.
    pub fn new(path: PathBuf, offset: u64, length: u64) -> Self {
        Self { path, position: offset, end: offset.saturating_add(length) }
    }
}

impl Read for FileRange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.position))?;
        let read = file.read(&mut buffer[..wanted])?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..200);
        prop::collection::vec((bytes(), bytes()), 0..8)
    }

    fn segment(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        pairs.iter().for_each(|(key, value)| append(key, value, &mut bytes));
        bytes
    }

    fn read_all(bytes: &[u8], spans: &[u64], buffer: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut reader = RecordReader::new(bytes, buffer);
        let mut found = Vec::new();
        for span in spans {
            reader.begin_span(*span);
            while reader.advance()? {
                found.push((reader.key().to_vec(), reader.value().to_vec()));
            }
        }
        Ok(found)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn records_come_back(first in pairs(), second in pairs(), buffer in 0usize..300) {
            let (a, b) = (segment(&first), segment(&second));
            let spans = [a.len() as u64, 0, b.len() as u64];
            let found = read_all(&[a.clone(), b].concat(), &spans, buffer).expect("own bytes");
            let from_slice: Vec<_> = records(&a).map(|r| r.map(|(k, v)| (k.to_vec(), v.to_vec()))).collect();
            prop_assert_eq!(from_slice, first.iter().cloned().map(Ok).collect::<Vec<_>>());
            prop_assert_eq!(found, [first, second].concat());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), span in 0u64..80) {
            let _ = read_all(&bytes, &[span], 16);
            let sum: usize = records(&bytes).map_while(Result::ok).map(|(k, v)| k.len() + v.len()).sum();
            prop_assert!(sum <= bytes.len());
        }
    }

    #[test]
    fn a_record_does_not_reach_over_its_span() {
        let bytes = segment(&[(b"key".to_vec(), b"value".to_vec())]);
        for cut in 1..bytes.len() {
            let error = read_all(&bytes, &[cut as u64], 64).expect_err("cut");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{cut}");
            assert_eq!(records(&bytes[..cut]).next(), Some(Err(RecordError::Cut)));
        }
    }

    #[test]
    fn the_longest_record_is_taken_and_a_longer_one_refused() {
        let mut bytes = Vec::new();
        append(b"k", &vec![7; RECORD_BYTES_MAX as usize - 1], &mut bytes);
        let length = bytes.len() as u64;
        let mut reader = RecordReader::new(bytes.as_slice(), 1024);
        reader.begin_span(length);
        assert!(reader.advance().expect("at the bound"));
        assert_eq!(reader.value().len() as u64, RECORD_BYTES_MAX - 1);
        let mut header = Vec::new();
        varint::append(1, &mut header);
        varint::append(RECORD_BYTES_MAX, &mut header);
        assert_eq!(records(&header).next(), Some(Err(RecordError::TooLong(RECORD_BYTES_MAX + 1))));
    }

    #[test]
    fn a_part_of_a_file_is_read_and_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, b"0123456789").expect("written");
        let mut text = String::new();
        FileRange::new(path, 3, 4).read_to_string(&mut text).expect("read");
        assert_eq!(text, "3456");
    }
}
