//! What positions cost in a TPM, one by one and in groups: `cargo run --release -p quorate-tpm --features swtpm --example tpm_append_cost`
//!
//! Without an argument it starts a swtpm. With one it takes that chip, `device:/dev/tpmrm0` for instance, and extends its PCR 14.

use quorate_counter::TrustedLog;
use quorate_protocol::{digest::Digest, ids::ReplicaId};
use quorate_tpm::{
    Chip, Platform, Settings, Tcti, TpmLog,
    enrol::{Answer, Challenger, Request},
    swtpm::Swtpm,
};
use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

const PCR: u8 = 14;
/// Each figure is measured for so long.
const MEASURED: Duration = Duration::from_secs(2);

/// Repeats something, and gives how long it takes on average, with how long half of the times and 99 of 100 took at most.
fn measure(mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<[f64; 3], Box<dyn Error>> {
    let begun = Instant::now();
    let mut took = Vec::new();
    while took.is_empty() || begun.elapsed() < MEASURED {
        let start = Instant::now();
        work()?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let mean = begun.elapsed().as_secs_f64() * 1e3 / took.len() as f64;
    took.sort_by(f64::total_cmp);
    Ok([mean, took[took.len() / 2], took[took.len() * 99 / 100]])
}

fn main() -> Result<(), Box<dyn Error>> {
    let swtpm = if env::args().len() < 2 { Some(Swtpm::start()?) } else { None };
    let tcti: Tcti = match &swtpm {
        Some(swtpm) => swtpm.tcti(),
        None => env::args().nth(1).unwrap_or_default().parse()?,
    };
    let folder = tempfile::tempdir()?;
    let mut chip = Chip::open(&tcti)?;
    println!("{}", Platform::of(&mut chip)?);
    let (challenger, challenge) = Challenger::new(Request::of(&mut chip, PCR)?)?;
    let device = challenger.conclude(&Answer::to(&mut chip, &challenge)?)?.device();
    drop(chip);
    let state = folder.path().join("place");
    let settings = Settings { tcti, device, authority: None, approval: None, allow_software_tpm: true, state };
    let mut log = TpmLog::open(settings, Digest::of(b"cluster"), ReplicaId::new(0))?;
    println!("{:>10} {:>10} {:>10} {:>10} {:>12}", "group", "mean ms", "p50 ms", "p99 ms", "positions/s");
    for group in [0, 1, 4, 16, 64] {
        let digests = vec![Digest::of(b"a statement"); group];
        let [mean, p50, p99] = measure(|| Ok(log.append(&digests).map(drop)?))?;
        println!("{group:>10} {mean:>10.3} {p50:>10.3} {p99:>10.3} {:>12.0}", group as f64 / mean * 1e3);
    }
    let attestation = log.append(&[])?;
    let [mean, p50, p99] = measure(|| Ok(log.record().verify(attestation.head, &attestation.certificate)?))?;
    println!("{:>10} {mean:>10.3} {p50:>10.3} {p99:>10.3}", "verify");
    Ok(())
}
