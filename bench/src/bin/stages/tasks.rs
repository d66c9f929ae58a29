//! Whole tasks, as a tracker runs them, with the jobs of the examples: word count with its combiner, and terasort. Beside
//! them mapping alone: the same mappers on the same input, and nobody who takes what they emit.

use crate::{
    material::{InputFile, Kind, Material},
    outputs::Segments,
    stage::{Stage, Work},
    terasort, wordcount,
};
use quorate::{App, Error, Input, Mapper, NoArgs, Result};
use quorate_engine::{
    emitter::{Collect, Emitter},
    program::{MapTask, Program, ReduceTask, TaskError, Watch},
};
use quorate_protocol::{ids, vote::Counters};
use std::{
    hint::black_box,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The jobs of the examples, under the names of the inputs.
pub(crate) fn program() -> Arc<dyn Program> {
    App::named("stages")
        .job(Kind::Words.name(), |_: &NoArgs| wordcount::job())
        .job(Kind::Records.name(), |_: &NoArgs| terasort::job())
        .into_program()
}

/// Split, decode and map.
pub(crate) struct Mapping {
    kind: Kind,
    bytes: u64,
    task: MapTask,
    file: InputFile,
}

impl Mapping {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let (bytes, task, file) = (material.bytes.len() as u64, material.task(), material.store(folder)?);
        Ok(Box::new(Self { kind: material.kind, bytes, task, file }))
    }

    fn map_all<M: Mapper>(&mut self, mut mapper: M, collector: &mut dyn Collect<M::Value>) -> Result<u64> {
        let (watch, mut counters) = (Watch::default(), Counters::new());
        let mut out = Emitter::<M::Key, M::Value>::new(black_box(collector), &mut counters);
        M::Input::read(&self.task, &mut self.file, &watch, |record| mapper.map(record, &mut out))?;
        mapper.finish(&mut out)?;
        Ok(out.records())
    }
}

/// Takes everything, and keeps nothing.
struct Nothing;

impl<V: ?Sized> Collect<V> for Nothing {
    #[inline]
    fn collect(&mut self, key: &[u8], value: &V) -> Result<(), TaskError> {
        black_box((key, value));
        Ok(())
    }
}

impl Stage for Mapping {
    fn run(&mut self) -> Result<Work> {
        let records = match self.kind {
            Kind::Words => self.map_all(wordcount::Words, &mut Nothing)?,
            Kind::Records => self.map_all(terasort::Records, &mut Nothing)?,
        };
        Ok(Work { bytes: self.bytes, records: Some(records) })
    }
}

/// A whole map task, from the input's chunks to the data file.
pub(crate) struct MapTasks {
    program: Arc<dyn Program>,
    task: MapTask,
    file: InputFile,
    folder: PathBuf,
    kind: Kind,
    work: Work,
}

impl MapTasks {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let work = Work { bytes: material.bytes.len() as u64, records: Some(material.pairs() as u64) };
        let (task, file) = (material.task(), material.store(folder)?);
        Ok(Box::new(Self { program: program(), task, file, folder: folder.to_owned(), kind: material.kind, work }))
    }
}

impl Stage for MapTasks {
    fn run(&mut self) -> Result<Work> {
        let product = self.program.map(&self.task, &mut self.file, &self.folder, &Watch::default())?;
        let kept = product.spans.iter().map(|span| span.records).sum();
        match self.kind {
            // Combined: how many are left is the text's affair.
            Kind::Words if kept > 0 => Ok(self.work),
            Kind::Words => Err(Error::new("the map task gave nothing")),
            Kind::Records => Ok(Work { records: Some(kept), ..self.work }),
        }
    }
}

/// A whole reduce task, from the segments to the bytes of the part file.
pub(crate) struct ReduceTasks {
    program: Arc<dyn Program>,
    task: ReduceTask,
    segments: Segments,
    folder: PathBuf,
    records: u64,
}

impl ReduceTasks {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let task = ReduceTask { context: material.context(ids::Stage::Reduce, 1), partition: 0 };
        let (segments, records) = (Segments::make(material, folder)?, material.pairs() as u64);
        Ok(Box::new(Self { program: program(), task, segments, folder: folder.to_owned(), records }))
    }
}

impl Stage for ReduceTasks {
    fn run(&mut self) -> Result<Work> {
        let mut part = Written(0);
        self.program.reduce(&self.task, &self.segments.files, &mut part, &self.folder, &Watch::default())?;
        if part.0 == 0 {
            return Err(Error::new("the reduce task gave nothing"));
        }
        Ok(Work { bytes: self.segments.bytes, records: Some(self.records) })
    }
}

/// A part file that only counts its bytes.
struct Written(u64);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        black_box(bytes);
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
