//! What a folder of event logs shows, without a cluster.

use super::{
    answers::{
        self, AgreedStanding, Job, JobCounts, JobDetail, OwnStanding, Slots, Standing, SuspectedTracker, Tally, blame,
    },
    guard::Pages,
    server::Server,
    source::Source,
    told,
};
use crate::record::{self, Folder, Heading, JobRecord, Log, Records, read_file};
use quorate_protocol::{
    ids::{JobId, OrderedTime, TrackerId},
    query::{Blame, JobState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
};
use tokio::net::TcpListener;

/// The event logs of a folder, or one of them.
pub struct History {
    heading: Heading,
    records: Records,
    /// By number.
    jobs: BTreeMap<JobId, Past>,
}

/// A page of event logs, as long as this is kept.
pub struct HistoryPage(Server);

impl HistoryPage {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
    /// Ends it.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

/// A job, as its event log tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastJob {
    /// Its number.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its f.
    pub f: u32,
    /// How it ended; `None` when the log does not say.
    pub state: Option<JobState>,
    /// When it was submitted.
    pub submitted: OrderedTime,
    /// The newest event's time.
    pub until: OrderedTime,
    /// Tasks with a verdict and all tasks, of the map stage.
    pub maps: (u32, u32),
    /// The same of the reduce stage.
    pub reduces: (u32, u32),
    /// Tasks that did not go smoothly.
    pub disputed: u64,
    /// The trackers that were found out in its course, and the most that was shown.
    pub blamed: BTreeMap<TrackerId, Blame>,
    /// Whether events are missing.
    pub has_gaps: bool,
}

struct Past {
    job: PastJob,
    events: u64,
    kinds: BTreeMap<TrackerId, BTreeSet<String>>,
    charges: BTreeMap<TrackerId, u32>,
}

impl Past {
    fn of(record: &JobRecord) -> Self {
        let (mut blamed, mut kinds, mut charges) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for charge in &record.charges {
            let most: &mut Blame = blamed.entry(charge.tracker).or_default();
            *most = charge.blame.max(*most);
            let of: &mut BTreeSet<String> = kinds.entry(charge.tracker).or_default();
            of.insert(charge.kind.clone());
            *charges.entry(charge.tracker).or_default() += 1;
        }
        let job = PastJob {
            job: record.job,
            name: record.about.name.clone(),
            f: record.about.f,
            state: record.closed.as_ref().map(|(_, closed)| closed.state.clone()),
            submitted: record.submitted,
            until: record.closed.as_ref().map_or(record.until, |(time, _)| *time),
            maps: (record.maps.agreed, record.maps.all),
            reduces: (record.reduces.agreed, record.reduces.all),
            disputed: record.disputed,
            blamed,
            has_gaps: record.has_gaps,
        };
        Self { job, events: record.events, kinds, charges }
    }
}

impl History {
    /// Reads a folder of event logs, a replica's directory that has one, or one log. Takes as long as reading them does.
    ///
    /// # Errors
    /// When it cannot be read, or holds no event log of this version.
    pub fn open(path: &Path) -> io::Result<Self> {
        let of_replica = path.join(record::FOLDER);
        let folder = match path {
            _ if of_replica.is_dir() => of_replica.as_path(),
            _ if path.is_dir() => path,
            _ => path.parent().unwrap_or(path),
        };
        let folder = Folder::new(folder.to_owned());
        let (mut jobs, mut heading) = (BTreeMap::new(), None);
        let mut note = |log: Log| {
            jobs.extend(log.record.map(|record| (record.job, Past::of(&record))));
            heading = Some(log.heading);
        };
        if path.is_dir() {
            for (job, _) in folder.jobs()? {
                folder.read(job)?.into_iter().for_each(&mut note);
            }
        } else {
            read_file(path)?.into_iter().for_each(&mut note);
        }
        let none = || io::Error::new(io::ErrorKind::InvalidData, "there is no event log of this version");
        let heading = heading.ok_or_else(none)?;
        Ok(Self { jobs, records: Records::new(folder, heading.clone()), heading })
    }

    /// Shows a page of them until what is returned is dropped.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn show_page(self, listener: TcpListener) -> io::Result<HistoryPage> {
        let pages = Pages { addresses: vec![Some(listener.local_addr()?.to_string())] };
        Server::start(Source::History(Arc::new(self)), pages, listener).map(HistoryPage)
    }

    /// The jobs, by their numbers.
    pub fn jobs(&self) -> Vec<PastJob> {
        self.jobs.values().map(|past| past.job.clone()).collect()
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }
    pub(crate) fn domain(&self, tracker: TrackerId) -> Option<String> {
        self.heading.domains.get(&tracker.number()).cloned()
    }

    /// The cluster, as far as its logs name it.
    pub(crate) fn overview(&self) -> answers::Cluster {
        let mut jobs = JobCounts::default();
        for past in self.jobs.values() {
            let count = match &past.job.state {
                None | Some(JobState::Running) => &mut jobs.running,
                Some(JobState::Waiting(_)) => &mut jobs.waiting,
                Some(JobState::Succeeded) => &mut jobs.succeeded,
                Some(JobState::Failed(_)) => &mut jobs.failed,
                Some(JobState::Killed) => &mut jobs.killed,
            };
            *count += 1;
        }
        answers::Cluster {
            mode: answers::Mode::History,
            name: self.heading.cluster.clone(),
            id: self.heading.cluster_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            f: 0,
            agreement: String::new(),
            assumption: "these are the event logs of one replica: nobody else vouches for them".to_owned(),
            domains: self.heading.domains.values().collect::<BTreeSet<_>>().len(),
            me: None,
            position: None,
            time: self.jobs.values().map(|past| past.job.until.0).max().unwrap_or(0),
            view: 0,
            changing_to: None,
            primary: None,
            voting: false,
            ready: true,
            not_ready: None,
            committed: 0,
            checkpoint: 0,
            pending: 0,
            replicas: Vec::new(),
            trackers: self.heading.domains.keys().filter_map(|id| self.tracker(TrackerId::new(*id))).collect(),
            jobs,
        }
    }

    /// A tracker, as far as the logs name it.
    pub(crate) fn tracker(&self, id: TrackerId) -> Option<answers::Tracker> {
        let none = Slots { used: 0, all: 0 };
        Some(answers::Tracker {
            tracker: id.number(),
            domain: self.domain(id)?,
            address: String::new(),
            live: false,
            map_slots: none,
            reduce_slots: none,
            blame: blame(self.blame_of(id)),
            evidence: self.jobs.values().filter_map(|past| past.charges.get(&id)).sum(),
            overdue: 0,
            agreed: 0,
            outvoted: 0,
            duty: None,
            stored: None,
        })
    }

    fn blame_of(&self, tracker: TrackerId) -> Blame {
        self.jobs.values().filter_map(|past| past.job.blamed.get(&tracker)).copied().max().unwrap_or_default()
    }

    /// Who was found out in the course of these jobs.
    pub(crate) fn standing(&self) -> Standing {
        let blamed: BTreeSet<TrackerId> = self.jobs.values().flat_map(|past| past.charges.keys().copied()).collect();
        let suspect = |tracker: TrackerId| {
            let kinds = self.jobs.values().filter_map(|past| past.kinds.get(&tracker)).flatten();
            SuspectedTracker {
                tracker: tracker.number(),
                domain: self.domain(tracker).unwrap_or_default(),
                blame: blame(self.blame_of(tracker)),
                evidence: self.jobs.values().filter_map(|past| past.charges.get(&tracker)).sum(),
                kinds: kinds.cloned().collect::<BTreeSet<_>>().into_iter().collect(),
            }
        };
        Standing {
            agreed: AgreedStanding {
                cluster: self.heading.cluster_id.clone(),
                position: None,
                trackers: blamed.into_iter().map(suspect).collect(),
            },
            own: OwnStanding { replica: None, faults: Vec::new() },
        }
    }

    /// All jobs, newest first.
    pub(crate) fn list(&self) -> Vec<Job> {
        self.jobs.values().rev().map(|past| job(&past.job, past.events)).collect()
    }

    /// A job in full, but for its stages.
    pub(crate) fn job(&self, record: &JobRecord) -> Option<JobDetail> {
        let past = self.jobs.get(&record.job)?;
        Some(told::Story::of(record).alone(job(&past.job, past.events), record))
    }
}

fn job(past: &PastJob, events: u64) -> Job {
    let tally = |(agreed, all)| Tally { agreed, all };
    Job {
        job: past.job.number(),
        name: past.name.clone(),
        state: past.state.as_ref().map_or("running", answers::state),
        detail: past.state.as_ref().and_then(answers::detail),
        submitted: past.submitted.0,
        until: past.until.0,
        f: past.f,
        maps: tally(past.maps),
        reduces: tally(past.reduces),
        disputed: past.disputed,
        revision: events,
    }
}
