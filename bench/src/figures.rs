//! What was measured, and what is told about it: medians, ratios to the unreplicated mode, and the table.

use serde::{Deserialize, Serialize};

/// One run of one job.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Measurement {
    /// Which job.
    pub job: String,
    /// Liars tolerated for each task.
    pub f: u32,
    /// Seconds to store the input, with f + 1 copies.
    pub upload_s: f64,
    /// Seconds from submitting the job until its client knows that it has ended.
    pub wall_s: f64,
    /// The same by the job tracker's clock: from the command that submitted the job to the one that ended it.
    pub job_s: f64,
    /// CPU seconds of the process, with all trackers and the job tracker, meanwhile.
    pub cpu_s: f64,
    /// The most memory in use meanwhile, in bytes, of the whole process.
    pub peak: u64,
    /// Map tasks.
    pub maps: u32,
    /// Reduce tasks.
    pub reduces: u32,
    /// Attempts started.
    pub attempts: u64,
    /// Tasks whose votes differed or whose attempts were late.
    pub disputed: u64,
    /// How often a reduce attempt started over.
    pub restarts: u32,
    /// Bytes fetched in the shuffle.
    pub shuffled: u64,
    /// Of these, bytes fetched again.
    pub refetched: u64,
    /// Bytes in all chunk stores afterwards: every copy of input and output.
    pub stored: u64,
    /// Bytes of segments and chunks that were digested.
    pub digested: u64,
    /// Of these, bytes of chunks that were read: the input, of every attempt.
    pub digested_read: u64,
    /// CPU seconds of all digests: the bytes, times what one costs on this machine.
    pub digest_s: f64,
    /// CPU seconds of making and verifying signatures: their number, times what one costs on this machine.
    pub signatures_s: f64,
    /// Commands that were ordered.
    pub commands: u64,
    /// Their bytes in canonical form.
    pub command_bytes: u64,
    /// Bytes between replicas and their clients and trackers, both ways.
    pub control_bytes: u64,
    /// Digest of the output.
    pub output: String,
}

impl Measurement {
    /// Tasks of both stages.
    pub fn tasks(&self) -> f64 {
        f64::from(self.maps) + f64::from(self.reduces)
    }

    /// Something for each task.
    pub fn per_task(&self, amount: u64) -> f64 {
        amount as f64 / self.tasks().max(1.0)
    }

    /// CPU seconds of digests and signatures, in percent of all.
    pub fn checking_percent(&self) -> f64 {
        self.percent(self.digest_s + self.signatures_s)
    }

    /// The same without the digests of chunks that were read.
    pub fn voting_percent(&self) -> f64 {
        let read = self.digested_read as f64 / (self.digested as f64).max(1.0);
        self.percent(self.digest_s * (1.0 - read) + self.signatures_s)
    }

    fn percent(&self, cpu_s: f64) -> f64 {
        if self.cpu_s > 0.0 { 100.0 * cpu_s / self.cpu_s } else { 0.0 }
    }
}

/// The medians of all runs of a job with one f.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The medians.
    pub median: Measurement,
    /// Wall seconds of the fastest and the slowest run.
    pub wall_range_s: (f64, f64),
    /// Wall seconds against those of f = 0, where that was measured.
    pub wall_ratio: Option<f64>,
    /// The same of CPU seconds.
    pub cpu_ratio: Option<f64>,
}

/// The middle one of some numbers, or the mean of the two in the middle; 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    match values.len() {
        0 => 0.0,
        count => f64::midpoint(at((count - 1) / 2), at(count / 2)),
    }
}

/// Summarises each job and f, in the order in which they are first met, by f within a job.
pub fn summarise(measurements: &[Measurement]) -> Vec<Summary> {
    let mut groups: Vec<Vec<&Measurement>> = Vec::new();
    for one in measurements {
        match groups.iter_mut().find(|group| (&group[0].job, group[0].f) == (&one.job, one.f)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let mut summaries: Vec<Summary> = groups.iter().map(|group| summary(group)).collect();
    let bases: Vec<Measurement> = summaries.iter().map(|s| s.median.clone()).filter(|median| median.f == 0).collect();
    for summary in &mut summaries {
        let base = bases.iter().find(|base| base.job == summary.median.job);
        summary.wall_ratio = base.map(|base| summary.median.wall_s / base.wall_s);
        summary.cpu_ratio = base.map(|base| summary.median.cpu_s / base.cpu_s);
    }
    summaries.sort_by_key(|s| (groups.iter().position(|group| group[0].job == s.median.job), s.median.f));
    summaries
}

fn summary(group: &[&Measurement]) -> Summary {
    let walls = || group.iter().map(|one| one.wall_s);
    Summary {
        median: medians(group),
        wall_range_s: (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max)),
        wall_ratio: None,
        cpu_ratio: None,
    }
}

/// The median of each figure alone, of runs of the same job with the same f.
pub fn medians(group: &[&Measurement]) -> Measurement {
    let of = |value: fn(&Measurement) -> f64| median(group.iter().map(|one| value(one)));
    let whole = |value: fn(&Measurement) -> u64| median(group.iter().map(|one| value(one) as f64)).round() as u64;
    let first = group.first().copied().cloned().unwrap_or_default();
    Measurement {
        upload_s: of(|one| one.upload_s),
        wall_s: of(|one| one.wall_s),
        job_s: of(|one| one.job_s),
        cpu_s: of(|one| one.cpu_s),
        peak: whole(|one| one.peak),
        attempts: whole(|one| one.attempts),
        disputed: whole(|one| one.disputed),
        restarts: whole(|one| u64::from(one.restarts)) as u32,
        shuffled: whole(|one| one.shuffled),
        refetched: whole(|one| one.refetched),
        stored: whole(|one| one.stored),
        digested: whole(|one| one.digested),
        digested_read: whole(|one| one.digested_read),
        digest_s: of(|one| one.digest_s),
        signatures_s: of(|one| one.signatures_s),
        commands: whole(|one| one.commands),
        command_bytes: whole(|one| one.command_bytes),
        control_bytes: whole(|one| one.control_bytes),
        ..first
    }
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// What the runs took: time, attempts and memory.
pub fn time_table(summaries: &[Summary]) -> String {
    let heads = [
        "job",
        "f",
        "wall s",
        "(range)",
        "CPU s",
        "wall ×",
        "CPU ×",
        "attempts/task",
        "checking %",
        "voting %",
        "peak MiB",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(summaries.iter().map(|Summary { median: m, wall_range_s: (min, max), wall_ratio, cpu_ratio }| {
        [
            m.job.clone(),
            m.f.to_string(),
            format!("{:.2}", m.wall_s),
            format!("{min:.2}–{max:.2}"),
            format!("{:.2}", m.cpu_s),
            ratio(*wall_ratio),
            ratio(*cpu_ratio),
            format!("{:.2}", m.per_task(m.attempts)),
            format!("{:.1}", m.checking_percent()),
            format!("{:.1}", m.voting_percent()),
            mib(m.peak),
        ]
    }));
    markdown(&rows)
}

/// What the runs moved, kept, checked and ordered.
pub fn bytes_table(summaries: &[Summary]) -> String {
    let heads = [
        "job",
        "f",
        "upload s",
        "MiB stored",
        "shuffled",
        "refetched",
        "digested",
        "of chunks read",
        "digest s",
        "signature s",
        "commands/task",
        "B/command",
        "control KiB/task",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(summaries.iter().map(|Summary { median: m, .. }| {
        [
            m.job.clone(),
            m.f.to_string(),
            format!("{:.2}", m.upload_s),
            mib(m.stored),
            mib(m.shuffled),
            mib(m.refetched),
            mib(m.digested),
            mib(m.digested_read),
            format!("{:.3}", m.digest_s),
            format!("{:.3}", m.signatures_s),
            format!("{:.2}", m.per_task(m.commands)),
            format!("{:.0}", m.command_bytes as f64 / (m.commands as f64).max(1.0)),
            format!("{:.1}", m.per_task(m.control_bytes) / 1024.0),
        ]
    }));
    markdown(&rows)
}

/// A table of Markdown that can be read as it is: heads first, all aligned to the right.
pub fn markdown<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).fold(2, usize::max);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let rule = widths.map(|width| format!("{}:", "-".repeat(width - 1)));
    let line = |row: &[String; COLUMNS]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let (heads, body) = rows.split_at(rows.len().min(1));
    heads.iter().chain([&rule]).chain(body).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(job: &str, f: u32, wall_s: f64, cpu_s: f64) -> Measurement {
        let attempts = 20 * (u64::from(f) + 1);
        let (job, maps, reduces, commands) = (job.to_owned(), 16, 4, 50);
        Measurement {
            job,
            f,
            wall_s,
            cpu_s,
            maps,
            reduces,
            attempts,
            commands,
            digest_s: 0.5,
            ..Measurement::default()
        }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([3.0]), 3.0);
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 100.0, 2.0]), 3.0);
    }

    #[test]
    fn ratios_are_to_the_same_jobs_f_0() {
        let runs = [
            one("sort", 1, 5.0, 8.0),
            one("sort", 0, 2.0, 4.0),
            one("count", 0, 1.0, 1.0),
            one("sort", 0, 9.0, 4.0),
            one("sort", 0, 2.5, 4.0),
            one("count", 2, 3.0, 3.5),
        ];
        let all = summarise(&runs);
        let told: Vec<_> = all.iter().map(|s| (&s.median.job[..], s.median.f, s.wall_ratio, s.cpu_ratio)).collect();
        let expected = [
            ("sort", 0, Some(1.0), Some(1.0)),
            ("sort", 1, Some(2.0), Some(2.0)),
            ("count", 0, Some(1.0), Some(1.0)),
            ("count", 2, Some(3.0), Some(3.5)),
        ];
        assert_eq!(told, expected);
        assert_eq!(all[0].wall_range_s, (2.0, 9.0));
        assert_eq!(summarise(&runs[..1])[0].wall_ratio, None);
    }

    #[test]
    fn tables_have_a_line_for_each_summary() {
        let summaries = summarise(&[one("sort", 0, 2.0, 4.0), one("sort", 1, 3.0, 8.0)]);
        for table in [time_table(&summaries), bytes_table(&summaries)] {
            let lines: Vec<&str> = table.lines().collect();
            assert_eq!(lines.len(), 4);
            assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{table}");
        }
        let times = time_table(&summaries);
        let last = times.lines().last().expect("a line");
        for cell in ["1.50", "2.00", "6.2"] {
            assert!(last.contains(cell), "{last} has no {cell}");
        }
        assert!(bytes_table(&summaries).contains("2.50"), "50 commands for 20 tasks");
    }

    #[test]
    fn what_nobody_did_is_nothing_for_each_task() {
        let none = Measurement::default();
        assert_eq!((none.per_task(0), none.checking_percent()), (0.0, 0.0));
    }

    #[test]
    fn every_figure_has_its_own_median() {
        let runs = [one("sort", 0, 1.0, 9.0), one("sort", 0, 2.0, 8.0), one("sort", 0, 3.0, 1.0)];
        let all: Vec<&Measurement> = runs.iter().collect();
        let median = medians(&all);
        assert_eq!((median.wall_s, median.cpu_s, median.attempts), (2.0, 8.0, 20));
    }
}
