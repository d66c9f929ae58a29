//! Measuring a stage: CPU time of the whole process, and time on the wall.

use crate::stage::{Row, Stage, Work};
use quorate::{Error, Result};
use quorate_bench::figures::{markdown, median};
use serde::Serialize;
use std::time::Instant;

/// Runs that a median needs at least.
const RUNS_MIN: usize = 3;

/// What went through one stage in a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Passed {
    pub(crate) stage: &'static str,
    /// The kind of input.
    pub(crate) input: &'static str,
    /// Whether its instructions can be counted.
    pub(crate) counted: bool,
    pub(crate) bytes: u64,
    pub(crate) records: Option<u64>,
}

impl Passed {
    fn new(row: &Row, work: Work) -> Self {
        let Work { bytes, records } = work;
        Self { stage: row.stage, input: row.kind.name(), counted: row.counted, bytes, records }
    }
}

/// What was measured of one stage.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    pub(crate) passed: Passed,
    pub(crate) runs: usize,
    /// Median of a run's CPU seconds.
    pub(crate) cpu_s: f64,
    /// Median of a run's seconds on the wall.
    pub(crate) wall_s: f64,
}

impl Measured {
    /// Throughput of one core.
    pub(crate) fn megabytes_per_cpu_s(&self) -> f64 {
        self.passed.bytes as f64 / self.cpu_s / 1e6
    }
}

/// Runs a stage for at least so many CPU seconds.
pub(crate) fn measure(row: &Row, stage: &mut dyn Stage, seconds: f64) -> Result<Measured> {
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    let mut passed = None;
    while cpu.len() < RUNS_MIN || cpu.iter().sum::<f64>() < seconds {
        stage.prepare()?;
        let (cpu_before, start) = (cpu_s(), Instant::now());
        let done = stage.run()?;
        cpu.push(cpu_s() - cpu_before);
        wall.push(start.elapsed().as_secs_f64());
        let first = passed.get_or_insert(done);
        if *first != done {
            return Err(Error::new(format!("{} did {first:?} in one run and {done:?} in another", row.name())));
        }
    }
    let passed = passed.ok_or_else(|| Error::new("there was no run"))?;
    Ok(Measured { passed: Passed::new(row, passed), runs: cpu.len(), cpu_s: median(cpu), wall_s: median(wall) })
}

/// Makes a stage ready and runs it, so many times; with 0 it is made ready once, as for a single run. No clock is asked:
/// tools that count instructions do not bear every way to ask.
pub(crate) fn run_untimed(row: &Row, stage: &mut dyn Stage, runs: u32) -> Result<Option<Passed>> {
    stage.prepare()?;
    let mut passed = None;
    for run in 0..runs {
        if run > 0 {
            stage.prepare()?;
        }
        passed = Some(Passed::new(row, stage.run()?));
    }
    Ok(passed)
}

/// CPU seconds of this process so far, of all its threads.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The table, as Markdown that can be read as it is.
pub(crate) fn table(all: &[Measured]) -> String {
    let heads = ["stage", "input", "MB/s per core", "million records/s per core", "ns/record", "MB/s by the clock"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(all.iter().map(|one| {
        let Measured { passed, cpu_s, wall_s, .. } = one;
        let of_records = |figure: fn(f64, f64) -> f64, decimals: usize| {
            let figure = passed.records.map(|records| figure(records as f64, *cpu_s));
            figure.map_or("–".to_owned(), |figure| format!("{figure:.decimals$}"))
        };
        [
            passed.stage.to_owned(),
            passed.input.to_owned(),
            format!("{:.0}", one.megabytes_per_cpu_s()),
            of_records(|records, cpu_s| records / cpu_s / 1e6, 1),
            of_records(|records, cpu_s| cpu_s * 1e9 / records, 0),
            format!("{:.0}", passed.bytes as f64 / wall_s / 1e6),
        ]
    }));
    markdown(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::ROWS;

    /// Does as many bytes as it is told for its runs, one after the other.
    struct Scripted {
        bytes: Vec<u64>,
        prepared: usize,
    }

    impl Stage for Scripted {
        fn prepare(&mut self) -> Result<()> {
            self.prepared += 1;
            Ok(())
        }
        fn run(&mut self) -> Result<Work> {
            Ok(Work { bytes: self.bytes.remove(0), records: None })
        }
    }

    #[test]
    fn a_stage_runs_as_often_as_it_is_told() {
        let mut stage = Scripted { bytes: vec![5; 9], prepared: 0 };
        let passed = run_untimed(&ROWS[0], &mut stage, 2).expect("runs").expect("passed");
        assert_eq!((passed.bytes, stage.bytes.len(), stage.prepared), (5, 7, 2));
        assert!(run_untimed(&ROWS[0], &mut stage, 0).expect("made ready").is_none());
        assert_eq!((stage.bytes.len(), stage.prepared), (7, 3), "made ready as for one run");
        let measured = measure(&ROWS[0], &mut stage, 0.0).expect("runs");
        assert_eq!(measured.runs, RUNS_MIN);
    }

    #[test]
    fn a_stage_that_does_less_in_one_run_than_in_another_is_no_measure() {
        let mut stage = Scripted { bytes: vec![5, 4, 5], prepared: 0 };
        assert!(measure(&ROWS[0], &mut stage, 0.0).is_err());
    }

    #[test]
    fn the_table_tells_megabytes_and_records() {
        let one = |records| {
            let passed = Passed::new(&ROWS[0], Work { bytes: 50_000_000, records });
            Measured { passed, runs: 3, cpu_s: 0.5, wall_s: 1.0 }
        };
        let table = table(&[one(Some(8_000_000)), one(None)]);
        let cells = |line: usize| -> Vec<&str> {
            let line = table.lines().nth(line).expect("a line");
            line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect()
        };
        assert_eq!(cells(2), ["decode", "words", "100", "16.0", "62", "50"]);
        assert_eq!(cells(3), ["decode", "words", "100", "–", "–", "50"]);
    }
}
