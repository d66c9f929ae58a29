//! Lying task trackers, one file per lie.
//!
//! A [`Lie`] sits at the seams of an honest tracker: before an attempt starts, after a map or reduce output is made,
//! before a vote is signed, and where bytes are served. The honest tracker is [`Lie`] with every default. A tracker takes
//! a lie only when the cluster's configuration allows liars.
//!
//! None of these ever lies about *whose* work it is: that needs another's key, which no liar has.

mod copy_vote;
mod corrupt_first;
mod corrupt_map;
mod corrupt_reduce;
mod corrupt_segment;
mod crash;
mod garbled;
mod replay;
mod serve_wrong;
mod serve_wrong_to_one;
mod silent;
mod slow;
mod two_votes;
mod wrong_map_digest;

pub use corrupt_first::is_hit;

use bytes::Bytes;
use quorate_protocol::{
    ids::{AttemptId, TrackerId},
    sign::Signed,
    vote::{Segment, Vote},
};
use std::{fmt, fs, io, path::Path, str::FromStr, sync::Arc, time::Duration};

/// What a tracker does with an attempt that it accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    /// Runs it.
    Work,
    /// Never does anything.
    Ignore,
    /// Does it, after so long, and says all the while that it makes progress.
    Dawdle(Duration),
    /// Goes down, without a word.
    Crash,
    /// Waits for a neighbour's vote on the same task and signs the same.
    CopyVote,
}

/// The votes that a tracker gives for one attempt: honest ones are the same for everybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ballots {
    /// For the job tracker.
    pub ordered: Vote,
    /// For the trackers that run the job's reducers.
    pub direct: Vote,
}

/// The seams of an honest tracker at which it can lie. Every default is honest.
pub trait Lie: Send + Sync + fmt::Debug {
    /// Before an attempt starts.
    fn conduct(&self, _attempt: AttemptId) -> Conduct {
        Conduct::Work
    }
    /// After a map attempt wrote its data file, before it is digested. A span is (offset, length) of one partition.
    ///
    /// # Errors
    /// When the file cannot be changed.
    fn spoil_map_data(&self, _attempt: AttemptId, _data: &Path, _spans: &[(u64, u64)]) -> io::Result<()> {
        Ok(())
    }
    /// After the segments were digested, before they are voted on.
    fn spoil_segments(&self, _segments: &mut [Segment]) {}
    /// A block of a reduce attempt's output, before it is stored and voted on. `first` is true for the first one.
    fn spoil_reduce_output(&self, _first: bool, _block: &mut [u8]) {}
    /// Before a map vote is signed.
    fn ballots(&self, vote: Vote) -> Ballots {
        Ballots { direct: vote.clone(), ordered: vote }
    }
    /// After a vote was signed, before it goes to the job tracker.
    fn spoil_signed(&self, _attempt: AttemptId, vote: Signed<Vote>) -> Signed<Vote> {
        vote
    }
    /// Whether reports to the job tracker are signed garbage.
    fn garbles_reports(&self) -> bool {
        false
    }
    /// Whether all readers get segments as they are, so that [`Lie::spoil_served`] need not be asked.
    fn serves_rightly(&self) -> bool {
        self.checks_before_proving()
    }
    /// A block of a segment, before it goes to a reader. The answer replaces it.
    fn spoil_served(&self, _reader: TrackerId, block: Bytes) -> Vec<Bytes> {
        vec![block]
    }
    /// Whether the server checks its bytes against its own vote before it signs what it served.
    fn checks_before_proving(&self) -> bool {
        true
    }
}

/// The honest tracker.
#[derive(Debug)]
pub struct Honest;
impl Lie for Honest {}

/// The lies that can be chosen by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Votes digests that no output has.
    WrongMapDigest,
    /// Makes wrong map output and votes for it consistently.
    CorruptMap,
    /// Makes one wrong segment, of one map attempt, and votes for it consistently.
    CorruptSegment,
    /// Votes rightly and serves wrong bytes to all.
    ServeWrong,
    /// Votes rightly and serves wrong bytes to the first reader that asks, right ones to the others.
    ServeWrongToOne,
    /// Makes wrong reduce output and votes for it consistently.
    CorruptReduce,
    /// Signs a neighbour's map vote without doing the work.
    CopyVote,
    /// Gives the job tracker one vote and the reducers another.
    TwoVotes,
    /// Accepts attempts and stays silent.
    Silent,
    /// Answers late, and claims progress all the while.
    Slow,
    /// Goes down at its first attempt.
    Crash,
    /// Sends a vote of another job in place of its own.
    Replay,
    /// Sends signed garbage to the job tracker and too many bytes to readers.
    Garbled,
    /// Makes wrong map output where it has the first attempt of a task, for a share of the tasks, and votes for it
    /// consistently. Told by all trackers at once it is one wrong vote for each of these tasks. Benchmarks choose it; it is
    /// not among [`Kind::ALL`], since no name says how large the share is.
    CorruptFirst {
        /// The share of the map tasks, from 0 to 100.
        percent: u8,
    },
}

impl Kind {
    /// All that have a name of their own.
    pub const ALL: [Kind; 13] = [
        Kind::WrongMapDigest,
        Kind::CorruptMap,
        Kind::CorruptSegment,
        Kind::ServeWrong,
        Kind::ServeWrongToOne,
        Kind::CorruptReduce,
        Kind::CopyVote,
        Kind::TwoVotes,
        Kind::Silent,
        Kind::Slow,
        Kind::Crash,
        Kind::Replay,
        Kind::Garbled,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::WrongMapDigest => "wrong-map-digest",
            Kind::CorruptMap => "corrupt-map",
            Kind::CorruptSegment => "corrupt-segment",
            Kind::ServeWrong => "serve-wrong",
            Kind::ServeWrongToOne => "serve-wrong-to-one",
            Kind::CorruptReduce => "corrupt-reduce",
            Kind::CopyVote => "copy-vote",
            Kind::TwoVotes => "two-votes",
            Kind::Silent => "silent",
            Kind::Slow => "slow",
            Kind::Crash => "crash",
            Kind::Replay => "replay",
            Kind::Garbled => "garbled",
            Kind::CorruptFirst { .. } => "corrupt-first",
        }
    }

    /// What it does, in a few words.
    pub const fn summary(self) -> &'static str {
        match self {
            Kind::WrongMapDigest => "votes map digests that no output has",
            Kind::CorruptMap => "makes wrong map output and votes for it",
            Kind::CorruptSegment => "makes one wrong segment and votes for it",
            Kind::ServeWrong => "votes rightly, serves wrong segments to all",
            Kind::ServeWrongToOne => "votes rightly, serves wrong segments to one reader",
            Kind::CorruptReduce => "makes wrong reduce output and votes for it",
            Kind::CopyVote => "signs a neighbour's map vote without the work",
            Kind::TwoVotes => "tells the job tracker one thing and reducers another",
            Kind::Silent => "accepts attempts and never answers",
            Kind::Slow => "answers late and claims progress",
            Kind::Crash => "goes down at its first attempt",
            Kind::Replay => "sends an old job's vote again",
            Kind::Garbled => "sends garbage and oversized messages",
            Kind::CorruptFirst { .. } => "makes wrong map output in first attempts of some tasks",
        }
    }

    /// The lie itself.
    pub fn lie(self) -> Arc<dyn Lie> {
        match self {
            Kind::WrongMapDigest => Arc::new(wrong_map_digest::WrongMapDigest),
            Kind::CorruptMap => Arc::new(corrupt_map::CorruptMap),
            Kind::CorruptSegment => Arc::new(corrupt_segment::CorruptSegment::default()),
            Kind::ServeWrong => Arc::new(serve_wrong::ServeWrong),
            Kind::ServeWrongToOne => Arc::new(serve_wrong_to_one::ServeWrongToOne::default()),
            Kind::CorruptReduce => Arc::new(corrupt_reduce::CorruptReduce),
            Kind::CopyVote => Arc::new(copy_vote::CopyVote),
            Kind::TwoVotes => Arc::new(two_votes::TwoVotes),
            Kind::Silent => Arc::new(silent::Silent),
            Kind::Slow => Arc::new(slow::Slow),
            Kind::Crash => Arc::new(crash::Crash),
            Kind::Replay => Arc::new(replay::Replay::default()),
            Kind::Garbled => Arc::new(garbled::Garbled),
            Kind::CorruptFirst { percent } => Arc::new(corrupt_first::CorruptFirst::new(percent)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no lie's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no liar {name:?}; there are {known}")]
pub struct UnknownLiar {
    name: String,
    known: String,
}

impl FromStr for Kind {
    type Err = UnknownLiar;
    fn from_str(name: &str) -> Result<Self, UnknownLiar> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownLiar { name: name.to_owned(), known: Kind::ALL.map(Kind::name).join(", ") })
    }
}

/// Changes the last byte of a range of a file: in a segment, the last byte of its last record.
fn flip_last_byte(path: &Path, offset: u64, length: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    if length == 0 {
        return Ok(());
    }
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let at = offset + length - 1;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1;
    file.write_all_at(&byte, at)
}

/// A copy of a block with one bit changed.
fn flip_a_bit(block: &Bytes) -> Bytes {
    let mut wrong = block.to_vec();
    if let Some(last) = wrong.last_mut() {
        *last ^= 1;
    }
    wrong.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_parse_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let error = "liar".parse::<Kind>().expect_err("no such liar").to_string();
        assert!(error.contains("corrupt-map"), "{error}");
    }
}
