//! A folder of event logs: one file for each job.
//!
//! Lines are appended as events come, and nothing is synced: a machine that loses power may lose the newest events, which
//! their numbers show. A line that was not finished is dropped when the file is read, and cut off before more is appended.
//! Files are bounded in size, in number and in all; the oldest jobs go first.

use super::{
    job::{JobRecord, TASKS_MAX},
    line::{self, Heading, VERSION},
};
use quorate_protocol::ids::JobId;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// One job's log, in bytes; what comes later is not kept.
pub(crate) const LOG_BYTES_MAX: u64 = 64 << 20;
/// Logs in a folder.
pub(crate) const LOGS_MAX: usize = 256;
/// All logs of a folder, in bytes.
pub(crate) const FOLDER_BYTES_MAX: u64 = 1 << 30;
/// The end of a log in which the last event is looked for, in bytes.
const TAIL_BYTES: u64 = 64 << 10;
/// A line, in bytes; a longer one is none of ours.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A folder of event logs.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// What a log holds.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) heading: Heading,
    /// `None` when the log does not have the job's beginning.
    pub(crate) record: Option<JobRecord>,
    /// Bytes up to the end of the last whole line.
    pub(crate) whole: u64,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn path(&self, job: JobId) -> PathBuf {
        self.0.join(format!("{job}.events"))
    }

    /// The jobs that have a log, the oldest first, with their sizes.
    pub(crate) fn jobs(&self) -> io::Result<Vec<(JobId, u64)>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let job = name.to_str().and_then(|name| name.strip_suffix(".events")).and_then(|name| name.parse().ok());
            if let Some(job) = job {
                jobs.push((job, entry.metadata()?.len()));
            }
        }
        jobs.sort_unstable();
        Ok(jobs)
    }

    /// The number of the newest event in any of the logs.
    pub(crate) fn newest(&self) -> Option<u64> {
        let jobs = self.jobs().unwrap_or_default();
        jobs.into_iter().filter_map(|(job, size)| last_number(&self.path(job), job, size).ok().flatten()).max()
    }

    /// Reads a job's log; `None` when there is none, or none of this program.
    pub(crate) fn read(&self, job: JobId) -> io::Result<Option<Log>> {
        match File::open(self.path(job)) {
            Ok(file) => read(file, job),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a job's log, and makes room for it: jobs for which `is_kept` says so stay.
    pub(crate) fn begin(&self, job: JobId, heading: &Heading, is_kept: impl Fn(JobId) -> bool) -> io::Result<u64> {
        fs::create_dir_all(&self.0)?;
        let jobs = self.jobs()?;
        let (mut count, mut bytes) = (jobs.len(), jobs.iter().map(|(_, bytes)| bytes).sum::<u64>());
        for (old, size) in jobs {
            if count < LOGS_MAX && bytes < FOLDER_BYTES_MAX {
                break;
            }
            if old != job && !is_kept(old) {
                fs::remove_file(self.path(old))?;
                (count, bytes) = (count.saturating_sub(1), bytes.saturating_sub(size));
            }
        }
        let mut text = serde_json::to_string(heading).expect("numbers and texts are JSON");
        text.push('\n');
        fs::write(self.path(job), &text)?;
        Ok(text.len() as u64)
    }

    /// Appends whole lines after the first `whole` bytes of a log: what is behind them was not finished.
    pub(crate) fn append(&self, job: JobId, whole: u64, lines: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.path(job))?;
        if file.metadata()?.len() != whole {
            file.set_len(whole)?;
        }
        file.seek(io::SeekFrom::Start(whole))?;
        file.write_all(lines.as_bytes())
    }
}

/// The number of the last event of a log that was written to its end.
fn last_number(path: &Path, job: JobId, size: u64) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    file.seek(io::SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    Ok(text.lines().rev().find_map(|text| line::read(job, text)).map(|event| event.number))
}

/// Reads one log file, wherever it is.
pub(crate) fn read_file(path: &Path) -> io::Result<Option<Log>> {
    let file = File::open(path)?;
    let mut first = String::new();
    BufReader::new(&file).take(LINE_BYTES_MAX).read_line(&mut first)?;
    let Ok(heading) = serde_json::from_str::<Heading>(&first) else { return Ok(None) };
    (&file).rewind()?;
    read(file, JobId::new(heading.job))
}

fn read(file: File, job: JobId) -> io::Result<Option<Log>> {
    let mut reader = BufReader::new(file.take(LOG_BYTES_MAX.saturating_mul(2)));
    let (mut text, mut whole) = (String::new(), 0u64);
    let mut heading: Option<Heading> = None;
    let mut record: Option<JobRecord> = None;
    loop {
        text.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_line(&mut text) {
            Ok(_) if !text.ends_with('\n') => break,
            Ok(length) => whole = whole.saturating_add(length as u64),
            // Bytes that are no text: what follows is not ours.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
            Err(error) => return Err(error),
        }
        let Some(heading) = &heading else {
            let first = serde_json::from_str::<Heading>(&text).ok();
            let known = first.filter(|heading| heading.quorate_events == VERSION && heading.job == job.number());
            if known.is_none() {
                return Ok(None);
            }
            heading = known;
            continue;
        };
        let Some(event) = line::read(JobId::new(heading.job), text.trim_end()) else { continue };
        match &mut record {
            Some(record) if event.number > record.newest => record.take(&event, &text),
            Some(_) => {}
            None => record = JobRecord::begin(&event, &text, TASKS_MAX),
        }
    }
    Ok(heading.map(|heading| Log { heading, record, whole }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::line::tests::all;
    use std::collections::BTreeMap;
    use tempfile::TempDir;

    fn heading(job: u64) -> Heading {
        let (cluster, cluster_id) = ("test".to_owned(), "id".to_owned());
        Heading { quorate_events: VERSION, cluster, cluster_id, job, domains: BTreeMap::from([(2, "d".to_owned())]) }
    }
    fn lines() -> String {
        all().iter().map(line::write).collect()
    }

    #[test]
    fn a_log_is_read_as_it_was_written_and_a_torn_line_is_dropped() {
        let home = TempDir::new().expect("a folder");
        let (folder, job) = (Folder::new(home.path().join("events")), JobId::new(3));
        assert!(folder.read(job).expect("no error").is_none());
        let whole = folder.begin(job, &heading(3), |_| true).expect("begun");
        folder.append(job, whole, &lines()).expect("appended");
        let log = folder.read(job).expect("read").expect("there");
        let record = log.record.expect("a record");
        assert_eq!((log.heading, record.events, record.newest), (heading(3), 17, 16));
        assert_eq!(folder.newest(), Some(16));
        // The machine stopped in the middle of a line, and later more is appended.
        let torn = "{\"n\":17,\"t\":7,\"e\":{\"over";
        folder.append(job, log.whole, torn).expect("appended");
        let again = folder.read(job).expect("read").expect("there");
        assert_eq!((again.whole, again.record.map(|record| record.events)), (log.whole, Some(17)));
        assert_eq!(folder.newest(), Some(16));
        let next = "{\"n\":17,\"t\":7,\"e\":{\"overdue\":{\"a\":\"map-1.0\"}}}\n";
        folder.append(job, again.whole, next).expect("appended");
        let mended = folder.read(job).expect("read").expect("there").record.expect("a record");
        assert_eq!((mended.events, mended.newest), (18, 17));
    }

    #[test]
    fn what_is_no_log_is_none() {
        let home = TempDir::new().expect("a folder");
        let folder = Folder::new(home.path().to_owned());
        let job = JobId::new(3);
        for text in [
            "",
            "{",
            "no JSON\n",
            "{\"quorate_events\":99,\"cluster\":\"\",\"cluster_id\":\"\",\"job\":3,\"domains\":{}}\n",
        ] {
            fs::write(folder.path(job), text).expect("written");
            assert!(folder.read(job).expect("no error").is_none(), "{text}");
        }
        fs::write(folder.path(job), [b"\xff\xfe\n".as_slice()].concat()).expect("written");
        assert!(folder.read(job).expect("no error").is_none());
    }

    #[test]
    fn the_oldest_logs_make_room_but_not_those_of_live_jobs() {
        let home = TempDir::new().expect("a folder");
        let folder = Folder::new(home.path().to_owned());
        let begin = |job: u64| folder.begin(JobId::new(job), &heading(job), |job| job.number() == 1).expect("begun");
        let all = LOGS_MAX as u64;
        (1..=all).for_each(|job| {
            begin(job);
        });
        assert_eq!(folder.jobs().expect("read").len(), LOGS_MAX, "at the bound");
        begin(all + 1);
        let jobs: Vec<u64> = folder.jobs().expect("read").iter().map(|(job, _)| job.number()).collect();
        assert_eq!((jobs.len(), &jobs[..2], jobs.last()), (LOGS_MAX, &[1, 3][..], Some(&(all + 1))), "one above");
    }
}
