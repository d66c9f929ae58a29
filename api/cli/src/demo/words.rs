//! The demonstration's job, a word count. Its program is this very one: trackers start it as they start any job's.

use quorate::{MAIN_JOB, prelude::*};
use quorate_protocol::{
    digest::Digest,
    file::{File, Path},
    job::{InputKind, Partitioning, Program, Specification, this_target},
    limits::ATTEMPT_MEMORY_DEFAULT,
};
use std::collections::BTreeMap;

/// The page that is counted, so many times.
const PAGE: &str = include_str!("../../../docs/fault-model.md");
const TIMES: usize = 600;

struct Words;
impl Mapper for Words {
    type Input = Lines;
    type Key = [u8];
    type Value = u64;
    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
        Ok(out.emit_words(line, &1)?)
    }
}

struct Sum;
impl Reducer for Sum {
    type Key = [u8];
    type Value = u64;
    type Output = TextLines;
    fn reduce(&mut self, word: &[u8], counts: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        out.write(word, &counts.sum::<u64>())
    }
}

/// The program.
pub(crate) fn program() -> App<NoArgs> {
    App::new("words", |_: &NoArgs| Job::new(|| Words, || Sum).combiner(|total, count| *total += count))
}

/// The text to be counted.
pub(super) fn text() -> String {
    PAGE.repeat(TIMES)
}

/// The counts by the simplest program that there is, as the job writes them but in one file.
pub(super) fn counted_simply() -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    PAGE.split_ascii_whitespace().for_each(|word| *counts.entry(word).or_default() += TIMES as u64);
    counts
}

/// The job, when the cluster has its program's file.
pub(super) fn job(digest: Digest, file: File, input: &Path, output: &Path) -> Specification {
    Specification {
        name: "words".to_owned(),
        program: Program::Binary { digest, target: this_target(), file },
        entry: MAIN_JOB.to_owned(),
        arguments: "{}".to_owned(),
        inputs: vec![input.clone()],
        input_kind: InputKind::Lines,
        split_bytes: 256 << 10,
        output: output.clone(),
        partitions: 2,
        partitioning: Partitioning::Hash,
        f: 1,
        memory: ATTEMPT_MEMORY_DEFAULT,
        progress_timeout_ms: 30_000,
    }
}
