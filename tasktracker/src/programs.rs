//! The programs of jobs: fetched by digest, checked, and kept for the next task.

use crate::worker::Worker;
use quorate_engine::program::Program;
use quorate_protocol::{
    digest::Digest,
    file::File,
    ids::AttemptId,
    job::{self, JobPlan, Program as Named},
};
use quorate_sandbox::{Child, child::Launcher};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a tracker's programs come from.
#[derive(Clone)]
pub enum Programs {
    /// User code linked into this process: an embedded cluster.
    Embedded(Arc<dyn Program>),
    /// The job's binary, in a child process for each attempt, by this launcher.
    Children(Launcher),
}

/// Why a job's program cannot be run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("the job's code is inside its client's process; run it without `submit`, on an embedded cluster")]
    Embedded,
    #[error("this embedded cluster runs the code of its own process only")]
    NotEmbedded,
    #[error("the program is for {program}, and this tracker is {here}")]
    Target { program: String, here: String },
    #[error("fetching the program: {0}")]
    Fetch(String),
    #[error("the program's bytes are not those that the job names")]
    Digest,
    #[error("storing the program: {0}")]
    Store(#[from] io::Error),
}

impl Worker {
    /// The program of a job, ready to run one attempt.
    pub(crate) async fn program(&self, plan: &JobPlan, attempt: AttemptId) -> Result<Arc<dyn Program>, ProgramError> {
        match (&self.programs, &plan.specification.program) {
            (Programs::Embedded(program), Named::Embedded { .. }) => Ok(Arc::clone(program)),
            (Programs::Children(launcher), Named::Binary { digest, target, file }) => {
                let here = job::this_target();
                if *target != here {
                    return Err(ProgramError::Target { program: target.clone(), here });
                }
                let executable = self.executable(*digest, file).await?;
                let readable = vec![self.directory.join("store"), self.outputs.job_folder(attempt.task.job)];
                Ok(Arc::new(Child::new(*launcher, executable, self.outputs.new_log(attempt)?, readable)))
            }
            (Programs::Children(_), Named::Embedded { .. }) => Err(ProgramError::Embedded),
            (Programs::Embedded(_), Named::Binary { .. }) => Err(ProgramError::NotEmbedded),
        }
    }

    async fn executable(&self, digest: Digest, file: &File) -> Result<PathBuf, ProgramError> {
        let path = self.directory.join("programs").join(digest.to_string());
        let _one_at_a_time = self.fetching_program.lock().await;
        if path.exists() {
            return Ok(path);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(file.manifest.length()).unwrap_or_default());
        for index in 0..file.manifest.chunks.len() {
            let chunk = self.read_chunk(file, index).await;
            bytes.extend_from_slice(&chunk.map_err(|error| ProgramError::Fetch(error.to_string()))?);
        }
        let folder = self.directory.join("programs");
        tokio::task::spawn_blocking(move || store(&bytes, digest, &folder, &path).map(|()| path))
            .await
            .map_err(io::Error::other)?
    }
}

fn store(bytes: &[u8], digest: Digest, folder: &Path, path: &Path) -> Result<(), ProgramError> {
    if Digest::of(bytes) != digest {
        return Err(ProgramError::Digest);
    }
    fs::create_dir_all(folder)?;
    let mut unfinished = tempfile::NamedTempFile::new_in(folder)?;
    unfinished.write_all(bytes)?;
    unfinished.as_file().set_permissions(fs::Permissions::from_mode(0o700))?;
    // Closed before it is named, so that nobody ever starts a file that is open for writing.
    unfinished.into_temp_path().persist(path).map_err(|error| error.error)?;
    Ok(())
}
