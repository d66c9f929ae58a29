//! Byzantine-fault-tolerant MapReduce: write a [`Mapper`] and a [`Reducer`], and get answers that hold although some
//! machines lie.
//!
//! A job is an ordinary program that links this crate. The same binary is the client and, started by a tracker, the
//! process that runs the job's tasks. A result is *quorate* when f + 1 trackers in distinct failure domains computed it,
//! byte for byte alike.
//!
//! ```no_run
//! use quorate::prelude::*;
//!
//! struct Words;
//! impl Mapper for Words {
//!     type Input = Lines;
//!     type Key = [u8];
//!     type Value = u64;
//!     fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
//!         for word in line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
//!             out.emit(word, &1)?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! struct Sum;
//! impl Reducer for Sum {
//!     type Key = [u8];
//!     type Value = u64;
//!     type Output = TextLines;
//!     fn reduce(&mut self, word: &[u8], counts: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
//!         out.write(word, &counts.sum::<u64>())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     quorate::main(App::new("wordcount", |_: &NoArgs| {
//!         Job::new(|| Words, || Sum).combiner(|total, count| *total += count)
//!     }))
//! }
//! ```
//!
//! A job with arguments gets them as a `clap` and `serde` struct, on the client and in every task:
//!
//! ```
//! use quorate::prelude::*;
//!
//! #[derive(clap::Args, serde::Serialize, serde::Deserialize)]
//! #[serde(crate = "quorate::serde")]
//! struct Wanted {
//!     /// The word to look for.
//!     #[arg(long)]
//!     word: String,
//! }
//! # struct Find(String);
//! # impl Mapper for Find {
//! #     type Input = Lines;
//! #     type Key = str;
//! #     type Value = u64;
//! #     fn map(&mut self, _: &[u8], out: &mut Emitter<'_, str, u64>) -> Result<()> { Ok(out.emit(&self.0, &1)?) }
//! # }
//! # struct Sum;
//! # impl Reducer for Sum {
//! #     type Key = str;
//! #     type Value = u64;
//! #     type Output = TextLines;
//! #     fn reduce(&mut self, key: &str, values: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
//! #         out.write(key, &values.sum::<u64>())
//! #     }
//! # }
//!
//! let app = App::new("find", |args: &Wanted| {
//!     let word = args.word.clone();
//!     Job::new(move || Find(word.clone()), || Sum)
//! });
//! # let _ = app;
//! ```

mod app;
mod driver;
mod error;
mod guard;
mod input;
mod job;
mod mapper;
mod options;
mod output;
mod progress;
mod reducer;
mod results;
mod run;
mod sample;
mod submit;
mod table;
mod toml_file;

pub mod amounts;
pub mod configuration;
pub mod connection;
pub mod determinism;
pub mod docs;
pub mod exit;
pub mod explain;
pub mod files;
pub mod json;
pub mod local;
pub mod report;
pub mod settings;
pub mod terminal;
pub mod testing;

pub use app::{App, Arguments, MAIN_JOB, NoArgs};
pub use driver::Driver;
pub use error::{Error, Result};
pub use input::{FixedRecords, Input, LineBlocks, Lines, ParquetBatches, WholeFiles};
pub use job::{AnyJob, IntoJob, Job};
pub use local::LocalCluster;
pub use mapper::{MapContext, Mapper};
pub use options::{JobOptions, job_sections, liar_kinds, parse_liars};
pub use output::{Columns, Format, Parquet, RawBytes, TextLines, Writer};
pub use progress::{Progress, Shown, Transfer};
pub use quorate_engine::{
    emitter::Emitter,
    groups::Values,
    key::Key,
    text::Text,
    value::{OwnedValue, Value},
};
pub use reducer::{ReduceContext, Reducer};
pub use results::Results;
pub use run::{is_task_host, main};
pub use submit::{left_running, succeeded, wait_with_progress};

/// Text: how it is taken apart, and how keys and values are written.
pub mod text {
    pub use quorate_engine::{
        text::Text,
        words::{Words, words},
    };
}

/// The crates that users meet in Quorate's interfaces, so that they need no other dependency.
pub use {arrow, clap, serde};

/// The version of Quorate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a job program imports.
pub mod prelude {
    pub use crate::{
        App, Arguments, Columns, Driver, Emitter, Error, FixedRecords, Job, LineBlocks, Lines, LocalCluster,
        MapContext, Mapper, NoArgs, Parquet, ParquetBatches, RawBytes, ReduceContext, Reducer, Result, Results,
        TextLines, Values, WholeFiles, Writer, clap, serde,
    };
}
