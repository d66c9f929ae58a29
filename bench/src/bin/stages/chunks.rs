//! Chunk write and read: a tracker's own chunks, in a local folder. A written chunk is digested to check its name, and a
//! read one to check that it is still what it was.

use crate::{
    material::Material,
    stage::{Stage, Work},
};
use bytes::Bytes;
use quorate::{Error, Result};
use quorate_dfs::ChunkStore;
use quorate_protocol::{
    digest::{ChunkId, Digest},
    limits,
};
use std::{path::Path, sync::Arc};
use tokio::runtime::Runtime;

/// An input cut into chunks, with their names.
pub(crate) fn cut(material: &Material) -> Vec<(ChunkId, Bytes)> {
    let chunks = material.bytes.chunks(limits::CHUNK_BYTES_DEFAULT as usize);
    chunks.map(|chunk| (ChunkId(Digest::of(chunk)), Bytes::copy_from_slice(chunk))).collect()
}

/// All bytes of chunks, as work.
pub(crate) fn work(chunks: &[(ChunkId, Bytes)]) -> Work {
    Work { bytes: chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum(), records: None }
}

struct Local {
    runtime: Runtime,
    store: ChunkStore,
    chunks: Vec<(ChunkId, Bytes)>,
}

impl Local {
    fn open(material: &Material, folder: &Path) -> Result<Self> {
        let runtime = Runtime::new()?;
        let store = runtime.block_on(ChunkStore::local(folder))?;
        Ok(Self { runtime, store, chunks: cut(material) })
    }

    fn write(&self) -> Result<Work> {
        self.runtime.block_on(async {
            for (chunk, bytes) in &self.chunks {
                self.store.put(*chunk, bytes.clone()).await?;
            }
            Ok(work(&self.chunks))
        })
    }

    fn read(&self) -> Result<Work> {
        self.runtime.block_on(async {
            let mut bytes = 0;
            for (chunk, _) in &self.chunks {
                let read = self.store.get(*chunk).await?.ok_or_else(|| Error::new("a chunk is gone"))?;
                bytes += read.len() as u64;
            }
            Ok(Work { bytes, records: None })
        })
    }
}

/// Writing chunks.
pub(crate) struct Write(Local);

impl Write {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self(Local::open(material, folder)?)))
    }
}

impl Stage for Write {
    fn run(&mut self) -> Result<Work> {
        self.0.write()
    }
}

/// Reading chunks.
pub(crate) struct Read(Local);

impl Read {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let local = Local::open(material, folder)?;
        local.write()?;
        Ok(Box::new(Self(local)))
    }
}

impl Stage for Read {
    fn run(&mut self) -> Result<Work> {
        self.0.read()
    }
}
