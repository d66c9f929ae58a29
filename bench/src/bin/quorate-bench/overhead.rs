//! What tolerating liars costs: word count and terasort on embedded clusters of five trackers, through real attempts,
//! votes, shuffle and chunk store.
//!
//! The jobs are those of the examples, with the options that the examples have by default. Every run has a process and a
//! cluster of its own, rounds go through f upward and downward in turn, and all outputs of a job must be equal byte for
//! byte.

use crate::{
    child::{Run, TRACKERS},
    faults,
    jobs::{Input, Kind, SEED},
    machine, small, spare,
};
use clap::{Args, ValueEnum};
use quorate::{
    amounts::{parse_bytes, show_bytes},
    exit::{Code, Failure},
};
use quorate_bench::{
    figures::{Measurement, Summary, bytes_table, summarise, time_table},
    kept,
};
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Input of each job, such as 256MiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    size: u64,
    /// Runs of each job with each f; the medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Jobs to run
    #[arg(long, value_name = "JOBS", value_enum, value_delimiter = ',', default_value = "wordcount,terasort")]
    jobs: Vec<Kind>,
    /// Values of f, where nobody lies. One alone is handy under a profiler
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "0,1,2",
        value_parser = clap::value_parser!(u32).range(..=2))]
    f: Vec<u32>,
    /// What to measure
    #[arg(
        long,
        value_name = "PARTS",
        value_enum,
        value_delimiter = ',',
        default_value = "price,wrong-digests,damage,spare-slots,small-jobs"
    )]
    parts: Vec<Part>,
    /// Writes all measurements to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keeps the tables, with machine, date and command, in bench/results
    #[arg(long)]
    keep: bool,
}

const AFTER_HELP: &str = "\
Wall time runs from submitting a job until its client knows that it has ended; CPU time and memory are those of the whole
process, with all five trackers and the job tracker. Storing the input is told apart. \"Checking\" is digests of bulk data
and signatures: what was counted, times what one costs on this machine. Temporary files ($TMPDIR) take about 8 times the
size. The command fails when outputs differ, or when lies cost more attempts or bytes than they may.";

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// Each f, and nobody lies
    Price,
    /// A wrong digest in 0 to 100 percent of the map tasks
    WrongDigests,
    /// One damaged segment, for 1 to 64 partitions
    Damage,
    /// f = 1 on two cores, against f = 0 on one
    SpareSlots,
    /// Word counts of 1 MiB on a running cluster
    SmallJobs,
}

/// What one part gave.
#[derive(Default)]
pub(crate) struct Told {
    /// Headings and tables, as Markdown.
    pub(crate) text: String,
    /// All runs.
    pub(crate) runs: Vec<Measurement>,
    /// What is not as it must be.
    pub(crate) wrong: Vec<String>,
}

impl Told {
    /// A heading, a sentence, and a table.
    pub(crate) fn section(&mut self, heading: &str, sentence: &str, table: &str) {
        self.text.push_str(&format!("## {heading}\n\n{sentence}\n\n{table}\n"));
    }

    fn add(&mut self, other: Told) {
        print!("{}", other.text);
        self.text.push_str(&other.text);
        self.runs.extend(other.runs);
        self.wrong.extend(other.wrong);
    }
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("quorate-overhead-").tempdir();
    let folder = folder.map_err(|e| machine("make a temporary folder", e))?;
    let mut inputs = Vec::new();
    for kind in &options.jobs {
        inputs.push(Input::make(*kind, options.size, folder.path())?);
    }
    let mut told = Told::default();
    for part in &options.parts {
        told.add(match part {
            Part::Price => price(options, &inputs)?,
            Part::WrongDigests => faults::wrong_digests(&inputs)?,
            Part::Damage => faults::damage(&inputs, options.runs)?,
            Part::SpareSlots => spare::spare_slots(&inputs, options.runs)?,
            Part::SmallJobs => small::small_jobs(folder.path())?,
        });
    }
    told.wrong.extend(different_outputs(&told.runs));
    if let Some(path) = &options.json {
        write_json(path, options, &told.runs)?;
    }
    if options.keep {
        keep(options, &told.text)?;
    }
    match told.wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Code::ClientCode, told.wrong.join("\n  "))),
    }
}

/// What each f costs when nobody lies.
fn price(options: &Options, inputs: &[Input]) -> Result<Told, Failure> {
    let mut told = Told::default();
    for input in inputs {
        for round in 1..=options.runs {
            let mut fs = options.f.clone();
            if round % 2 == 0 {
                fs.reverse();
            }
            for f in fs {
                let one = Run::new(input, f).measure()?;
                eprintln!("{} f={f} {round}/{}: {:.2} s", one.job, options.runs, one.wall_s);
                told.runs.push(one);
            }
        }
    }
    let summaries: Vec<Summary> = summarise(&told.runs);
    let sentence = "Nobody lies. × is the ratio to f = 0; checking is digests and signatures, and voting the same without the \
                    chunks that were read, in percent of the CPU time.";
    told.section("The price of f", sentence, &time_table(&summaries));
    told.text.push_str(&format!("{}\n", bytes_table(&summaries)));
    Ok(told)
}

/// Whatever f is and whoever lies, a job's output with as many parts is the same.
fn different_outputs(runs: &[Measurement]) -> Option<String> {
    let same_job = |one: &Measurement, other: &Measurement| (&one.job, one.reduces) == (&other.job, other.reduces);
    runs.iter().find_map(|one| {
        let other = runs.iter().find(|other| same_job(one, other) && one.output != other.output)?;
        Some(format!("{} gave {} with f = {} and {} with f = {}", one.job, one.output, one.f, other.output, other.f))
    })
}

fn write_json(path: &Path, options: &Options, runs: &[Measurement]) -> Result<(), Failure> {
    let all = serde_json::json!({ "size": options.size, "seed": SEED, "runs": runs });
    std::fs::write(path, format!("{all:#}\n")).map_err(|e| Failure::io("cannot write", path, &e))
}

/// Writes the tables to the results that are kept in the repository.
fn keep(options: &Options, tables: &str) -> Result<(), Failure> {
    let body = format!(
        "Input of {} for each job, {} runs, medians, {TRACKERS} trackers in one process.\n\n{tables}",
        show_bytes(options.size),
        options.runs,
    );
    let command = "cargo run --release -p quorate-bench --";
    kept::keep("overhead", "Overhead of tolerating liars", &body, command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared_within_a_job_and_number_of_parts() {
        let run = |job: &str, reduces, output: &str| Measurement {
            job: job.to_owned(),
            reduces,
            output: output.to_owned(),
            ..Measurement::default()
        };
        let good = [run("sort", 2, "a"), run("sort", 4, "b"), run("count", 2, "c"), run("sort", 2, "a")];
        assert_eq!(different_outputs(&good), None);
        let bad = [run("sort", 2, "a"), run("sort", 2, "b")];
        assert!(different_outputs(&bad).is_some_and(|what| what.contains("sort gave a")));
    }
}
