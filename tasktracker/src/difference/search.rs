//! The reader's side: where two segments differ first, by their digest trees.
//!
//! Nothing that a server says of its tree is believed before it fits the digest that the server voted, down to the bytes.
//! Where a record begins no digest says: that is the servers' word. They have the same bytes up to the first difference, so
//! honest ones say the same, and a reader sees whether a record is there that reaches so far.

use super::{
    index::Place,
    tree::{self, BLOCK_BYTES, Value},
};
use bytes::Bytes;
use quorate_engine::record::{HEADER_BYTES_MAX, Header, RecordError};
use quorate_protocol::{digest::Digest, vote::Segment};
use std::{collections::BTreeMap, future::Future, ops::Range};

/// Bytes of a key, or of a value, that are shown.
const SHOWN_BYTES_MAX: u64 = 80;
/// Of these, bytes before the first that differs.
const SHOWN_BEFORE: u64 = 24;

/// Somebody who has a segment, and answers questions about it.
pub(crate) trait Source: Send {
    /// The values of the nodes below a node, one after the other; of a block, its bytes.
    fn node(&self, level: u32, index: u64) -> impl Future<Output = Result<Bytes, Fault>> + Send;
    /// The record that has a byte.
    fn record_at(&self, byte: u64) -> impl Future<Output = Result<Place, Fault>> + Send;
}

/// What a source did instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It gave no answer.
    None(String),
    /// What it gave is not what it voted. At the root, the digest of what it gave is known.
    Unlike(Option<Digest>),
}

/// A source's segment: what was asked, and holds.
pub(crate) struct Tree<S> {
    source: S,
    segment: Segment,
    values: BTreeMap<(u32, u64), Value>,
    blocks: BTreeMap<u64, Bytes>,
    /// Questions about digests.
    pub(crate) rounds: u32,
    /// Bytes that came.
    pub(crate) fetched: u64,
}

/// A node as it looks from the one above: its length, and its value unless it is the root.
type Child = (u64, Option<Value>);

impl<S: Source> Tree<S> {
    /// The tree of a segment as it was voted.
    pub(crate) fn new(source: S, segment: Segment) -> Self {
        Self { source, segment, values: BTreeMap::new(), blocks: BTreeMap::new(), rounds: 0, fetched: 0 }
    }

    fn root_level(&self) -> u32 {
        tree::root_level(self.segment.length)
    }

    /// The nodes below a node that holds, or that is as high as the root or higher.
    async fn children(&mut self, level: u32, index: u64) -> Result<Vec<Child>, Fault> {
        let length = self.segment.length;
        let Some((_, covered)) = tree::span(length, level, index) else { return Ok(Vec::new()) };
        let lengths: Vec<u64> = tree::lengths_below(level, covered).collect();
        let first = tree::first_below(index);
        let numbers = (first..).take(lengths.len());
        if level > self.root_level() {
            return Ok(lengths.into_iter().map(|length| (length, None)).collect());
        }
        if !numbers.clone().all(|number| self.values.contains_key(&(level - 1, number))) {
            let below = self.ask_below(level, index, lengths.len()).await?;
            let holds = match self.values.get(&(level, index)) {
                Some(value) => tree::merged(level, covered, &below) == *value,
                None if level == self.root_level() => {
                    let digest = tree::digest(level, length, &below);
                    if digest != self.segment.digest {
                        return Err(Fault::Unlike(Some(digest)));
                    }
                    true
                }
                None => false,
            };
            if !holds {
                return Err(Fault::Unlike(None));
            }
            self.values.extend(numbers.clone().map(|number| (level - 1, number)).zip(below));
        }
        let values = numbers.map(|number| self.values.get(&(level - 1, number)).copied());
        Ok(lengths.into_iter().zip(values).collect())
    }

    async fn ask_below(&mut self, level: u32, index: u64, count: usize) -> Result<Vec<Value>, Fault> {
        // A last node may have one below it, which covers the same bytes.
        if let (1, Some(value)) = (count, self.values.get(&(level, index))) {
            return Ok(vec![*value]);
        }
        self.rounds += 1;
        let answer = self.source.node(level, index).await?;
        self.fetched += answer.len() as u64;
        let (values, rest) = answer.as_chunks::<{ size_of::<Value>() }>();
        if values.len() == count && rest.is_empty() { Ok(values.to_vec()) } else { Err(Fault::Unlike(None)) }
    }

    /// A block's bytes.
    async fn block(&mut self, index: u64) -> Result<Bytes, Fault> {
        if let Some(block) = self.blocks.get(&index) {
            return Ok(block.clone());
        }
        let Some((start, covered)) = tree::span(self.segment.length, 0, index) else { return Ok(Bytes::new()) };
        for level in (1..=self.root_level()).rev() {
            self.children(level, tree::above(index, level)).await?;
        }
        let bytes = self.source.node(0, index).await?;
        self.fetched += bytes.len() as u64;
        match self.values.get(&(0, index)) {
            Some(value) if bytes.len() as u64 == covered && tree::value_of(&bytes, start) == *value => {}
            Some(_) => return Err(Fault::Unlike(None)),
            None => {
                let digest = Digest::of(&bytes);
                if digest != self.segment.digest || bytes.len() as u64 != covered {
                    return Err(Fault::Unlike(Some(digest)));
                }
            }
        }
        self.blocks.insert(index, bytes.clone());
        Ok(bytes)
    }

    /// Bytes of the segment, as many of the range as there are.
    async fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>, Fault> {
        let end = range.end.min(self.segment.length);
        let (mut bytes, mut at) = (Vec::new(), range.start);
        while at < end {
            let index = at / BLOCK_BYTES;
            let block = self.block(index).await?;
            let from = (at % BLOCK_BYTES) as usize;
            let to = block.len().min((end - index * BLOCK_BYTES) as usize);
            bytes.extend_from_slice(block.get(from..to).unwrap_or_default());
            at = (index + 1) * BLOCK_BYTES;
        }
        Ok(bytes)
    }

    /// Where the record begins that has this byte, or where one would, by the source's word. A segment that ends there says
    /// so in the vote.
    pub(crate) async fn record_at(&self, byte: u64) -> Result<Place, Fault> {
        let Segment { length, records, .. } = self.segment;
        if byte >= length {
            return Ok(Place { start: length, number: records });
        }
        let place = self.source.record_at(byte).await?;
        if place.start <= byte && place.number <= place.start { Ok(place) } else { Err(Fault::Unlike(None)) }
    }

    /// The record that begins at a byte, as people see it: what is around `byte` of its key and its value.
    pub(crate) async fn shown(&mut self, start: u64, byte: u64) -> Result<Shown, Fault> {
        if start >= self.segment.length {
            return Ok(Shown::Nothing);
        }
        let head = self.read(start..start.saturating_add(HEADER_BYTES_MAX as u64)).await?;
        let header = match Header::read(&head) {
            Ok(Some(header)) if start.saturating_add(header.total() as u64) <= self.segment.length => header,
            Ok(_) => return self.no_record(RecordError::Cut, start, byte).await,
            Err(error) => return self.no_record(error, start, byte).await,
        };
        let key = start + header.header as u64;
        let value = key + header.key as u64;
        let key = self.excerpt(key..value, byte).await?;
        let value = self.excerpt(value..value + header.value as u64, byte).await?;
        Ok(Shown::Record { key, value })
    }

    async fn no_record(&mut self, error: RecordError, start: u64, byte: u64) -> Result<Shown, Fault> {
        let bytes = self.excerpt(start..self.segment.length, byte).await?;
        Ok(Shown::NoRecord { error: error.to_string(), bytes })
    }

    async fn excerpt(&mut self, of: Range<u64>, byte: u64) -> Result<String, Fault> {
        let shown = shown_part(&of, byte);
        let bytes = self.read(shown.clone()).await?;
        Ok(quoted(&bytes, shown.start > of.start, shown.end < of.end))
    }
}

/// What is shown of a range: its beginning, or what is around a byte of it.
pub(crate) fn shown_part(of: &Range<u64>, byte: u64) -> Range<u64> {
    let far = of.contains(&byte) && byte - of.start >= SHOWN_BYTES_MAX;
    let start = if far { byte - SHOWN_BEFORE } else { of.start };
    start..of.end.min(start.saturating_add(SHOWN_BYTES_MAX))
}

/// Bytes as people read them, with dots where there are more.
pub(crate) fn quoted(bytes: &[u8], more_before: bool, more_after: bool) -> String {
    let dots = |more| if more { "…" } else { "" };
    format!("\"{}{}{}\"", dots(more_before), bytes.escape_ascii(), dots(more_after))
}

/// What a side has where the sides differ first.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// A record: its key and value, shortened.
    Record {
        /// The key, quoted and escaped.
        key: String,
        /// The value, quoted and escaped.
        value: String,
    },
    /// Bytes that are no record.
    NoRecord {
        /// What is wrong with them.
        error: String,
        /// They themselves, quoted and escaped.
        bytes: String,
    },
    /// Text of a part file around the byte, quoted and escaped.
    Text(String),
    /// It ends there.
    Nothing,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shown::Record { key, value } => write!(f, "key {key} value {value}"),
            Shown::NoRecord { error, bytes } => write!(f, "no record ({error}): {bytes}"),
            Shown::Text(text) => f.write_str(text),
            Shown::Nothing => f.write_str("nothing more"),
        }
    }
}

/// A side's fault: which side, and what it did.
pub(crate) type SideFault = (usize, Fault);

/// The first byte at which two segments differ, or at which one of them ends. `None` when they are alike.
///
/// Each round both sources are asked at once for what is below one node; there is one for each level.
pub(crate) async fn first_difference<S: Source>([left, right]: &mut [Tree<S>; 2]) -> Result<Option<u64>, SideFault> {
    let (mut level, mut index) = (left.root_level().max(right.root_level()), 0);
    while level > 0 {
        let (ours, theirs) = futures::join!(left.children(level, index), right.children(level, index));
        let (ours, theirs) = (ours.map_err(|fault| (0, fault))?, theirs.map_err(|fault| (1, fault))?);
        let alike = |(one, other): &(&Child, &Child)| one == other && one.1.is_some();
        let same = ours.iter().zip(&theirs).take_while(alike).count();
        if same == ours.len() && same == theirs.len() {
            return Ok(None);
        }
        index = tree::first_below(index).saturating_add(same as u64);
        level -= 1;
        if same == ours.len() || same == theirs.len() {
            // One side ends here.
            return Ok(Some(index.saturating_mul(tree::reach(level))));
        }
    }
    let (ours, theirs) = futures::join!(left.block(index), right.block(index));
    let (ours, theirs) = (ours.map_err(|fault| (0, fault))?, theirs.map_err(|fault| (1, fault))?);
    let same = ours.iter().zip(theirs.iter()).take_while(|(one, other)| one == other).count();
    if same == ours.len() && same == theirs.len() {
        return Ok(None);
    }
    Ok(Some(index * BLOCK_BYTES + same as u64))
}

/// The record that has the first byte that differs, with the side on whose word alone that is, and what each side has there.
pub(crate) type Described = (Option<(u64, Option<usize>)>, [Shown; 2]);

/// Tells which record has a byte up to which two segments are alike, and what each side has there.
pub(crate) async fn describe<S: Source>(trees: &mut [Tree<S>; 2], byte: u64) -> Result<Described, SideFault> {
    let [left, right] = trees;
    let (ours, theirs) = futures::join!(left.record_at(byte), right.record_at(byte));
    let (place, by) = match (ours, theirs) {
        (Ok(one), Ok(other)) if one == other => (Some(one), None),
        (Ok(one), _) => (Some(one), Some(0)),
        (Err(_), Ok(other)) => (Some(other), Some(1)),
        (Err(_), Err(_)) => (None, None),
    };
    let start = place.map_or(byte, |place| place.start);
    let ours = left.shown(start, byte).await.map_err(|fault| (0, fault))?;
    let theirs = right.shown(start, byte).await.map_err(|fault| (1, fault))?;
    Ok((place.map(|place| (place.number, by)), [ours, theirs]))
}
