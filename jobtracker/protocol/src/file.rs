//! Files as the namespace knows them: a manifest of chunks, and where the copies are.

use crate::{
    canonical,
    digest::{ChunkId, Digest},
    ids::TrackerId,
    limits,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A file's ordered list of chunks. It is named by the digest of its canonical bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Every chunk with its length in bytes, in the file's order.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl Manifest {
    /// The file's length in bytes.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|(_, length)| u64::from(*length)).sum()
    }
    /// The manifest's name.
    pub fn digest(&self) -> Digest {
        canonical::digest(self)
    }
    /// Checks the bounds that a peer's manifest must keep.
    ///
    /// # Errors
    /// A sentence that says which bound is broken.
    pub fn check(&self) -> Result<(), String> {
        if self.chunks.len() > limits::FILE_CHUNKS_MAX {
            return Err(format!("a file has at most {} chunks; use larger ones", limits::FILE_CHUNKS_MAX));
        }
        match self.chunks.iter().find(|(_, n)| *n == 0 || u64::from(*n) > limits::CHUNK_BYTES_MAX) {
            Some((chunk, n)) => Err(format!("chunk {} is {n} bytes long", chunk.0.short())),
            None => Ok(()),
        }
    }
}

/// How long the chunks are that a file of so many bytes is cut into: `least`, unless that were too many.
pub const fn chunk_bytes(length: u64, least: u64) -> u64 {
    let needed = length.div_ceil(limits::FILE_CHUNKS_MAX as u64);
    let wanted = if needed > least { needed } else { least };
    if wanted > limits::CHUNK_BYTES_MAX { limits::CHUNK_BYTES_MAX } else { wanted }
}

/// A run of consecutive chunks with their copies on the same chunk servers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// How many chunks, from where the run before ended.
    pub chunks: u32,
    /// The trackers whose chunk servers hold them.
    pub servers: Vec<TrackerId>,
}

/// A file: what it is and where it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct File {
    /// Its chunks.
    pub manifest: Manifest,
    /// Where they are; the runs cover the manifest exactly.
    pub placements: Vec<Placement>,
}

impl File {
    /// The servers of one chunk, none when the placements do not reach it.
    pub fn servers(&self, chunk: usize) -> &[TrackerId] {
        let mut first = 0usize;
        for run in &self.placements {
            let end = first.saturating_add(run.chunks as usize);
            if chunk < end {
                return &run.servers;
            }
            first = end;
        }
        &[]
    }

    /// Checks the bounds that a peer's file must keep.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.manifest.check()?;
        let covered: u64 = self.placements.iter().map(|run| u64::from(run.chunks)).sum();
        if covered != self.manifest.chunks.len() as u64 {
            return Err(format!("the placements cover {covered} of {} chunks", self.manifest.chunks.len()));
        }
        if self.placements.iter().any(|run| run.servers.is_empty() || run.servers.len() > 64 || run.chunks == 0) {
            return Err("a run of chunks has between 1 and 64 servers".to_owned());
        }
        Ok(())
    }
}

/// An absolute path in the namespace: `/`-separated, without empty, `.` or `..` parts, without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Path(String);

impl Path {
    /// Checks and normalises a path: a missing first slash is added, a last one dropped.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_prefix('/').unwrap_or(text);
        let body = body.strip_suffix('/').unwrap_or(body);
        if text.len() > limits::PATH_BYTES_MAX {
            return Err(format!("a path is at most {} bytes long", limits::PATH_BYTES_MAX));
        }
        if body.is_empty() {
            return Ok(Self("/".to_owned()));
        }
        if body.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(format!("the path {text:?} has an empty, '.' or '..' part"));
        }
        if body.chars().any(char::is_control) {
            return Err(format!("the path {text:?} has a control character"));
        }
        Ok(Self(format!("/{body}")))
    }
    /// Whether it is one that [`Path::parse`] made: a peer's may not be.
    pub fn is_valid(&self) -> bool {
        Self::parse(&self.0).is_ok_and(|path| path == *self)
    }
    /// The path as text; `/` is the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The path of something in this folder. `name` must be a valid part.
    ///
    /// # Errors
    /// As [`Path::parse`].
    pub fn join(&self, name: &str) -> Result<Self, String> {
        Self::parse(&format!("{}/{name}", self.0.trim_end_matches('/')))
    }
    /// The last part, empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }
    /// Whether this is `folder` or lies below it.
    pub fn is_within(&self, folder: &Path) -> bool {
        folder.0 == "/" || self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path orders as its text, so that a folder's files are one range of an ordered map.
impl std::borrow::Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The servers' part of storing a chunk: who may put what where. Signed by a client of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PutPermit {
    /// The cluster.
    pub cluster: Digest,
    /// The chunk server.
    pub server: TrackerId,
    /// Whose key signed it.
    pub by: crate::sign::PublicKey,
    /// The chunk.
    pub chunk: ChunkId,
    /// Its length in bytes.
    pub length: u32,
}

impl crate::sign::Statement for PutPermit {
    const CONTEXT: &'static str = "quorate 2026 put permit v1";
    const BYTES_MAX: usize = 512;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (text, path) in [("/", "/"), ("", "/"), ("a", "/a"), ("/a/b/", "/a/b"), ("/ä b", "/ä b")] {
            assert_eq!(Path::parse(text).map(|p| p.to_string()), Ok(path.to_owned()));
        }
        for wrong in ["///", "/a//b", "/../a", "/a/./b", "/a\nb", &"x".repeat(limits::PATH_BYTES_MAX + 1)] {
            assert!(Path::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(!Path("a/b".to_owned()).is_valid());
        assert!(Path::parse(&"x".repeat(limits::PATH_BYTES_MAX)).is_ok());
    }

    #[test]
    fn within_respects_whole_parts() {
        let p = |text: &str| Path::parse(text).expect(text);
        assert!(p("/a/b").is_within(&p("/a")));
        assert!(p("/a").is_within(&p("/a")));
        assert!(p("/a").is_within(&p("/")));
        assert!(!p("/ab").is_within(&p("/a")));
    }

    #[test]
    fn placements_must_cover_the_chunks() {
        let chunk = |n: u8| (ChunkId(Digest::from_bytes([n; 32])), 4);
        let run = |chunks, server| Placement { chunks, servers: vec![TrackerId::new(server)] };
        let manifest = Manifest { chunks: vec![chunk(1), chunk(2), chunk(3)] };
        let file = File { manifest: manifest.clone(), placements: vec![run(2, 0), run(1, 1)] };
        assert_eq!(file.check(), Ok(()));
        assert_eq!(file.servers(1), [TrackerId::new(0)]);
        assert_eq!(file.servers(2), [TrackerId::new(1)]);
        assert!(file.servers(3).is_empty());
        assert!(File { manifest, placements: vec![run(2, 0)] }.check().is_err());
    }
}
