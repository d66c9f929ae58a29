//! The tentative reduce, as a value: which copy of each segment is used, when the reduce may run, what must be redone, and
//! when it may be voted on.
//!
//! [Costa et al. 2011, §"tentative reduce"] A reducer works on the first finished copy of each map output and redoes its
//! work when the votes turn out otherwise. Two deviations, both toward less work: only the partition's own segment counts,
//! not the whole map output, and a segment that no run has consumed is replaced without a restart.
//!
//! Invariants, asserted in debug builds after each step:
//! * **TR-1** a run starts only when every map task has a held segment;
//! * **TR-2** [`Action::Vote`] is emitted only when every held segment equals the agreed one: no vote on unverified input;
//! * **TR-3** a result counts only for the segments that its own run was started with.

use bytes::Bytes;
use quorate_engine::program::FetchedSegment;
use quorate_protocol::{
    digest::Digest,
    ids::{AttemptId, TrackerId},
    vote::Segment,
};
use std::collections::BTreeSet;

/// One map attempt's segment for this partition, as its tracker voted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Copy {
    /// Who serves it.
    pub server: TrackerId,
    /// The map attempt.
    pub attempt: AttemptId,
    /// The digest of the attempt's whole list of segments.
    pub list: Digest,
}

/// What the reduce attempt learns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A copy is there, with this partition's segment.
    Vote(Copy, Segment),
    /// A map task's verdict: the agreed list of segments.
    Verdict(Digest),
    /// A fetch succeeded: the bytes have the digest that was asked for.
    Fetched(Copy, FetchedSegment),
    /// A server could not be reached: it may be later.
    Unreachable(Copy),
    /// A server gave other bytes than it voted, or none: it is not asked again for this segment.
    Wrong(Copy),
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Fetch a map task's segment from this copy. `failures` fetches of it failed before.
    Fetch {
        /// The map task.
        map: u32,
        /// From where.
        copy: Copy,
        /// What it must be.
        segment: Segment,
        /// How often this copy could not be reached.
        failures: u32,
        /// Whether bytes of this map task's segment were fetched before in vain.
        again: bool,
    },
    /// Stop fetching a map task's segment: the verdict made it worthless.
    Abandon(u32),
    /// Run the reduce on these segments. The number tells runs apart.
    Run(u32, Vec<FetchedSegment>),
    /// Stop the run with this number: its input was wrong.
    Abort(u32),
    /// The last run's result stands: vote on it.
    Vote,
}

/// A segment beyond this length is fetched only once it is agreed, in bytes: what a single tracker claims must not fill
/// the disk.
pub const TENTATIVE_BYTES_MAX: u64 = 1 << 30;

/// A segment that is not fetched because it is empty.
fn nothing() -> FetchedSegment {
    FetchedSegment::Memory(Bytes::new())
}

#[derive(Debug, Default)]
struct Source {
    touched: bool,
    copies: Vec<(Copy, Segment, u32)>,
    wrong: BTreeSet<Copy>,
    fetching: Option<Copy>,
    held: Option<(Segment, FetchedSegment)>,
    verdict: Option<Digest>,
    /// Whether something was fetched in vain.
    again: bool,
}

impl Source {
    /// The agreed segment, once both the verdict and a copy that shows it are known.
    fn agreed(&self) -> Option<Segment> {
        let list = self.verdict?;
        self.copies.iter().find(|(copy, ..)| copy.list == list).map(|(_, segment, _)| *segment)
    }

    fn is_confirmed(&self) -> bool {
        match (&self.held, self.agreed()) {
            (Some((held, _)), Some(agreed)) => *held == agreed,
            _ => false,
        }
    }

    /// The copy to fetch next: with a verdict only what equals the agreed segment; else any that came. Copies that
    /// could not be reached come after the others, the reader's own comes first, and else each reader has an order of its
    /// own: so the load spreads, and every voter is asked by somebody.
    fn best(&self, reader: TrackerId, salt: u64) -> Option<(Copy, Segment, u32)> {
        let agreed = self.agreed();
        let usable = self.copies.iter().filter(|(copy, segment, _)| {
            let right = match (self.verdict, agreed) {
                (None, _) => segment.length <= TENTATIVE_BYTES_MAX,
                (Some(_), Some(agreed)) => *segment == agreed,
                (Some(_), None) => false,
            };
            right && !self.wrong.contains(copy)
        });
        let order = |server: TrackerId| (salt ^ u64::from(server.number())).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usable
            .min_by_key(|(copy, _, failures)| (*failures, copy.server != reader, order(copy.server), copy.attempt))
            .copied()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Segments are missing.
    Gathering,
    /// A run works on the held segments.
    Running,
    /// The run's result is there and waits for verdicts.
    Done,
    /// The result was voted on.
    Voted,
}

/// One reduce attempt.
#[derive(Debug)]
pub struct Tentative {
    reader: TrackerId,
    salt: u64,
    sources: Vec<Source>,
    touched: Vec<u32>,
    phase: Phase,
    run: u32,
    missing: usize,
    unconfirmed: usize,
    restarts: u32,
}

impl Tentative {
    /// An attempt of partition `partition` on tracker `reader` that reduces the output of so many map tasks.
    pub fn new(maps: u32, reader: TrackerId, partition: u32) -> Self {
        let sources: Vec<Source> = (0..maps).map(|_| Source::default()).collect();
        let count = sources.len();
        let salt = u64::from(reader.number()) << 40 | u64::from(partition) << 20;
        Self {
            reader,
            salt,
            sources,
            touched: Vec::new(),
            phase: Phase::Gathering,
            run: 0,
            missing: count,
            unconfirmed: count,
            restarts: 0,
        }
    }

    /// Takes in what happened to a map task's segment. Numbers of map tasks that do not exist are ignored. What follows
    /// from it is known after [`Tentative::settle`], so that everything that is known at one time is weighed together.
    pub fn learn(&mut self, map: u32, input: Input) {
        let Some(source) = self.sources.get_mut(map as usize) else { return };
        if !std::mem::replace(&mut source.touched, true) {
            self.touched.push(map);
            // Counted out here and in again in `settle`.
            self.missing -= usize::from(source.held.is_none());
            self.unconfirmed -= usize::from(!source.is_confirmed());
        }
        match input {
            Input::Vote(copy, segment) => {
                if !source.copies.iter().any(|(known, ..)| *known == copy) {
                    source.copies.push((copy, segment, 0));
                }
            }
            Input::Verdict(list) => source.verdict = Some(list),
            Input::Fetched(copy, bytes) => {
                let segment = source.copies.iter().find(|(known, ..)| *known == copy).map(|(_, segment, _)| *segment);
                if let (true, Some(segment)) = (source.fetching == Some(copy), segment) {
                    source.fetching = None;
                    source.held = Some((segment, bytes));
                }
            }
            Input::Unreachable(copy) => {
                source.fetching = source.fetching.filter(|fetching| *fetching != copy);
                for (known, _, failures) in &mut source.copies {
                    // All of a server's copies: one that invents attempts gains no tries by it.
                    if known.server == copy.server {
                        *failures = failures.saturating_add(1);
                    }
                }
            }
            Input::Wrong(copy) => {
                source.fetching = source.fetching.filter(|fetching| *fetching != copy);
                source.wrong.insert(copy);
                source.again = true;
            }
        }
    }

    /// Says what follows from all that was learned.
    pub fn settle(&mut self, out: &mut Vec<Action>) {
        let mut any_damage = false;
        for map in std::mem::take(&mut self.touched) {
            let Some(source) = self.sources.get_mut(map as usize) else { continue };
            source.touched = false;
            let damaged = matches!((&source.held, source.agreed()), (Some((held, _)), Some(agreed)) if *held != agreed);
            if damaged {
                source.held = None;
                source.again = true;
            }
            Self::choose(source, map, self.reader, self.salt ^ u64::from(map), out);
            self.missing += usize::from(source.held.is_none());
            self.unconfirmed += usize::from(!source.is_confirmed());
            any_damage |= damaged;
        }
        if any_damage {
            self.start_over(out);
        }
        self.advance(out);
        self.check();
    }

    /// Starts a fetch when the map task needs one and a copy is there. A fetch of something that turned out wrong is
    /// abandoned.
    fn choose(source: &mut Source, map: u32, reader: TrackerId, salt: u64, out: &mut Vec<Action>) {
        if source.held.is_some() {
            return;
        }
        let stale = source.fetching.is_some_and(|fetching| {
            let segment = source.copies.iter().find(|(copy, ..)| *copy == fetching).map(|(_, segment, _)| *segment);
            source.agreed().is_some_and(|agreed| segment != Some(agreed))
        });
        if stale {
            source.fetching = None;
            source.again = true;
            out.push(Action::Abandon(map));
        }
        if source.fetching.is_some() {
            return;
        }
        let Some((copy, segment, failures)) = source.best(reader, salt) else { return };
        if segment.length == 0 {
            source.held = Some((segment, nothing()));
        } else {
            source.fetching = Some(copy);
            out.push(Action::Fetch { map, copy, segment, failures, again: source.again });
        }
    }

    /// What was run, or is being run, used wrong input.
    fn start_over(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Gathering => {}
            Phase::Running | Phase::Done => {
                if self.phase == Phase::Running {
                    out.push(Action::Abort(self.run));
                }
                self.restarts += 1;
                self.phase = Phase::Gathering;
            }
            Phase::Voted => unreachable!("TR-2: a confirmed segment was found to be wrong after the vote"),
        }
    }

    /// The run with this number has ended, with whatever result. Results of older runs are ignored.
    pub fn finished(&mut self, run: u32) {
        if run == self.run && self.phase == Phase::Running {
            self.phase = Phase::Done;
        }
    }

    fn advance(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Gathering && self.missing == 0 {
            self.phase = Phase::Running;
            self.run += 1;
            let held = self.sources.iter().filter_map(|source| source.held.as_ref().map(|(_, bytes)| bytes.clone()));
            out.push(Action::Run(self.run, held.collect()));
        }
        if self.phase == Phase::Done && self.unconfirmed == 0 {
            self.phase = Phase::Voted;
            out.push(Action::Vote);
        }
    }

    /// How often a run was thrown away.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Whether a result of the run with this number could still count.
    pub fn is_current(&self, run: u32) -> bool {
        self.run == run && matches!(self.phase, Phase::Running | Phase::Done | Phase::Voted)
    }

    fn check(&self) {
        if cfg!(debug_assertions) {
            let missing = self.sources.iter().filter(|source| source.held.is_none()).count();
            let unconfirmed = self.sources.iter().filter(|source| !source.is_confirmed()).count();
            assert_eq!((missing, unconfirmed), (self.missing, self.unconfirmed), "the counts are those of the sources");
            assert!(self.phase == Phase::Gathering || missing == 0, "TR-1: a run without all segments");
            assert!(self.phase != Phase::Voted || unconfirmed == 0, "TR-2: a vote on unverified input");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::{JobId, Stage, TaskId};

    fn copy(map: u32, server: u32, list: u8) -> Copy {
        let task = TaskId { job: JobId::new(1), stage: Stage::Map, index: map };
        let attempt = AttemptId { task, attempt: server as u16 };
        Copy { server: TrackerId::new(server), attempt, list: Digest::from_bytes([list; 32]) }
    }
    fn segment(content: u8) -> Segment {
        Segment { digest: Digest::from_bytes([content; 32]), length: 10, records: 1 }
    }
    fn bytes(name: u8) -> FetchedSegment {
        FetchedSegment::Memory(vec![name; 10].into())
    }
    fn step(t: &mut Tentative, map: u32, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        t.learn(map, input);
        t.settle(&mut out);
        out
    }
    fn fetch(map: u32, copy: Copy, content: u8, failures: u32, again: bool) -> Action {
        Action::Fetch { map, copy, segment: segment(content), failures, again }
    }
    fn started(maps: u32) -> Tentative {
        Tentative::new(maps, TrackerId::new(9), 0)
    }

    #[test]
    fn runs_on_the_first_copies_and_votes_only_after_all_verdicts() {
        let mut t = started(2);
        assert_eq!(step(&mut t, 0, Input::Vote(copy(0, 1, 7), segment(7))), [fetch(0, copy(0, 1, 7), 7, 0, false)]);
        assert_eq!(step(&mut t, 0, Input::Vote(copy(0, 2, 7), segment(7))), []);
        assert_eq!(step(&mut t, 0, Input::Fetched(copy(0, 1, 7), bytes(1))), []);
        assert_eq!(step(&mut t, 1, Input::Vote(copy(1, 2, 8), segment(8))), [fetch(1, copy(1, 2, 8), 8, 0, false)]);
        let run = step(&mut t, 1, Input::Fetched(copy(1, 2, 8), bytes(2)));
        assert_eq!(run, [Action::Run(1, vec![bytes(1), bytes(2)])]);
        assert_eq!(step(&mut t, 0, Input::Verdict(Digest::from_bytes([7; 32]))), []);
        let mut out = Vec::new();
        t.finished(1);
        t.settle(&mut out);
        assert_eq!(out, [], "one verdict is missing");
        assert_eq!(step(&mut t, 1, Input::Verdict(Digest::from_bytes([8; 32]))), [Action::Vote]);
        assert_eq!(t.restarts(), 0);
    }

    #[test]
    fn an_unconsumed_segment_is_replaced_without_a_restart() {
        let mut t = started(2);
        step(&mut t, 0, Input::Vote(copy(0, 1, 66), segment(66)));
        step(&mut t, 0, Input::Fetched(copy(0, 1, 66), bytes(66)));
        assert_eq!(step(&mut t, 0, Input::Verdict(Digest::from_bytes([7; 32]))), [], "no agreed copy is known yet");
        let replaced = step(&mut t, 0, Input::Vote(copy(0, 2, 7), segment(7)));
        assert_eq!(replaced, [fetch(0, copy(0, 2, 7), 7, 0, true)]);
        assert_eq!(t.restarts(), 0);
    }

    #[test]
    fn a_consumed_segment_restarts_the_reduce() {
        let mut t = started(1);
        step(&mut t, 0, Input::Vote(copy(0, 1, 66), segment(66)));
        assert_eq!(step(&mut t, 0, Input::Fetched(copy(0, 1, 66), bytes(66))), [Action::Run(1, vec![bytes(66)])]);
        step(&mut t, 0, Input::Vote(copy(0, 2, 7), segment(7)));
        let redo = step(&mut t, 0, Input::Verdict(Digest::from_bytes([7; 32])));
        assert_eq!(redo, [fetch(0, copy(0, 2, 7), 7, 0, true), Action::Abort(1)]);
        let mut out = Vec::new();
        t.finished(1);
        t.settle(&mut out);
        assert_eq!(out, [], "TR-3: the old run's result is worth nothing");
        assert_eq!(step(&mut t, 0, Input::Fetched(copy(0, 2, 7), bytes(7))), [Action::Run(2, vec![bytes(7)])]);
        t.finished(2);
        t.settle(&mut out);
        assert_eq!(out, [Action::Vote]);
        assert_eq!(t.restarts(), 1);
    }

    #[test]
    fn another_partitions_damage_costs_nothing() {
        let mut t = started(1);
        step(&mut t, 0, Input::Vote(copy(0, 1, 66), segment(7)));
        assert_eq!(step(&mut t, 0, Input::Fetched(copy(0, 1, 66), bytes(7))).len(), 1);
        step(&mut t, 0, Input::Vote(copy(0, 2, 8), segment(7)));
        assert_eq!(step(&mut t, 0, Input::Verdict(Digest::from_bytes([8; 32]))), []);
        let mut out = Vec::new();
        t.finished(1);
        t.settle(&mut out);
        assert_eq!(out, [Action::Vote]);
    }

    #[test]
    fn wrong_servers_are_bypassed_and_unreachable_ones_come_last() {
        let mut t = started(1);
        step(&mut t, 0, Input::Vote(copy(0, 1, 7), segment(7)));
        step(&mut t, 0, Input::Vote(copy(0, 2, 7), segment(7)));
        assert_eq!(step(&mut t, 0, Input::Unreachable(copy(0, 1, 7))), [fetch(0, copy(0, 2, 7), 7, 0, false)]);
        assert_eq!(step(&mut t, 0, Input::Wrong(copy(0, 2, 7))), [fetch(0, copy(0, 1, 7), 7, 1, true)]);
        assert_eq!(step(&mut t, 0, Input::Wrong(copy(0, 1, 7))), [], "nobody is left to ask");
        assert_eq!(step(&mut t, 0, Input::Vote(copy(0, 3, 7), segment(7))), [fetch(0, copy(0, 3, 7), 7, 0, true)]);
    }

    #[test]
    fn a_fetch_that_the_verdict_refutes_is_forgotten() {
        let mut t = started(1);
        step(&mut t, 0, Input::Vote(copy(0, 1, 66), segment(66)));
        step(&mut t, 0, Input::Vote(copy(0, 2, 7), segment(7)));
        let verdict = step(&mut t, 0, Input::Verdict(Digest::from_bytes([7; 32])));
        assert_eq!(verdict, [Action::Abandon(0), fetch(0, copy(0, 2, 7), 7, 0, true)]);
        assert_eq!(step(&mut t, 0, Input::Fetched(copy(0, 1, 66), bytes(66))), []);
        assert_eq!(step(&mut t, 0, Input::Fetched(copy(0, 2, 7), bytes(7))), [Action::Run(1, vec![bytes(7)])]);
    }

    #[test]
    fn empty_segments_are_never_fetched_but_still_need_a_verdict() {
        let mut t = started(1);
        let empty = Segment { digest: Digest::of(b""), length: 0, records: 0 };
        assert_eq!(step(&mut t, 0, Input::Vote(copy(0, 1, 7), empty)), [Action::Run(1, vec![nothing()])]);
        let mut out = Vec::new();
        t.finished(1);
        t.settle(&mut out);
        assert_eq!(out, []);
        assert_eq!(step(&mut t, 0, Input::Verdict(Digest::from_bytes([7; 32]))), [Action::Vote]);
    }

    #[test]
    fn a_server_that_invents_attempts_gains_no_tries() {
        let mut t = started(1);
        let invented = |attempt| {
            let mut copy = copy(0, 1, 7);
            copy.attempt.attempt = attempt;
            copy
        };
        (10..14).for_each(|attempt| t.learn(0, Input::Vote(invented(attempt), segment(7))));
        let mut out = Vec::new();
        t.settle(&mut out);
        let Some(Action::Fetch { copy: first, .. }) = out.first() else { panic!("{out:?}") };
        t.learn(0, Input::Vote(copy(0, 2, 7), segment(7)));
        assert_eq!(step(&mut t, 0, Input::Unreachable(*first)), [fetch(0, copy(0, 2, 7), 7, 0, false)]);
    }

    #[test]
    fn a_claimed_length_is_believed_up_to_a_bound_until_it_is_agreed() {
        let huge = |length| Segment { length, ..segment(7) };
        let mut t = started(2);
        assert_eq!(step(&mut t, 0, Input::Vote(copy(0, 1, 7), huge(TENTATIVE_BYTES_MAX))).len(), 1);
        assert_eq!(step(&mut t, 1, Input::Vote(copy(1, 1, 7), huge(TENTATIVE_BYTES_MAX + 1))), []);
        assert_eq!(step(&mut t, 1, Input::Verdict(Digest::from_bytes([7; 32]))).len(), 1, "agreed, it is fetched");
    }

    #[test]
    fn a_job_without_maps_reduces_at_once() {
        let (mut t, mut out) = (started(0), Vec::new());
        t.settle(&mut out);
        assert_eq!(out, [Action::Run(1, vec![])]);
        out.clear();
        t.finished(1);
        t.settle(&mut out);
        assert_eq!(out, [Action::Vote]);
    }

    #[test]
    fn of_the_copies_known_at_one_time_the_own_comes_first_and_readers_differ() {
        let choice = |reader: u32, servers: [u32; 2]| {
            let (mut t, mut out) = (Tentative::new(1, TrackerId::new(reader), 0), Vec::new());
            for server in servers {
                t.learn(0, Input::Vote(copy(0, server, 7), segment(7)));
            }
            t.settle(&mut out);
            match out.as_slice() {
                [Action::Fetch { copy, .. }] => copy.server.number(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(choice(2, [1, 2]), 2);
        let chosen: BTreeSet<u32> = (10..30).map(|reader| choice(reader, [1, 2])).collect();
        assert_eq!(chosen, BTreeSet::from([1, 2]), "every server is somebody's first choice");
    }

    #[test]
    fn numbers_out_of_range_are_ignored() {
        let mut t = started(1);
        assert_eq!(step(&mut t, 9, Input::Verdict(Digest::from_bytes([1; 32]))), []);
        assert!(!t.is_current(1));
    }
}
