//! What was measured, and what is told about it: medians, ratios to the unreplicated mode, and the table.

use serde::Serialize;

/// One run of one job.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Which job.
    pub job: String,
    /// Liars tolerated for each task.
    pub f: u32,
    /// Seconds to store the input, with f + 1 copies.
    pub upload_s: f64,
    /// Seconds from submitting the job until its client knows that it has ended.
    pub wall_s: f64,
    /// CPU seconds of the process, with all trackers and the job tracker, meanwhile.
    pub cpu_s: f64,
    /// Attempts started, for each task.
    pub attempts_per_task: f64,
    /// Bytes fetched in the shuffle.
    pub shuffled: u64,
    /// Of these, bytes fetched again.
    pub refetched: u64,
    /// Digest of the output.
    pub output: String,
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
    let of = |value: fn(&Measurement) -> f64| median(group.iter().map(|one| value(one)));
    let walls = || group.iter().map(|one| one.wall_s);
    Summary {
        median: Measurement {
            job: group[0].job.clone(),
            f: group[0].f,
            upload_s: of(|one| one.upload_s),
            wall_s: of(|one| one.wall_s),
            cpu_s: of(|one| one.cpu_s),
            attempts_per_task: of(|one| one.attempts_per_task),
            shuffled: of(|one| one.shuffled as f64) as u64,
            refetched: of(|one| one.refetched as f64) as u64,
            output: group[0].output.clone(),
        },
        wall_range_s: (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max)),
        wall_ratio: None,
        cpu_ratio: None,
    }
}

/// The table, as Markdown that can be read as it is.
pub fn table(summaries: &[Summary]) -> String {
    let heads = [
        "job",
        "f",
        "upload s",
        "wall s",
        "(range)",
        "CPU s",
        "attempts/task",
        "MiB shuffled",
        "refetched",
        "wall ×",
        "CPU ×",
    ];
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let ratio = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(summaries.iter().map(|Summary { median: m, wall_range_s: (min, max), wall_ratio, cpu_ratio }| {
        [
            m.job.clone(),
            m.f.to_string(),
            format!("{:.2}", m.upload_s),
            format!("{:.2}", m.wall_s),
            format!("{min:.2}–{max:.2}"),
            format!("{:.2}", m.cpu_s),
            format!("{:.2}", m.attempts_per_task),
            mib(m.shuffled),
            mib(m.refetched),
            ratio(*wall_ratio),
            ratio(*cpu_ratio),
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
        let (upload_s, attempts_per_task, shuffled, refetched) = (1.0, f64::from(f) + 1.0, 3 << 20, 0);
        let (job, output) = (job.to_owned(), "d".to_owned());
        Measurement { job, f, upload_s, wall_s, cpu_s, attempts_per_task, shuffled, refetched, output }
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
    fn the_table_has_a_line_for_each_summary() {
        let table = table(&summarise(&[one("sort", 0, 2.0, 4.0), one("sort", 1, 3.0, 8.0)]));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{table}");
        assert!(lines[3].contains("1.50") && lines[3].contains("2.00"), "{table}");
    }
}
