//! What a replica must not forget about the agreement: the logs it read, the views, the chain of batches, and its own
//! statements. Pure bookkeeping; who decides is [`crate::core::Core`].

use crate::{
    config::Config,
    message::{Header, Signed, Standing, Statement},
    stream::Stream,
    types::{History, Seq, View},
};
use quorate_counter::{Epoch, EpochRecord, Head, Position};
use quorate_protocol::{
    digest::Digest,
    ids::{OrderedTime, ReplicaId},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A batch's header and the history that it follows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) header: Header,
    pub(crate) before: Digest,
}

/// One view.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ViewLog {
    /// The place of what NEW-VIEW starts it with.
    pub(crate) start: Seq,
    /// With the last PREPARE.
    pub(crate) tip: History,
    /// The histories from the start to the tip, as far as they are needed.
    pub(crate) prepared: BTreeMap<Seq, Digest>,
    /// What each replica voted for here, with the epoch in which it did. The primary votes with PREPARE and NEW-VIEW.
    pub(crate) votes: BTreeMap<ReplicaId, (Epoch, Seq)>,
}

impl ViewLog {
    pub(crate) fn new(start: History) -> Self {
        let prepared = BTreeMap::from([(start.seq, start.digest)]);
        Self { start: start.seq, tip: start, prepared, votes: BTreeMap::new() }
    }
    /// A view of which no more is known than where it starts and what its primary proposed last.
    pub(crate) fn joined(start: Seq, tip: History) -> Self {
        Self { start, ..Self::new(tip) }
    }
    /// Notes a vote. One of an epoch that has ended does not replace a later one.
    pub(crate) fn vote(&mut self, replica: ReplicaId, epoch: Epoch, seq: Seq) {
        let vote = self.votes.entry(replica).or_insert((epoch, seq));
        if vote.0 <= epoch {
            *vote = (epoch, seq);
        }
    }
    pub(crate) fn history(&self, seq: Seq) -> Option<History> {
        self.prepared.get(&seq).map(|digest| History { seq, digest: *digest })
    }
}

/// The replica's own log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) record: EpochRecord,
    /// Up to here there are certificates.
    pub(crate) attested: Head,
    /// Statements after that: kept on disk, and in part with the trusted log.
    pub(crate) queue: VecDeque<Statement>,
    /// How it stands after all of them.
    pub(crate) standing: Standing,
}

impl Own {
    pub(crate) fn new(record: EpochRecord, standing: Standing) -> Self {
        Self { attested: record.genesis(), record, queue: VecDeque::new(), standing }
    }
    /// The position after all statements.
    pub(crate) fn tail(&self) -> Position {
        self.attested.position.after(self.queue.len())
    }
    /// The head after the first so many statements of the queue.
    pub(crate) fn head_after(&self, statements: usize) -> Head {
        self.record.extend(self.attested, self.queue.iter().take(statements).map(Statement::digest))
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// By replica. A stream's record is its replica's admitted epoch.
    pub(crate) streams: Vec<Stream>,
    /// The epoch before, by replica. Its votes no longer count; what others say depends on it still.
    pub(crate) retired: Vec<Option<Stream>>,
    pub(crate) views: BTreeMap<View, ViewLog>,
    /// By the digest of the history that ends with it.
    pub(crate) links: BTreeMap<Digest, Link>,
    /// The committed histories, from some stable checkpoint on.
    pub(crate) trunk: BTreeMap<Seq, Digest>,
    pub(crate) committed: History,
    /// The view whose votes committed it; `None` when that was learned from others.
    pub(crate) committed_in: Option<View>,
    /// The time of the last committed batch.
    pub(crate) time: OrderedTime,
    pub(crate) own: Own,
    /// The f + 1 claims of the last stable checkpoint; empty before the first.
    pub(crate) stable: Vec<Signed>,
}

impl Ledger {
    pub(crate) fn new(config: &Config) -> Self {
        let empty = History::empty(config.cluster);
        let standing = Standing::genesis(empty);
        let streams: Vec<_> = config.genesis.iter().map(|record| Stream::new(record.clone(), standing)).collect();
        let mine = config.genesis[config.me.number() as usize].clone();
        let mut first = ViewLog::new(empty);
        // The first primary's view needs no NEW-VIEW: it has voted for the empty history from the start.
        first.votes.insert(View(0).primary(config.replicas()), (streams[0].record.epoch, empty.seq));
        Self {
            retired: vec![None; streams.len()],
            streams,
            views: BTreeMap::from([(View(0), first)]),
            links: BTreeMap::new(),
            trunk: BTreeMap::from([(empty.seq, empty.digest)]),
            committed: empty,
            committed_in: Some(View(0)),
            time: OrderedTime::default(),
            own: Own::new(mine, standing),
            stable: Vec::new(),
        }
    }

    pub(crate) fn stream(&self, replica: ReplicaId) -> Option<&Stream> {
        self.streams.get(replica.number() as usize)
    }
    /// One epoch of a replica's log.
    pub(crate) fn log(&self, replica: ReplicaId, epoch: Epoch) -> Option<&Stream> {
        let at = replica.number() as usize;
        let retired = self.retired.get(at).and_then(Option::as_ref);
        self.streams.get(at).into_iter().chain(retired).find(|stream| stream.record.epoch == epoch)
    }
    pub(crate) fn log_mut(&mut self, replica: ReplicaId, epoch: Epoch) -> Option<&mut Stream> {
        let at = replica.number() as usize;
        let retired = self.retired.get_mut(at).and_then(Option::as_mut);
        self.streams.get_mut(at).into_iter().chain(retired).find(|stream| stream.record.epoch == epoch)
    }
    /// All logs by replica and epoch.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &Stream> {
        self.retired.iter().flatten().chain(&self.streams)
    }
    pub(crate) fn logs_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.retired.iter_mut().flatten().chain(&mut self.streams)
    }
    /// Begins a replica's new epoch.
    pub(crate) fn retire(&mut self, record: EpochRecord, standing: Standing) {
        let at = record.replica.number() as usize;
        if let (Some(stream), Some(retired)) = (self.streams.get_mut(at), self.retired.get_mut(at)) {
            *retired = Some(std::mem::replace(stream, Stream::new(record, standing)));
        }
    }
    /// The epoch that counts for a replica after the committed history.
    pub(crate) fn epoch(&self, replica: ReplicaId) -> Option<Epoch> {
        self.stream(replica).map(|stream| stream.record.epoch)
    }
    /// The epoch that counted for a replica after a place; `None` when that is too long ago to be known.
    pub(crate) fn epoch_at(&self, replica: ReplicaId, seq: Seq) -> Option<Epoch> {
        let now = self.epoch(replica)?;
        if seq < self.committed.seq && !self.trunk.contains_key(&seq) {
            return None;
        }
        let later = self.trunk.range(seq.next()..).filter_map(|(_, digest)| self.links.get(digest));
        let admitted = later.filter_map(|link| link.header.admits.as_ref()).map(|admits| &admits.record);
        let before = self.retired.get(replica.number() as usize).and_then(Option::as_ref);
        let before = before.map(|stream| stream.record.epoch);
        let mut epochs: Vec<Epoch> =
            admitted.filter(|record| record.replica == replica).map(|record| record.epoch).collect();
        epochs.retain(|epoch| Some(*epoch) > before);
        match epochs.as_slice() {
            [] => Some(now),
            [one] if *one == now => before,
            _ => None,
        }
    }
    /// The last view that began.
    pub(crate) fn view(&self) -> View {
        self.views.last_key_value().map_or(View(0), |(view, _)| *view)
    }
    /// The last stable checkpoint.
    pub(crate) fn stable_seq(&self) -> Seq {
        self.stable.first().and_then(|signed| signed.claim.history()).map_or(Seq(0), |history| history.seq)
    }

    /// Whether a view that contradicts the committed history is impossible with at most f faults: it began later than the
    /// view that committed. An earlier one may just have come to nothing.
    pub(crate) fn must_agree(&self, view: View) -> bool {
        self.committed_in.is_some_and(|committed| view > committed)
    }

    /// Fills in what views proposed, as far as its headers are known by now.
    pub(crate) fn complete_views(&mut self) {
        let joined: Vec<(View, Vec<History>)> = self
            .views
            .iter()
            .filter(|(_, log)| log.prepared.first_key_value().is_some_and(|(first, _)| *first > log.start))
            .filter_map(|(view, log)| match self.path(log.tip) {
                Path::Known(headers) => Some((*view, headers.into_iter().map(|(history, _)| history).collect())),
                Path::Missing | Path::Contradiction => None,
            })
            .collect();
        for (view, histories) in joined {
            if let Some(log) = self.views.get_mut(&view) {
                let start = log.start;
                let own = histories.into_iter().filter(|history| history.seq >= start);
                log.prepared.extend(own.map(|history| (history.seq, history.digest)));
            }
        }
    }

    /// Whether a history is a part of the committed one, or too old to be compared with it.
    pub(crate) fn covers(&self, history: History) -> bool {
        match self.trunk.get(&history.seq) {
            Some(digest) => *digest == history.digest,
            None => self.trunk.first_key_value().is_some_and(|(first, _)| history.seq < *first),
        }
    }

    /// The headers that lead from the committed history to a later one, in order.
    pub(crate) fn path(&self, to: History) -> Path {
        let mut headers = Vec::new();
        let mut at = to;
        while at.seq > self.committed.seq {
            let Some(link) = self.links.get(&at.digest) else { return Path::Missing };
            if link.header.seq != at.seq {
                return Path::Contradiction;
            }
            headers.push((at, link.header.clone()));
            at = History { seq: Seq(at.seq.0 - 1), digest: link.before };
        }
        match self.trunk.get(&at.seq) {
            Some(digest) if *digest != at.digest => Path::Contradiction,
            // Older than what is kept of the trunk: it was compared when it was committed.
            Some(_) | None => {
                headers.reverse();
                Path::Known(headers)
            }
        }
    }

    /// Forgets what a stable checkpoint covers: batches up to `floor`.
    pub(crate) fn forget(&mut self, floor: Seq) {
        self.links.retain(|_, link| link.header.seq > floor);
        self.trunk.retain(|seq, _| *seq >= floor);
        for log in self.views.values_mut() {
            let tip = log.tip.seq;
            log.prepared.retain(|seq, _| *seq >= floor || *seq == tip);
        }
    }

    /// Forgets the views before one that a quorum entered: no later view can start from them [SMR-9].
    pub(crate) fn forget_views_before(&mut self, view: View) {
        self.views.retain(|kept, _| *kept >= view);
    }
}

/// How a history relates to the committed one.
pub(crate) enum Path {
    /// These headers follow the committed history; none when the history is a part of it.
    Known(Vec<(History, Header)>),
    /// Some headers between them are missing here.
    Missing,
    /// It leaves the committed history: impossible with at most f faults.
    Contradiction,
}
