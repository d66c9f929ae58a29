//! The trusted log in a TPM: how a replica opens it, and how it begins (feature `tpm`).

use crate::{device::LogError, founding::part};
use quorate_counter::{Position, TrustedLog};
use quorate_protocol::{cluster::Cluster, ids::ReplicaId, sign::SecretKey};
use quorate_tpm::{Settings, Tcti, TpmLog, enrol::Enrolment};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file in the replica's directory that says where its log stood.
const FILE_NAME: &str = "trusted-log-tpm";

/// The TPM that holds a replica's trusted log.
#[derive(Clone, Debug)]
pub struct TpmPlace {
    /// Where it is.
    pub tcti: Tcti,
    /// Whether a virtual TPM will do, which is as trustworthy as whoever can put its state back.
    pub allow_software_tpm: bool,
    /// The enrolment that the cluster's authority approved, when this is not the TPM that the configuration has.
    pub enrolment: Option<Enrolment>,
}

/// Why a replica's trusted log does not begin.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The configuration makes no sense.
    #[error("the cluster's configuration makes no sense: {0}")]
    Cluster(String),
    /// The configuration has no such replica.
    #[error("the cluster's configuration has no {0}")]
    NotAMember(ReplicaId),
    /// The key is not the one of the configuration.
    #[error("this is not the key that the cluster's configuration has for {0}")]
    WrongKey(ReplicaId),
    /// The directory cannot be made.
    #[error("the directory {} cannot be used", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log has attested something, or its replica has begun another epoch.
    #[error(
        "the trusted log of {0} has been used: a replica with this directory has run, and a cluster is founded once"
    )]
    Used(ReplicaId),
    /// It cannot be opened, or does not do its work.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl TpmPlace {
    /// Opens the log. It goes on where it was, if that is in the same boot; otherwise an epoch begins.
    pub(crate) fn open(&self, cluster: &Cluster, replica: ReplicaId, directory: &Path) -> Result<TpmLog, LogError> {
        let member = cluster.replica(replica).and_then(|member| member.tpm.as_ref());
        let configured = member.ok_or(LogError::Foreign { replica })?.into();
        let enrolment = self.enrolment.as_ref().filter(|enrolment| enrolment.device() != configured);
        let (device, approval) = match enrolment {
            None => (configured, None),
            Some(enrolment) => {
                let device = enrolment.device();
                let approved = enrolment.approval().zip(cluster.authority);
                let approved =
                    approved.filter(|(approval, authority)| approval.is_of(device, cluster.id(), replica, authority));
                let (approval, _) = approved.ok_or(LogError::NotApproved { replica })?;
                (device, Some(approval))
            }
        };
        let settings = Settings {
            tcti: self.tcti.clone(),
            device,
            authority: cluster.authority,
            approval,
            allow_software_tpm: self.allow_software_tpm,
            state: directory.join(FILE_NAME),
        };
        TpmLog::open(settings, cluster.id(), replica).map_err(|error| LogError::Tpm(Box::new(error)))
    }
}

/// Begins the trusted log of a replica, and gives its part of the cluster's founding, as text. Once more, before the replica has
/// run, it gives the same again, or the epoch of the present boot.
///
/// # Errors
/// [`FoundError`].
pub fn found(
    cluster: &Cluster,
    replica: ReplicaId,
    key: &SecretKey,
    directory: &Path,
    place: &TpmPlace,
) -> Result<String, FoundError> {
    cluster.check().map_err(FoundError::Cluster)?;
    let member = cluster.replica(replica).ok_or(FoundError::NotAMember(replica))?;
    if member.key != key.public() {
        return Err(FoundError::WrongKey(replica));
    }
    let made = fs::create_dir_all(directory);
    made.map_err(|source| FoundError::Directory { path: directory.to_owned(), source })?;
    let mut log = place.open(cluster, replica, directory)?;
    let attestation = log.append(&[]).map_err(LogError::Device)?;
    if attestation.head.position != Position(0) || crate::store::Store::is_in(directory) {
        return Err(FoundError::Used(replica));
    }
    Ok(part(log.record().clone(), attestation.certificate, key))
}

#[cfg(test)]
mod tests;
