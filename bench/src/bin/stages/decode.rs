//! Split and decode: an input file's chunks become lines, or records of a fixed length.

use crate::{
    material::{InputFile, Kind, Material},
    stage::{Stage, Work},
};
use quorate::Result;
use quorate_engine::{
    input::{FixedReader, LineReader},
    program::{MapTask, Watch},
};
use std::{hint::black_box, path::Path, sync::Arc};

/// The readers of the engine.
pub(crate) struct Decode {
    kind: Kind,
    bytes: u64,
    task: MapTask,
    file: InputFile,
}

impl Decode {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let (bytes, task, file) = (material.bytes.len() as u64, material.task(), material.store(folder)?);
        Ok(Box::new(Self { kind: material.kind, bytes, task, file }))
    }

    fn lines(&mut self) -> Result<u64> {
        let (watch, mut lines) = (Watch::default(), 0);
        let mut reader = LineReader::open(&self.task, &mut self.file, &watch)?;
        while let Some(line) = reader.next_line()? {
            black_box(line);
            lines += 1;
        }
        Ok(lines)
    }

    fn records(&mut self) -> Result<u64> {
        let (watch, mut records) = (Watch::default(), 0);
        let length = crate::terasort::generate::RECORD as u32;
        let mut reader = FixedReader::open(&self.task, length, &mut self.file, &watch)?;
        while let Some(record) = reader.next_record()? {
            black_box(record);
            records += 1;
        }
        Ok(records)
    }
}

impl Stage for Decode {
    fn run(&mut self) -> Result<Work> {
        let records = match self.kind {
            Kind::Words => self.lines()?,
            Kind::Records => self.records()?,
        };
        Ok(Work { bytes: self.bytes, records: Some(records) })
    }
}
