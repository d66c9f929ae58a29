//! A TPM in software for each replica, enrolled and founded (feature `tpm`).

use quorate_jobtracker::{TpmPlace, found};
use quorate_protocol::{cluster::Cluster, enrolled::EnrolledTpm, ids::ReplicaId, sign::SecretKey};
use quorate_tpm::{
    Tcti,
    enrol::{Answer, Challenger, Request},
    swtpm::Swtpm,
};
use std::{io, path::Path};

/// The PCR of each log.
const PCR: u8 = 14;

/// TPMs that run, in the order of the replicas. Dropped, they end.
pub(crate) struct Tpms(Vec<Swtpm>);

impl Tpms {
    /// Starts a TPM for each replica, and enrols it in the configuration.
    pub(crate) fn start(cluster: &mut Cluster) -> io::Result<Self> {
        let mut chips = Vec::new();
        for member in &mut cluster.replicas {
            let chip = Swtpm::start()?;
            member.tpm = Some(enrol(&chip)?);
            chips.push(chip);
        }
        Ok(Self(chips))
    }

    /// Begins all logs in the folders that the replicas will have below this one. Gives the founding.
    pub(crate) fn found(&self, cluster: &Cluster, keys: &[SecretKey], folder: &Path) -> io::Result<String> {
        let mut founding = String::new();
        for ((id, chip), key) in (0..).map(ReplicaId::new).zip(&self.0).zip(keys) {
            let place = TpmPlace { tcti: chip.tcti(), allow_software_tpm: true, enrolment: None };
            let part = found(cluster, id, key, &folder.join(id.to_string()), &place);
            founding.push_str(&part.map_err(io::Error::other)?);
        }
        Ok(founding)
    }

    /// Where a replica's TPM is.
    pub(crate) fn tcti(&self, id: ReplicaId) -> Option<Tcti> {
        self.0.get(id.number() as usize).map(Swtpm::tcti)
    }
}

fn enrol(chip: &Swtpm) -> io::Result<EnrolledTpm> {
    let mut chip = chip.chip().map_err(io::Error::other)?;
    let request = Request::of(&mut chip, PCR).map_err(io::Error::other)?;
    let (challenger, challenge) = Challenger::new(request).map_err(io::Error::other)?;
    let answer = Answer::to(&mut chip, &challenge).map_err(io::Error::other)?;
    Ok(EnrolledTpm::from(challenger.conclude(&answer).map_err(io::Error::other)?.device()))
}
