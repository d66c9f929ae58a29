//! Builds the index of a folder of documents: for each word, the files that have it and how often.
//!
//! ```text
//! cargo run --release -p quorate-examples --bin inverted-index -- --input api/src --output /tmp/index
//! ```
//!
//! An output line is `word<TAB>FILE:COUNT FILE:COUNT …`, the file with the most first. A word is a run of letters and
//! digits, in lower case.

use quorate::prelude::*;
use std::{cmp::Reverse, collections::BTreeMap, process::ExitCode};

/// Counts the words of one document.
#[derive(Default)]
pub(crate) struct Index {
    file: String,
}

impl Mapper for Index {
    type Input = WholeFiles;
    type Key = str;
    type Value = (String, u64);

    fn setup(&mut self, task: &MapContext<'_>) -> Result<()> {
        self.file = task.path().to_owned();
        Ok(())
    }

    fn map(&mut self, document: &[u8], out: &mut Emitter<'_, str, (String, u64)>) -> Result<()> {
        let text = String::from_utf8_lossy(document).to_lowercase();
        // A map in order: what a task emits, and in which order, must be the same on every machine.
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word).or_default() += 1;
        }
        out.count("documents", 1);
        for (word, count) in counts {
            out.emit(word, &(self.file.clone(), count))?;
        }
        Ok(())
    }
}

/// Joins the documents of one word.
pub(crate) struct Postings;

impl Reducer for Postings {
    type Key = str;
    type Value = (String, u64);
    type Output = TextLines;

    fn reduce(
        &mut self,
        word: &str,
        documents: Values<'_, (String, u64)>,
        out: &mut Writer<'_, TextLines>,
    ) -> Result<()> {
        let mut postings: Vec<_> = documents.map(|(file, count)| (Reverse(count), file)).collect();
        postings.sort();
        let list: Vec<String> = postings.iter().map(|(Reverse(count), file)| format!("{file}:{count}")).collect();
        out.count("words", 1);
        out.write(word, &list.join(" "))
    }
}

pub(crate) fn job() -> Job<Index, Postings> {
    Job::new(Index::default, || Postings)
}

fn main() -> ExitCode {
    let app = App::new("inverted-index", |_: &NoArgs| job());
    quorate::main(app.about("Builds the index of a folder of documents").summary(
        |results: &Results<'_>, out: &mut dyn std::io::Write| {
            let counter = |name: &str| results.counters().get(name).copied().unwrap_or(0);
            writeln!(out, "{} words in {} documents", counter("words"), counter("documents"))?;
            Ok(())
        },
    ))
}
