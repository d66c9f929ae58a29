//! Finds the cuts between the partitions of a sorted job: runs its mapper over a few evenly spaced pieces of the input,
//! here on the client, and cuts the sorted keys into equal parts.
//!
//! The cuts become part of the specification, so it does not matter that another sample would give others.

use crate::{
    connection::Connection,
    exit::{Code, Failure},
    job::{AnyJob, Tasks},
    report,
};
use quorate_engine::{
    program::{InputSource, LocalBytes, MapTask, TaskContext, TaskError, Watch},
    record::records,
};
use quorate_protocol::{
    file::{File, Path as ClusterPath},
    ids::{AttemptId, JobId, Stage, TaskId},
    job::{InputKind, Partitioning, Specification, Split, is_compressed, splits},
};
use std::{fs, io, path::Path, sync::Arc};
use tokio::{runtime::Handle, task::spawn_blocking};

/// Pieces of the input that are read.
const PIECES: usize = 16;
/// Bytes of a piece, where the input can be cut anywhere.
const PIECE_BYTES: u64 = 256 << 10;
/// Pieces where it cannot, so that each is a whole split.
const WHOLE_PIECES: usize = 4;
/// Keys taken from one piece.
const KEYS_PER_PIECE: usize = 8 << 10;

/// The lowest keys of all partitions but the first.
pub(crate) async fn cuts(
    connection: &Connection,
    job: &AnyJob,
    specification: &Specification,
    files: Vec<(ClusterPath, File)>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let pieces = pieces(specification, &files);
    let files = Arc::new(files);
    let mut keys = Vec::new();
    for piece in pieces {
        let (tasks, files) = (Arc::clone(&job.tasks), Arc::clone(&files));
        let (connection, specification) = (connection.clone(), specification.clone());
        let path = files.get(piece.file as usize).map_or(String::new(), |(path, _)| path.to_string());
        let sampled = spawn_blocking(move || keys_of(&*tasks, &connection, &specification, &files, piece)).await;
        let sampled = sampled.map_err(|e| Failure::new(Code::System, "cannot sample the input").caused_by(&e))?;
        keys.extend(sampled.map_err(|error| failure(error, &path, piece))?);
    }
    keys.sort_unstable();
    Ok(quantiles(&keys, specification.partitions))
}

/// Why a piece of a file could not be sampled.
fn failure(error: TaskError, path: &str, piece: Split) -> Failure {
    let code = match &error {
        TaskError::Program { kind, .. } => (*kind).into(),
        TaskError::Cancelled => Code::Interrupted,
        TaskError::Machine { .. } => Code::System,
    };
    let what = match error {
        TaskError::Program { kind, record, message } => {
            // A sample does not begin with the file, so records are counted from where it does.
            let from = if piece.start > 0 { format!(", counted from byte {}", piece.start) } else { String::new() };
            let at = record.map_or(String::new(), |record| format!(" at record {record}{from}"));
            format!("{} in {path}{at}: {message}", report::failure_kind(kind))
        }
        error @ (TaskError::Cancelled | TaskError::Machine { .. }) => error.to_string(),
    };
    Failure::new(code, format!("cannot sample the input: {what}"))
}

/// Evenly spaced pieces of the input, cut down where it can be cut.
fn pieces(specification: &Specification, files: &[(ClusterPath, File)]) -> Vec<Split> {
    let all = splits(specification, files);
    let path = |split: &Split| files.get(split.file as usize).map_or("", |(path, _)| path.as_str());
    let can_cut = |split: &Split| match specification.input_kind {
        InputKind::Lines => !is_compressed(path(split)),
        InputKind::FixedRecords(_) => true,
        InputKind::WholeFiles | InputKind::Parquet => false,
    };
    let wanted = if all.iter().all(can_cut) { PIECES } else { WHOLE_PIECES };
    let picked = wanted.min(all.len());
    let parts = wanted.checked_div(picked).unwrap_or(0) as u64;
    let spread = (0..picked).filter_map(|n| all.get(n * all.len() / picked)).copied();
    spread.flat_map(|split| if can_cut(&split) { cut_into(split, parts) } else { vec![split] }).collect()
}

fn cut_into(split: Split, parts: u64) -> Vec<Split> {
    (0..parts).map(|n| cut(split, n, parts)).collect()
}

/// The beginning of the `n`th of `parts` equal parts of a split.
fn cut(split: Split, n: u64, parts: u64) -> Split {
    let part = (split.end - split.start) / parts;
    let start = split.start + n * part;
    let end = if n + 1 == parts { split.end } else { start + part };
    Split { start, end: end.min(start + PIECE_BYTES), ..split }
}

/// Runs the mapper over one piece.
fn keys_of(
    tasks: &dyn Tasks,
    connection: &Connection,
    specification: &Specification,
    files: &[(ClusterPath, File)],
    piece: Split,
) -> Result<Vec<Vec<u8>>, TaskError> {
    let trouble = |error: io::Error| TaskError::machine("make a temporary folder", error);
    let folder = tempfile::tempdir().map_err(trouble)?;
    let Some((path, file)) = files.get(piece.file as usize) else { return Ok(Vec::new()) };
    let chunk_lengths = file.manifest.chunks.iter().map(|(_, length)| *length).collect();
    let mut source = ClusterSource { connection, file, chunk_lengths, folder: folder.path() };
    let task = TaskId { job: JobId::new(0), stage: Stage::Map, index: 0 };
    let task = MapTask {
        context: TaskContext {
            attempt: AttemptId { task, attempt: 0 },
            entry: specification.entry.clone(),
            arguments: specification.arguments.clone(),
            partitions: 1,
            memory: specification.memory,
        },
        path: path.as_str().to_owned(),
        input_kind: specification.input_kind,
        split: piece,
        partitioning: Partitioning::Hash,
    };
    let product = tasks.map(&task, &mut source, folder.path(), &Watch::default())?;
    let segment = fs::read(&product.data).map_err(|error| TaskError::machine("read the sample", error))?;
    let count = product.spans.iter().map(|span| span.records).sum::<u64>() as usize;
    let step = count.div_ceil(KEYS_PER_PIECE).max(1);
    let keys = records(&segment).step_by(step).map(|record| Ok(record?.0.to_vec()));
    keys.collect::<io::Result<_>>().map_err(|error| TaskError::machine("read the sample", error))
}

/// A file of the cluster, fetched chunk by chunk.
struct ClusterSource<'a> {
    connection: &'a Connection,
    file: &'a File,
    chunk_lengths: Vec<u32>,
    folder: &'a Path,
}

impl InputSource for ClusterSource<'_> {
    fn chunk_lengths(&self) -> &[u32] {
        &self.chunk_lengths
    }

    fn chunk(&mut self, index: usize) -> io::Result<LocalBytes> {
        let chunk = self.file.manifest.chunks.get(index).copied();
        let (chunk, length) = chunk.ok_or_else(|| io::Error::other("the file has no such chunk"))?;
        let path = self.folder.join(format!("chunk-{index}"));
        if !path.exists() {
            let get = self.connection.chunks.get(chunk, length, self.file.servers(index));
            let bytes = Handle::current().block_on(get).map_err(io::Error::other)?;
            fs::write(&path, bytes)?;
        }
        Ok(LocalBytes { path, offset: 0, length: length.into() })
    }
}

/// Cuts sorted keys into `partitions` parts as equal as can be.
pub(crate) fn quantiles(keys: &[Vec<u8>], partitions: u32) -> Vec<Vec<u8>> {
    let at = |n: u32| keys.get((u64::from(n) * keys.len() as u64 / u64::from(partitions)) as usize);
    (1..partitions).map(|n| at(n).cloned().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::vote::FailureKind;

    #[test]
    fn cuts_share_the_keys_equally() {
        let keys: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n]).collect();
        assert_eq!(quantiles(&keys, 4), [vec![25], vec![50], vec![75]]);
        assert_eq!(quantiles(&keys, 1), Vec::<Vec<u8>>::new());
        assert_eq!(quantiles(&[], 3), [Vec::<u8>::new(), Vec::new()]);
        let crowded = vec![vec![7]; 10];
        assert_eq!(quantiles(&crowded, 3), [vec![7], vec![7]]);
    }

    #[test]
    fn what_fails_in_a_sample_is_named_with_file_and_record() {
        let error = |record| TaskError::Program { kind: FailureKind::UserPanic, record, message: "oh no".to_owned() };
        let piece = |start| Split { file: 0, start, end: start + 100 };
        let failed = failure(error(Some(7)), "/input/text", piece(0));
        assert_eq!(failed.code, Code::ProgramPanic);
        assert_eq!(failed.message, "cannot sample the input: the program panicked in /input/text at record 7: oh no");
        let failed = failure(error(Some(7)), "/input/text", piece(500));
        assert!(failed.message.contains("record 7, counted from byte 500: oh no"), "{failed}");
        assert!(failure(error(None), "/input/text", piece(0)).message.contains("in /input/text: oh no"));
    }

    #[test]
    fn pieces_are_spread_and_within_their_split() {
        let split = Split { file: 0, start: 10 << 20, end: 20 << 20 };
        let pieces = cut_into(split, 4);
        assert!(pieces.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(pieces.iter().all(|p| p.start >= split.start && p.end <= split.end && p.end - p.start <= PIECE_BYTES));
    }
}
