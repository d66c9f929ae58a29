//! Digest: the segments of a map attempt's data file, as the tracker digests them before it votes.

use crate::{
    material::Material,
    outputs::map_output,
    stage::{Stage, Work},
};
use quorate::Result;
use quorate_engine::{collect::Collected, digest::digest_spans};
use std::{hint::black_box, path::Path, sync::Arc};

/// The digests of one map output.
pub(crate) struct Digests(Collected);

impl Digests {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self(map_output(material, 0..material.pairs(), material.partitioner(), folder)?)))
    }
}

impl Stage for Digests {
    fn run(&mut self) -> Result<Work> {
        let segments = digest_spans(&self.0.data, &self.0.spans)?;
        let bytes = segments.iter().map(|segment| segment.length).sum();
        black_box(segments);
        Ok(Work { bytes, records: None })
    }
}
