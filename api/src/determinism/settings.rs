//! What the output depends on although all trackers of a job have it alike: what the job's specification says.
//!
//! It is no reason for a vote to fail, and worth knowing: the same job with more memory, or with its files in another order,
//! gives other bytes. Mostly it is a combiner or reducer that adds floats, or that takes the first value that comes.

use super::{
    attempt::{Attempts, Output},
    rounds::Surroundings,
};
use crate::exit::Failure;
use quorate_protocol::{job::InputKind, limits};
use std::{fs, path::Path};

/// The input of a job that is run whole for this, in bytes.
const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// A setting on which the output depends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Setting {
    /// The attempt's memory.
    Memory,
    /// Where the input is cut.
    Splits,
    /// The order of the input's files.
    Files,
    /// Not tried: there is too much input.
    Unknown,
}

impl Setting {
    pub(super) fn sentence(self) -> String {
        let text = match self {
            Setting::Memory => {
                "another --memory gives another output: the combiner's result depends on what it is given together"
            }
            Setting::Splits => "another --split gives another output: it depends on where the input is cut",
            Setting::Files => {
                "the input's files in another order give another output: it depends on the order of a key's values"
            }
            Setting::Unknown => {
                "whether it depends on --memory, on --split and on the order of files was not tried: there is too much input"
            }
        };
        text.to_owned()
    }
}

/// Runs the job whole, as it is and with each setting changed, and gives the settings that change the output.
pub(super) fn depends_on(attempts: &Attempts) -> Result<Vec<Setting>, Failure> {
    let length: u64 = attempts.files.iter().map(super::InputFile::length).sum();
    if length > WHOLE_BYTES_MAX {
        return Ok(vec![Setting::Unknown]);
    }
    let (specification, files) = (&attempts.specification, &attempts.files);
    let mut tried = Vec::new();
    let mut otherwise = specification.clone();
    otherwise.memory = limits::ATTEMPT_MEMORY_MIN;
    if specification.memory != otherwise.memory {
        tried.push((Setting::Memory, attempts.otherwise("memory", otherwise, files.clone())?));
    }
    let mut otherwise = specification.clone();
    otherwise.split_bytes = (length / 3).max(1);
    if specification.input_kind != InputKind::WholeFiles && specification.split_bytes != otherwise.split_bytes {
        tried.push((Setting::Splits, attempts.otherwise("splits", otherwise, files.clone())?));
    }
    if files.len() > 1 {
        let reversed = files.iter().rev().cloned().collect();
        tried.push((Setting::Files, attempts.otherwise("files", specification.clone(), reversed)?));
    }
    let Some(usual) = whole(attempts)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (setting, attempts) in tried {
        // A job that fails with other settings, as for lack of memory, says nothing of its output.
        if whole(&attempts)?.is_some_and(|parts| parts != usual) {
            found.push(setting);
        }
    }
    Ok(found)
}

/// Runs all of a job, and gives the digests of its parts; `None` when the program fails.
fn whole(attempts: &Attempts) -> Result<Option<Vec<blake3::Hash>>, Failure> {
    let folder = attempts.folder().join("whole");
    fs::create_dir_all(&folder).map_err(|error| Failure::io("cannot run the job whole in", &folder, &error))?;
    let parts = parts(attempts, &folder);
    let _ = fs::remove_dir_all(folder);
    parts
}

fn parts(attempts: &Attempts, folder: &Path) -> Result<Option<Vec<blake3::Hash>>, Failure> {
    let around = Surroundings::default();
    let mut maps = Vec::new();
    for task in (0..attempts.maps()).filter_map(|index| attempts.map_task(index)) {
        let kept = folder.join(format!("map-{}", maps.len()));
        match attempts.map(&task, &around, &kept)? {
            Output::Failed { .. } => return Ok(None),
            product => maps.push(product),
        }
    }
    let mut parts = Vec::new();
    for partition in 0..attempts.specification.partitions {
        let kept = folder.join("part");
        if let Output::Failed { .. } = attempts.reduce(partition, &maps, &around, &kept)? {
            return Ok(None);
        }
        let mut hasher = blake3::Hasher::new();
        let part = fs::File::open(&kept);
        part.and_then(|part| hasher.update_reader(part).map(|_| ()))
            .map_err(|error| Failure::io("cannot read", &kept, &error))?;
        parts.push(hasher.finalize());
    }
    Ok(Some(parts))
}
