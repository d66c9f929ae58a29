//! Emit: a mapper's pairs into a sorter that has room for all of them. Nothing is sorted yet.

use crate::{
    material::Material,
    stage::{Stage, Work},
};
use quorate::Result;
use quorate_engine::collect::SortCollector;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The collector without a combiner, up to its sort.
pub(crate) struct Emit {
    material: Arc<Material>,
    folder: PathBuf,
}

impl Emit {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self { material: Arc::clone(material), folder: folder.to_owned() }))
    }
}

impl Stage for Emit {
    fn run(&mut self) -> Result<Work> {
        let material = &*self.material;
        let mut sorter = SortCollector::new(&self.folder, material.partitioner(), material.ample());
        let records = material.emit(0..material.pairs(), &mut sorter)?;
        Ok(Work { bytes: material.bytes.len() as u64, records: Some(records) })
    }
}
