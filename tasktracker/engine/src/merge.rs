//! Streaming k-way merge of sorted runs.
//!
//! The order is (key bytes, input, position in the input). A loser tree [Knuth, TAOCP 3, 5.4.1] compares numbers that hold
//! all of a short key, and whole keys only where long ones begin alike. When the inputs' buffers would not fit
//! into memory, *consecutive* inputs are merged into one file first: the order of inputs, and so the result, is the same
//! for every number of passes.

use crate::{
    name::Name,
    program::{TaskError, Watch},
    record::RecordReader,
    spill::{Run, RunBytes, RunWriter},
};
use std::{cmp::Ordering, io, path::Path};

/// The smallest buffer of an input, in bytes. More inputs than memory has room for such buffers take several passes.
pub(crate) const BUFFER_BYTES_MIN: u64 = 64 << 10;
/// The largest buffer of an input, in bytes: more does not make it faster, and many of them are pages to touch.
const BUFFER_BYTES_MAX: u64 = 256 << 10;
/// Merged bytes after which the watch is told.
const WATCH_BYTES: u64 = 1 << 20;

/// The first eight bytes of a key as a number: a smaller number is a smaller key.
#[inline]
pub(crate) fn prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut padded = [0; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

/// The next record of an input, as the tree sees it: its key in a number that sorts like it, see [`Name::order`], or
/// [`Head::NONE`]. Records with the same number have the same key, unless it is a long one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Head(u128);

impl Head {
    /// Of an input that has no more: above all others, since no key has this tag.
    const NONE: Self = Self(u128::MAX);

    #[inline]
    pub(crate) fn of(key: &[u8]) -> Self {
        match Name::short(key) {
            Some(name) => Self::with(name.order(&[])),
            None => Self::long(key),
        }
    }

    fn with((high, low): (u64, u64)) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }

    fn long(key: &[u8]) -> Self {
        let first = key.first_chunk::<16>().map_or(0, |first| u128::from_be_bytes(*first));
        Self(first & !Self::TAG | Self::LONG)
    }

    const TAG: u128 = 0xff;
    /// Above the tags of all short keys, which are their lengths.
    const LONG: u128 = 0xfe;

    /// Whether keys with this number can differ.
    #[inline]
    pub(crate) fn is_long(self) -> bool {
        self.0 & Self::TAG == Self::LONG
    }
}

/// A merge of one span of each input.
pub(crate) struct Merge {
    inputs: Vec<RecordReader<RunBytes>>,
    heads: Vec<Head>,
    /// `losers[1..]` are the tree's inner nodes; `losers[0]` is the winner.
    losers: Vec<usize>,
}

impl Merge {
    /// A merge of runs, with `memory` bytes for all buffers. Nothing is read before [`Merge::begin_span`].
    pub(crate) fn new(runs: &[Run], memory: u64) -> Self {
        let buffer = (memory / (runs.len() as u64).max(1)).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let reader = |run: &Run| {
            // No buffer is larger than all that its run has.
            let buffer = buffer.min(run.length().max(1));
            RecordReader::new(run.open(), buffer as usize)
        };
        let inputs: Vec<_> = runs.iter().map(reader).collect();
        let heads = vec![Head::NONE; inputs.len()];
        Self { losers: vec![0; inputs.len()], inputs, heads }
    }

    /// Begins with the inputs' next spans, of these lengths, when all records of the spans before are merged.
    pub(crate) fn begin_span(&mut self, lengths: impl Iterator<Item = u64>) -> io::Result<()> {
        for (index, length) in lengths.take(self.inputs.len()).enumerate() {
            self.inputs[index].begin_span(length);
            self.load(index)?;
        }
        // Each input goes up from its leaf; the first at a node waits there for the one that it will be compared with.
        let count = self.inputs.len();
        let mut waiting: Vec<Option<usize>> = vec![None; count];
        for input in 0..count {
            let mut winner = input;
            let mut node = (input + count) / 2;
            loop {
                if node == 0 {
                    self.losers[0] = winner;
                    break;
                }
                let Some(other) = waiting[node].take() else {
                    waiting[node] = Some(winner);
                    break;
                };
                let (first, last) = if self.before(other, winner) { (other, winner) } else { (winner, other) };
                self.losers[node] = last;
                winner = first;
                node /= 2;
            }
        }
        Ok(())
    }

    /// The input with the least record; `None` when all are at their end.
    #[inline]
    fn winner(&self) -> Option<usize> {
        let winner = *self.losers.first()?;
        (self.heads[winner] != Head::NONE).then_some(winner)
    }

    /// How the current record's key compares with one whose number is known.
    #[inline]
    pub(crate) fn compare(&self, record: &RecordReader<RunBytes>, key: &[u8], number: Head) -> Ordering {
        let own = self.losers.first().map_or(Head::NONE, |winner| self.heads[*winner]);
        match own.cmp(&number) {
            Ordering::Equal if number.is_long() => record.key().cmp(key),
            order => order,
        }
    }

    /// The current record.
    #[inline]
    pub(crate) fn current(&self) -> Option<&RecordReader<RunBytes>> {
        self.winner().map(|winner| &self.inputs[winner])
    }

    /// Goes to the next record.
    #[inline]
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        let Some(mut winner) = self.winner() else { return Ok(()) };
        self.load(winner)?;
        let mut node = (winner + self.inputs.len()) / 2;
        while node > 0 {
            if self.before(self.losers[node], winner) {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.losers[0] = winner;
        Ok(())
    }

    #[inline]
    fn load(&mut self, input: usize) -> io::Result<()> {
        let reader = &mut self.inputs[input];
        self.heads[input] = if reader.advance()? { Head::of(reader.key()) } else { Head::NONE };
        Ok(())
    }

    /// Whether input `a` comes before input `b`.
    #[inline]
    fn before(&self, a: usize, b: usize) -> bool {
        let (x, y) = (self.heads[a], self.heads[b]);
        if x == y && x.is_long() {
            return (self.inputs[a].key(), a) < (self.inputs[b].key(), b);
        }
        (x, a) < (y, b)
    }
}

/// Tells the watch of merged bytes now and then, and learns whether to stop.
pub(crate) struct Meter<'a> {
    watch: &'a Watch,
    bytes: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(watch: &'a Watch) -> Self {
        Self { watch, bytes: 0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), TaskError> {
        self.bytes += bytes as u64;
        if self.bytes >= WATCH_BYTES {
            self.watch.advance(std::mem::take(&mut self.bytes));
            self.watch.check()?;
        }
        Ok(())
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.watch.advance(self.bytes);
    }
}

/// A failed merge, as the attempt reports it.
pub(crate) fn merge_error(error: io::Error) -> TaskError {
    TaskError::machine("merge segments", error)
}

/// Merges consecutive runs into files in `directory` until the buffers of those that are left fit into `memory`.
pub(crate) fn narrow(mut runs: Vec<Run>, memory: u64, directory: &Path, watch: &Watch) -> Result<Vec<Run>, TaskError> {
    let fan_in = usize::try_from(memory / BUFFER_BYTES_MIN).unwrap_or(usize::MAX).max(2);
    let mut merged = 0;
    while runs.len() > fan_in {
        let mut excess = runs.len() - fan_in;
        let mut rest = runs.into_iter();
        let mut next = Vec::new();
        while excess > 0 {
            // A merge of n runs makes n - 1 of them disappear.
            let group: Vec<_> = rest.by_ref().take(fan_in.min(excess + 1)).collect();
            if group.len() < 2 {
                next.extend(group);
                break;
            }
            excess -= group.len() - 1;
            let mut writer = RunWriter::create(directory.join(format!("merge-{merged}")))?;
            merged += 1;
            merge_runs(&group, memory, &mut writer, watch)?;
            next.push(writer.finish_run()?);
        }
        next.extend(rest);
        runs = next;
    }
    Ok(runs)
}

/// Merges runs span by span.
pub(crate) fn merge_runs(runs: &[Run], memory: u64, out: &mut RunWriter, watch: &Watch) -> Result<(), TaskError> {
    let mut meter = Meter::new(watch);
    each_span(runs, memory, |merge| {
        while let Some(input) = merge.current() {
            meter.add(input.record().len())?;
            out.append_record(input.record())?;
            merge.advance().map_err(merge_error)?;
        }
        out.end_span();
        Ok(())
    })
}

/// Calls `span` with the merge at the beginning of every span.
pub(crate) fn each_span(
    runs: &[Run],
    memory: u64,
    mut span: impl FnMut(&mut Merge) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let mut merge = Merge::new(runs, memory);
    let spans = runs.first().map_or(0, |run| run.spans.len());
    for index in 0..spans {
        let lengths = runs.iter().map(|run| run.spans.get(index).copied().unwrap_or(0));
        merge.begin_span(lengths).map_err(merge_error)?;
        span(&mut merge)?;
    }
    Ok(())
}
