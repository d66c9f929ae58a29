//! Merge: the segments of sixteen map tasks become groups of one key each.

use crate::{
    material::Material,
    outputs::Segments,
    stage::{Stage, Work},
};
use quorate::Result;
use quorate_engine::{groups::Groups, program::Watch};
use std::{
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The reduce side's merge, without a reducer.
pub(crate) struct Merge {
    segments: Segments,
    memory: u64,
    folder: PathBuf,
}

impl Merge {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let segments = Segments::make(material, folder)?;
        Ok(Box::new(Self { segments, memory: material.ample(), folder: folder.to_owned() }))
    }
}

impl Stage for Merge {
    fn run(&mut self) -> Result<Work> {
        let (watch, mut records) = (Watch::default(), 0);
        let mut groups = Groups::open(&self.segments.files, self.memory, &self.folder, &watch)?;
        while let Some(mut group) = groups.next_group()? {
            black_box(group.key);
            while let Some(value) = group.next_value() {
                black_box(value);
                records += 1;
            }
        }
        Ok(Work { bytes: self.segments.bytes, records: Some(records) })
    }
}
