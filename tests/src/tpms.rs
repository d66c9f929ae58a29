//! Trusted logs in TPMs: a TPM in software for each replica, enrolled and founded by the commands that operators use (feature `tpm`).

use crate::{
    Processes,
    processes::{CONFIGURATION, Setup, run},
};
use quorate_protocol::{cluster::Cluster, enrolled::EnrolledTpm, ids::ReplicaId, sign::SecretKey};
use quorate_tpm::{
    Tcti,
    enrol::{Document, Enrolment},
    swtpm::Swtpm,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The file of the founding, in the cluster's folder.
const FOUNDING: &str = "founding";

/// The TPMs of a cluster's replicas, and what each replica is told of its own.
#[derive(Default)]
pub(crate) struct Tpms {
    chips: BTreeMap<ReplicaId, Swtpm>,
    foundings: BTreeMap<ReplicaId, PathBuf>,
    enrolments: BTreeMap<ReplicaId, PathBuf>,
}

impl Tpms {
    /// Starts a TPM for each replica, where they are wanted, and enrols it in the configuration. The key of the authority is in
    /// `authority.key`.
    pub(crate) async fn start(setup: &Setup, cluster: &mut Cluster, folder: &Path) -> Self {
        let mut this = Self::default();
        if !setup.tpms {
            return this;
        }
        let authority = SecretKey::generate().expect("randomness");
        fs::write(folder.join("authority.key"), authority.to_hex()).expect("a key file");
        cluster.authority = Some(authority.public());
        for member in &mut cluster.replicas {
            let chip = Swtpm::start().expect("a TPM");
            let enrolment = enrol(&setup.programs.quorate, &chip.tcti(), &folder.join("enrolment")).await;
            member.tpm = Some(EnrolledTpm::from(enrolment.device()));
            this.chips.insert(member.id, chip);
        }
        this
    }

    /// What a replica with a TPM is started with.
    pub(crate) fn tell(&self, id: ReplicaId, folder: &Path, command: &mut Command) {
        let Some(chip) = self.chips.get(&id) else { return };
        let founding = self.foundings.get(&id).cloned().unwrap_or_else(|| folder.join(FOUNDING));
        command.args(["--tpm", &chip.tcti().to_string(), "--allow-software-tpm", "--founding"]).arg(founding);
        if let Some(enrolment) = self.enrolments.get(&id) {
            command.arg("--enrolment").arg(enrolment);
        }
    }
}

async fn enrol(quorate: &Path, tcti: &Tcti, output: &Path) -> Enrolment {
    let mut command = Command::new(quorate);
    command.args(["tpm", "enrol", "here", "--tpm", &tcti.to_string(), "--output"]).arg(output);
    let done = run(command).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Enrolment::from_toml(&fs::read_to_string(output).expect("written")).expect("an enrolment")
}

/// Trusted logs in TPMs.
impl Processes {
    /// Begins all logs in the folders that the replicas will have, and gathers the founding.
    pub(crate) async fn found(&self) {
        let mut founding = String::new();
        for replica in self.tpms.chips.keys() {
            let part = self.folder().join("part");
            let done = run(self.found_command(*replica, &replica.to_string(), &part)).await;
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            founding.push_str(&fs::read_to_string(&part).expect("written"));
        }
        fs::write(self.folder().join(FOUNDING), founding).expect("a founding");
    }

    /// `quorate tpm found` for a replica, with a folder for its log, not yet started.
    ///
    /// # Panics
    /// When the replica has no TPM.
    pub fn found_command(&self, replica: ReplicaId, directory: &str, output: &Path) -> Command {
        let folder = self.folder();
        let mut command =
            self.quorate(&["tpm", "found", "--allow-software-tpm", "--id", &replica.number().to_string()]);
        command.args(["--tpm", &self.chip(replica).tcti().to_string(), "--output"]).arg(output);
        command.arg("--config").arg(folder.join(CONFIGURATION));
        command.arg("--key").arg(folder.join(format!("{replica}.key"))).arg("--dir").arg(folder.join(directory));
        command
    }

    /// The file with the founding of all replicas.
    pub fn founding(&self) -> PathBuf {
        self.folder().join(FOUNDING)
    }

    /// Starts a replica with another founding from now on.
    pub fn founded_with(&mut self, replica: ReplicaId, founding: &Path) {
        self.tpms.foundings.insert(replica, founding.to_owned());
    }

    /// Starts a replica with this enrolment from now on.
    pub fn enrolled_with(&mut self, replica: ReplicaId, enrolment: &Path) {
        self.tpms.enrolments.insert(replica, enrolment.to_owned());
    }

    /// A replica's TPM.
    ///
    /// # Panics
    /// When it has none.
    pub fn chip(&self, replica: ReplicaId) -> &Swtpm {
        self.tpms.chips.get(&replica).expect("a TPM")
    }

    /// Reboots the machine that a replica is on: the replica is killed, its TPM loses power, and both come back.
    ///
    /// # Panics
    /// When they do not.
    pub fn reboot(&mut self, replica: ReplicaId) {
        self.kill(&replica.to_string());
        self.tpms.chips.get_mut(&replica).expect("a TPM").reboot().expect("reboots");
        self.start_member(&replica.to_string());
    }
}
