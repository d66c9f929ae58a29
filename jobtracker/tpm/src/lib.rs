//! The trusted log in a TPM 2.0, without a C library: a command layer of a few hundred lines, the log itself, and enrolment.
//!
//! What makes it sound is told, and checked, in `quorate_counter`, which knows no chip: a PCR of the SHA-256 bank is the chain of an
//! epoch, and quotes of it by a restricted key of the owner hierarchy are the certificates. This crate only has a chip do that.
//!
//! * [`Tcti`]: where the chip is, `device:/dev/tpmrm0` or `swtpm:path=/run/swtpm.sock`.
//! * [`Chip`]: the commands, blocking, one after the other.
//! * [`TpmLog`]: the trusted log. It has one owner, as [`quorate_counter::Desk`] is one.
//! * [`enrol`]: how an operator learns that a key is in a TPM, from another machine.
//! * [`Health`]: whether a chip will do, and how fast it is.
//! * `swtpm` (feature `swtpm`): chips in software for tests.
//!
//! # Against whom
//! Whoever is root on the replica's host may issue every command, with the authorisations of owner, endorsement and lockout, may reboot,
//! cut the power and suspend. They cannot make two statements count at one position; they can always stop the replica.
//!
//! A *virtual* TPM is as trustworthy as whoever can put its state back: a hypervisor, a cloud provider, or with swtpm the host itself,
//! which makes two histories with the same key and the same counts. No verifier sees the difference, so a virtual TPM is
//! refused unless the operator allows it. That refusal rests on what the chip says of itself: it protects against a mistake and not against a
//! host that lies. Only the endorsement key's certificate can tell a maker's chip from a program, and checking its chain up to
//! the makers' authorities is left to the operator: enrolment records the certificate's digest.
//!
//! # How fast
//! A position costs one `TPM2_PCR_Extend`, and all that wait share one `TPM2_Quote`. With swtpm 0.7.1 on two cores of an AMD EPYC that other
//! work shared, over five runs: 1,400 to 2,300 positions a second one by one, 5,100 to 9,200 in groups of 4, 10,000 to 26,000 in groups of
//! 16, 19,000 to 42,000 in groups of 64; 0.04 ms to verify. `cargo run --release -p quorate-tpm --features swtpm --example tpm_append_cost`
//! measures it, and takes a chip's address. A real chip needs 17 to 190 ms for a quote and some 3 ms for an extend.
//!
//! # Not covered
//! The platform hierarchy (firmware gives it a random authorisation before the operating system starts; swtpm leaves it empty),
//! physical attacks on the chip and its bus, and bugs of its firmware.

pub mod chip;
mod credential;
pub mod enrol;
mod error;
mod health;
mod log;
mod place;
mod platform;
#[cfg(feature = "swtpm")]
pub mod swtpm;
mod tcti;
mod wire;

pub use chip::Chip;
pub use error::TpmError;
pub use health::Health;
pub use log::{Settings, TpmLog};
pub use platform::Platform;
pub use tcti::Tcti;
