//! A job's start: everything that can be refused is refused here, before anything runs.

use crate::{
    Scheduler,
    blame::Complaints,
    bounds::ANSWER_BYTES_MAX,
    job::{Job, Member, Tasks},
    log::Log,
    repeats::Repeats,
    table::Table,
    task::Task,
    wants::{Local, Urgency, Wants},
    workforce::Workforce,
};
use quorate_protocol::{
    canonical,
    command::{Cost, Refusal},
    digest::Digest,
    file::{File, Path},
    ids::{JobId, Stage},
    job::{InputKind, Program, Specification, Split, is_compressed, job_digest, splits},
    limits,
    vote::Counters,
};
use std::collections::{BTreeSet, VecDeque};

impl Scheduler {
    /// Takes a job in.
    ///
    /// # Errors
    /// [`Refusal`]: what is wrong with it, or what the cluster lacks.
    pub(crate) fn submit(&mut self, specification: &Specification) -> Result<JobId, Refusal> {
        specification.check().map_err(Refusal::Invalid)?;
        if self.jobs.len() >= limits::LIVE_JOBS_MAX {
            return Err(Refusal::Full(format!("{} jobs are running", limits::LIVE_JOBS_MAX)));
        }
        self.refuse_taken_output(&specification.output)?;
        let files = self.expand(&specification.inputs)?;
        let target = match &specification.program {
            Program::Binary { target, .. } => target.clone(),
            Program::Embedded { .. } => String::new(),
        };
        self.refuse_few_domains(specification.f, &target)?;
        refuse_many_splits(specification, &files)?;
        if canonical::encode(&(specification, &files)).len() > ANSWER_BYTES_MAX {
            return Err(Refusal::Invalid(
                "the lists of the input's chunks are too long to be sent to trackers: store it in larger chunks, or \
                 run several jobs"
                    .to_owned(),
            ));
        }
        self.submitted += 1;
        let id = JobId::new(self.submitted);
        if let Program::Binary { file, .. } = &specification.program {
            self.namespace.hold(file);
        }
        let job = Job::new(id, self.cluster_id, specification.clone(), files, target, &self.workforce);
        self.workforce.tell(id, || job.introduction());
        self.jobs.insert(id, job);
        Ok(id)
    }

    fn refuse_taken_output(&self, output: &Path) -> Result<(), Refusal> {
        let is_promised = |job: &&Job| {
            let other = &job.specification.output;
            other.is_within(output) || output.is_within(other)
        };
        if self.namespace.exists(output) {
            return Err(Refusal::Exists(output.to_string()));
        }
        match self.jobs.values().find(is_promised) {
            Some(job) => Err(Refusal::Exists(format!("{}, the output of {},", job.specification.output, job.id))),
            None => Ok(()),
        }
    }

    /// The files of all inputs, those of a folder in the order of their paths.
    fn expand(&self, inputs: &[Path]) -> Result<Vec<(Path, File)>, Refusal> {
        let mut files: Vec<(Path, File)> = Vec::new();
        for input in inputs {
            let room = limits::FILES_PER_COMMAND_MAX.saturating_sub(files.len());
            let before = files.len();
            files.extend(self.namespace.files(input).take(room + 1).map(|(path, file)| (path.clone(), file.clone())));
            if files.len() == before {
                return Err(Refusal::NotFound(input.to_string()));
            }
            if files.len() > limits::FILES_PER_COMMAND_MAX {
                return Err(Refusal::Invalid(format!("a job reads at most {} files", limits::FILES_PER_COMMAND_MAX)));
            }
        }
        Ok(files)
    }

    fn refuse_few_domains(&self, f: u32, target: &str) -> Result<(), Refusal> {
        let too_few = |needed: u32, have: usize| Err(Refusal::TooFewDomains { f, needed, have: have as u32 });
        let (configured, live) = (self.cluster.domains(), self.workforce.live_domains(""));
        if configured as u64 <= u64::from(2 * f) {
            return too_few(2 * f + 1, configured);
        }
        if live as u64 <= u64::from(f) {
            return too_few(f + 1, live);
        }
        if self.workforce.live_domains(target) as u64 > u64::from(f) {
            return Ok(());
        }
        let targets = Vec::from_iter(self.workforce.live_targets());
        let trackers = if targets.is_empty() { "embedded programs only".to_owned() } else { targets.join(", ") };
        Err(Refusal::WrongTarget { program: target.to_owned(), trackers })
    }
}

/// The input files with the digests of their manifests.
pub(crate) fn named(files: &[(Path, File)]) -> Vec<(Path, Digest)> {
    files.iter().map(|(path, file)| (path.clone(), file.manifest.digest())).collect()
}

/// Counts the splits before any is made: their number is the client's choice.
fn refuse_many_splits(specification: &Specification, files: &[(Path, File)]) -> Result<(), Refusal> {
    let count = |(path, file): &(Path, File)| {
        let is_cut = match specification.input_kind {
            InputKind::WholeFiles => false,
            InputKind::Lines => !is_compressed(path.as_str()),
            InputKind::FixedRecords(_) | InputKind::Parquet => true,
        };
        if is_cut { file.manifest.length().div_ceil(specification.split_bytes.max(1)) } else { 1 }
    };
    let splits = files.iter().map(count).fold(0, u64::saturating_add);
    if splits <= u64::from(limits::MAPS_MAX) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "splits of {} bytes make {splits} map tasks, and at most {} are allowed: raise the split size",
        specification.split_bytes,
        limits::MAPS_MAX
    )))
}

/// For each split, which placement of its file holds the byte in its middle: a split that begins a little before a
/// placement, since records end where they like, is at home in the latter.
fn homes(files: &[(Path, File)], splits: &[Split]) -> Vec<u32> {
    let ends: Vec<Vec<u64>> = files.iter().map(|(_, file)| placement_ends(file)).collect();
    let home = |split: &Split| {
        let middle = u64::midpoint(split.start, split.end);
        ends.get(split.file as usize).map_or(0, |ends| ends.partition_point(|end| *end <= middle) as u32)
    };
    splits.iter().map(home).collect()
}

/// Where each placement's bytes end.
fn placement_ends(file: &File) -> Vec<u64> {
    let mut chunks = file.manifest.chunks.iter();
    let mut end = 0u64;
    let mut ends = Vec::with_capacity(file.placements.len());
    for run in &file.placements {
        let lengths = chunks.by_ref().take(run.chunks as usize).map(|(_, length)| u64::from(*length));
        end = lengths.fold(end, u64::saturating_add);
        ends.push(end);
    }
    ends
}

impl Job {
    /// A job of which nothing runs.
    fn new(
        id: JobId,
        cluster: Digest,
        specification: Specification,
        files: Vec<(Path, File)>,
        target: String,
        workforce: &Workforce,
    ) -> Self {
        let splits = splits(&specification, &files);
        let inputs = named(&files);
        let (maps, partitions) = (splits.len() as u32, specification.partitions);
        let tasks = |count: u32, local| Tasks {
            all: vec![Task { urgency: Some(Urgency::Untouched), ..Task::default() }; count as usize],
            agreed: 0,
            wants: Wants::all(count, local),
        };
        let mut job = Self {
            id,
            cluster,
            digest: job_digest(&specification, &inputs, workforce.now),
            homes: homes(&files, &splits),
            specification,
            files,
            submitted: workforce.now,
            splits,
            target,
            maps: Tasks::default(),
            reduces: tasks(partitions, Local::default()),
            verdicts: Log::default(),
            crew: Table::new(workforce.trackers().map(|tracker| (tracker.id, Member::default()))),
            lacking: BTreeSet::new(),
            settled: None,
            clocks_start: false,
            complaints: Complaints::default(),
            repeats: Repeats::default(),
            attempts: 0,
            tests: 0,
            cost: Cost::default(),
            counters: Counters::new(),
            disputes: Vec::new(),
            disputed: 0,
            is_held: false,
            stuck: None,
            ending: None,
        };
        let local = job.local_maps(workforce, maps);
        job.maps = tasks(maps, local);
        job.settle(workforce.now);
        job
    }

    fn local_maps(&self, workforce: &Workforce, maps: u32) -> Local {
        let mut local = Local::new(workforce.trackers().map(|tracker| (tracker.id, VecDeque::new())));
        for index in 0..maps {
            for holder in self.holders(self.task_id(Stage::Map, index)) {
                if let Some(tasks) = local.get_mut(*holder) {
                    tasks.push_back(index);
                }
            }
        }
        local
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::{
        digest::ChunkId,
        file::{Manifest, Placement},
        ids::TrackerId,
    };

    #[test]
    fn a_split_is_at_home_where_its_middle_is() {
        let chunk = |n: u8| (ChunkId(Digest::of(&[n])), 100);
        let run = |server| Placement { chunks: 2, servers: vec![TrackerId::new(server)] };
        let manifest = Manifest { chunks: (0..4).map(chunk).collect() };
        let file = File { manifest, placements: vec![run(0), run(1)] };
        let files = [(Path::parse("/in").expect("a path"), file)];
        let split = |start, end| Split { file: 0, start, end };
        // The second begins a little before the second run.
        assert_eq!(homes(&files, &[split(0, 198), split(198, 396), split(396, 400), split(0, 400)]), [0, 1, 1, 1]);
    }
}
