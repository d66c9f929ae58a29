//! The record of jobs: what happened to each, kept in event logs and in memory.
//!
//! The thread that executes commands hands events to the record without waiting for it, and a thread of the record's own
//! writes them down. When more come than can be written, some are dropped, and the records that lack them say so: the
//! agreement waits for nobody. A replica that starts again executes again what came after its last checkpoint; events that
//! are in a log already are known by their numbers.

mod folder;
mod job;
mod line;

pub(crate) use folder::{Folder, Log, read_file};
pub(crate) use job::{AttemptRecord, AttemptStanding, Changes, End, JobRecord, StageRecord, TaskRecord, TaskStanding};
pub(crate) use line::{Heading, parse_task};

use quorate_protocol::{cluster::Cluster, ids::JobId};
use quorate_schedule::events::{Event, Happening};
use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread::JoinHandle,
};

/// The folder of event logs in a replica's directory.
pub(crate) const FOLDER: &str = "events";
/// Events that wait to be written down; more are dropped.
const WAITING_MAX: usize = 1 << 18;
/// Tasks of all records in memory: records of jobs that have ended make room, and come back from their logs.
const TASKS_IN_MEMORY_MAX: usize = 1 << 18;

/// Where events are handed in. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Inbox>);

#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    is_closed: bool,
}

impl Desk {
    /// Hands events in. Never waits for more than the taking of what was handed in before.
    pub(crate) fn hand_in(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.events.len().saturating_add(events.len()) <= WAITING_MAX {
            waiting.events.extend(events);
        }
        drop(waiting);
        self.0.came.notify_one();
    }

    /// No more come.
    fn close(&self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.0.came.notify_one();
    }

    /// Waits for events; `None` when no more come.
    fn take(&self) -> Option<Vec<Event>> {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |waiting: &mut Waiting| waiting.events.is_empty() && !waiting.is_closed;
        let mut waiting = self.0.came.wait_while(waiting, is_idle).unwrap_or_else(PoisonError::into_inner);
        if waiting.events.is_empty() { None } else { Some(std::mem::take(&mut waiting.events)) }
    }
}

/// The records, for whoever shows them.
#[derive(Clone)]
pub(crate) struct Records {
    kept: Arc<RwLock<Kept>>,
    /// Held by whoever reads a log for a reader of the page.
    reading: Arc<Mutex<()>>,
}

struct Kept {
    folder: Folder,
    heading: Heading,
    jobs: BTreeMap<JobId, Entry>,
    /// The number of the newest event, also of those that an earlier process wrote down.
    newest: Option<u64>,
    /// Whether an event came, so that it is known whether the logs go up to it.
    is_joined: bool,
    /// Whether there is a gap between the logs and the first event that came.
    has_gap_before: bool,
    /// Whether writing has failed, which is said once.
    has_failed: bool,
}

/// A job's record in memory.
struct Entry {
    record: Arc<JobRecord>,
    /// Bytes in its log.
    whole: u64,
    /// Whether the log gets no more: it is as long as it may be, or could not be written.
    is_full: bool,
}

/// The thread that writes events down.
pub(crate) struct Recorder {
    pub(crate) desk: Desk,
    pub(crate) records: Records,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins to write into a folder.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(folder: PathBuf, cluster: &Cluster) -> io::Result<Self> {
        let (desk, records) = (Desk::default(), Records::new(Folder::new(folder), heading(cluster)));
        let (inbox, written) = (desk.clone(), records.clone());
        let write = move || {
            while let Some(events) = inbox.take() {
                written.write().take(events);
            }
        };
        let thread = std::thread::Builder::new().name("quorate-record".to_owned()).spawn(write)?;
        Ok(Self { desk, records, thread: Some(thread) })
    }
}

impl Drop for Recorder {
    /// What was handed in is written down before the thread ends, which does not take long.
    fn drop(&mut self) {
        self.desk.close();
        if let Some(thread) = self.thread.take() {
            // An error would be a panic, which was printed.
            let _ = thread.join();
        }
    }
}

fn heading(cluster: &Cluster) -> Heading {
    let domain = |tracker: &quorate_protocol::cluster::TrackerMember| (tracker.id.number(), tracker.domain.to_string());
    Heading {
        quorate_events: line::VERSION,
        cluster: cluster.name.clone(),
        cluster_id: cluster.id().to_string(),
        job: 0,
        domains: cluster.trackers.iter().map(domain).collect(),
    }
}

impl Records {
    /// The records of a folder's logs.
    pub(crate) fn new(folder: Folder, heading: Heading) -> Self {
        let jobs = BTreeMap::new();
        let newest = folder.newest();
        let kept = Kept { folder, heading, jobs, newest, has_gap_before: false, is_joined: false, has_failed: false };
        Self { kept: Arc::new(RwLock::new(kept)), reading: Arc::default() }
    }

    /// The record of a job that is in memory: of a live one it is.
    pub(crate) fn live(&self, job: JobId) -> Option<Arc<JobRecord>> {
        self.read().jobs.get(&job).map(|entry| Arc::clone(&entry.record))
    }

    /// All records that are in memory, of the newest job first.
    pub(crate) fn newest(&self) -> Vec<Arc<JobRecord>> {
        self.read().jobs.values().rev().map(|entry| Arc::clone(&entry.record)).collect()
    }

    /// The record of a job, from its log if need be: not for an async task.
    pub(crate) fn of(&self, job: JobId) -> Option<Arc<JobRecord>> {
        if let Some(record) = self.live(job) {
            return Some(record);
        }
        let folder = self.read().folder.clone();
        // One at a time: logs are long.
        let _turn = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let log = folder.read(job).ok().flatten()?;
        self.write().admit(job, log)
    }

    /// A poisoned lock says that writing panicked, which was printed: what was kept is still good to read.
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, events: Vec<Event>) {
        let mut lines: BTreeMap<JobId, String> = BTreeMap::new();
        for event in events {
            self.note_gap(event.number);
            let line = line::write(&event);
            if self.tell(&event, &line) {
                // Writing to text does not fail.
                let _ = lines.entry(event.job).or_default().write_str(&line);
            }
        }
        for (job, lines) in lines {
            self.append(job, &lines);
        }
    }

    /// Events are numbered through: where one is missing, every live job may lack it.
    fn note_gap(&mut self, number: u64) {
        let is_gap = number > self.newest.map_or(0, |newest| newest.saturating_add(1));
        if !std::mem::replace(&mut self.is_joined, true) {
            self.has_gap_before = is_gap;
        }
        if is_gap {
            for entry in self.jobs.values_mut().filter(|entry| entry.record.closed.is_none()) {
                Arc::make_mut(&mut entry.record).has_gaps = true;
            }
        }
        self.newest = self.newest.max(Some(number));
    }

    /// Takes an event over into its job's record; whether it was new there.
    fn tell(&mut self, event: &Event, line: &str) -> bool {
        let is_known = self.is_known(event);
        if let Happening::Submitted(_) = event.what {
            // A log of another life of the cluster, whose jobs had the same numbers, makes room.
            let is_same = self.jobs.get(&event.job).is_some_and(|entry| entry.record.submitted == event.time);
            if !is_known || !is_same {
                return self.begin(event, line);
            }
        }
        let Some(entry) = self.jobs.get_mut(&event.job).filter(|entry| event.number > entry.record.newest) else {
            return false;
        };
        Arc::make_mut(&mut entry.record).take(event, line);
        true
    }

    /// Whether there is a record of the event's job, in memory from now on.
    fn is_known(&mut self, event: &Event) -> bool {
        if self.jobs.contains_key(&event.job) {
            return true;
        }
        let log = match self.folder.read(event.job) {
            Ok(log) => log,
            Err(error) => {
                self.fail(&error);
                None
            }
        };
        log.is_some_and(|log| self.admit(event.job, log).is_some())
    }

    /// Takes a job's record over from its log. Meanwhile it may be here: then what is here counts.
    fn admit(&mut self, job: JobId, log: Log) -> Option<Arc<JobRecord>> {
        if let Some(entry) = self.jobs.get(&job) {
            return Some(Arc::clone(&entry.record));
        }
        let mut record = log.record.filter(|_| log.heading.cluster_id == self.heading.cluster_id)?;
        record.has_gaps |= self.has_gap_before && record.closed.is_none();
        let record = Arc::new(record);
        self.jobs.insert(job, Entry { record: Arc::clone(&record), whole: log.whole, is_full: false });
        self.make_room(job);
        Some(record)
    }

    fn begin(&mut self, first: &Event, line: &str) -> bool {
        self.make_room(first.job);
        let tasks: usize = self.jobs.values().map(|entry| entry.record.size()).sum();
        let room = TASKS_IN_MEMORY_MAX.saturating_sub(tasks);
        let Some(record) = JobRecord::begin(first, line, room) else { return false };
        let heading = Heading { job: first.job.number(), ..self.heading.clone() };
        let is_live = |job: JobId| self.jobs.get(&job).is_some_and(|entry| entry.record.closed.is_none());
        let whole = match self.folder.begin(first.job, &heading, is_live) {
            Ok(whole) => whole,
            Err(error) => {
                self.fail(&error);
                return false;
            }
        };
        self.jobs.insert(first.job, Entry { record: Arc::new(record), whole, is_full: false });
        true
    }

    fn append(&mut self, job: JobId, lines: &str) {
        let Some(entry) = self.jobs.get_mut(&job).filter(|entry| !entry.is_full) else { return };
        let end = entry.whole.saturating_add(lines.len() as u64);
        entry.is_full = end > folder::LOG_BYTES_MAX;
        if entry.is_full {
            return;
        }
        match self.folder.append(job, entry.whole, lines) {
            Ok(()) => entry.whole = end,
            Err(error) => {
                // What comes later would not follow on what is there.
                entry.is_full = true;
                self.fail(&error);
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_failed, true) {
            tracing::warn!(%error, "event logs cannot be written or read; the jobs' pages will lack what they hold");
        }
    }

    /// Forgets records of jobs that have ended, the oldest first, until the rest has room; `but` stays.
    fn make_room(&mut self, but: JobId) {
        let mut tasks: usize = self.jobs.values().map(|entry| entry.record.size()).sum();
        let ended = self.jobs.iter().filter(|(job, entry)| **job != but && entry.record.closed.is_some());
        let ended: Vec<(JobId, usize)> = ended.map(|(job, entry)| (*job, entry.record.size())).collect();
        for (job, size) in ended {
            if tasks <= TASKS_IN_MEMORY_MAX && self.jobs.len() <= folder::LOGS_MAX {
                return;
            }
            self.jobs.remove(&job);
            tasks = tasks.saturating_sub(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::line::tests::all, testing::cluster};
    use quorate_protocol::ids::{OrderedTime, Stage, TaskId};
    use tempfile::TempDir;

    const JOB: JobId = JobId::new(3);

    fn records(home: &TempDir) -> Records {
        Records::new(Folder::new(home.path().join("events")), heading(&cluster("127.0.0.1:1")))
    }
    /// All that a record says, but for what is only of the moment.
    fn told(record: &JobRecord) -> String {
        let JobRecord { about, maps, reduces, charges, closed, until, events, newest, .. } = record;
        let digest = record.digest.finalize();
        format!("{about:?} {maps:?} {reduces:?} {charges:?} {closed:?} {until:?} {events} {newest} {digest}")
    }

    #[test]
    fn what_is_read_back_is_what_was_told() {
        let home = TempDir::new().expect("a folder");
        let recorder = Recorder::start(home.path().join("events"), &cluster("127.0.0.1:1")).expect("a thread");
        let records = recorder.records.clone();
        all().into_iter().for_each(|event| recorder.desk.hand_in(vec![event]));
        drop(recorder);
        let live = records.live(JOB).expect("a record");
        assert!(!live.has_gaps);
        let read = self::records(&home).of(JOB).expect("a log");
        assert_eq!(told(&read), told(&live));
        let task = TaskId { job: JOB, stage: Stage::Map, index: 0 };
        assert_eq!(live.task(task).map(TaskRecord::standing), Some(TaskStanding::Failed));
    }

    #[test]
    fn events_that_are_executed_again_change_nothing() {
        let home = TempDir::new().expect("a folder");
        let first = records(&home);
        first.write().take(all()[..9].to_vec());
        // The process starts again, and executes again from the sixth event on.
        let second = records(&home);
        second.write().take(all()[5..].to_vec());
        let third = records(&home);
        let whole = records(&TempDir::new().expect("a folder"));
        whole.write().take(all());
        let (second, third, whole) = (second.live(JOB), third.of(JOB), whole.live(JOB));
        let whole = told(&whole.expect("a record"));
        assert_eq!(told(&second.expect("a record")), whole);
        assert_eq!(told(&third.expect("a log")), whole);
    }

    #[test]
    fn a_record_that_lacks_events_says_so() {
        let home = TempDir::new().expect("a folder");
        let first = records(&home);
        first.write().take(all()[..5].to_vec());
        first.write().take(all()[7..9].to_vec());
        assert!(first.live(JOB).is_some_and(|record| record.has_gaps), "between two that came");
        let other = TempDir::new().expect("a folder");
        records(&other).write().take(all()[..5].to_vec());
        let second = records(&other);
        second.write().take(all()[6..].to_vec());
        assert!(second.live(JOB).is_some_and(|record| record.has_gaps), "between the log and the first that came");
        let third = records(&TempDir::new().expect("a folder"));
        third.write().take(all()[3..].to_vec());
        assert!(third.live(JOB).is_none(), "a job whose beginning is not known has no record");
    }

    #[test]
    fn what_waits_to_be_written_is_bounded() {
        let desk = Desk::default();
        let event = Event { number: 0, time: OrderedTime(0), job: JOB, what: all()[6].what.clone() };
        desk.hand_in(vec![event.clone(); WAITING_MAX]);
        desk.hand_in(vec![event]);
        assert_eq!(desk.take().map(|events| events.len()), Some(WAITING_MAX));
    }

    #[test]
    fn changes_are_told_once_and_bounded() {
        let home = TempDir::new().expect("a folder");
        let records = records(&home);
        records.write().take(all()[..3].to_vec());
        let record = records.live(JOB).expect("a record");
        assert_eq!(record.changes_since(1), Changes::Tasks(vec![(Stage::Map, 0)]));
        assert_eq!(record.changes_since(record.events), Changes::Tasks(Vec::new()));
        assert_eq!(record.changes_since(0), Changes::Tasks(vec![(Stage::Map, 0)]), "the first event changes no task");
    }
}
