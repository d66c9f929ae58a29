//! Combine: words are counted in the combining table, and the counts written to a data file.

use crate::{
    material::Material,
    stage::{Stage, Work},
};
use quorate::{Error, Result};
use quorate_engine::{collect::CombineCollector, program::Watch};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The collector with a combiner.
pub(crate) struct Combine {
    material: Arc<Material>,
    folder: PathBuf,
}

impl Combine {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self { material: Arc::clone(material), folder: folder.to_owned() }))
    }
}

impl Stage for Combine {
    fn run(&mut self) -> Result<Work> {
        let material = &*self.material;
        let add = |sum: &mut u64, count: &u64| *sum += *count;
        let mut table = CombineCollector::new(&self.folder, material.partitioner(), material.ample(), add);
        let records = material.emit_words(0..material.pairs(), &mut table)?;
        let counts: u64 = table.finish(&Watch::default())?.spans.iter().map(|span| span.records).sum();
        if counts == 0 || counts >= records {
            return Err(Error::new(format!("{records} words gave {counts} counts")));
        }
        Ok(Work { bytes: material.bytes.len() as u64, records: Some(records) })
    }
}
