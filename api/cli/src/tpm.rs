//! `quorate tpm`: TPMs as trusted logs, from the first look at a machine's chip to the founding of a cluster (feature `tpm`).

mod check;
mod enrol;

use crate::role::{Common, hinted};
use clap::{Args, Subcommand};
use quorate::{
    exit::{Code, Failure},
    terminal::print,
};
use quorate_jobtracker::{
    FOUNDING_BYTES_MAX, FoundError, Founding, FoundingError, LogError, LogPlace, TpmPlace, found,
};
use quorate_protocol::{cluster::Cluster, ids::ReplicaId};
use quorate_tpm::{
    Tcti, TpmError,
    enrol::{Document, Enrolment},
};
use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The kernel's TPM, behind its resource manager.
const TPM_DEFAULT: &str = "device:/dev/tpmrm0";

/// A replica's TPM 2.0 as its trusted log, which nobody on its host can make say two things.
///
/// On each host: `check` tells whether its TPM will do. `enrol` shows that a key is in it, and writes what the cluster's
/// configuration has of it. When the configuration is complete, `found` begins the log; its files are gathered in one, and each replica is
/// started with it: `quorate jobtracker --tpm device:/dev/tpmrm0 --founding FILE`.
#[derive(Subcommand)]
pub(crate) enum Command {
    Check(check::Check),
    #[command(subcommand)]
    Enrol(enrol::Command),
    Approve(enrol::Approve),
    Found(Found),
}

/// Where a TPM is.
#[derive(Args, Debug)]
pub(crate) struct Where {
    /// The TPM: device:/dev/tpmrm0, swtpm:path=/path/of/a/socket or swtpm:host=127.0.0.1,port=2321
    #[arg(long, value_name = "TCTI", default_value = TPM_DEFAULT)]
    tpm: Tcti,
}

/// Begins a replica's trusted log in its TPM, and writes its part of the cluster's founding.
///
/// Run it on the replica's host, with the complete configuration and the folder that the replica will have, before the replica runs.
/// Then gather the files of all replicas with TPMs in one (`cat founding-* > founding`), and start each replica with it.
///
/// When the host reboots before the cluster was started, run it again, and gather the files again.
#[derive(Args, Debug)]
pub(crate) struct Found {
    #[command(flatten)]
    common: Common,
    /// Which replica of the configuration this is.
    #[arg(long, value_name = "NUMBER")]
    id: ReplicaId,
    #[command(flatten)]
    place: Where,
    /// Take a software or virtual TPM too, which is as trustworthy as whoever can put its state back.
    #[arg(long)]
    allow_software_tpm: bool,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// What a replica with a TPM is started with.
#[derive(Args, Debug)]
pub(crate) struct ReplicaOptions {
    /// The TPM that holds this replica's trusted log: device:/dev/tpmrm0, for instance. `quorate tpm --help` tells the way there
    #[arg(long, value_name = "TCTI", conflicts_with = "trusted_log")]
    tpm: Option<Tcti>,
    /// Take a software or virtual TPM too, which is as trustworthy as whoever can put its state back.
    #[arg(long, requires = "tpm")]
    allow_software_tpm: bool,
    /// The enrolment of a TPM that took the place of the configured one, approved with `quorate tpm approve`
    #[arg(long, value_name = "FILE", requires = "tpm")]
    enrolment: Option<PathBuf>,
    /// What `quorate tpm found` wrote on all hosts with TPMs, in one file: the same for every replica of the cluster
    #[arg(long, value_name = "FILE")]
    founding: Option<PathBuf>,
}

impl ReplicaOptions {
    pub(crate) fn log_place(&self) -> Result<Option<LogPlace>, Failure> {
        let Some(tcti) = self.tpm.clone() else { return Ok(None) };
        let enrolment = self.enrolment.as_deref().map(document::<Enrolment>).transpose()?;
        let place = TpmPlace { tcti, allow_software_tpm: self.allow_software_tpm, enrolment };
        Ok(Some(LogPlace::Tpm(Box::new(place))))
    }

    pub(crate) fn founding(&self, cluster: &Cluster) -> Result<Option<Founding>, Failure> {
        let Some(path) = &self.founding else { return Ok(None) };
        let founding = Founding::read(&read(path, FOUNDING_BYTES_MAX)?, cluster);
        founding.map(Some).map_err(|error| founding_failure(error, path))
    }
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    // A chip takes its time, and blocks.
    let running = tokio::task::spawn_blocking(move || match command {
        Command::Check(options) => check::run(&options),
        Command::Enrol(command) => enrol::run(command),
        Command::Approve(options) => enrol::approve(&options),
        Command::Found(options) => run_found(&options),
    });
    running.await.unwrap_or_else(|error| Err(Failure::new(Code::System, "the command panicked").caused_by(&error)))
}

fn run_found(options: &Found) -> Result<(), Failure> {
    let (cluster, key) = options.common.load()?;
    let allow_software_tpm = options.allow_software_tpm;
    let place = TpmPlace { tcti: options.place.tpm.clone(), allow_software_tpm, enrolment: None };
    let text = found(&cluster, options.id, &key, &options.common.dir, &place).map_err(found_failure)?;
    write(&options.output, &text, false)?;
    print(&format!(
        "The trusted log of {} has begun; {} is its part of the founding.\n\
         Gather the parts of all replicas with TPMs in one file, and start each replica with it: --founding FILE.\n",
        options.id,
        options.output.display()
    ))
}

fn found_failure(error: FoundError) -> Failure {
    let (code, hint) = match &error {
        FoundError::Cluster(_) => (Code::ClusterConfiguration, None),
        FoundError::NotAMember(_) | FoundError::WrongKey(_) => (Code::NotAMember, None),
        FoundError::Log(LogError::Foreign { .. }) => {
            let hint = "the configuration has no TPM for this replica: `quorate tpm enrol` writes what belongs there";
            (Code::TrustedLogChoice, Some(hint.to_owned()))
        }
        FoundError::Log(LogError::Tpm(cause)) => (Code::TpmTrouble, cause.downcast_ref().and_then(hint)),
        FoundError::Used(_) => {
            let hint = "is this the right --dir? A cluster that lost its state is founded anew, under another name";
            (Code::ReplicaTrouble, Some(hint.to_owned()))
        }
        FoundError::Directory { .. } | FoundError::Log(_) => (Code::ReplicaTrouble, None),
    };
    hinted(Failure::of(code, &error), hint)
}

fn founding_failure(error: FoundingError, path: &Path) -> Failure {
    let hint = match &error {
        FoundingError::Unneeded => Some("leave --founding away"),
        FoundingError::Cluster(_) => Some("run `quorate tpm found` again on all hosts, with the same configuration"),
        FoundingError::TooLong { .. }
        | FoundingError::Document(_)
        | FoundingError::Stranger(_)
        | FoundingError::Twice(_)
        | FoundingError::Missing(_)
        | FoundingError::Malformed(_)
        | FoundingError::Signature(_)
        | FoundingError::Device(_)
        | FoundingError::Certificate { .. } => None,
    };
    let failure = Failure::new(Code::TpmDocument, format!("{}: {error}", path.display()));
    hinted(caused(failure, &error), hint.map(str::to_owned))
}

/// Adds what lies behind an error that the message tells already.
fn caused(failure: Failure, error: &impl std::error::Error) -> Failure {
    match error.source() {
        Some(source) => failure.caused_by(source),
        None => failure,
    }
}

/// What can be done about a chip that does not do its part.
pub(crate) fn hint(error: &TpmError) -> Option<String> {
    let hint = match error {
        TpmError::Virtual(_) => "with --allow-software-tpm it is taken, for trials or where you trust its host",
        TpmError::OtherKey | TpmError::OtherFirmware => {
            "enrol it again, have the cluster's authority approve it (`quorate tpm approve`), and give it with --enrolment"
        }
        TpmError::Place(_) => "is the replica running already?",
        TpmError::Address(_)
        | TpmError::Absent(_)
        | TpmError::Permission(_)
        | TpmError::Io(_)
        | TpmError::Answer(_)
        | TpmError::Refused { .. }
        | TpmError::Bank(_)
        | TpmError::Pcr(_)
        | TpmError::PublicArea
        | TpmError::Quote { .. }
        | TpmError::InUse(_)
        | TpmError::Storage(_)
        | TpmError::Failed
        | TpmError::Randomness => return None,
    };
    Some(hint.to_owned())
}

fn tpm_failure(error: TpmError) -> Failure {
    let hint = hint(&error);
    hinted(Failure::of(Code::TpmTrouble, &error), hint)
}

/// A text of limited length.
fn read(path: &Path, bytes_max: usize) -> Result<String, Failure> {
    let mut text = String::new();
    let file = fs::File::open(path).and_then(|file| file.take(bytes_max as u64 + 1).read_to_string(&mut text));
    file.map_err(|error| Failure::io("cannot read", path, &error))?;
    Ok(text)
}

fn document<T: Document>(path: &Path) -> Result<T, Failure> {
    let text = read(path, quorate_tpm::enrol::DOCUMENT_BYTES_MAX)?;
    T::from_toml(&text).map_err(|error| {
        let failure = Failure::new(Code::TpmDocument, format!("{}: {}", path.display(), error.to_string().trim()));
        caused(failure, &error)
    })
}

fn write(path: &Path, text: &str, secret: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(if secret { 0o600 } else { 0o644 }).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::io("cannot write", path, &error))
}
