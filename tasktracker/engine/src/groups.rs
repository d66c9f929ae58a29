//! The reduce side: one partition's segments merged into groups of one key each.
//!
//! The order of groups is that of their keys' bytes; inside a group, values come by map task and then by emission. A
//! failure to read ends the group and the merge, and is kept: [`Groups::next_group`] gives it. So a reducer iterates
//! over plain values, and who drives it must look at [`Groups::failure`] before believing what the reducer said.

use crate::{
    merge::{Head, Merge, Meter, merge_error, narrow},
    program::{FetchedSegment, TaskError, Watch},
    record::RecordError,
    spill::Run,
    value::{DecodeError, Value},
};
use std::{cmp::Ordering, io, marker::PhantomData, path::Path};

/// A merge of segments, group by group.
///
/// ```no_run
/// # use quorate_engine::{groups::Groups, program::{FetchedSegment, TaskError, Watch}};
/// # fn reduce(segments: &[FetchedSegment], directory: &std::path::Path, watch: &Watch) -> Result<(), TaskError> {
/// let mut groups = Groups::open(segments, 256 << 20, directory, watch)?;
/// while let Some(group) = groups.next_group()? {
///     let key = group.key;
///     let total: u64 = group.values::<u64>().sum();
///     println!("{key:?} {total}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Groups<'a> {
    stream: Stream<'a>,
    /// A value of the current group that does not decode.
    undecodable: Option<DecodeError>,
    key: Vec<u8>,
    /// The files that are being merged; those of intermediate merges go with them.
    _runs: Vec<Run>,
}

impl<'a> Groups<'a> {
    /// Merges segments, given in the order of their map tasks. A quarter of `memory`, an attempt's, is for buffers; what
    /// they do not hold is merged into files in `directory` first. Segments in memory may take half of it.
    ///
    /// # Errors
    /// [`TaskError::Machine`] when files cannot be read or written, [`TaskError::Cancelled`].
    pub fn open(
        segments: &[FetchedSegment],
        memory: u64,
        directory: &Path,
        watch: &'a Watch,
    ) -> Result<Self, TaskError> {
        let memory = memory / 4;
        let runs = segments
            .iter()
            .filter(|segment| segment.length() > 0)
            .map(|segment| Run::of_segment(segment.clone()))
            .collect();
        let runs = narrow(runs, memory, directory, watch)?;
        let mut merge = Merge::new(&runs, memory);
        merge.begin_span(runs.iter().map(Run::length)).map_err(merge_error)?;
        let stream =
            Stream { merge, meter: Meter::new(watch), failure: None, place: Place::Between, head: Head::of(&[]) };
        Ok(Self { stream, undecodable: None, key: Vec::new(), _runs: runs })
    }

    /// The next group; values of the one before that were not read are passed over.
    ///
    /// # Errors
    /// The failure that ended the merge, once. After it there are no more groups.
    pub fn next_group(&mut self) -> Result<Option<Group<'_, 'a>>, TaskError> {
        while self.stream.next_value(&self.key).is_some() {}
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if self.stream.place == Place::Failed {
            return Ok(None);
        }
        let Some(record) = self.stream.merge.current() else { return Ok(None) };
        self.key.clear();
        self.key.extend_from_slice(record.key());
        self.stream.head = Head::of(&self.key);
        self.stream.place = Place::First;
        Ok(Some(Group { key: &self.key, stream: &mut self.stream, undecodable: &mut self.undecodable }))
    }

    /// The failure that ended the merge, if one did and it was not given before.
    pub fn failure(&mut self) -> Option<TaskError> {
        let failure = match self.undecodable.take() {
            Some(error) => Some(merge_error(io::Error::new(io::ErrorKind::InvalidData, error))),
            None => self.stream.failure.take(),
        }?;
        self.stream.place = Place::Failed;
        Some(failure)
    }
}

/// Where a merge stands in its groups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The current record, if there is one, begins a group that was not asked for yet.
    Between,
    /// The current record is a group's first value, not given out yet.
    First,
    /// The current record's value was given out.
    Within,
    /// There is nothing more.
    Failed,
}

struct Stream<'a> {
    merge: Merge,
    meter: Meter<'a>,
    failure: Option<TaskError>,
    place: Place,
    /// The number of the group's key.
    head: Head,
}

impl Stream<'_> {
    #[inline]
    fn next_value(&mut self, key: &[u8]) -> Option<&[u8]> {
        match self.place {
            Place::First => self.place = Place::Within,
            Place::Within => {
                if let Err(failure) = self.go_on(key) {
                    self.place = Place::Failed;
                    self.failure = Some(failure);
                }
            }
            Place::Between | Place::Failed => {}
        }
        let value = self.merge.current()?.value();
        (self.place == Place::Within).then_some(value)
    }

    /// Goes to the next record and sees whether it belongs to the group.
    #[inline]
    fn go_on(&mut self, key: &[u8]) -> Result<(), TaskError> {
        let length = self.merge.current().map_or(0, |record| record.record().len());
        self.meter.add(length)?;
        self.merge.advance().map_err(merge_error)?;
        let Some(record) = self.merge.current() else {
            self.place = Place::Between;
            return Ok(());
        };
        // Were one input out of order, so would the merge be: this check sees all inputs.
        match self.merge.compare(record, key, self.head) {
            Ordering::Equal => {}
            Ordering::Greater => self.place = Place::Between,
            Ordering::Less => return Err(merge_error(RecordError::Unsorted.into())),
        }
        Ok(())
    }
}

/// One key with its values.
pub struct Group<'g, 'a> {
    /// The key's bytes.
    pub key: &'g [u8],
    stream: &'g mut Stream<'a>,
    undecodable: &'g mut Option<DecodeError>,
}

impl<'g> Group<'g, '_> {
    /// The values, decoded.
    pub fn values<V: Value + ?Sized>(self) -> Values<'g, V> {
        Values { key: self.key, stream: self.stream, undecodable: self.undecodable, value: PhantomData }
    }

    /// The next value's bytes; `None` at the end of the group.
    #[inline]
    pub fn next_value(&mut self) -> Option<&[u8]> {
        self.stream.next_value(self.key)
    }
}

/// A merge's values, whatever it borrows.
trait Source {
    fn next_value(&mut self, key: &[u8]) -> Option<&[u8]>;
}

impl Source for Stream<'_> {
    #[inline]
    fn next_value(&mut self, key: &[u8]) -> Option<&[u8]> {
        Stream::next_value(self, key)
    }
}

/// The values of one key, as a reducer sees them: an iterator for kinds that decode to themselves, [`Values::next_ref`]
/// for `[u8]` and `str`.
///
/// The order is that of the map tasks, and within one of them that of emission.
pub struct Values<'g, V: ?Sized> {
    key: &'g [u8],
    stream: &'g mut dyn Source,
    undecodable: &'g mut Option<DecodeError>,
    value: PhantomData<fn(&V)>,
}

impl<V: Value + ?Sized> Values<'_, V> {
    /// The next value, which may borrow from the merge's buffers.
    #[inline]
    pub fn next_ref(&mut self) -> Option<V::Decoded<'_>> {
        if self.undecodable.is_some() {
            return None;
        }
        match V::decode(self.stream.next_value(self.key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                *self.undecodable = Some(error);
                None
            }
        }
    }
}

impl<V: for<'a> Value<Decoded<'a> = V>> Iterator for Values<'_, V> {
    type Item = V;

    #[inline]
    fn next(&mut self) -> Option<V> {
        self.next_ref()
    }
}
