//! `quorate tpm check`: whether a machine's TPM will do, in plain words.

use super::{TPM_DEFAULT, Where, tpm_failure};
use clap::Args;
use quorate::{
    exit::{Code, Failure},
    terminal::print,
};
use quorate_protocol::digest::Digest;
use quorate_tpm::{Chip, Health, Platform};
use std::time::Duration;

/// How long the chip is measured.
const MEASURED: Duration = Duration::from_secs(3);
/// Batches of the agreement that can be on their way at once, and then share an attestation.
const PIPELINE: u32 = 16;

/// Tells whether this machine's TPM will do as a trusted log, and how fast it is.
///
/// It changes nothing but PCR 16, which is there for trials. Exit code 0: it will do; 5: it will not, and the last line says why.
#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    place: Where,
    /// The PCR that the log would have: one of 0 to 15 that nothing extends while the machine runs.
    #[arg(long, value_name = "NUMBER", default_value = "14")]
    pcr: u8,
}

pub(super) fn run(options: &Check) -> Result<(), Failure> {
    let mut chip = Chip::open(&options.place.tpm).map_err(tpm_failure)?;
    let platform = Platform::of(&mut chip).map_err(tpm_failure)?;
    print(&format!("TPM: {platform}, at {}\n", options.place.tpm))?;
    if platform.is_virtual() {
        print("It says that it is a program: it is as trustworthy as whoever can put its state back.\n")?;
    }
    if options.pcr >= quorate_protocol::enrolled::STATIC_PCRS {
        return Err(will_not(&format!("PCR {} can be reset without a trace, and only 0 to 15 cannot", options.pcr)));
    }
    let health = Health::of(&mut chip, options.pcr, MEASURED).map_err(|error| {
        let failure = tpm_failure(error);
        Failure { message: format!("will not do: {}", failure.message), ..failure }
    })?;
    print(&told(&health, options.pcr))?;
    if health.locked_out {
        return Err(will_not("it is locked out after wrong authorisations")
            .hint("wait, or reset the lockout with tpm2_dictionarylockout"));
    }
    if health.in_use {
        return Err(will_not(&format!("something else extended PCR {} meanwhile", options.pcr))
            .hint("choose another one with --pcr"));
    }
    let allowed = if platform.is_virtual() { ", where --allow-software-tpm is given" } else { "" };
    print(&format!("Verdict: will do{allowed}.\n{}", next_step(options)))
}

fn will_not(why: &str) -> Failure {
    Failure::new(Code::TpmTrouble, format!("will not do: {why}"))
}

fn told(health: &Health, pcr: u8) -> String {
    let value = if health.value == Digest::from_bytes([0; 32]) {
        "nothing has extended it since the machine started"
    } else {
        "something has extended it since the machine started, which does no harm unless it goes on"
    };
    let lockout = match health.wrong_authorisations {
        wrong if health.locked_out => format!("yes, after {wrong} wrong authorisations"),
        0 => "no".to_owned(),
        wrong => format!("no, after {wrong} wrong authorisations"),
    };
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let alone = health.attestations_per_second(1);
    let together = f64::from(PIPELINE) * health.attestations_per_second(PIPELINE);
    format!(
        "SHA-256 bank: there. PCR {pcr}: {value}\n  ({})\n\
         Locked out: {lockout}\n\
         Speed: {:.2} ms for an extend, {:.2} ms for a quote.\n\
         With such chips a command waits at least {:.0} ms for them. They alone would allow {alone:.0} batches a second one by one, and \
         {together:.0} when many wait, of up to 400 commands each.\n",
        health.value,
        millis(health.extend),
        millis(health.quote),
        (2.0 * millis(health.extend + health.quote)).max(1.0),
    )
}

fn next_step(options: &Check) -> String {
    let tpm = options.place.tpm.to_string();
    let tpm = if tpm == TPM_DEFAULT { String::new() } else { format!(" --tpm {tpm}") };
    format!(
        "Next: quorate tpm enrol here --pcr {}{tpm} --output enrolment.toml, or `quorate tpm enrol --help`.\n",
        options.pcr
    )
}
