//! The stages that there are, and what all of them have in common.

use crate::{
    chunks,
    combine::Combine,
    decode::Decode,
    digest::Digests,
    emit::Emit,
    material::{
        Kind::{self, Records, Words},
        Material,
    },
    merge::Merge,
    remote,
    segment::{self, Read},
    sort::Sort,
    spill::Spill,
    tasks,
};
use quorate::Result;
use std::{path::Path, sync::Arc};

/// A stage with its input.
pub(crate) trait Stage {
    /// Makes what the next run uses up.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }
    /// Does the stage's work once.
    fn run(&mut self) -> Result<Work>;
}

/// What went through a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Work {
    pub(crate) bytes: u64,
    /// `None` where bytes are all that the stage knows.
    pub(crate) records: Option<u64>,
}

/// A stage on one kind of input.
pub(crate) struct Row {
    pub(crate) stage: &'static str,
    pub(crate) kind: Kind,
    /// Whether it only computes, in one thread: then its instructions can be counted.
    pub(crate) counted: bool,
    /// Makes the stage ready, with its files in a folder of its own.
    pub(crate) make: Make,
}

type Make = fn(&Arc<Material>, &Path) -> Result<Box<dyn Stage>>;

impl Row {
    const fn counted(stage: &'static str, kind: Kind, make: Make) -> Self {
        Self { stage, kind, counted: true, make }
    }

    const fn timed(stage: &'static str, make: Make) -> Self {
        Self { stage, kind: Records, counted: false, make }
    }

    /// The stage's name with that of its input.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.stage, self.kind.name())
    }
}

/// All of them, in the order of a job.
pub(crate) static ROWS: [Row; 25] = [
    Row::counted("decode", Words, Decode::make),
    Row::counted("decode", Records, Decode::make),
    Row::counted("map", Words, tasks::Mapping::make),
    Row::counted("map", Records, tasks::Mapping::make),
    Row::counted("emit", Words, Emit::make),
    Row::counted("emit", Records, Emit::make),
    Row::counted("combine", Words, Combine::make),
    Row::counted("sort", Words, Sort::make),
    Row::counted("sort", Records, Sort::make),
    Row::counted("spill", Words, Spill::make),
    Row::counted("spill", Records, Spill::make),
    Row::counted("map-task", Words, tasks::MapTasks::make),
    Row::counted("map-task", Records, tasks::MapTasks::make),
    Row::counted("digest", Records, Digests::make),
    Row::timed("segment-fetch", segment::Fetch::make),
    Row::counted("segment-read", Words, Read::make),
    Row::counted("segment-read", Records, Read::make),
    Row::counted("merge", Words, Merge::make),
    Row::counted("merge", Records, Merge::make),
    Row::counted("reduce-task", Words, tasks::ReduceTasks::make),
    Row::counted("reduce-task", Records, tasks::ReduceTasks::make),
    Row::timed("chunk-write", chunks::Write::make),
    Row::timed("chunk-read", chunks::Read::make),
    Row::timed("chunk-put", remote::Put::make),
    Row::timed("chunk-get", remote::Get::make),
];

/// Where a stage stands in a job.
pub(crate) fn position(stage: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.stage == stage)
}

/// The rows of these names, `sort` or `sort/words`; all when none are given.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Row>, String> {
    let has = |row: &Row, name: &String| row.stage == name || row.name() == *name;
    if let Some(unknown) = names.iter().find(|name| !ROWS.iter().any(|row| has(row, name))) {
        let all: Vec<String> = ROWS.iter().map(Row::name).collect();
        return Err(format!("there is no stage {unknown:?}; there are {}", all.join(", ")));
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| has(row, name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several blocks of text and several chunks, yet quick.
    const BYTES: u64 = 5 << 20;

    fn works_of(kind: Kind) -> (Arc<Material>, Vec<(&'static str, Work)>) {
        let material = Arc::new(Material::make(kind, BYTES).expect("material"));
        let run = |row: &'static Row| {
            let folder = tempfile::tempdir().expect("a folder");
            let mut stage = (row.make)(&material, folder.path()).expect("made ready");
            let mut work = || {
                stage.prepare().expect("prepared");
                stage.run().expect("run")
            };
            let first = work();
            assert_eq!(work(), first, "{}: each run does the same", row.name());
            (row.stage, first)
        };
        let works = ROWS.iter().filter(|row| row.kind == kind).map(run).collect();
        (material, works)
    }

    #[test]
    fn every_stage_takes_in_all_words() {
        let (material, works) = works_of(Words);
        let lines = material.bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        for (stage, work) in works {
            let records = if stage == "decode" { lines } else { material.pairs() as u64 };
            assert_eq!(work.records, Some(records), "{stage}");
            assert!(work.bytes >= BYTES, "{stage}: {} bytes", work.bytes);
        }
    }

    #[test]
    fn every_stage_takes_in_all_records() {
        let (material, works) = works_of(Records);
        for (stage, work) in works {
            assert!(work.records.is_none_or(|records| records == material.pairs() as u64), "{stage}: {work:?}");
            assert!(work.bytes >= material.bytes.len() as u64, "{stage}: {} bytes", work.bytes);
        }
    }

    #[test]
    fn stages_are_chosen_by_name() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(&names).map(|rows| rows.iter().map(|row| row.name()).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).expect("all").len(), ROWS.len());
        assert_eq!(names(&["sort"]).expect("both"), ["sort/words", "sort/records"]);
        assert_eq!(names(&["merge/words", "sort/words"]).expect("two"), ["sort/words", "merge/words"]);
        assert!(names(&["combine/records"]).is_err_and(|why| why.contains("combine/words")));
    }

    #[test]
    fn no_two_rows_have_one_name() {
        let names: std::collections::BTreeSet<String> = ROWS.iter().map(Row::name).collect();
        assert_eq!(names.len(), ROWS.len());
    }
}
