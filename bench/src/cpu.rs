//! What the system says of this process, and what digests and signatures cost on this machine.

use quorate_protocol::{
    digest::Digest,
    sign::{SecretKey, Signed},
    spent::Spent,
    vote::Served,
};
use rustix::{
    process::{Signal, set_parent_process_death_signal},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, Timespec, clock_gettime},
};
use std::{fs, hint::black_box, io};

/// CPU seconds of this process so far, of all its threads.
pub fn process_s() -> f64 {
    seconds(clock_gettime(ClockId::ProcessCPUTime))
}

fn thread_s() -> f64 {
    seconds(clock_gettime(ClockId::ThreadCPUTime))
}

fn seconds(time: Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Leaves this process, and threads that it starts from now on, the first so many of its cores.
///
/// # Errors
/// When the system refuses.
pub fn confine(cores: usize) -> io::Result<()> {
    let (allowed, mut chosen) = (sched_getaffinity(None)?, CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(cores).for_each(|cpu| chosen.set(cpu));
    Ok(sched_setaffinity(None, &chosen)?)
}

/// Has this process interrupted when its parent goes away, as Ctrl-C would do: nobody reads then what it measures.
///
/// # Errors
/// When the system refuses.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::INT))?)
}

/// Lets the peak of memory begin at what is used now.
///
/// # Errors
/// When the system has no such peak.
pub fn forget_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

/// The most memory in bytes that this process had in use since [`forget_peak`], pages of mapped files included.
///
/// # Errors
/// When the system does not say.
pub fn peak_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    peak_of(&status).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status has no VmHWM"))
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Seconds of CPU that digests and signatures take here: measured, since what was counted while a job ran is no time.
#[derive(Clone, Copy, Debug)]
pub struct Prices {
    digested_byte: f64,
    signed: f64,
    verified: f64,
}

impl Prices {
    /// Measures them, which takes about 30 ms.
    pub fn of_this_machine() -> Self {
        const BLOCK: usize = 1 << 20;
        let (block, key) = (vec![7u8; BLOCK], SecretKey::from_seed([7; 32]));
        let sign = || Signed::<Served>::seal_bytes(vec![7; 200], &key);
        let (signed, public) = (sign(), key.public());
        Self {
            digested_byte: price(64, || black_box(Digest::of(black_box(&block)))) / BLOCK as f64,
            signed: price(200, || black_box(sign())),
            verified: price(200, || black_box(signed.verify_signature(&public))),
        }
    }

    /// CPU seconds of the digests that were counted.
    pub fn digests_s(&self, spent: &Spent) -> f64 {
        spent.digested as f64 * self.digested_byte
    }

    /// CPU seconds of the signatures that were made and verified.
    pub fn signatures_s(&self, spent: &Spent) -> f64 {
        spent.signed as f64 * self.signed + spent.verified as f64 * self.verified
    }
}

/// The mean CPU seconds of one of so many repetitions, in the cheapest of three rounds: others disturb, and never help.
fn price<T>(repetitions: u32, work: impl Fn() -> T) -> f64 {
    let round = || {
        let start = thread_s();
        (0..repetitions).for_each(|_| drop(work()));
        (thread_s() - start) / f64::from(repetitions)
    };
    (0..3).map(|_| round()).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(peak_of("VmPeak:\t 9 kB\nVmHWM:\t    1234 kB\nVmRSS: 1 kB\n"), Some(1234 * 1024));
        assert_eq!(peak_of("VmRSS: 1 kB\n"), None);
        assert!(peak_bytes().expect("this system says") > 1 << 20);
    }

    #[test]
    fn prices_are_positive_and_add_up() {
        let prices = Prices { digested_byte: 2.0, signed: 3.0, verified: 5.0 };
        let spent = Spent { digested: 10, signed: 2, verified: 4, ..Spent::default() };
        assert_eq!((prices.digests_s(&spent), prices.signatures_s(&spent)), (20.0, 26.0));
        let measured = Prices::of_this_machine();
        assert!(measured.digested_byte > 0.0 && measured.signed > 0.0 && measured.verified > 0.0);
    }
}
