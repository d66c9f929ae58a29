//! How a chip does its part, measured: what an operator wants to know before it is enrolled.
//!
//! Extends are measured on PCR 16, which is there for trials: extending the PCR of a trusted log would end its epoch.

use crate::{chip::Chip, error::TpmError};
use quorate_counter::quote::selection_of;
use quorate_protocol::digest::Digest;
use std::time::{Duration, Instant};

/// `TPM_PT_PERMANENT`, whose bit 9 says that the chip is locked out, and `TPM_PT_LOCKOUT_COUNTER`.
const PERMANENT: u32 = 0x200;
const LOCKED_OUT: u32 = 1 << 9;
const WRONG_AUTHORISATIONS: u32 = 0x20e;
/// The PCR for trials.
const DEBUG_PCR: u8 = 16;
/// A slow chip is measured often enough to tell, and not for minutes.
const MEASURED_MIN: u32 = 3;

/// How a chip does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// Whether it refuses what needs an authorisation, after wrong ones.
    pub locked_out: bool,
    /// Wrong authorisations that it remembers.
    pub wrong_authorisations: u32,
    /// The value of the PCR at first, in the SHA-256 bank.
    pub value: Digest,
    /// Whether somebody else extended the PCR meanwhile.
    pub in_use: bool,
    /// How long an extend takes.
    pub extend: Duration,
    /// How long a quote takes.
    pub quote: Duration,
}

impl Health {
    /// Asks a chip, and measures it for so long.
    ///
    /// # Errors
    /// [`TpmError`]: it cannot be a trusted log, for this reason.
    pub fn of(chip: &mut Chip, pcr: u8, measured: Duration) -> Result<Self, TpmError> {
        let permanent = chip.property(PERMANENT)?.unwrap_or_default();
        let wrong_authorisations = chip.property(WRONG_AUTHORISATIONS)?.unwrap_or_default();
        let value = chip.read_pcr(pcr)?;
        let (key, _) = chip.attestation_key()?;
        let quote = mean(measured / 2, || chip.quote(key, &[], &selection_of(pcr)).map(drop));
        let flushed = chip.flush(key);
        let quote = quote?;
        flushed?;
        let extend = mean(measured / 2, || chip.extend(DEBUG_PCR, Digest::of(b"a trial")))?;
        let in_use = chip.read_pcr(pcr)? != value;
        let locked_out = permanent & LOCKED_OUT != 0;
        Ok(Self { locked_out, wrong_authorisations, value, in_use, extend, quote })
    }

    /// Attestations of so many positions each that it makes in a second.
    pub fn attestations_per_second(&self, positions: u32) -> f64 {
        1.0 / (self.extend.saturating_mul(positions) + self.quote).as_secs_f64().max(1e-9)
    }
}

fn mean(measured: Duration, mut work: impl FnMut() -> Result<(), TpmError>) -> Result<Duration, TpmError> {
    let begun = Instant::now();
    let mut times = 0;
    while times < MEASURED_MIN || begun.elapsed() < measured {
        work()?;
        times += 1;
    }
    Ok(begun.elapsed() / times)
}
