//! Spill: emit and sort with less memory than the pairs take. Sorted runs are written, and merged at the end.

use crate::{
    material::Material,
    stage::{Stage, Work},
};
use quorate::{Error, Result};
use quorate_engine::{collect::SortCollector, program::Watch};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The collector without a combiner, from the first pair to the data file.
pub(crate) struct Spill {
    material: Arc<Material>,
    folder: PathBuf,
}

impl Spill {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self { material: Arc::clone(material), folder: folder.to_owned() }))
    }
}

impl Stage for Spill {
    fn run(&mut self) -> Result<Work> {
        let material = &*self.material;
        let scarce = material.bytes.len() as u64 / 2;
        let mut sorter = SortCollector::new(&self.folder, material.partitioner(), scarce);
        material.emit(0..material.pairs(), &mut sorter)?;
        let sorted = sorter.finish(&Watch::default())?;
        if sorted.spills < 2 {
            return Err(Error::new(format!("{} spills are no test of spilling", sorted.spills)));
        }
        let records = sorted.spans.iter().map(|span| span.records).sum();
        Ok(Work { bytes: material.bytes.len() as u64, records: Some(records) })
    }
}
