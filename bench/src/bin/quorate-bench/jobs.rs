//! The jobs that are measured, those of the examples, and their made-up input.

use clap::ValueEnum;
use quorate::{
    App, LocalCluster, NoArgs,
    exit::{Code, Failure},
};
use quorate_bench::text::Text;
use quorate_protocol::job::{Partitioning, Specification, split_bytes_default};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../../../../examples/src/bin/terasort/main.rs"]
mod terasort;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../../../../examples/src/bin/wordcount.rs"]
mod wordcount;

use terasort::generate::{KEY, Layout, RECORD, write_records};

/// Seed of the text.
pub(crate) const SEED: u64 = 2026;
const TIMEOUT_MS: u64 = 30_000;
/// Keys that the cuts between terasort's partitions are taken from.
const SAMPLES: u64 = 10_000;

/// A job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Counts the words of a text with Zipf's frequencies
    Wordcount,
    /// Sorts records of the sort benchmark
    Terasort,
}

impl Kind {
    /// Its name in tables and on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Wordcount => "wordcount",
            Kind::Terasort => "terasort",
        }
    }
}

/// Both jobs as one program.
pub(crate) fn app() -> App<NoArgs> {
    App::named("overhead")
        .job(Kind::Wordcount.name(), |_: &NoArgs| wordcount::job())
        .job(Kind::Terasort.name(), |_: &NoArgs| terasort::job())
}

/// Made input of one job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Input {
    /// Which job.
    pub(crate) kind: Kind,
    /// Its file.
    pub(crate) path: PathBuf,
    /// The file's length.
    pub(crate) bytes: u64,
}

impl Input {
    /// Makes the input of a job in a folder.
    pub(crate) fn make(kind: Kind, size: u64, folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(format!("{}-{size}", kind.name()));
        let written = File::create_new(&path).map_err(quorate::Error::from).and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            match kind {
                Kind::Wordcount => Text::new(SEED).write(size, &mut out)?,
                Kind::Terasort => write_records(Layout::Ascii, 0, size / RECORD as u64, &mut out)?,
            }
            Ok(out.flush()?)
        });
        let failed = |e: quorate::Error| {
            Failure::new(Code::ClientCode, format!("cannot make the input {}", path.display())).cause(e.chain())
        };
        written.map_err(failed)?;
        let bytes = path.metadata().map_err(|e| Failure::io("cannot read", &path, &e))?.len();
        if bytes == 0 {
            return Err(Failure::usage("--size leaves no input"));
        }
        Ok(Self { kind, path, bytes })
    }

    /// Whether an output of so many bytes can be all of it: equal outputs that are wrong in length would say nothing.
    pub(crate) fn is_complete(&self, output_bytes: u64) -> bool {
        match self.kind {
            Kind::Wordcount => output_bytes > 0,
            Kind::Terasort => output_bytes == self.bytes,
        }
    }

    /// The specification of the job over this input, which is `/input` in the cluster.
    pub(crate) fn specification(
        &self,
        cluster: &LocalCluster,
        output: &str,
        (splits, partitions): (Option<u64>, u32),
        memory: u64,
    ) -> Result<Specification, Failure> {
        let mut specification = cluster.specification(self.kind.name(), "null", &["/input"], output)?;
        specification.split_bytes = match splits {
            Some(splits) => self.bytes.div_ceil(splits),
            None => split_bytes_default(self.bytes),
        };
        specification.partitions = partitions;
        specification.memory = memory;
        specification.progress_timeout_ms = TIMEOUT_MS;
        if self.kind == Kind::Terasort {
            let cuts = self.cuts(partitions).map_err(|e| Failure::io("cannot read", &self.path, &e))?;
            specification.partitioning = Partitioning::Ranges(cuts);
        }
        Ok(specification)
    }

    /// The lowest keys of all partitions but the first, from evenly spaced records.
    fn cuts(&self, partitions: u32) -> io::Result<Vec<Vec<u8>>> {
        let (file, records) = (File::open(&self.path)?, self.bytes / RECORD as u64);
        let count = SAMPLES.min(records);
        let mut keys = Vec::new();
        for n in 0..count {
            let mut key = vec![0; KEY];
            file.read_exact_at(&mut key, n * records / count * RECORD as u64)?;
            keys.push(key);
        }
        keys.sort_unstable();
        Ok((1..partitions).map(|n| keys[keys.len() * n as usize / partitions as usize].clone()).collect())
    }
}
