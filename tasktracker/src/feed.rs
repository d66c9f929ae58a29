//! What a job's reducers on this tracker learn of its map stage: every tracker's votes, directly, and the verdicts.
//!
//! One feed serves all of a job's reduce attempts here. It keeps what came in an append-only list that each attempt reads
//! at its own pace.

use crate::worker::Worker;
use futures::StreamExt;
use quorate_protocol::{
    canonical,
    command::Accusation,
    digest::Digest,
    evidence::verify_vote,
    ids::{AttemptId, Stage, TrackerId},
    job::{JobPlan, MapVerdict},
    limits,
    sign::Signed,
    vote::{Ballot, Segment, Vote, segments_digest},
    wire::{VoteNotice, VotesRequest},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long to wait before a peer that broke off is asked again: twice as long each time that it had nothing new.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Attempts of one map task by one tracker: more than one only after a loss.
const ATTEMPTS_PER_MAP_MAX: usize = 4;

/// A tracker's vote for a map attempt, checked: signed by it, for this job, and its segments are those it names.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) tracker: TrackerId,
    pub(crate) attempt: AttemptId,
    pub(crate) signed: Signed<Vote>,
    pub(crate) vote: Vote,
    /// Digest of the list of segments.
    pub(crate) list: Digest,
    pub(crate) segments: Arc<[Segment]>,
}

/// An entry of the feed.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Notice(Arc<Notice>),
    Verdict(MapVerdict),
}

#[derive(Debug, Default)]
struct Heard {
    items: Vec<Item>,
    notices: BTreeMap<u32, Vec<Arc<Notice>>>,
    /// The agreed ballots, to find votes that say otherwise.
    verdicts: BTreeMap<u32, Digest>,
    strays: BTreeSet<(TrackerId, AttemptId)>,
}

/// The feed of one job.
#[derive(Debug)]
pub(crate) struct Feed {
    plan: Arc<JobPlan>,
    heard: Mutex<Heard>,
    changed: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Feed {
    /// Starts to listen to all trackers and to the job tracker, until the feed is dropped or the tracker stops.
    pub(crate) fn start(worker: &Arc<Worker>, plan: Arc<JobPlan>) -> Arc<Self> {
        let stop = worker.stop.child_token();
        let feed = Arc::new(Self { plan, heard: Mutex::default(), changed: watch::Sender::new(0), stop: stop.clone() });
        let listen = Listener { worker: Arc::clone(worker), feed: Arc::downgrade(&feed), stop };
        worker.tasks.spawn(listen.clone().follow_verdicts(feed.plan.job));
        worker.tasks.spawn(listen.follow_all_trackers(feed.plan.job));
        feed
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came from a position on.
    pub(crate) fn from(&self, position: usize) -> Vec<Item> {
        self.heard().items.get(position..).unwrap_or_default().to_vec()
    }

    /// Tells when there is more.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Adds an entry; returns the votes that contradict the verdicts, each once.
    fn add(&self, item: Item) -> Vec<Signed<Vote>> {
        let mut heard = self.heard();
        let suspects: Vec<Arc<Notice>> = match &item {
            Item::Notice(notice) => {
                heard.notices.entry(notice.attempt.task.index).or_default().push(Arc::clone(notice));
                vec![Arc::clone(notice)]
            }
            Item::Verdict(verdict) => {
                heard.verdicts.insert(verdict.map, verdict.ballot);
                heard.notices.get(&verdict.map).cloned().unwrap_or_default()
            }
        };
        heard.items.push(item);
        let mut strays = Vec::new();
        for notice in suspects {
            let agreed = heard.verdicts.get(&notice.attempt.task.index).copied();
            let differs = agreed.is_some_and(|agreed| agreed != notice.vote.ballot.digest());
            if differs && heard.strays.insert((notice.tracker, notice.attempt)) {
                strays.push(notice.signed.clone());
            }
        }
        drop(heard);
        self.changed.send_modify(|changes| *changes += 1);
        strays
    }
}

#[derive(Clone)]
struct Listener {
    worker: Arc<Worker>,
    feed: std::sync::Weak<Feed>,
    stop: CancellationToken,
}

impl Listener {
    fn add(&self, item: Item) {
        let Some(feed) = self.feed.upgrade() else { return };
        for stray in feed.add(item) {
            self.worker.outbox.accuse(Accusation::StrayVote(Box::new(stray)));
        }
    }

    async fn follow_verdicts(self, job: quorate_protocol::ids::JobId) {
        let mut position = 0;
        while !self.stop.is_cancelled() {
            let mut verdicts = self.worker.client.verdicts(job, position);
            loop {
                let next = tokio::select! {
                    next = verdicts.next() => next,
                    () = self.stop.cancelled() => return,
                };
                match next {
                    Some(Ok((at, verdict))) => {
                        position = at.saturating_add(1);
                        self.add(Item::Verdict(verdict));
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%job, %error, "the verdicts broke off");
                        break;
                    }
                    None => break,
                }
            }
            self.pause(RETRY).await;
        }
    }

    async fn pause(&self, how_long: Duration) {
        tokio::select! {
            () = tokio::time::sleep(how_long) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn follow_all_trackers(self, job: quorate_protocol::ids::JobId) {
        let mut all = self.worker.peers.all();
        let mut followed = BTreeSet::new();
        loop {
            let trackers = all.borrow_and_update().clone();
            for tracker in trackers {
                if followed.insert(tracker) {
                    self.worker.tasks.spawn(self.clone().follow_tracker(job, tracker));
                }
            }
            tokio::select! {
                changed = all.changed() => if changed.is_err() { return },
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn follow_tracker(self, job: quorate_protocol::ids::JobId, tracker: TrackerId) {
        // A tracker that restarted may give its votes in another order: each time they are heard from the start.
        let (mut known, mut retry) = (BTreeSet::new(), RETRY);
        while !self.stop.is_cancelled() {
            let before = known.len();
            if let Ok(mut client) = self.worker.peers.client(tracker) {
                tokio::select! {
                    opened = client.follow_votes(VotesRequest { job: job.number(), from: 0 }) => {
                        if let Ok(notices) = opened {
                            self.hear(tracker, notices.into_inner(), &mut known).await;
                        }
                    }
                    () = self.stop.cancelled() => return,
                }
            }
            retry = if known.len() > before { RETRY } else { (retry * 2).min(RETRY_MAX) };
            self.pause(retry).await;
        }
    }

    async fn hear(
        &self,
        tracker: TrackerId,
        mut notices: tonic::Streaming<VoteNotice>,
        known: &mut BTreeSet<AttemptId>,
    ) {
        loop {
            let notice = tokio::select! {
                notice = notices.message() => notice,
                () = self.stop.cancelled() => return,
            };
            let Ok(Some(notice)) = notice else { return };
            let Some(feed) = self.feed.upgrade() else { return };
            match check(&self.worker, &feed.plan, tracker, &notice) {
                Ok(notice) => {
                    let first = AttemptId { attempt: 0, ..notice.attempt };
                    let last = AttemptId { attempt: u16::MAX, ..notice.attempt };
                    let many = known.range(first..=last).count() >= ATTEMPTS_PER_MAP_MAX;
                    if !many && known.insert(notice.attempt) {
                        self.add(Item::Notice(Arc::new(notice)));
                    }
                }
                Err(why) => {
                    tracing::warn!(%tracker, why, "a notice of a vote is refused");
                    return;
                }
            }
        }
    }
}

/// Checks what a peer says it voted. Everything here came from the peer.
fn check(worker: &Worker, plan: &JobPlan, tracker: TrackerId, notice: &VoteNotice) -> Result<Notice, &'static str> {
    let signed = Signed::<Vote>::from_wire(&notice.vote).map_err(|_| "the vote is unreadable")?;
    let (vote, _) = verify_vote(&worker.cluster, &signed).map_err(|_| "the vote's signature is wrong")?;
    let task = vote.attempt.task;
    let fits = vote.tracker == tracker
        && vote.specification == plan.digest
        && task.job == plan.job
        && task.stage == Stage::Map
        && task.index < plan.maps;
    if !fits {
        return Err("the vote is of another tracker or job");
    }
    let segments: Vec<Segment> =
        canonical::decode(&notice.segments, limits::SEGMENTS_BYTES_MAX).map_err(|_| "the segments are unreadable")?;
    let list = match &vote.ballot {
        Ballot::Map { segments, .. } => *segments,
        Ballot::Reduce { .. } | Ballot::Failed { .. } => return Err("the vote is not for a map output"),
    };
    if segments.len() != plan.specification.partitions as usize || segments_digest(&segments) != list {
        return Err("the segments are not those of the vote");
    }
    Ok(Notice { tracker, attempt: vote.attempt, signed, vote, list, segments: segments.into() })
}
