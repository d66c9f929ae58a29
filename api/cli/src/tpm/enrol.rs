//! `quorate tpm enrol` and `quorate tpm approve`: which chip is a replica's, and who says so.

use super::{Where, document, tpm_failure, write};
use clap::{Args, Subcommand};
use quorate::{
    configuration,
    exit::{Code, Failure},
    terminal::print,
};
use quorate_protocol::{enrolled::EnrolledTpm, ids::ReplicaId, sign::SecretKey};
use quorate_tpm::{
    Chip,
    enrol::{Answer, Challenge, Challenger, Document, EnrolError, Enrolment, Request},
};
use std::{fs, path::PathBuf};

/// Shows that a key is in a TPM, and writes what the cluster's configuration has of it.
///
/// Where you trust the host now, `here` does all of it. For a host that you do not sit at, three files travel: `request` on the host, `challenge`
/// on your machine, `answer` on the host, `conclude` on your machine. Only then it is your machine that was convinced.
///
/// Nothing of this shows who made the chip, for a program can play one. The enrolment names the endorsement key: compare it with your list of
/// machines, or have its certificate checked.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// All of it on the replica's host, which you trust now.
    Here {
        #[command(flatten)]
        chip: Asked,
        /// Where to write the enrolment.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// On the replica's host, at first: makes the key, and says which it is.
    Request {
        #[command(flatten)]
        chip: Asked,
        /// Where to write the request.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// On your machine: makes a challenge that only the TPM of the request can answer.
    Challenge {
        /// The request.
        request: PathBuf,
        /// Where to write the challenge, which goes to the host.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Where to keep what the answer is checked with. It is secret, and stays here.
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
    },
    /// On the replica's host: has the TPM answer the challenge.
    Answer {
        /// The challenge.
        challenge: PathBuf,
        #[command(flatten)]
        place: Where,
        /// Where to write the answer.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// On your machine, at last: checks the answer, and writes the enrolment.
    Conclude {
        /// The answer.
        answer: PathBuf,
        /// What was kept when the challenge was made. It is of no use afterwards.
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// Where to write the enrolment.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// What is asked of a chip.
#[derive(Args, Debug)]
pub(crate) struct Asked {
    #[command(flatten)]
    place: Where,
    /// The PCR that the log will have: one of 0 to 15 that nothing extends while the machine runs.
    #[arg(long, value_name = "NUMBER", default_value = "14")]
    pcr: u8,
}

/// Signs an enrolment with the key of the cluster's authority, so that the TPM may take the place of the configured one.
///
/// That is needed after a TPM was cleared, got other firmware, or was replaced. The replica is then started with `--enrolment FILE`.
#[derive(Args, Debug)]
pub(crate) struct Approve {
    /// The enrolment.
    enrolment: PathBuf,
    /// The cluster's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Whose trusted log the TPM will be.
    #[arg(long, value_name = "NUMBER")]
    id: ReplicaId,
    /// The file with the authority's secret key, 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write the approved enrolment.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Here { chip: Asked { place, pcr }, output } => {
            let mut chip = Chip::open(&place.tpm).map_err(tpm_failure)?;
            let request = Request::of(&mut chip, pcr).map_err(tpm_failure)?;
            let (challenger, challenge) = Challenger::new(request).map_err(failure)?;
            let answer = Answer::to(&mut chip, &challenge).map_err(tpm_failure)?;
            conclude(challenger, &answer, output)
        }
        Command::Request { chip: Asked { place, pcr }, output } => {
            let mut chip = Chip::open(&place.tpm).map_err(tpm_failure)?;
            let request = Request::of(&mut chip, pcr).map_err(tpm_failure)?;
            write(&output, &request.to_toml(), false)
        }
        Command::Challenge { request, output, secret } => {
            let (challenger, challenge) = Challenger::new(document(&request)?).map_err(failure)?;
            write(&secret, &challenger.to_toml(), true)?;
            write(&output, &challenge.to_toml(), false)
        }
        Command::Answer { challenge, place, output } => {
            let challenge: Challenge = document(&challenge)?;
            let mut chip = Chip::open(&place.tpm).map_err(tpm_failure)?;
            let answer = Answer::to(&mut chip, &challenge).map_err(tpm_failure)?;
            write(&output, &answer.to_toml(), false)
        }
        Command::Conclude { answer, secret, output } => conclude(document(&secret)?, &document(&answer)?, output),
    }
}

fn conclude(challenger: Challenger, answer: &Answer, output: PathBuf) -> Result<(), Failure> {
    let enrolment = challenger.conclude(answer).map_err(failure)?;
    write(&output, &enrolment.to_toml(), false)?;
    print(&told(&enrolment))
}

fn told(enrolment: &Enrolment) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let certificate = match enrolment.endorsement_certificate() {
        Some(digest) => format!("its certificate: {} (SHA-256; nobody has checked who issued it)", hex(digest)),
        None => "it has no certificate: nothing shows who made this TPM".to_owned(),
    };
    let trust = if enrolment.platform().is_virtual() {
        "It says that it is a program: it is as trustworthy as whoever can put its state back.\n"
    } else {
        ""
    };
    let tpm = EnrolledTpm::from(enrolment.device());
    format!(
        "Enrolled: {}\n{trust}Endorsement key: {} (SHA-256); {certificate}\n\
         Put this into the cluster's configuration, below the other lines of its [[replica]]:\n\n\
         [replica.tpm]\npcr = {}\nfirmware = \"{}\"\nkey = \"{}\"\n",
        enrolment.platform(),
        hex(enrolment.endorsement_key()),
        tpm.pcr,
        hex(&tpm.firmware),
        hex(&tpm.key)
    )
}

fn failure(error: EnrolError) -> Failure {
    match error {
        EnrolError::Tpm(error) => tpm_failure(error),
        refused @ (EnrolError::Secret | EnrolError::Nonce | EnrolError::Quote(_)) => {
            Failure::of(Code::TpmDocument, &refused).hint("is it the answer to this challenge, and of the same TPM?")
        }
        malformed @ (EnrolError::Document(_) | EnrolError::TooLong { .. } | EnrolError::EndorsementKey) => {
            Failure::of(Code::TpmDocument, &malformed)
        }
    }
}

pub(super) fn approve(options: &Approve) -> Result<(), Failure> {
    let cluster = configuration::read(&options.config, Code::ClusterConfiguration)?;
    let key = fs::read_to_string(&options.key).map_err(|error| Failure::io("cannot read", &options.key, &error))?;
    let key = SecretKey::from_hex(&key).filter(|key| Some(key.public()) == cluster.authority).ok_or_else(|| {
        Failure::new(Code::BadKeyFile, format!("{} is not the key of the cluster's authority", options.key.display()))
            .hint("the configuration has its public half as `authority`; without one, nobody can approve another TPM")
    })?;
    if cluster.replica(options.id).is_none_or(|member| member.tpm.is_none()) {
        let message = format!("{}: {} has no TPM there", options.config.display(), options.id);
        return Err(Failure::new(Code::TrustedLogChoice, message));
    }
    let enrolment: Enrolment = document(&options.enrolment)?;
    let approved = enrolment.approved(cluster.id(), options.id, &key);
    write(&options.output, &approved.to_toml(), false)?;
    print(&format!("Approved for {}: start it with --enrolment {}\n", options.id, options.output.display()))
}
