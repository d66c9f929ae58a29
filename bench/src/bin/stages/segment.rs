//! Segment fetch and read: a map attempt's segments from the tracker that has them into files of another one, over a socket
//! of this machine; and the records of a segment in a file.

use crate::{
    material::{Material, attempt},
    outputs::map_output,
    remote::{READER, SERVER, Serving, cluster, server_key},
    stage::{Stage, Work},
};
use quorate::Result;
use quorate_engine::{
    collect::Collected,
    digest::digest_spans,
    record::{FileRange, RecordReader},
};
use quorate_protocol::{
    digest::Digest,
    ids,
    sign::Signed,
    vote::{Ballot, Counters, Segment, Vote, segments_digest},
};
use quorate_tasktracker::{
    Output, Outputs, Peers,
    segments::{Wanted, fetch},
};
use std::{
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of a reader's buffer: the most that a merge gives to one.
const BUFFER_BYTES: usize = 1 << 20;

/// Reading the records of a data file, segment by segment.
pub(crate) struct Read(Collected);

impl Read {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Self(map_output(material, 0..material.pairs(), material.partitioner(), folder)?)))
    }
}

impl Stage for Read {
    fn run(&mut self) -> Result<Work> {
        let (mut bytes, mut records) = (0, 0);
        for span in &self.0.spans {
            let range = FileRange::new(self.0.data.clone(), span.offset, span.length);
            let mut reader = RecordReader::new(range, BUFFER_BYTES);
            reader.begin_span(span.length);
            while reader.advance()? {
                black_box((reader.key(), reader.value()));
                records += 1;
            }
            bytes += span.length;
        }
        Ok(Work { bytes, records: Some(records) })
    }
}

/// Fetching all segments of a map attempt, one after the other, into files.
pub(crate) struct Fetch {
    serving: Serving,
    peers: Peers,
    wanted: Vec<Wanted>,
    file: PathBuf,
}

impl Fetch {
    pub(crate) fn make(material: &Arc<Material>, folder: &Path) -> Result<Box<dyn Stage>> {
        let (vote, segments) = keep_output(material, folder)?;
        let serving = Serving::start(folder)?;
        let peers = Peers::default();
        peers.update(&[serving.view()]);
        let wanted = (0..segments.len() as u32).map(|partition| Wanted {
            server: SERVER,
            attempt: attempt(ids::Stage::Map),
            partition,
            vote: vote.clone(),
            segments: Arc::clone(&segments),
        });
        Ok(Box::new(Self { wanted: wanted.collect(), serving, peers, file: folder.join("fetched") }))
    }
}

/// Leaves a map output with its vote in a tracker's folder, as one does that stopped.
fn keep_output(material: &Material, folder: &Path) -> Result<(Signed<Vote>, Arc<[Segment]>)> {
    let outputs = Outputs::open(folder.join("jobs"), folder.join("logs"))?;
    let attempt = attempt(ids::Stage::Map);
    let made = map_output(material, 0..material.pairs(), material.partitioner(), &outputs.folder(attempt))?;
    let segments: Arc<[Segment]> = digest_spans(&made.data, &made.spans)?.into();
    let vote = Vote {
        cluster: cluster().id(),
        specification: Digest::of(b"stages"),
        f: 0,
        attempt,
        tracker: SERVER,
        ballot: Ballot::Map { segments: segments_digest(&segments), counters: Counters::new() },
    };
    let vote = Signed::seal(&vote, &server_key());
    let (spans, data) = (made.spans, made.data);
    outputs.keep(Output { attempt, vote: vote.clone(), segments: Arc::clone(&segments), spans, data })?;
    Ok((vote, segments))
}

impl Stage for Fetch {
    fn run(&mut self) -> Result<Work> {
        let Self { serving, peers, wanted, file } = self;
        serving.runtime.block_on(async {
            let mut bytes = 0;
            for wanted in wanted {
                let file = File::create(&*file)?;
                fetch(peers, &serving.cluster, READER, wanted, &mut |at, block| file.write_all_at(block, at)).await?;
                bytes += file.metadata()?.len();
            }
            Ok(Work { bytes, records: None })
        })
    }
}
