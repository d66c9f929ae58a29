//! Jobs: what a client asks for, and what trackers are told to do.

use crate::{
    canonical,
    digest::Digest,
    file::{File, Manifest, Path, Placement},
    ids::{AttemptId, JobId, OrderedTime, TrackerId},
    limits,
};
use serde::{Deserialize, Serialize};

/// The user's program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Program {
    /// A program file that trackers fetch, check and start as a child process.
    Binary {
        /// Digest of the whole file.
        digest: Digest,
        /// The machine it runs on, such as `x86_64-linux`.
        target: String,
        /// Its chunks and where they are.
        file: File,
    },
    /// Code inside the trackers' own process: an embedded cluster.
    Embedded {
        /// Digest of the running executable.
        digest: Digest,
    },
}

/// How input files are cut into splits and records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum InputKind {
    /// Lines, ended by LF or CRLF; the last one may have no end. Files named `*.gz` and `*.zst` are decompressed.
    Lines,
    /// The whole file is one record.
    WholeFiles,
    /// Records of so many bytes each.
    FixedRecords(u32),
    /// Parquet, read as Arrow record batches.
    Parquet,
}

/// How keys are given to partitions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Partitioning {
    /// By a stable hash of the key's bytes.
    Hash,
    /// By ranges of the key's bytes: partition `i` holds keys from `cuts[i - 1]` on and below `cuts[i]`, so that the
    /// parts, one after the other, are sorted. There is one cut less than partitions.
    Ranges(Vec<Vec<u8>>),
}

/// A job's specification, as its client signed it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Specification {
    /// A name for people.
    pub name: String,
    /// The code.
    pub program: Program,
    /// Which of the program's jobs this is.
    pub entry: String,
    /// The job's arguments as JSON, given to every task.
    pub arguments: String,
    /// Files and folders.
    pub inputs: Vec<Path>,
    /// How they are read.
    pub input_kind: InputKind,
    /// Bytes of input for one map task. Files that cannot be split are one task each.
    pub split_bytes: u64,
    /// The folder to make, with one `part-r-NNNNN` for each partition.
    pub output: Path,
    /// Reduce tasks.
    pub partitions: u32,
    /// How keys are given to them.
    pub partitioning: Partitioning,
    /// `job.f`: lying trackers tolerated for each task.
    pub f: u32,
    /// Memory of one attempt in bytes: it decides where spills fall, so it is part of the specification.
    pub memory: u64,
    /// An attempt that made no progress for so long is overdue, in milliseconds: another is started beside it.
    pub progress_timeout_ms: u64,
}

impl Specification {
    /// Votes that decide a task.
    pub const fn quorum(&self) -> u32 {
        self.f + 1
    }
    /// Votes after which a task without a quorum is undecidable.
    pub const fn votes_max(&self) -> u32 {
        2 * self.f + 1
    }

    /// Checks everything that can be checked without a cluster.
    ///
    /// # Errors
    /// A sentence that says which value is out of bounds.
    pub fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("{what} is {value}, and must lie between {min} and {max}"))
            }
        };
        within("the name's length", self.name.len() as u64, 1, 256)?;
        within("the entry's length", self.entry.len() as u64, 1, 256)?;
        within("the arguments' length", self.arguments.len() as u64, 0, limits::ARGUMENTS_BYTES_MAX as u64)?;
        within("the number of inputs", self.inputs.len() as u64, 1, limits::FILES_PER_COMMAND_MAX as u64)?;
        within("the split size in bytes", self.split_bytes, 1, 1 << 40)?;
        within("the number of partitions", self.partitions.into(), 1, limits::PARTITIONS_MAX.into())?;
        within("f", self.f.into(), 0, limits::JOB_F_MAX.into())?;
        within("the attempt memory in bytes", self.memory, limits::ATTEMPT_MEMORY_MIN, 1 << 40)?;
        within("the progress timeout in ms", self.progress_timeout_ms, 100, 24 * 3_600_000)?;
        if let Some(path) = self.inputs.iter().chain([&self.output]).find(|path| !path.is_valid()) {
            return Err(format!("{path:?} is no path"));
        }
        if let InputKind::FixedRecords(length) = self.input_kind {
            within("the record length in bytes", length.into(), 1, 1 << 20)?;
        }
        if let Partitioning::Ranges(cuts) = &self.partitioning {
            if cuts.len() as u64 + 1 != u64::from(self.partitions) {
                return Err(format!("{} partitions need {} cuts", self.partitions, self.partitions - 1));
            }
            if cuts.windows(2).any(|pair| pair[0] > pair[1]) {
                return Err("the cuts between partitions are not in order".to_owned());
            }
        }
        if let Program::Binary { file, target, .. } = &self.program {
            file.check()?;
            within("the program's length in bytes", file.manifest.length(), 1, limits::PROGRAM_BYTES_MAX)?;
            within("the target's length", target.len() as u64, 1, 64)?;
        }
        Ok(())
    }
}

/// What votes name a job by. `inputs` are the manifests of its input files. Neither other input of the same paths nor another
/// life of the cluster, which counts its jobs from 1 again, makes a vote on one job pass for one on another.
pub fn job_digest(specification: &Specification, inputs: &[(Path, Digest)], submitted: OrderedTime) -> Digest {
    canonical::digest(&("quorate 2026 job v1", specification, inputs, submitted))
}

/// The name of a partition's file in a job's output.
pub fn part_name(partition: u32) -> String {
    format!("part-r-{partition:05}")
}

/// A map task's part of the input: the records that *start* in `start..end` of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Split {
    /// Which of the job's files, from 0.
    pub file: u32,
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

/// What an attempt does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Maps a split.
    Map(Split),
    /// Reduces the partition that the task's index names.
    Reduce,
}

/// A job with everything that a tracker needs to run its tasks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobPlan {
    /// The job.
    pub job: JobId,
    /// What votes name the job by: [`job_digest`].
    pub digest: Digest,
    /// The specification.
    pub specification: Specification,
    /// The input files, in the order that [`Split::file`] counts.
    pub files: Vec<(Path, File)>,
    /// Map tasks.
    pub maps: u32,
}

/// What the job tracker tells one tracker. Numbered; each is sent until acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Directive {
    /// Run an attempt.
    Start {
        /// Which.
        attempt: AttemptId,
        /// What it does.
        work: Work,
    },
    /// Stop an attempt; its vote is no longer wanted.
    Cancel {
        /// Which.
        attempt: AttemptId,
    },
    /// The job has ended: publish the chunks of the agreed reduce attempts, drop the rest.
    JobEnded {
        /// Which.
        job: JobId,
        /// This tracker's reduce attempts whose output became a file.
        publish: Vec<AttemptId>,
        /// This tracker's attempts of tasks whose votes differ, in order: their bytes are kept a while longer, to find where.
        keep: Vec<AttemptId>,
    },
    /// No file has these chunks any more.
    DropChunks(Vec<crate::digest::ChunkId>),
}

/// A map task's verdict, for reducers: the agreed segments and who voted for them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapVerdict {
    /// The map task.
    pub map: u32,
    /// [`crate::vote::segments_digest`] of the agreed segments.
    pub segments: Digest,
    /// [`crate::vote::Ballot::digest`] of the agreed ballot: a voter that told a reducer otherwise lied to somebody.
    pub ballot: Digest,
    /// Who voted for them: from these the bytes can be fetched.
    pub voters: Vec<(TrackerId, AttemptId)>,
}

/// A part of the agreed output, ready to become a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutputPart {
    /// Its chunks.
    pub manifest: Manifest,
    /// The trackers of the agreeing attempts: each holds all of it.
    pub servers: Vec<TrackerId>,
}

impl OutputPart {
    /// The part as a file.
    pub fn into_file(self) -> File {
        let chunks = self.manifest.chunks.len() as u32;
        let placements = if chunks == 0 { Vec::new() } else { vec![Placement { chunks, servers: self.servers }] };
        File { manifest: self.manifest, placements }
    }
}

/// Whether a file's bytes must stay together in one map task, by its name.
pub fn is_compressed(path: &str) -> bool {
    path.ends_with(".gz") || path.ends_with(".zst")
}

/// How large splits of so much input are when nothing else is asked for: about 16 of them, between 256 KiB and 64 MiB, and
/// of whole chunks when they are larger than one, so that a split is found in one place.
pub const fn split_bytes_default(input_bytes: u64) -> u64 {
    let wanted = input_bytes.div_ceil(16);
    if wanted <= 256 << 10 {
        256 << 10
    } else if wanted >= 64 << 20 {
        64 << 20
    } else if wanted >= limits::CHUNK_BYTES_DEFAULT {
        wanted.next_multiple_of(limits::CHUNK_BYTES_DEFAULT)
    } else {
        wanted
    }
}

/// The splits of a job's files, in order: the map tasks.
///
/// Empty files give none, except that a job of [`InputKind::WholeFiles`] gets one for each.
pub fn splits(specification: &Specification, files: &[(Path, File)]) -> Vec<Split> {
    let mut splits = Vec::new();
    for (index, (path, file)) in files.iter().enumerate() {
        let length = file.manifest.length();
        let whole = match specification.input_kind {
            InputKind::WholeFiles => true,
            InputKind::Lines => is_compressed(path.as_str()),
            InputKind::FixedRecords(_) | InputKind::Parquet => false,
        };
        let step = if whole { length.max(1) } else { specification.split_bytes.max(1) };
        let mut start = 0;
        while start < length || (whole && start == 0 && specification.input_kind == InputKind::WholeFiles) {
            let end = start.saturating_add(step).min(length);
            splits.push(Split { file: index as u32, start, end });
            start = end.max(start + 1);
        }
    }
    splits
}

/// The machine this program was built for, as [`Program::Binary`] names it.
pub fn this_target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}
