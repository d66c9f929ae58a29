//! Map outputs that the stages of the shuffle and the reduce side begin with.

use crate::material::Material;
use quorate::Result;
use quorate_engine::{
    collect::{Collected, SortCollector},
    partition::Partitioner,
    program::{FetchedSegment, LocalBytes, Watch},
};
use quorate_protocol::job::Partitioning;
use std::{fs, ops::Range, path::Path};

/// Map tasks whose segments a reduce task merges.
const MAPS: usize = 16;

/// The output of one map attempt on some of the pairs, in a folder that is made for it. Words are not combined.
pub(crate) fn map_output(
    material: &Material,
    pairs: Range<usize>,
    partitioner: Partitioner,
    folder: &Path,
) -> Result<Collected> {
    fs::create_dir_all(folder)?;
    let mut sorter = SortCollector::new(folder, partitioner, material.ample());
    material.emit(pairs, &mut sorter)?;
    Ok(sorter.finish(&Watch::default())?)
}

/// The segments that a job's only reduce task merges.
pub(crate) struct Segments {
    pub(crate) files: Vec<FetchedSegment>,
    pub(crate) bytes: u64,
}

impl Segments {
    pub(crate) fn make(material: &Material, folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for map in 0..MAPS {
            let pairs = material.pairs() * map / MAPS..material.pairs() * (map + 1) / MAPS;
            let one = Partitioner::new(&Partitioning::Hash, 1);
            let output = map_output(material, pairs, one, &folder.join(format!("map-{map}")))?;
            let local = |span: &quorate_engine::program::Span| LocalBytes {
                path: output.data.clone(),
                offset: span.offset,
                length: span.length,
            };
            files.extend(output.spans.iter().map(|span| FetchedSegment::from(local(span))));
        }
        let bytes = files.iter().map(FetchedSegment::length).sum();
        Ok(Self { files, bytes })
    }
}
