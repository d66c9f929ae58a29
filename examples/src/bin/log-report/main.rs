//! Reports on logs: how many messages of each level, component and hour; the largest counts of each.
//!
//! ```text
//! cargo run --release -p quorate-examples --bin log-report -- --input logs/ --top 5
//! cargo run --release -p quorate-examples --bin log-report -- --input log.parquet
//! ```
//!
//! Two jobs, one after the other: the first counts, the second ranks the counts. The input is log files of HDFS, Hadoop or
//! the Apache web server, or Parquet files with the text columns `level` and `component` and the text or timestamp
//! column `time`. The output has lines `aggregate<TAB>value<TAB>count`.

use quorate::arrow::{
    array::{Array, RecordBatch, StringArray},
    compute::cast,
    datatypes::DataType,
};
use quorate::{
    exit::{Code, Failure},
    prelude::*,
};
use std::process::ExitCode;

pub(crate) mod line;

/// How the report looks.
#[derive(Clone, clap::Args, serde::Serialize, serde::Deserialize)]
pub(crate) struct ReportArgs {
    /// How many values of each aggregate, those with the largest counts.
    #[arg(long, default_value_t = 10)]
    pub(crate) top: u64,
}

/// What is counted: the aggregate's name and a value of it, such as `("level", "WARN")`.
type Fact = (String, String);

/// Emits what one message adds to each aggregate.
fn emit(level: &str, component: &str, hour: &str, out: &mut Emitter<'_, Fact, u64>) -> Result<()> {
    out.count("messages", 1);
    for (aggregate, value) in [("level", level), ("component", component), ("hour", hour)] {
        out.emit(&(aggregate.to_owned(), value.to_owned()), &1)?;
    }
    Ok(())
}

/// Reads messages from log lines.
pub(crate) struct FromLines;

impl Mapper for FromLines {
    type Input = Lines;
    type Key = Fact;
    type Value = u64;

    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, Fact, u64>) -> Result<()> {
        let line = String::from_utf8_lossy(line);
        match line::parse(&line) {
            Some(message) => emit(message.level, message.component, &message.hour, out),
            None => {
                out.count("unreadable lines", 1);
                Ok(())
            }
        }
    }
}

/// Reads messages from the columns of Parquet files.
#[derive(Default)]
pub(crate) struct FromColumns {
    file: String,
}

impl Mapper for FromColumns {
    type Input = ParquetBatches;
    type Key = Fact;
    type Value = u64;

    fn setup(&mut self, task: &MapContext<'_>) -> Result<()> {
        self.file = task.path().to_owned();
        Ok(())
    }

    fn map(&mut self, batch: &RecordBatch, out: &mut Emitter<'_, Fact, u64>) -> Result<()> {
        let text = |name| text(batch, name, &self.file);
        let (level, component, time) = (text("level")?, text("component")?, text("time")?);
        let at = |column: &StringArray, row: usize| -> String {
            if column.is_null(row) { "-".to_owned() } else { column.value(row).to_owned() }
        };
        for row in 0..batch.num_rows() {
            let time = at(&time, row);
            // `2015-10-18T18:01:47` up to the hour.
            let hour: String = time.chars().take(13).collect::<String>().replace('T', " ");
            emit(&at(&level, row), &at(&component, row), &hour, out)?;
        }
        Ok(())
    }
}

/// A column as text.
fn text(batch: &RecordBatch, name: &str, file: &str) -> Result<StringArray> {
    let missing = || Error::new(format!("{file} has no column {name:?} that can be read as text"));
    let column = cast(batch.column_by_name(name).ok_or_else(missing)?, &DataType::Utf8)?;
    column.as_any().downcast_ref::<StringArray>().cloned().ok_or_else(missing)
}

/// Adds up the counts of one fact.
pub(crate) struct Count;

impl Reducer for Count {
    type Key = Fact;
    type Value = u64;
    type Output = TextLines;

    fn reduce(&mut self, fact: Fact, counts: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        out.write(&fact, &counts.sum::<u64>())
    }
}

/// Sorts counts by aggregate, the largest first, by a key that says so: bytes sort upwards, so the count is turned over.
pub(crate) struct ByCount;

impl Mapper for ByCount {
    type Input = Lines;
    type Key = (String, u64, String);
    type Value = ();

    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, (String, u64, String), ()>) -> Result<()> {
        let line = std::str::from_utf8(line)?;
        let mut fields = line.splitn(3, '\t');
        let (Some(aggregate), Some(value), Some(count)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(Error::new(format!("{line:?} is no count")));
        };
        out.emit(&(aggregate.to_owned(), u64::MAX - count.parse::<u64>()?, value.to_owned()), &())?;
        Ok(())
    }
}

/// Keeps the first of each aggregate.
pub(crate) struct Top {
    top: u64,
    aggregate: String,
    taken: u64,
}

impl Reducer for Top {
    type Key = (String, u64, String);
    type Value = ();
    type Output = TextLines;

    fn reduce(
        &mut self,
        (aggregate, turned, value): (String, u64, String),
        _: Values<'_, ()>,
        out: &mut Writer<'_, TextLines>,
    ) -> Result<()> {
        if aggregate != self.aggregate {
            self.aggregate = aggregate;
            self.taken = 0;
        }
        self.taken += 1;
        if self.taken > self.top {
            return Ok(());
        }
        out.write(&(self.aggregate.clone(), value), &(u64::MAX - turned))
    }
}

/// Counts the messages of log files.
pub(crate) fn count_lines() -> Job<FromLines, Count> {
    Job::new(|| FromLines, || Count).combiner(|total, count| *total += count)
}

/// Counts the messages of Parquet files.
pub(crate) fn count_columns() -> Job<FromColumns, Count> {
    Job::new(FromColumns::default, || Count).combiner(|total, count| *total += count)
}

/// The job that counts these files: a job reads one kind.
pub(crate) fn job_for(files: &[String]) -> Result<&'static str> {
    let is_parquet = |path: &&String| path.ends_with(".parquet");
    match (files.iter().find(is_parquet), files.iter().find(|path| !is_parquet(path))) {
        (Some(parquet), Some(other)) => Err(Failure::new(
            Code::JobArguments,
            format!("the input mixes Parquet ({parquet}) with other files ({other})"),
        )
        .hint("run log-report on each kind alone")
        .into()),
        (Some(_), None) => Ok("count-columns"),
        (None, _) => Ok("count-lines"),
    }
}

/// Ranks counts. With one partition, all counts of an aggregate meet in one place.
pub(crate) fn rank(args: &ReportArgs) -> Job<ByCount, Top> {
    let top = args.top;
    Job::new(|| ByCount, move || Top { top, aggregate: String::new(), taken: 0 }).reducers(1)
}

fn main() -> ExitCode {
    let app = App::named("log-report")
        .about("Counts log messages by level, component and hour, and ranks the counts")
        .job("count-lines", |_: &ReportArgs| count_lines())
        .job("count-columns", |_: &ReportArgs| count_columns())
        .job("rank", |args: &ReportArgs| rank(args))
        .driver(|run, _| {
            let job = job_for(&run.input_files()?)?;
            let inputs = run.inputs().to_vec();
            let counts = run.step(job, &inputs)?;
            if !run.counters().contains_key("messages") {
                return Err(Error::new(
                    "the input has no messages: logs of HDFS, Hadoop and Apache are known, and Parquet",
                ));
            }
            run.last("rank", &[counts])
        })
        .summary(|results: &Results<'_>, out: &mut dyn std::io::Write| {
            results.each_line(|line| {
                writeln!(out, "{line}")?;
                Ok(())
            })
        });
    quorate::main(app)
}
