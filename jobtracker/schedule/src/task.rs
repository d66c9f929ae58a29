//! One task: its attempts, their votes, and what the votes decide.
//!
//! * **T-1** Attempts that voted or may still vote are in distinct domains, for ever: only an attempt that will never
//!   count (lost, declined, withdrawn) gives its domain back.
//! * **T-2** There are at most 2f + 1 of them.
//! * **T-3** A verdict is f + 1 equal ballots.
//!
//! Once a map task is agreed, its bytes may vanish with the trackers that have them. Attempts that only bring the bytes
//! back ([`Purpose::BringsBack`]) decide nothing, and none of the rules above is about them. What holds of them:
//!
//! * **T-4** A domain that voted otherwise than was agreed brings no bytes back, and a job of which more than f domains
//!   contradict one verdict ends: that is beyond its bound. So at most f liars neither go on for ever nor end the job.

use crate::{
    bounds::{DECLINES_PER_PLACE_MAX, LOSSES_MAX, cut},
    events::AttemptEnd,
    wants::Urgency,
};
use quorate_protocol::{
    canonical,
    digest::Digest,
    ids::{OrderedTime, TrackerId},
    limits,
    query::Standing,
    sign::Signed,
    vote::{Ballot, Vote},
};
use serde::{Deserialize, Serialize};

/// A verified vote, as it came.
#[derive(Debug)]
pub(crate) struct HeardVote<'a> {
    /// What it says.
    pub(crate) vote: Vote,
    /// The tracker's statement.
    pub(crate) signed: &'a Signed<Vote>,
    /// Digest of its ballot.
    pub(crate) ballot: Digest,
    /// The ballot's encoding.
    bytes: Vec<u8>,
    /// The user program's message.
    message: &'a str,
}

impl<'a> HeardVote<'a> {
    /// Reads a verified vote.
    pub(crate) fn new(vote: Vote, signed: &'a Signed<Vote>, message: &'a str) -> Self {
        let bytes = canonical::encode(&vote.ballot);
        Self { ballot: Digest::of(&bytes), bytes, vote, signed, message }
    }
}

/// A vote that counts, as it is kept: what else the tracker signed is known from the job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct KeptVote {
    /// R and s, the two halves of the signature.
    signature: ([u8; 32], [u8; 32]),
    /// Digest of its ballot.
    pub(crate) ballot: Digest,
    /// The ballot's encoding, with the first of a task's equal votes: it is empty for the others.
    bytes: Box<[u8]>,
    /// The user program's message, when the ballot is a failure.
    pub(crate) message: Box<str>,
}

impl KeptVote {
    fn new(heard: &HeardVote<'_>, is_first: bool) -> Self {
        let message = match heard.vote.ballot {
            Ballot::Failed { .. } => cut(heard.message),
            Ballot::Map { .. } | Ballot::Reduce { .. } => String::new(),
        };
        let (mut r, mut s) = ([0; 32], [0; 32]);
        let signature = heard.signed.signature();
        r.copy_from_slice(&signature[..32]);
        s.copy_from_slice(&signature[32..]);
        let bytes = if is_first { heard.bytes.as_slice().into() } else { Box::default() };
        Self { signature: (r, s), ballot: heard.ballot, bytes, message: message.into_boxed_str() }
    }

    /// R and s, the two halves of the signature.
    pub(crate) fn signature(&self) -> ([u8; 32], [u8; 32]) {
        self.signature
    }

    /// The statement again, once all that it says is known.
    pub(crate) fn signed(&self, vote: &Vote) -> Signed<Vote> {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&self.signature.0);
        signature[32..].copy_from_slice(&self.signature.1);
        Signed::from_parts(canonical::encode(vote), &signature)
    }
}

/// How an attempt stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum AttemptState {
    /// It runs, in time.
    Running,
    /// It runs, and made no progress for too long. Its vote still counts.
    Overdue {
        /// Since when.
        since: OrderedTime,
    },
    /// It voted.
    Voted(KeptVote),
    /// It will never vote: its tracker went away or gave no answer.
    Lost(String),
    /// Its tracker could not run it.
    Declined(String),
    /// It was taken back, through no fault of its tracker: a job that could use its slot wanted it.
    Withdrawn,
    /// Its task was decided without it. A vote that comes late is still looked at.
    Cancelled,
}

impl AttemptState {
    /// Why the attempt will not vote, as people are told.
    pub(crate) fn end(&self) -> AttemptEnd {
        match self {
            AttemptState::Lost(why) => AttemptEnd::Lost(why.clone()),
            AttemptState::Declined(why) => AttemptEnd::Declined(why.clone()),
            AttemptState::Withdrawn => AttemptEnd::Withdrawn,
            AttemptState::Running | AttemptState::Overdue { .. } | AttemptState::Voted(_) | AttemptState::Cancelled => {
                AttemptEnd::Cancelled
            }
        }
    }
}

/// What an attempt is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// Its vote decides.
    Decides,
    /// It brings back the bytes of an agreed task.
    BringsBack,
    /// It shows whether its tracker gives what it gave in this attempt of the task.
    Repeats(u16),
    /// It shows whether its tracker, which is on probation, gives what was agreed.
    Probes,
}

/// One execution of the task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) tracker: TrackerId,
    pub(crate) started: OrderedTime,
    /// When its units last grew.
    pub(crate) progressed: OrderedTime,
    pub(crate) units: u64,
    /// It is overdue at this time whatever progress it claims.
    pub(crate) limit: Option<OrderedTime>,
    /// Whether it ever was overdue: people are told, whatever came after.
    pub(crate) was_overdue: bool,
    pub(crate) purpose: Purpose,
    /// Whether a reader complained about its bytes.
    pub(crate) is_complained: bool,
    pub(crate) state: AttemptState,
}

impl Attempt {
    /// Whether it holds a slot.
    pub(crate) fn is_active(&self) -> bool {
        match self.state {
            AttemptState::Running | AttemptState::Overdue { .. } => true,
            AttemptState::Voted(_)
            | AttemptState::Lost(_)
            | AttemptState::Declined(_)
            | AttemptState::Withdrawn
            | AttemptState::Cancelled => false,
        }
    }
    /// Whether its vote decides.
    pub(crate) fn decides(&self) -> bool {
        self.purpose == Purpose::Decides
    }
    /// Whether it is about its tracker, and the task could do without it.
    pub(crate) fn is_extra(&self) -> bool {
        match self.purpose {
            Purpose::Decides | Purpose::BringsBack => false,
            Purpose::Repeats(_) | Purpose::Probes => true,
        }
    }
    /// Whether readers are told that it has the output of this ballot.
    pub(crate) fn has_for_readers(&self, ballot: Digest) -> bool {
        !self.is_extra() && self.vote().is_some_and(|vote| vote.ballot == ballot)
    }
    /// Its vote.
    pub(crate) fn vote(&self) -> Option<&KeptVote> {
        match &self.state {
            AttemptState::Voted(vote) => Some(vote),
            AttemptState::Running
            | AttemptState::Overdue { .. }
            | AttemptState::Lost(_)
            | AttemptState::Declined(_)
            | AttemptState::Withdrawn
            | AttemptState::Cancelled => None,
        }
    }
    /// Whether it voted, or may still, and so keeps its domain.
    pub(crate) fn keeps_domain(&self) -> bool {
        match self.state {
            AttemptState::Running | AttemptState::Overdue { .. } | AttemptState::Voted(_) | AttemptState::Cancelled => {
                true
            }
            AttemptState::Lost(_) | AttemptState::Declined(_) | AttemptState::Withdrawn => false,
        }
    }
    /// Whether its tracker lost or declined it, or gave bytes that nobody could use.
    fn is_spoiled(&self) -> bool {
        match self.state {
            AttemptState::Lost(_) | AttemptState::Declined(_) => true,
            AttemptState::Running
            | AttemptState::Overdue { .. }
            | AttemptState::Voted(_)
            | AttemptState::Withdrawn
            | AttemptState::Cancelled => self.is_complained,
        }
    }
}

/// Attempts of an undecided task, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    /// Votes.
    pub(crate) voted: u32,
    /// Attempts that run in time.
    pub(crate) running: u32,
    /// Attempts that run and are overdue.
    pub(crate) overdue: u32,
    /// The most votes for one ballot.
    pub(crate) best: u32,
    /// Whether two votes differ.
    pub(crate) differs: bool,
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Every attempt ever started; an attempt's number is its place.
    pub(crate) attempts: Vec<Attempt>,
    /// The agreed ballot's digest.
    pub(crate) agreed: Option<Digest>,
    /// Whether it did not go smoothly.
    pub(crate) is_disputed: bool,
    /// Whether it is agreed and nobody is left to serve its bytes.
    pub(crate) is_lacking: bool,
    /// How often it was found lacking.
    pub(crate) reruns: u16,
    /// Where it is among those that want attempts.
    pub(crate) urgency: Option<Urgency>,
}

impl Task {
    /// Adds an attempt, one of `usual` in a task that goes smoothly.
    pub(crate) fn add_attempt(&mut self, attempt: Attempt, usual: u32) {
        if self.attempts.is_empty() {
            self.attempts.reserve_exact(usual as usize);
        }
        self.attempts.push(attempt);
    }

    /// Keeps a vote as that of an attempt.
    pub(crate) fn keep(&mut self, number: u16, heard: &HeardVote<'_>) {
        let is_first = self.votes().all(|vote| vote.ballot != heard.ballot);
        if let Some(attempt) = self.attempts.get_mut(usize::from(number)) {
            attempt.state = AttemptState::Voted(KeptVote::new(heard, is_first));
        }
    }

    fn votes(&self) -> impl Iterator<Item = &KeptVote> {
        self.attempts.iter().filter_map(Attempt::vote)
    }

    /// A ballot that was voted for.
    pub(crate) fn ballot(&self, digest: Digest) -> Option<Ballot> {
        let first = self.votes().find(|vote| vote.ballot == digest && !vote.bytes.is_empty())?;
        canonical::decode(&first.bytes, limits::VOTE_BYTES_MAX).ok()
    }

    /// Counts the attempts that decide.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for attempt in self.attempts.iter().filter(|attempt| attempt.decides()) {
            match &attempt.state {
                AttemptState::Running => tally.running += 1,
                AttemptState::Overdue { .. } => tally.overdue += 1,
                AttemptState::Voted(vote) => {
                    let equal = self.votes_for(vote.ballot).count() as u32;
                    tally.voted += 1;
                    tally.best = tally.best.max(equal);
                }
                AttemptState::Lost(_)
                | AttemptState::Declined(_)
                | AttemptState::Withdrawn
                | AttemptState::Cancelled => {}
            }
        }
        tally.differs = tally.best < tally.voted;
        tally
    }

    /// The attempts that decide and voted for this ballot, with their numbers.
    pub(crate) fn votes_for(&self, ballot: Digest) -> impl Iterator<Item = (u16, &Attempt, &KeptVote)> {
        let votes = self.attempts.iter().enumerate().filter(|(_, attempt)| attempt.decides());
        votes.filter_map(move |(number, attempt)| {
            let vote = attempt.vote().filter(|vote| vote.ballot == ballot)?;
            Some((number as u16, attempt, vote))
        })
    }

    /// The ballot that f + 1 votes agree on.
    pub(crate) fn quorum(&self, f: u32) -> Option<Digest> {
        let ballots = self.attempts.iter().filter(|attempt| attempt.decides()).filter_map(Attempt::vote);
        ballots.map(|vote| vote.ballot).find(|ballot| self.votes_for(*ballot).count() as u32 > f)
    }

    /// How many more attempts it wants: as many as could complete a quorum with those that run in time, within its
    /// 2f + 1 places. Each mismatch and each overdue attempt so asks for one more.
    pub(crate) fn wanted(&self, f: u32) -> u32 {
        if self.agreed.is_some() {
            let brings = |attempt: &Attempt| attempt.purpose == Purpose::BringsBack && attempt.is_active();
            let is_coming = self.attempts.iter().any(brings);
            return u32::from(self.is_lacking && !is_coming);
        }
        let tally = self.tally();
        let missing = (f + 1).saturating_sub(tally.best).saturating_sub(tally.running);
        missing.min(self.room(f, &tally))
    }
    fn room(&self, f: u32, tally: &Tally) -> u32 {
        (2 * f + 1).saturating_sub(tally.voted + tally.running + tally.overdue)
    }

    /// Whether what it wants are not its first attempts.
    pub(crate) fn is_urgent(&self, f: u32) -> bool {
        self.attempts.len() as u64 > u64::from(f)
            || self.attempts.iter().any(|attempt| !attempt.keeps_domain())
            || self.tally().differs
    }

    /// Whether a quorum is out of reach with all 2f + 1 votes there.
    pub(crate) fn is_undecidable(&self, f: u32) -> bool {
        self.agreed.is_none() && self.tally().voted > 2 * f && self.quorum(f).is_none()
    }

    /// Trackers that lost or declined it, or gave bytes that nobody could use.
    pub(crate) fn spoiled(&self) -> Vec<TrackerId> {
        let spoiled = self.attempts.iter().filter(|attempt| attempt.is_spoiled() && !attempt.is_extra());
        spoiled.map(|attempt| attempt.tracker).collect()
    }

    /// Whether an attempt repeats another one and its vote is another.
    pub(crate) fn is_changed(&self, attempt: &Attempt) -> bool {
        let Purpose::Repeats(of) = attempt.purpose else { return false };
        let first = self.attempts.get(usize::from(of)).and_then(Attempt::vote);
        first.zip(attempt.vote()).is_some_and(|(first, again)| first.ballot != again.ballot)
    }
    /// A tracker that gave another output when it ran the task again.
    pub(crate) fn differs_from_itself(&self) -> Option<TrackerId> {
        self.attempts.iter().find(|attempt| self.is_changed(attempt)).map(|attempt| attempt.tracker)
    }

    /// Trackers that voted otherwise than was agreed, where the task needed their votes.
    pub(crate) fn outvoted(&self) -> impl Iterator<Item = TrackerId> {
        let differs = |attempt: &&Attempt| attempt.vote().is_some_and(|vote| Some(vote.ballot) != self.agreed);
        let counts = |attempt: &&Attempt| self.agreed.is_some() && !attempt.is_extra();
        self.attempts.iter().filter(counts).filter(differs).map(|attempt| attempt.tracker)
    }

    /// Why no further attempt would help, once it was lost or declined too often.
    pub(crate) fn hopeless(&self, f: u32) -> Option<String> {
        let (mut losses, mut declines, mut last) = (0, 0, "");
        for attempt in self.attempts.iter().filter(|attempt| !attempt.is_extra()) {
            match &attempt.state {
                AttemptState::Lost(reason) => (losses, last) = (losses + 1, reason),
                AttemptState::Declined(reason) => (declines, last) = (declines + 1, reason),
                AttemptState::Running
                | AttemptState::Overdue { .. }
                | AttemptState::Voted(_)
                | AttemptState::Withdrawn
                | AttemptState::Cancelled => {}
            }
        }
        if declines >= DECLINES_PER_PLACE_MAX * (2 * f as usize + 1) {
            return Some(format!("trackers could not run it {declines} times; the last said: {last}"));
        }
        (losses >= LOSSES_MAX).then(|| format!("its attempts were lost {losses} times; the last: {last}"))
    }

    /// How an attempt stands, for people.
    pub(crate) fn standing(&self, attempt: &Attempt) -> Standing {
        match &attempt.state {
            AttemptState::Running => Standing::Running,
            AttemptState::Overdue { .. } => Standing::Overdue,
            AttemptState::Voted(vote) => {
                let text = vote.ballot.short();
                match self.agreed {
                    None => Standing::Voted(text),
                    Some(agreed) if agreed == vote.ballot => Standing::Agreed(text),
                    Some(_) => Standing::Outvoted(text),
                }
            }
            AttemptState::Lost(reason) | AttemptState::Declined(reason) => Standing::Lost(reason.clone()),
            AttemptState::Withdrawn => Standing::Lost("another job could use its slot".to_owned()),
            AttemptState::Cancelled if attempt.was_overdue => Standing::Overdue,
            AttemptState::Cancelled => Standing::Cancelled,
        }
    }
}
