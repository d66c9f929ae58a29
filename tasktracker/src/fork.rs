//! What a tracker does when the job tracker has forked: it says so, keeps the proof, and carries nothing out any more.
//!
//! Two histories of one cluster cannot both be right, and a tracker cannot tell which one is. Whatever it did then might be
//! wrong, so it does nothing until its operator has looked and starts it again.

use crate::worker::Worker;
use quorate_jobtracker::client::ClientError;
use quorate_protocol::fork::ForkProof;
use std::{fs, path::Path};

/// The file with the signed replies of both sides, in the tracker's folder.
const PROOF_FILE: &str = "fork-proof";

/// Whether an error says that the job tracker has forked. If so, the proof is kept and all attempts are stopped.
pub(crate) fn stops(worker: &Worker, error: &ClientError) -> bool {
    let ClientError::Fork { proof, .. } = error else { return false };
    let file = worker.directory.join(PROOF_FILE);
    tracing::error!(tracker = %worker.id, %error, proof = %file.display(), "nothing is carried out any more");
    if let Err(error) = keep(&file, proof) {
        tracing::error!(%error, proof = %proof.to_hex(), "the proof cannot be written, so here it is");
    }
    let running: Vec<_> = worker.running().keys().copied().collect();
    running.into_iter().for_each(|attempt| worker.cancel(attempt));
    true
}

/// The first proof is kept.
fn keep(file: &Path, proof: &ForkProof) -> std::io::Result<()> {
    if file.exists() { Ok(()) } else { fs::write(file, proof.to_hex()) }
}
