//! The file system.

use super::Position;
use quorate_protocol::{file, query::Entry};
use serde::Serialize;
use utoipa::ToSchema;

/// Chunks of a file that are listed.
const CHUNKS_LISTED_MAX: usize = 256;

/// What files say that trackers hold.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Storage {
    pub(crate) position: Option<Position>,
    pub(crate) files: u64,
    /// Bytes of all files, each counted once.
    pub(crate) bytes: u64,
    pub(crate) trackers: Vec<StorageOfTracker>,
    /// Chunks with one copy on a live tracker.
    pub(crate) few_copies: u64,
    /// Chunks with none.
    pub(crate) lost: u64,
    /// Whether all files were looked at: of very many, only the first are.
    pub(crate) scanned: bool,
}

/// What a tracker holds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StorageOfTracker {
    pub(crate) tracker: u32,
    pub(crate) live: bool,
    /// Copies of chunks.
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
}

/// A folder's entries, or a file.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Files {
    pub(crate) path: String,
    pub(crate) entries: Vec<FileEntry>,
    pub(crate) file: Option<FileDetail>,
}

/// An entry of a folder.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FileEntry {
    pub(crate) path: String,
    pub(crate) folder: bool,
    /// Bytes in the file, or in all files below the folder.
    pub(crate) length: u64,
    /// Files below a folder.
    pub(crate) files: Option<u64>,
    /// Copies of its chunks, the fewest that any of them has.
    pub(crate) copies: u32,
}

impl From<&Entry> for FileEntry {
    fn from(entry: &Entry) -> Self {
        let Entry { path, length, files, copies } = entry;
        let path = path.to_string();
        Self { path, folder: files.is_some(), length: *length, files: *files, copies: *copies }
    }
}

/// A file.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FileDetail {
    pub(crate) length: u64,
    pub(crate) chunks: usize,
    /// The fewest copies that a chunk has.
    pub(crate) copies: usize,
    /// The first chunks.
    pub(crate) first: Vec<Chunk>,
}

/// A chunk and the trackers that hold it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Chunk {
    pub(crate) chunk: String,
    pub(crate) length: u32,
    pub(crate) servers: Vec<u32>,
}

impl From<&file::File> for FileDetail {
    fn from(file: &file::File) -> Self {
        let chunks = &file.manifest.chunks;
        let first = chunks.iter().take(CHUNKS_LISTED_MAX).enumerate().map(|(number, (chunk, length))| Chunk {
            chunk: chunk.to_string(),
            length: *length,
            servers: file.servers(number).iter().map(|server| server.number()).collect(),
        });
        let copies = file.placements.iter().map(|run| run.servers.len()).min().unwrap_or(0);
        Self { length: file.manifest.length(), chunks: chunks.len(), copies, first: first.collect() }
    }
}
