//! Compares files of this machine with what a certificate has, chunk by chunk: they may be larger than memory.

use super::{below, plain, printable, refused};
use quorate::{
    Transfer,
    amounts::{count, show_bytes},
    exit::Failure,
};
use quorate_protocol::{
    certificate::Completion,
    digest::{ChunkId, Digest},
    file::{Manifest, chunk_bytes},
    job::{Program, part_name},
    limits::CHUNK_BYTES_DEFAULT,
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Findings that are told one by one.
const TOLD_MAX: usize = 20;

/// Compares the program's file.
pub(super) fn compare_program(completion: &Completion, path: &Path) -> Result<String, Failure> {
    let (Program::Binary { digest, .. } | Program::Embedded { digest }) = &completion.specification.program;
    let bytes = fs::read(path).map_err(|error| Failure::io("cannot read", path, &error))?;
    if Digest::of(&bytes) != *digest {
        return Err(refused(format!("{} is not the certified program", path.display())));
    }
    Ok(format!("program: {} is the certified one\n", path.display()))
}

/// Compares the whole output in a folder, or some of its files.
pub(crate) fn compare_output(completion: &Completion, paths: &[PathBuf]) -> Result<String, Failure> {
    let mut files = Vec::new();
    let mut found = Findings::default();
    for path in paths {
        let is_folder = fs::metadata(path).map_err(|error| Failure::io("cannot read", path, &error))?.is_dir();
        let parts = (0..).zip(&completion.parts).map(|(partition, part)| (part_name(partition), part));
        if is_folder {
            let parts: Vec<_> = parts.collect();
            let names = parts.iter().map(|(name, _)| name.clone()).collect();
            found.strays(path, &names, &all_files(path, false)?);
            files.extend(parts.into_iter().map(|(name, part)| (path.join(name), &part.manifest)));
        } else {
            let name = path.file_name().unwrap_or_default();
            let part = parts.into_iter().find(|(part, _)| name == part.as_str());
            let part = part.ok_or_else(|| {
                Failure::usage(format!("{} is no part of the output", path.display()))
                    .hint("parts keep the names that they have in the cluster: part-r-00000 and so on")
            })?;
            files.push((path.clone(), &part.1.manifest));
        }
    }
    let bytes = files.iter().map(|(_, manifest)| manifest.length()).sum();
    let transfer = Transfer::new("comparing", bytes);
    for (path, manifest) in &files {
        found.take(path, difference(path, manifest, &transfer)?);
    }
    found.none("output")?;
    let (all, some) = (completion.parts.len(), count(files.len() as u64, "part"));
    Ok(format!("output: every byte of {some} of {all} is the certified one, {}\n", show_bytes(bytes)))
}

/// Compares the input. There is a path for each input of the job.
pub(super) fn compare_input(completion: &Completion, paths: &[PathBuf]) -> Result<String, Failure> {
    let inputs = &completion.specification.inputs;
    if inputs.len() != paths.len() {
        let names: Vec<_> = inputs.iter().map(|input| plain(input.as_str())).collect();
        return Err(Failure::usage(format!(
            "the job has {}, and --input names {}",
            count(inputs.len() as u64, "input"),
            paths.len()
        ))
        .hint(format!("in this order: {}", names.join(", "))));
    }
    let mut found = Findings::default();
    let (mut bytes, mut files) = (0, 0);
    for (input, local) in inputs.iter().zip(paths) {
        let certified = completion.inputs.iter().filter_map(|(path, digest)| Some((below(path, input)?, *digest)));
        let certified: Vec<(&str, Digest)> = certified.collect();
        let is_folder = fs::metadata(local).map_err(|error| Failure::io("cannot read", local, &error))?.is_dir();
        if is_folder {
            let names = certified.iter().map(|(name, _)| (*name).to_owned()).collect();
            found.strays(local, &names, &all_files(local, true)?);
        }
        for (name, digest) in certified {
            let path = if name.is_empty() { local.clone() } else { local.join(name) };
            let Some(manifest) = manifest_of(&path)? else {
                found.take(&path, Some("is missing".to_owned()));
                continue;
            };
            (bytes, files) = (bytes + manifest.length(), files + 1);
            let differs = "differs, or was stored in chunks of another length than `quorate fs put` makes";
            found.take(&path, (manifest.digest() != digest).then(|| differs.to_owned()));
        }
    }
    found.none("input")?;
    Ok(format!("input: every byte of {} is the certified one, {}\n", count(files, "file"), show_bytes(bytes)))
}

/// What is not as it was certified.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn take(&mut self, path: &Path, finding: Option<String>) {
        self.0.extend(finding.map(|what| format!("{} {what}", path.display())));
    }

    /// Files that are there and not certified.
    fn strays(&mut self, folder: &Path, certified: &BTreeSet<String>, there: &BTreeSet<PathBuf>) {
        let is_certified = |path: &PathBuf| path.to_str().is_some_and(|path| certified.contains(path));
        for stray in there.iter().filter(|path| !is_certified(path)) {
            self.take(&folder.join(stray), Some("is there, and no such file is certified".to_owned()));
        }
    }

    fn none(self, what: &str) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let more = self.0.len().saturating_sub(TOLD_MAX);
        let mut lines: Vec<String> = self.0.into_iter().take(TOLD_MAX).map(|line| printable(&line)).collect();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Err(refused(format!("this is not the certified {what}:\n  {}", lines.join("\n  "))))
    }
}

/// All files below a folder, by their paths in it. `as_put` leaves out what `quorate fs put` does: names that begin with a dot.
fn all_files(folder: &Path, as_put: bool) -> Result<BTreeSet<PathBuf>, Failure> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![PathBuf::new()]);
    while let Some(inside) = folders.pop() {
        let path = folder.join(&inside);
        let unreadable = |error: io::Error| Failure::io("cannot read", &path, &error);
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if as_put && name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let place = inside.join(&name);
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(place);
            } else {
                files.insert(place);
            }
        }
    }
    Ok(files)
}

/// Opens a file; none when it is not there.
fn open(path: &Path) -> Result<Option<File>, Failure> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("cannot read", path, &error)),
    }
}

/// Reads so many bytes of a file into the buffer, or as many as it has.
fn next(file: &mut File, path: &Path, length: u64, chunk: &mut Vec<u8>) -> Result<(), Failure> {
    chunk.clear();
    file.take(length).read_to_end(chunk).map_err(|error| Failure::io("cannot read", path, &error)).map(drop)
}

/// Where a file first differs from what was certified.
fn difference(path: &Path, manifest: &Manifest, transfer: &Transfer) -> Result<Option<String>, Failure> {
    let Some(mut file) = open(path)? else { return Ok(Some("is missing".to_owned())) };
    let (mut at, mut chunk, all) = (0u64, Vec::new(), manifest.length());
    for (id, length) in &manifest.chunks {
        let length = u64::from(*length);
        next(&mut file, path, length, &mut chunk)?;
        if (chunk.len() as u64) < length {
            return Ok(Some(format!("has {} bytes, and {all} are certified", at + chunk.len() as u64)));
        }
        if ChunkId(Digest::of(&chunk)) != *id {
            return Ok(Some(format!("differs between its bytes {at} and {}", at + length - 1)));
        }
        at += length;
        transfer.advance(length);
    }
    next(&mut file, path, 1, &mut chunk)?;
    Ok((!chunk.is_empty()).then(|| format!("has more than the {all} bytes that are certified")))
}

/// A file's manifest as `quorate fs put` makes it; none when the file is not there.
fn manifest_of(path: &Path) -> Result<Option<Manifest>, Failure> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let length = file.metadata().map_err(|error| Failure::io("cannot read", path, &error))?.len();
    let size = chunk_bytes(length, CHUNK_BYTES_DEFAULT);
    let (mut chunks, mut chunk) = (Vec::new(), Vec::new());
    loop {
        next(&mut file, path, size, &mut chunk)?;
        if chunk.is_empty() {
            return Ok(Some(Manifest { chunks }));
        }
        chunks.push((ChunkId(Digest::of(&chunk)), chunk.len() as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(bytes: &[u8], length: usize) -> Manifest {
        let chunk = |chunk: &[u8]| (ChunkId(Digest::of(chunk)), chunk.len() as u32);
        Manifest { chunks: bytes.chunks(length).map(chunk).collect() }
    }

    #[test]
    fn the_first_chunk_that_differs_is_named_and_so_are_other_lengths() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("part");
        let certified = manifest(b"0123456789", 4);
        let said = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            difference(&path, &certified, &Transfer::new("comparing", 10)).expect("readable")
        };
        assert_eq!(said(b"0123456789"), None);
        assert_eq!(said(b"0123x56789").as_deref(), Some("differs between its bytes 4 and 7"));
        assert_eq!(said(b"012345678x").as_deref(), Some("differs between its bytes 8 and 9"));
        assert_eq!(said(b"012345678").as_deref(), Some("has 9 bytes, and 10 are certified"));
        assert_eq!(said(b"01234567890").as_deref(), Some("has more than the 10 bytes that are certified"));
        fs::remove_file(&path).expect("removed");
        let missing = difference(&path, &certified, &Transfer::new("comparing", 10)).expect("readable");
        assert_eq!(missing.as_deref(), Some("is missing"));
        assert_eq!(
            difference(folder.path(), &certified, &Transfer::new("comparing", 10)).expect_err("a folder").code,
            quorate::exit::Code::PathTrouble
        );
    }

    #[test]
    fn a_file_is_cut_as_it_is_when_it_is_stored() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("input");
        let bytes = vec![7; CHUNK_BYTES_DEFAULT as usize + 1];
        fs::write(&path, &bytes).expect("written");
        assert_eq!(manifest_of(&path).expect("readable"), Some(manifest(&bytes, CHUNK_BYTES_DEFAULT as usize)));
        fs::write(&path, b"").expect("written");
        assert_eq!(manifest_of(&path).expect("readable"), Some(Manifest::default()));
    }
}
