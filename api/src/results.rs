//! A job's output, for the program's own summary of it.

use crate::error::Result;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use quorate_dfs::{ChunkClient, GetError};
use quorate_protocol::{file::File, query::JobView, vote::Counters};
use std::{
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
};
use tokio::runtime::Runtime;

/// Counters of all jobs; of two with one name, the later job's.
pub(crate) fn counters(views: &[JobView]) -> Counters {
    views.iter().flat_map(|view| view.counters.clone()).collect()
}

/// Where the parts are.
pub(crate) enum Parts<'a> {
    /// On this machine.
    Local(Vec<PathBuf>),
    /// In the cluster.
    Cluster(&'a Runtime, &'a ChunkClient, Vec<File>),
}

/// The output of a job that succeeded.
pub struct Results<'a> {
    pub(crate) parts: Parts<'a>,
    pub(crate) counters: Counters,
}

impl Results<'_> {
    /// The job's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Calls `each` with the bytes of one part after the other.
    ///
    /// # Errors
    /// When a part cannot be read, or what `each` gives.
    pub fn each_part(&self, mut each: impl FnMut(&mut dyn BufRead) -> Result<()>) -> Result<()> {
        match &self.parts {
            Parts::Local(paths) => {
                for path in paths {
                    each(&mut BufReader::with_capacity(1 << 20, std::fs::File::open(path)?))?;
                }
            }
            Parts::Cluster(runtime, chunks, files) => {
                for file in files {
                    each(&mut BufReader::with_capacity(1 << 20, FromCluster::new(runtime, chunks.read(file))))?;
                }
            }
        }
        Ok(())
    }

    /// Calls `each` with one line of the output after the other, without their ends. Bytes that are no UTF-8 are shown as
    /// `�`.
    ///
    /// # Errors
    /// As [`Results::each_part`].
    pub fn each_line(&self, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut line = Vec::new();
        self.each_part(|part| {
            loop {
                line.clear();
                if part.read_until(b'\n', &mut line)? == 0 {
                    return Ok(());
                }
                each(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).as_ref())?;
            }
        })
    }
}

/// A verified stream from chunk servers, for code that waits.
struct FromCluster<'a, S> {
    runtime: &'a Runtime,
    stream: S,
    current: Bytes,
}

impl<'a, S: Stream<Item = Result<Bytes, GetError>> + Unpin> FromCluster<'a, S> {
    fn new(runtime: &'a Runtime, stream: S) -> Self {
        Self { runtime, stream, current: Bytes::new() }
    }
}

impl<S: Stream<Item = Result<Bytes, GetError>> + Unpin> Read for FromCluster<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(block) => self.current = block.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.current.len());
        into[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
