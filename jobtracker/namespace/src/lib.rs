//! The namespace: paths, manifests and the places of chunks, as a pure state machine.
//!
//! Files are kept in one ordered map by path. A folder is implicit: it exists while a file lies below it, and its files
//! are one range of the map. What must hold:
//!
//! * **NS-1** no file lies below another file;
//! * **NS-2** each kept file keeps the bounds of [`File::check`];
//! * **NS-3** a copy (a chunk on a server) is counted once for each time that a file names it, so that it is given up
//!   with the last file that does, and not before. A live job's program counts as a file without a path.

use quorate_protocol::{
    command::Refusal,
    digest::ChunkId,
    file::{File, Path},
    ids::TrackerId,
    limits,
    query::Entry,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
};

/// Copies that no file needs any more, by the server that holds them.
pub type Unneeded = BTreeMap<TrackerId, Vec<ChunkId>>;

/// Paths, the files that they name, and how often each copy of a chunk is named.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Namespace {
    files: BTreeMap<Path, File>,
    copies: BTreeMap<(ChunkId, TrackerId), u64>,
}

impl Namespace {
    /// An empty namespace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes files, all of them or none.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a file or path that breaks a bound, [`Refusal::Exists`] for a path that is taken, lies
    /// below a file, or is a folder; also when two of the new files collide with each other.
    pub fn create(&mut self, files: Vec<(Path, File)>) -> Result<(), Refusal> {
        if files.len() > limits::FILES_PER_COMMAND_MAX {
            return Err(Refusal::Invalid(format!("one command makes at most {} files", limits::FILES_PER_COMMAND_MAX)));
        }
        for (path, file) in &files {
            if !path.is_valid() {
                return Err(Refusal::Invalid(format!("{:?} is no path", path.as_str())));
            }
            file.check().map_err(|what| Refusal::Invalid(format!("{path}: {what}")))?;
            self.refuse_taken(path)?;
        }
        refuse_collisions(&files)?;
        for (path, file) in files {
            self.hold(&file);
            self.files.insert(path, file);
        }
        Ok(())
    }

    /// Removes a file, or (when `recursive`) a folder with everything below it, and returns the copies that no file
    /// needs any more.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::IsFolder`], or [`Refusal::Full`] for a folder of more files than one command
    /// may remove.
    pub fn remove(&mut self, path: &Path, recursive: bool) -> Result<Unneeded, Refusal> {
        let mut unneeded = Unneeded::new();
        if self.files.contains_key(path) {
            self.forget(path, &mut unneeded);
            return Ok(unneeded);
        }
        let below: Vec<Path> =
            self.below(path).take(limits::FILES_PER_COMMAND_MAX + 1).map(|(path, _)| path.clone()).collect();
        if below.is_empty() {
            return Err(Refusal::NotFound(path.to_string()));
        }
        if !recursive {
            return Err(Refusal::IsFolder(path.to_string()));
        }
        if below.len() > limits::FILES_PER_COMMAND_MAX {
            return Err(Refusal::Full(format!(
                "one command removes at most {} files, and {path} has more: remove the folders in it first",
                limits::FILES_PER_COMMAND_MAX
            )));
        }
        for path in &below {
            self.forget(path, &mut unneeded);
        }
        Ok(unneeded)
    }

    /// Counts the copies of a file that has no path.
    pub fn hold(&mut self, file: &File) {
        for copy in copies_of(file) {
            *self.copies.entry(copy).or_default() += 1;
        }
    }

    /// Ends a [`Namespace::hold`]. What nothing needs any more is left to its servers, who ask
    /// [`Namespace::unreferenced`]: the next job may come with the same program.
    ///
    /// # Panics
    /// When the file is not held.
    pub fn release(&mut self, file: &File) {
        for copy in copies_of(file) {
            self.give_up(copy);
        }
    }

    /// Which of these chunks no file has on this server.
    pub fn unreferenced(&self, server: TrackerId, chunks: &[ChunkId]) -> Vec<ChunkId> {
        chunks.iter().filter(|chunk| !self.copies.contains_key(&(**chunk, server))).copied().collect()
    }

    /// The file of this path.
    pub fn file(&self, path: &Path) -> Option<&File> {
        self.files.get(path)
    }

    /// The file of this path, or all files below this folder in the order of their paths. Empty when there is neither.
    pub fn files<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Path, &'a File)> {
        self.files.get_key_value(path).into_iter().chain(self.below(path))
    }

    /// What is directly in this folder, in the order of the names; a file's own entry for a file.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]. The root always exists.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>, Refusal> {
        if let Some(file) = self.files.get(path) {
            return Ok(vec![file_entry(path, file)]);
        }
        let mut entries: Vec<Entry> = Vec::new();
        for (below, file) in self.below(path) {
            let child = child_of(path, below);
            if child == *below {
                entries.push(file_entry(below, file));
                continue;
            }
            // A folder's files follow each other, so it is the last entry or a new one.
            match entries.last_mut() {
                Some(folder) if folder.path == child => add_to_folder(folder, file),
                _ => {
                    let mut folder = Entry { path: child, length: 0, files: Some(0), copies: 0 };
                    add_to_folder(&mut folder, file);
                    entries.push(folder);
                }
            }
        }
        if entries.is_empty() && path.as_str() != "/" {
            return Err(Refusal::NotFound(path.to_string()));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Whether this is a file or a folder. The root always exists.
    pub fn exists(&self, path: &Path) -> bool {
        path.as_str() == "/" || self.files.contains_key(path) || self.below(path).next().is_some()
    }

    /// Files strictly below a folder: those whose text starts with the folder's and a slash, which is one range, since
    /// `0` is the character after `/`.
    fn below(&self, folder: &Path) -> impl Iterator<Item = (&Path, &File)> {
        let prefix = folder.as_str().trim_end_matches('/');
        let (first, end) = (format!("{prefix}/"), format!("{prefix}0"));
        self.files.range::<str, _>((Included(first.as_str()), Excluded(end.as_str())))
    }

    fn refuse_taken(&self, path: &Path) -> Result<(), Refusal> {
        if self.exists(path) {
            return Err(Refusal::Exists(path.to_string()));
        }
        match ancestors(path.as_str()).find(|ancestor| self.files.contains_key(*ancestor)) {
            Some(file) => Err(Refusal::Exists(format!("{file}, a file in the way of {path},"))),
            None => Ok(()),
        }
    }

    fn forget(&mut self, path: &Path, unneeded: &mut Unneeded) {
        let Some(file) = self.files.remove(path) else { return };
        for copy in copies_of(&file) {
            if self.give_up(copy) {
                unneeded.entry(copy.1).or_default().push(copy.0);
            }
        }
    }

    /// Counts a copy once less; whether nothing needs it any more.
    fn give_up(&mut self, copy: (ChunkId, TrackerId)) -> bool {
        let count = self.copies.get_mut(&copy).expect("NS-3: a kept file's copies are counted");
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.copies.remove(&copy);
        }
        is_last
    }
}

/// The folders that hold this path, from the top, without the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).map(|(at, _)| &path[..at])
}

/// Refuses new files of which two have one path, or one lies below the other.
fn refuse_collisions(files: &[(Path, File)]) -> Result<(), Refusal> {
    let mut paths = std::collections::BTreeSet::new();
    for (path, _) in files {
        if !paths.insert(path.as_str()) {
            return Err(Refusal::Exists(path.to_string()));
        }
    }
    match paths.iter().find(|path| ancestors(path).any(|ancestor| paths.contains(ancestor))) {
        Some(path) => Err(Refusal::Exists(format!("a file in the way of {path}"))),
        None => Ok(()),
    }
}

/// Every copy that a file names, as often as it names it.
fn copies_of(file: &File) -> impl Iterator<Item = (ChunkId, TrackerId)> {
    let servers = file.placements.iter().flat_map(|run| std::iter::repeat_n(&run.servers, run.chunks as usize));
    file.manifest.chunks.iter().zip(servers).flat_map(|((chunk, _), servers)| servers.iter().map(|s| (*chunk, *s)))
}

/// The direct child of a folder on the way to something below it.
fn child_of(folder: &Path, below: &Path) -> Path {
    let prefix = folder.as_str().trim_end_matches('/').len() + 1;
    let name = below.as_str()[prefix..].split('/').next().unwrap_or("");
    folder.join(name).unwrap_or_else(|_| below.clone())
}

fn file_entry(path: &Path, file: &File) -> Entry {
    let copies = file.placements.iter().map(|run| run.servers.len()).min().unwrap_or(0);
    Entry { path: path.clone(), length: file.manifest.length(), files: None, copies: copies as u32 }
}

/// Adds a file below to a folder's entry. An empty file has no chunk that could have few copies.
fn add_to_folder(folder: &mut Entry, file: &File) {
    let copies = file.placements.iter().map(|run| run.servers.len() as u32).min();
    folder.copies = match (folder.copies, copies) {
        (0, copies) => copies.unwrap_or(0),
        (folder, copies) => copies.unwrap_or(folder).min(folder),
    };
    folder.length = folder.length.saturating_add(file.manifest.length());
    folder.files = folder.files.map(|n| n + 1);
}

#[cfg(test)]
mod tests;
