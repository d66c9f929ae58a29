//! Sort: what was emitted becomes a data file with a sorted segment for each partition, all of it in memory until then.

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

/// The end of the collector without a combiner.
pub(crate) struct Sort {
    material: Arc<Material>,
    folder: PathBuf,
    filled: Option<SortCollector>,
}

impl Sort {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self { material: Arc::clone(material), folder: folder.to_owned(), filled: None }))
    }
}

impl Stage for Sort {
    fn prepare(&mut self) -> Result<()> {
        let material = &*self.material;
        // The one before goes first: two would take twice the memory.
        self.filled = None;
        let mut sorter = SortCollector::new(&self.folder, material.partitioner(), material.ample());
        material.emit(0..material.pairs(), &mut sorter)?;
        self.filled = Some(sorter);
        Ok(())
    }

    fn run(&mut self) -> Result<Work> {
        let sorter = self.filled.take().ok_or_else(|| Error::new("there is nothing to sort"))?;
        let sorted = sorter.finish(&Watch::default())?;
        if sorted.spills > 0 {
            return Err(Error::new("the sorter spilled, and that is another stage"));
        }
        let records = sorted.spans.iter().map(|span| span.records).sum();
        Ok(Work { bytes: self.material.bytes.len() as u64, records: Some(records) })
    }
}
