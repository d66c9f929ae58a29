//! Where the votes of a task differ.
//!
//! A replica has the votes and no bytes. Whoever starts it may give it a [`Compare`], which finds the place with the trackers' help. That
//! is work, so readers get little of it (WEB-1, WEB-2): one inquiry at a time, within [`INQUIRY_PATIENCE`], and what it found
//! is kept while the votes are the same.

use super::{answers::Difference, routes::Refused};
use axum::http::StatusCode;
use futures::future::BoxFuture;
use quorate_protocol::{canonical, digest::Digest, ids::TaskId, query::TrackerView, sign::Signed, vote::Vote};
use serde::Serialize;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use utoipa::ToSchema;

/// How long an inquiry may take: less than a page waits for an answer.
const INQUIRY_PATIENCE: Duration = Duration::from_secs(4);
/// How long a reader waits for the inquiry of another.
const TURN_PATIENCE: Duration = Duration::from_millis(500);
/// How long it is remembered that bytes could not be had.
const MISSING_KEPT: Duration = Duration::from_secs(10);
/// Answers that are kept.
const KEPT_MAX: usize = 64;
/// What may help when an inquiry does not.
const EXPLAIN: &str = "`quorate explain` asks the trackers itself, and waits longer";

/// Finds where votes differ. What trackers give is checked against their votes.
pub trait Compare: Send + Sync {
    /// Compares these votes of one task: those of the most trackers with each of the others. Dropping it ends it.
    fn compare(&self, votes: Vec<Signed<Vote>>, trackers: Vec<TrackerView>) -> BoxFuture<'static, Vec<Compared>>;
}

/// What a comparison of two votes found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Compared {
    /// `difference`: outputs differ at a place; `counter`: only a counter does; `outcomes`: the program failed in one;
    /// `not-as-voted`: a tracker serves something else than it voted; `cuts`: the same bytes in other chunks; `missing`: a tracker does
    /// not give what is needed.
    pub finding: &'static str,
    /// All of it in a sentence.
    pub text: String,
    /// The place, in words.
    pub place: Option<String>,
    /// The partition.
    pub partition: Option<u32>,
    /// The byte of the partition's segment, or of the part file, from 0.
    pub byte: Option<u64>,
    /// Of map output: the record of the segment, from 0.
    pub record: Option<u64>,
    /// Of reduce output: the line, from 1.
    pub line: Option<u64>,
    /// What each of the two has there.
    pub sides: Vec<ComparedSide>,
}

/// One of two votes where they differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ComparedSide {
    /// The tracker's number.
    pub tracker: u32,
    /// The attempt's number.
    pub attempt: Option<u16>,
    /// The record's key, quoted, escaped and shortened.
    pub key: Option<String>,
    /// The record's value, likewise.
    pub value: Option<String>,
    /// What it has, in words.
    pub text: String,
}

impl Compared {
    fn is_missing(&self) -> bool {
        self.finding == "missing"
    }
}

/// The comparisons of a replica.
pub(crate) struct Comparisons {
    compare: Arc<dyn Compare>,
    /// Whose turn it is to compare.
    turn: Mutex<()>,
    /// The oldest first.
    kept: std::sync::Mutex<VecDeque<Kept>>,
}

/// What was found.
struct Kept {
    /// Names the votes.
    votes: Digest,
    found: Vec<Compared>,
    since: Instant,
}

impl Kept {
    /// Whether it still counts: a tracker that was away may have come back.
    fn is_good(&self) -> bool {
        !self.found.iter().any(Compared::is_missing) || self.since.elapsed() < MISSING_KEPT
    }
}

impl Comparisons {
    pub(crate) fn new(compare: Arc<dyn Compare>) -> Self {
        Self { compare, turn: Mutex::new(()), kept: std::sync::Mutex::default() }
    }

    /// Where the votes of a task differ.
    pub(crate) async fn of(
        &self,
        task: TaskId,
        votes: Vec<Signed<Vote>>,
        trackers: Vec<TrackerView>,
    ) -> Result<Difference, Refused> {
        differ(task, &votes)?;
        let name = canonical::digest(&votes);
        let found = match self.find(name) {
            Some(found) => found,
            None => self.inquire(task, name, votes, trackers).await?,
        };
        answer(task, found)
    }

    async fn inquire(
        &self,
        task: TaskId,
        name: Digest,
        votes: Vec<Signed<Vote>>,
        trackers: Vec<TrackerView>,
    ) -> Result<Vec<Compared>, Refused> {
        let Ok(_turn) = timeout(TURN_PATIENCE, self.turn.lock()).await else {
            let message = "the replica is comparing other votes";
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).hint("ask again in a moment"));
        };
        // Another reader may have asked for the same.
        if let Some(found) = self.find(name) {
            return Ok(found);
        }
        let Ok(found) = timeout(INQUIRY_PATIENCE, self.compare.compare(votes, trackers)).await else {
            let message = format!("the votes of {task} could not be compared in {} s", INQUIRY_PATIENCE.as_secs());
            return Err(Refused::new(StatusCode::GATEWAY_TIMEOUT, "late", message).hint(EXPLAIN));
        };
        self.keep(name, found.clone());
        Ok(found)
    }

    fn find(&self, votes: Digest) -> Option<Vec<Compared>> {
        let kept = self.kept.lock().ok()?;
        kept.iter().find(|kept| kept.votes == votes && kept.is_good()).map(|kept| kept.found.clone())
    }

    fn keep(&self, votes: Digest, found: Vec<Compared>) {
        let Ok(mut kept) = self.kept.lock() else { return };
        kept.retain(|kept| kept.votes != votes);
        kept.push_back(Kept { votes, found, since: Instant::now() });
        while kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }
}

/// That there is something to compare.
fn differ(task: TaskId, votes: &[Signed<Vote>]) -> Result<(), Refused> {
    let ballots: BTreeSet<Digest> =
        votes.iter().filter_map(|vote| vote.peek().ok()).map(|vote| vote.ballot.digest()).collect();
    match ballots.len() {
        0 => Err(Refused::new(StatusCode::NOT_FOUND, "no-votes", format!("there are no votes of {task} here"))
            .hint("of jobs that ended, votes are kept where they differ")),
        1 => Err(Refused::new(StatusCode::NOT_FOUND, "no-difference", format!("all votes on {task} are alike"))),
        _ => Ok(()),
    }
}

/// What was found, unless it is only that bytes cannot be had.
fn answer(task: TaskId, found: Vec<Compared>) -> Result<Difference, Refused> {
    match found.iter().find(|compared| compared.is_missing()) {
        Some(missing) if found.iter().all(Compared::is_missing) => {
            Err(Refused::new(StatusCode::GONE, "no-bytes", missing.text.clone())
                .hint("trackers keep the bytes of disputed tasks for an hour after the job's end"))
        }
        Some(_) | None => Ok(Difference::new(task, found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use quorate_protocol::{
        ids::{AttemptId, JobId, Stage, TrackerId},
        sign::SecretKey,
        vote::{Ballot, FailureKind},
    };
    use std::sync::atomic::{AtomicUsize, Ordering};

    const TASK: TaskId = TaskId { job: JobId::new(1), stage: Stage::Map, index: 0 };

    /// Finds the same each time, if ever.
    struct Fake {
        finding: Option<&'static str>,
        asked: AtomicUsize,
    }

    impl Compare for Fake {
        fn compare(&self, _: Vec<Signed<Vote>>, _: Vec<TrackerView>) -> BoxFuture<'static, Vec<Compared>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let Some(finding) = self.finding else { return std::future::pending().boxed() };
            let text = "found".to_owned();
            let (place, partition, byte, record, line) = (None, None, None, None, None);
            let found = Compared { finding, text, place, partition, byte, record, line, sides: Vec::new() };
            std::future::ready(vec![found]).boxed()
        }
    }

    fn set_up(finding: Option<&'static str>) -> (Arc<Fake>, Comparisons) {
        let fake = Arc::new(Fake { finding, asked: AtomicUsize::new(0) });
        (Arc::clone(&fake), Comparisons::new(fake))
    }

    /// Votes that failed at these records.
    fn votes(records: &[u64]) -> Vec<Signed<Vote>> {
        let key = SecretKey::from_seed([1; 32]);
        let vote = |(number, record): (u16, &u64)| {
            let ballot = Ballot::Failed { kind: FailureKind::UserPanic, record: Some(*record) };
            let attempt = AttemptId { task: TASK, attempt: number };
            let (cluster, specification) = (Digest::of(b"cluster"), Digest::of(b"specification"));
            let tracker = TrackerId::new(number.into());
            Signed::seal(&Vote { cluster, specification, f: 1, attempt, tracker, ballot }, &key)
        };
        (0..).zip(records).map(vote).collect()
    }

    async fn code(comparisons: &Comparisons, records: &[u64]) -> Option<&'static str> {
        comparisons.of(TASK, votes(records), Vec::new()).await.err().map(|refused| refused.code())
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_votes_are_compared_once() {
        let (fake, comparisons) = set_up(Some("difference"));
        for _ in 0..3 {
            assert_eq!(code(&comparisons, &[1, 2]).await, None);
        }
        assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
        // One more vote is another question, and what is kept is bounded.
        for more in 0..=KEPT_MAX as u64 {
            assert_eq!(code(&comparisons, &[1, 2, more]).await, None);
        }
        assert_eq!(comparisons.kept.lock().expect("kept").len(), KEPT_MAX);
        assert_eq!(code(&comparisons, &[1, 2]).await, None);
        assert_eq!(fake.asked.load(Ordering::Relaxed), KEPT_MAX + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn votes_that_are_alike_or_not_there_are_not_compared() {
        let (fake, comparisons) = set_up(Some("difference"));
        assert_eq!(code(&comparisons, &[]).await, Some("no-votes"));
        assert_eq!(code(&comparisons, &[1, 1]).await, Some("no-difference"));
        assert_eq!(fake.asked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_gone_are_asked_for_again_after_a_while() {
        let (fake, comparisons) = set_up(Some("missing"));
        assert_eq!(code(&comparisons, &[1, 2]).await, Some("no-bytes"));
        assert_eq!(code(&comparisons, &[1, 2]).await, Some("no-bytes"));
        assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(MISSING_KEPT).await;
        assert_eq!(code(&comparisons, &[1, 2]).await, Some("no-bytes"));
        assert_eq!(fake.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_inquiry_ends_and_there_is_one_at_a_time() {
        let (fake, comparisons) = set_up(None);
        let (first, second) = tokio::join!(code(&comparisons, &[1, 2]), code(&comparisons, &[1, 3]));
        assert_eq!((first, second), (Some("late"), Some("busy")));
        assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
    }
}
