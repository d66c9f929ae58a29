//! Combine: lines in memory are cut into words by the mapper of word count, and these counted in the combining table; the
//! counts are written to a data file. Cutting is a part of it, since a table may ask for several words at a time.

use crate::{
    material::Material,
    stage::{Stage, Work},
    wordcount::Words,
};
use quorate::{Error, Mapper, Result};
use quorate_engine::{
    collect::CombineCollector,
    emitter::{Collect, Emitter},
    program::Watch,
};
use quorate_protocol::vote::Counters;
use std::{
    hint::black_box,
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
        let mut counters = Counters::new();
        let collector: &mut dyn Collect<u64> = &mut table;
        let mut out: Emitter<'_, [u8], u64> = Emitter::new(black_box(collector), &mut counters);
        material.blocks().try_for_each(|lines| Words.map(lines, &mut out))?;
        let records = out.records();
        let counts: u64 = table.finish(&Watch::default())?.spans.iter().map(|span| span.records).sum();
        if counts == 0 || counts >= records {
            return Err(Error::new(format!("{records} words gave {counts} counts")));
        }
        Ok(Work { bytes: material.bytes.len() as u64, records: Some(records) })
    }
}
